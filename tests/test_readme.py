"""The program behaves as the README shows."""

import importlib.util
import itertools
import os
import re
import shlex
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from helpers import PROJECT, config, masked
from throughline.batches.batch import Batches
from throughline.commands.arguments import for_hydra
from throughline.commands.compare import Compare
from throughline.commands.dashboard import Dashboard
from throughline.commands.evaluate import Evaluate
from throughline.commands.export import Export
from throughline.commands.generate import Generate
from throughline.commands.prepare import Prepare
from throughline.commands.score import Score
from throughline.config import Config
from throughline.data.line import Line
from throughline.regimes import Regime
from throughline.regimes.onestep import Onestep
from throughline.regimes.padded import Padded
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Stateful
from throughline.regimes.windowed import Windowed

TEXT = "to be or not."
PICTURED: dict[str, Regime] = {
    "stateful": Stateful(streams=3, bptt=2, reset_probability=0.0),
    "onestep": Onestep(updates=1),
    "segments": Segments(steps=2, batch_size=3),
    "windowed": Windowed(steps=2, stride=1, batch_size=3),
    "padded": Padded(batch_size=2),
}


def picture(regime: Regime) -> list[str]:
    """The first two batches, each row as inputs>targets; `_` is padding or no loss, `*` a row that starts from zeros."""
    sequences = [np.frombuffer(word, dtype=np.uint8) for word in (b"to ", b"be ", b"or ", b"not.")]
    line = Line.of(sequences)
    batches = Batches(regime.plan(line, seed=0, epoch=0), line)
    columns = []
    for k in range(min(2, len(batches))):
        batch = batches[k]
        columns.append(
            [
                ("*" if reset else " ") + show(inputs) + ">" + show(targets)
                for inputs, targets, reset in zip(batch.inputs.tolist(), masked(batch), batch.reset.tolist(), strict=True)
            ]
        )
    return ["  ".join(rows).rstrip() for rows in zip(*columns, strict=True)]


def show(ids: list[int] | list[int | None]) -> str:
    return "".join("_" if not id else chr(id).replace(" ", "·") for id in ids)


def test_the_picture_of_the_regimes() -> None:
    readme = (PROJECT / "README.md").read_text()
    for name, regime in PICTURED.items():
        match = re.search(rf"^{name}\n((?:    .+\n)+)", readme, re.MULTILINE)
        assert match, name
        assert [line[4:].rstrip() for line in match[1].splitlines()] == picture(regime)


def test_every_test_that_the_pages_name_is_there() -> None:
    named = {name for page in (PROJECT / "docs").glob("*.md") for name in re.findall(r"tests/[\w/]+\.py", page.read_text())}
    assert len(named) > 10
    assert sorted(name for name in named if not (PROJECT / name).exists()) == []


README = (PROJECT / "README.md").read_text()
COMMANDS = [
    shlex.split(line, comments=True)[1:]
    for page in (
        "README.md",
        "docs/library.md",
        "docs/extending.md",
        "docs/reliability.md",
        "docs/defaults.md",
        "docs/sweeps.md",
    )
    for line in re.findall(r"^    (python src/\w+\.py.*)$", (PROJECT / page).read_text(), re.MULTILINE)
    if " -cd " not in line and "KEY=VALUE" not in line
]
COMMANDS += [  # of the table of data
    [f"src/{name}.py", *shlex.split(settings)]
    for settings in re.findall(r"^\|[^|]*\| `(data=[^`]+)`", README, re.MULTILINE)
    for name in ("prepare", "train")
]
SETTINGS = {
    "evaluate": Evaluate,
    "generate": Generate,
    "prepare": Prepare,
    "score": Score,
    "export": Export,
    "compare": Compare,
    "dashboard": Dashboard,
    "train": Config,
}


def test_there_are_commands() -> None:
    assert len(COMMANDS) >= 20
    assert {command[0] for command in COMMANDS} == {f"src/{name}.py" for name in SETTINGS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]))
def test_every_command_of_the_pages_is_taken(command: list[str]) -> None:
    """The settings accept it. They refuse unknown keys and values. In a sweep, every member is checked."""
    script, *arguments = command
    name = Path(script).stem
    quoted = for_hydra(arguments, SETTINGS[name])
    overrides = [argument for argument in quoted if argument not in ("-m", "--cfg", "job")]
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{o.key_or_group}={value}" for value in o.sweep_string_iterator()]
        if o.is_discrete_sweep()
        else [f"{o.key_or_group}={o.value().start}"]  # of an interval that a search draws from
        if o.is_sweep_override()
        else [str(o.input_line)]
        for o in parsed
    ]
    many = any(len(choices) > 1 for choices in values) or {"experiment", "sweep"} & {o.key_or_group for o in parsed}
    assert ("-m" in arguments) == bool(many)
    for member in itertools.product(*values):
        assert config(*member, name=name, cls=SETTINGS[name])


def test_what_a_person_will_see_is_what_a_run_prints() -> None:
    """The beginnings of the lines in the README are those in the code that prints them."""
    printed = "".join(
        (PROJECT / "src" / "throughline" / f).read_text() for f in ("training/display.py", "commands/train.py")
    )
    for beginning in ("run: ", "settings: ", "data: ", "epoch ", "generate:   ", "compare:    ", "train on:   "):
        assert f"\n    {beginning}" in README
        assert re.search(rf'f"(\\n)?{beginning}', printed), beginning


def test_the_python_of_the_readme(tmp_path: Path) -> None:
    (block,) = re.findall(r"^## In Python\n\n((?:    .*\n|\n)+)", README, re.MULTILINE)
    code = textwrap.dedent(block).replace("seconds=60", "tokens=2000")
    assert len(block.strip().splitlines()) <= 10
    assert "tokens=2000" in code
    (tmp_path / "my.txt").write_text("Once upon a time there was a fox. " * 100)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_sentences_are_short() -> None:
    prose = "\n".join(line for line in README.splitlines() if not line.startswith(("    ", "|", "#", "!")) and " " in line)
    prose = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", re.sub(r"`[^`]*`", "code", prose))
    lengths = [len(sentence.split()) for sentence in re.split(r"(?<=[.:!?])\s+", prose) if len(sentence.split()) > 2]
    assert len(lengths) > 80
    assert sum(lengths) / len(lengths) <= 18


def test_the_page_of_settings_is_what_the_classes_say() -> None:
    spec = importlib.util.spec_from_file_location("write_settings", PROJECT / "docs" / "write_settings.py")
    assert spec is not None
    assert spec.loader is not None
    writer = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(writer)
    page = (PROJECT / "docs" / "settings.md").read_text()
    assert page == writer.page(), "run `make settings`"
    settings = [line for line in page.splitlines() if line.startswith("- `")]
    assert len(settings) > 100
    assert [line for line in settings if not re.search(r"(`|required\))\. .*\.$", line)] == []  # each is explained


def test_every_link_leads_somewhere() -> None:
    for page in (PROJECT / "README.md", *(PROJECT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), (page.name, target)
