"""The commands that a run lists at its end can be run next."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.global_hydra import GlobalHydra
from hydra.core.object_type import ObjectType

from helpers import PROJECT
from throughline.commands import compose

SMALL = ["data=text", "data.path=fox.txt", "model.hidden_size=8", "regime.streams=4", "logger=none", "budget.tokens=2000"]


def call(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("next")
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    return folder


@pytest.fixture(scope="module")
def ending(folder: Path) -> dict[str, list[str]]:
    """The commands that a run lists at its end, by their purpose."""
    done = call(folder, sys.executable, str(PROJECT / "src" / "train.py"), *SMALL, "output_root=out")
    assert (done.returncode, done.stderr) == (0, "")
    (folder / "said").write_text(done.stdout)
    lines = re.findall(r"^(generate|compare|train on): +(python .*)$", done.stdout, re.MULTILINE)
    return {name: [sys.executable, *shlex.split(command)[1:]] for name, command in lines}


def test_the_first_lines_say_where_the_run_lies_and_what_is_not_as_usual(ending: object, folder: Path) -> None:
    first, second, *_ = (folder / "said").read_text().splitlines()
    assert re.fullmatch(r"run: out/\d{4}-\d\d-\d\d/\S+-lstm8-stateful4-s1", first)
    assert (folder / first.removeprefix("run: ") / "summary.json").exists()
    assert second == (
        "settings: data=text data.path=fox.txt model.hidden_size=8 regime.streams=4 budget.tokens=2000 logger.name=none "
        "and all others by default (`--cfg job` prints all); ends after 2,000 tokens"
    )


def test_the_commands_at_the_end_do_what_they_say(ending: dict[str, list[str]], folder: Path) -> None:
    assert list(ending) == ["generate", "compare", "train on"]
    generated = call(folder, *ending["generate"])
    assert generated.returncode == 0
    assert len(generated.stdout) > 400
    compared = call(folder, *ending["compare"], "logger=none")
    assert (compared.returncode, compared.stderr) == (0, "")
    assert "report.html" in compared.stdout
    longer = call(folder, *ending["train on"])
    assert (longer.returncode, longer.stderr) == (0, "")
    assert re.search(r"^4,0\d\d tokens in", longer.stdout, re.MULTILINE)
    again = call(folder, sys.executable, str(PROJECT / "src" / "train.py"), *SMALL, "output_root=out", "resume=auto")
    assert "resume: the same command already finished in out/" in again.stdout


def test_a_seed_that_is_drawn_is_said_and_repeats_the_text(ending: dict[str, list[str]], folder: Path) -> None:
    one, other = (call(folder, *ending["generate"], "prompt=the ") for _ in range(2))
    assert one.stdout != other.stdout
    seed = one.stderr.strip()
    assert re.fullmatch(r"seed=\d+", seed)
    again = call(folder, *ending["generate"], "prompt=the ", seed, "out=three.txt", "num_sequences=3")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    texts = re.split(r"^--- \d\n", (folder / "three.txt").read_text(), flags=re.MULTILINE)
    assert [text[:4] for text in texts] == ["", "the ", "the ", "the "]
    assert call(folder, *ending["generate"], "prompt=the ", seed).stdout == one.stdout
    refused = call(folder, *ending["generate"], "out=no/such/folder/a.txt")
    assert (refused.returncode, refused.stderr.splitlines()[-1]) == (
        2,
        "error: out=no/such/folder/a.txt: No such file or directory; give a file that can be written",
    )


def test_evaluating_is_of_the_data_of_the_run_and_names_what_it_scored(ending: dict[str, list[str]], folder: Path) -> None:
    checkpoint = next(word for word in ending["generate"] if word.startswith("checkpoint="))
    evaluate = [sys.executable, str(PROJECT / "src" / "evaluate.py"), checkpoint]
    own = call(folder, *evaluate)
    assert (own.returncode, own.stderr) == (0, "")
    assert f"{folder}/fox.txt: split val, 269 targets, 0 of them unknown symbols" in own.stdout
    (folder / "other.txt").write_text("the lazy dog? " * 10)
    whole = call(folder, *evaluate, "data=text", "data.path=other.txt", "split=all")
    assert (whole.returncode, whole.stderr) == (0, "")
    assert "other.txt: split all, 139 targets, 10 of them unknown symbols" in whole.stdout
    assert re.search(r"^all/nll \d", whole.stdout, re.MULTILINE)
    refused = call(folder, *evaluate, "split=test")
    assert (refused.returncode, refused.stderr) == (
        2,
        "error: split=test: the data have train, val, or give all; "
        "data.test_fraction or data.test_path makes a test split\n",
    )


def test_the_help_lists_the_choices_that_hydra_lists() -> None:
    with initialize_config_dir(str(compose.CONF), version_base="1.3"):
        assert ConfigLoaderImpl.get_group_options is not compose._options_of
        loader = GlobalHydra.instance().config_loader()
        assert isinstance(loader, ConfigLoaderImpl)
        groups = loader.list_groups("")
        assert {"model", "regime", "optimizer"} <= {*groups}
        for group in groups:
            assert compose._options_of(loader, group) == loader.get_group_options(group)
        assert compose._options_of(loader, "", ObjectType.GROUP) == groups
