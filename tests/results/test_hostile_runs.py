"""Folders of runs may come from anybody. What is wrong with one is its fault, and never a traceback, a hang or a result."""

import csv
import json
import os
import re
import shutil
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from helpers import config, fox, resealed, run_as_from_hydra
from throughline.commands.compare import Compare, compare
from throughline.plumbing.reading import printable
from throughline.results.comparison import read
from throughline.results.run import Run, read_run
from throughline.runs.record import Record

SHORT = ("regime.streams=4", "regime.bptt=16", "budget.tokens=200", "trainer.val_checks=2", "evaluation.reset_every=8")
CONFIG, OVERRIDES, SUMMARY, METRICS, POSITIONS, SAMPLES, FAILURE = FILES = (
    *(".hydra/config.yaml", ".hydra/overrides.yaml", "summary.json"),
    *("metrics.csv", "by_position.csv", "samples.txt", "failure.txt"),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made") / "run"
    run_as_from_hydra(fox(), folder, *SHORT)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A finished run, with another one beside it."""
    for name in ("run", "whole"):
        shutil.copytree(made, tmp_path / name)
    return tmp_path / "run"


def read_beside_a_whole_run(folder: Path) -> Run:
    """The run as a comparison reads it."""
    run, whole = sorted(read([folder.parent]).runs, key=lambda run: run.folder.name)
    assert (run.folder.name, whole.folder.name, whole.fault) == ("run", "whole", "")
    return run


def test_the_run_is_whole(folder: Path) -> None:
    run = read_beside_a_whole_run(folder)
    assert (run.fault, len(run.by_position), len(run.validations)) == ("", 8, 2)


# ---- Files that are something else


def link(path: Path, target: str) -> None:
    path.symlink_to(target)


def large(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(2**40)


KINDS: dict[str, Callable[[Path], Any]] = {
    "lost": lambda path: None,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a device": lambda path: link(path, "/dev/zero"),
    "a link to itself": lambda path: link(path, path.name),
    "a link to nothing": lambda path: link(path, "nothing"),
    "a terabyte": large,
    "empty": lambda path: path.write_bytes(b""),
    "zeros": lambda path: path.write_bytes(bytes(100)),
    "not UTF-8": lambda path: path.write_bytes(b"a: \xff\n"),
    "too deep": lambda path: path.write_bytes(b"[" * 10**6),
    "an unended string": lambda path: path.write_bytes(b'"' + b"a" * 10**6),
    "a colon in each line": lambda path: path.write_bytes(b"a:\n" * 10**4),
}


IRREGULAR = dict.fromkeys(("a pipe", "a folder", "a device"), "{}: not a regular file")
ABSENT = ("lost", "a link to itself", "a link to nothing")
UNREAD = IRREGULAR | {
    **dict.fromkeys(("lost", "a link to nothing"), "{}: No such file or directory"),
    "a link to itself": "{}: Too many levels of symbolic links",
}
SMALL, LARGE = {"a terabyte": "{}: larger than 4,194,304 bytes"}, {"a terabyte": "{}: larger than 1,073,741,824 bytes"}
NO_YAML = {"not UTF-8": "{}: not UTF-8 at byte 3", "a colon in each line": "{}: not YAML: a key is named twice"}
KEPT = LARGE | IRREGULAR | dict.fromkeys(ABSENT, "damaged: {} is missing")
FAULTS: dict[str, dict[str, str]] = {
    CONFIG: SMALL | UNREAD | NO_YAML | {"empty": "{}: not a configuration", "": "{}: not YAML: "},
    OVERRIDES: SMALL | UNREAD | NO_YAML | {"empty": "{}: not a list of overrides", "": "{}: not YAML: "},
    SUMMARY: SMALL
    | IRREGULAR
    | dict.fromkeys(ABSENT, "not finished")
    | {"not UTF-8": "{}: not UTF-8", "": "{}: not JSON: "},
    METRICS: LARGE | UNREAD | {"a colon in each line": "{}: line 2 is not a row of metrics", "": "{}: no rows"},
    POSITIONS: KEPT | {"": "damaged: {} is not as the run left it"},
    SAMPLES: KEPT | {"": "damaged: {} is not as the run left it"},
    FAILURE: SMALL | IRREGULAR | {"zeros": "failed: \\x00\\x00", "": "failed: "},
}
"""The fault by the kind of file, and under the empty name that of all other kinds."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_something_else_is_a_fault(name: str, kind: str, folder: Path) -> None:
    before = read_beside_a_whole_run(folder)
    (folder / name).unlink(missing_ok=True)
    KINDS[kind](folder / name)
    run = read_beside_a_whole_run(folder)
    if name == FAILURE and kind in ABSENT:  # where it is not there, the run has not failed
        assert run == before
    else:
        fault = FAULTS[name].get(kind, FAULTS[name][""]).replace("{}", name)
        assert run.fault.startswith(fault)
        assert_nothing_but_a_fault(run)


def assert_nothing_but_a_fault(run: Run) -> None:
    assert run.fault
    assert run.fault == printable(run.fault)
    assert len(run.fault) <= 500
    assert run == Run(run.folder, run.settings, run.overrides, run.fault)


@pytest.mark.parametrize("kind", KINDS)
def test_settings_that_are_lost_with_their_folder_are_a_fault(kind: str, folder: Path) -> None:
    shutil.rmtree(folder / ".hydra")
    KINDS[kind](folder / ".hydra")
    run = read_beside_a_whole_run(folder)
    assert run.fault.startswith(".hydra/config.yaml: ")
    assert read([folder.parent]).differences() == {}
    assert_nothing_but_a_fault(run)


# ---- Contents that differ


@pytest.mark.parametrize("name", [CONFIG, OVERRIDES, SUMMARY, METRICS, POSITIONS])
def test_no_changed_digit_is_passed_over(name: str, folder: Path) -> None:
    """Any digit, of the last ones of a number too: fifty of each file. A digit beyond float64 changes no value."""
    written, whole = (folder / name).read_bytes(), read_run(folder)
    digits = [match.start() for match in re.finditer(rb"[0-9]", written)]
    refused = 0
    for place in digits[:: max(1, len(digits) // 50)]:
        (folder / name).write_bytes(written[:place] + bytes([48 + (written[place] - 47) % 10]) + written[place + 1 :])
        run = read_run(folder)
        if repr(run) == repr(whole):  # nan is not equal to itself
            continue
        refused += 1
        assert run.fault in (
            f"damaged: {name} is not as the run left it",
            "not finished: it was resumed after its summary was written",  # the last row of metrics.csv is another
            "written by another version of throughline: format 3, not 2",
        )
        assert_nothing_but_a_fault(run)
    assert refused >= 0.8 * len(digits[:: max(1, len(digits) // 50)])


def test_numbers_are_sealed_by_their_values(folder: Path) -> None:
    before = read_beside_a_whole_run(folder)
    (folder / SUMMARY).write_text(json.dumps(json.loads((folder / SUMMARY).read_text())))
    (folder / "notes.txt").write_text("mine")
    assert read_beside_a_whole_run(folder) == before


@pytest.mark.parametrize("key", ["files", "sha256", "tokens"])
def test_half_a_seal_is_a_fault(key: str, folder: Path) -> None:
    values = json.loads((folder / SUMMARY).read_text())
    del values[key]
    (folder / SUMMARY).write_text(json.dumps(values))
    assert read_beside_a_whole_run(folder).fault == "damaged: summary.json is not as the run left it"


BOMB = "a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n"
OTHERS = {
    (CONFIG, BOMB): "not YAML: anchors, aliases and tags are not allowed",
    (CONFIG, "seed: !!python/object/apply:os.getpid []\n"): "not YAML: anchors, aliases and tags are not allowed",
    (CONFIG, "seed: !!binary aaaa\n"): "not YAML: anchors, aliases and tags are not allowed",
    (CONFIG, "[1, 2]\n"): "not a configuration",
    (CONFIG, "a: 1\n---\na: 2\n"): "not YAML: expected a single document",
    (CONFIG, "? [a]\n: 1\n"): "not YAML: while constructing a mapping",
    (CONFIG, f"seed: {10**400}\n"): "not YAML: a number is too large",
    (CONFIG, f"seed: 0x{'f' * 10**5}\n"): "not YAML: a number is too large",
    (CONFIG, f"seed: {'9' * 10**5}\n"): "not YAML: Exceeds the limit",
    (OVERRIDES, BOMB): "not YAML: anchors, aliases and tags are not allowed",
    (OVERRIDES, "a: b\n"): "not a list of overrides",
    (OVERRIDES, "- 1\n"): "not a list of overrides",
    (OVERRIDES, "- [seed=1]\n"): "not a list of overrides",
    (SUMMARY, "[1]"): "not an object",
    (SUMMARY, '{"seed": 1, "seed": 2}'): "not JSON: a key is named twice",
    (SUMMARY, f'{{"seed": {10**400}}}'): "not JSON: a number is too large",
    (SUMMARY, f'{{"seed": {"[" * 100}{"]" * 100}}}'): "not JSON: nested too deeply",
    (METRICS, "step,tokens,step\n1,2,3\n"): "line 1 is not a row of metrics",
    (METRICS, "step,tokens\n1,[2]\n"): "line 2 is not a row of metrics",
    (METRICS, "step,tokens\n1,2,3\n"): "line 2 is not a row of metrics",
    (METRICS, "step,tokens\n1\n"): "line 2 is not a row of metrics",
    (METRICS, "step,tokens\n1,2"): "no rows",
    (METRICS, f"step,tokens\n1,{'a' * 200_000}\n"): "line 1 is not a row of metrics",
    (POSITIONS, ""): "not a table of losses by position",
    (POSITIONS, "position,nll,targets,nll\n1,1,1,1\n"): "not a table of losses by position",
    (POSITIONS, "position,nll,targets\n1,nan,1\n"): "not a table of losses by position",
    (POSITIONS, "position,nll,targets\n1,1.0,0\n"): "not a table of losses by position",
    (POSITIONS, "position,nll,targets\n2,1.0,1\n"): "not a table of losses by position",
    (POSITIONS, f"position,nll,targets\n1,1.0,{'9' * 10**5}\n"): "not a table of losses by position",
}


@pytest.mark.parametrize(("name", "written", "fault"), [(*key, fault) for key, fault in OTHERS.items()])
def test_contents_of_another_kind_are_a_fault_even_if_sealed(name: str, written: str, fault: str, folder: Path) -> None:
    (folder / name).write_text(written)
    if name != SUMMARY:
        resealed(folder)
    run = read_beside_a_whole_run(folder)
    assert run.fault.startswith(f"{name}: {fault}")
    assert_nothing_but_a_fault(run)


WRONG: list[Any] = [True, "1", None, [1], {}, {"a": [1]}, -1, -0.5, 1e300, float("nan"), 2**70]
ALLOWED = {
    **{key: ["1"] for key in ("name", "regime", "model", "precision", "device", "label")},
    **{key: [2**70] for key in ("epochs", "seconds", "wall_seconds", "tokens_per_second", "matrix_rate")},
    **{"seed": [-1, 2**70], "flops": [2**70], "limits": [{}], "init_from": [{}]},
    **{"val/nll": [-1, -0.5, 2**70], "device/data_wait": [-1, -0.5, 1e300, float("nan"), 2**70]},
}
"""The values of `WRONG` that a summary may have."""
KEYS = [f.name for f in fields(Record) if f.name not in ("metrics", "files")]


@pytest.mark.parametrize("key", [*KEYS, "val/nll", "device/data_wait"])
def test_values_of_another_type_in_a_summary_are_a_fault_even_if_sealed(key: str, folder: Path) -> None:
    values = json.loads((folder / SUMMARY).read_text())
    passed = []
    for value in WRONG:
        (folder / SUMMARY).write_text(json.dumps({**values, key: value}))
        resealed(folder)
        run = read_run(folder)
        if run.fault:
            assert_nothing_but_a_fault(run)
        else:
            passed.append(value)
    assert str(passed) == str(ALLOWED.get(key, []))


# ---- What is shown

NAMES = (
    *(
        os.fsdecode(b"\xff\xfe"),
        "\x1b[2J",
        "a\nb",
        "\u202egnp",
        "=1+1",
        "+1",
        "@a",
        "-1+1",
        "\t=1",
        "<b>&'\"",
        "a|b`c",
        "$x$",
        "%n",
    ),
)
TEXTS = {
    "escape": "\x1b]0;owned\x07",
    "right to left": "\u202egnp.exe",
    "formula": "=HYPERLINK(1)",
    "page": "</script><script>alert(1)</script>",
    "variable": "${oc.env:THROUGHLINE_SECRET}",
    "nothing": "",
    "long": "a" * 1000,
}
EXTREME: dict[str, dict[str, Any]] = {
    "nothing spent": {"seconds": 0.0, "tokens_per_second": 0.0, "peak_memory_bytes": 0, "matrix_rate": 0.0, "positions": 0},
    "much of all": {"train_targets": 10**15, "flops": 10**30, "reset_every": 10**15, "parameters": 10**15},
    "wide": {"shape": [10**15, 10**15], "regime": "windowed", "label": ""},
    "many symbols": {"data": {"source": "a", "tokens_sha256": "", "vocab": 2**31 - 1}},
    "below zero": {"val/nll": -1.0, "val/nll_reset": -2.0},
    "great": {"val/nll": 1e100, "val/nll_reset": 1e100},
    "infinite": {"val/nll": 1.7e308, "val/nll_reset": 1.7e308},
    "a short line": {"train_targets": 1},
    "limits": {"limits": {"a": 1.0, "\x1b": None}},
    "no metrics": {},
}
CELLS = {"zeros": "0", "negative": "-1", "great": "1e100", "too great": "1.7e308", "no numbers": "nan", "endless": "inf"}


@pytest.fixture
def shown(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a comparison of runs that a stranger has sealed."""
    monkeypatch.setenv("THROUGHLINE_SECRET", "hunter2")
    data = json.loads((made / SUMMARY).read_text())["data"]
    for name in NAMES:
        shutil.copytree(made, tmp_path / "names" / name)
    for name, text in TEXTS.items():
        folder = tmp_path / "texts" / name
        shutil.copytree(made, folder)
        settings = (folder / CONFIG).read_text()
        assert "name: cosine" in settings
        (folder / CONFIG).write_text(settings.replace("name: cosine", f"name: {json.dumps(text)}\n  {json.dumps(text)}: 1"))
        (folder / OVERRIDES).write_text(f"- {json.dumps(text)}\n")
        (folder / SAMPLES).write_bytes(f"{text}\r{text}\x00\ttab\nline\xff".encode("latin-1", "replace"))
        values = json.loads((folder / SUMMARY).read_text())
        given = dict.fromkeys(("name", "label", "regime", "model", "device", "precision"), text)
        given |= {"data": {**data, "source": text}, "versions": {"python": text, "torch": text}}
        (folder / SUMMARY).write_text(json.dumps({**values, **given, text or "a": 1.0}))
        resealed(folder)
    for name, given in EXTREME.items():
        folder = tmp_path / "extreme" / name
        shutil.copytree(made, folder)
        values = json.loads((folder / SUMMARY).read_text())
        if "data" in given:
            given = {"data": {**given["data"], "tokens_sha256": data["tokens_sha256"]}}
        (folder / SUMMARY).write_text(json.dumps({**values, **given}))
        resealed(folder)
    for name, cell in CELLS.items():
        folder = tmp_path / "cells" / name
        shutil.copytree(made, folder)
        with (folder / METRICS).open(newline="") as file:
            head, *rows = csv.reader(file)
        keep = {head.index("step"), head.index("tokens")}
        changed = [[old if i in keep or not old else cell for i, old in enumerate(row)] for row in rows]
        (folder / METRICS).write_text("".join(",".join(row) + "\n" for row in [head, *changed]))
        settings = (folder / CONFIG).read_text().replace("seed: 1", f"seed: [{cell}]\nof_its_own: {name}")
        (folder / CONFIG).write_text(settings)
        resealed(folder)
    compare(config(f"runs={tmp_path}", "logger=none", name="compare", cls=Compare))
    return tmp_path / "comparison"


def test_a_report_of_any_runs_is_text_and_nothing_else(shown: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page, markdown, table = (shown / name for name in ("report.html", "report.md", "runs.csv"))
    body = page.read_text(encoding="utf-8")
    own = body[: body.index("<script>")] + body[body.index('<script type="application/json"') :]
    for written in (own, markdown.read_text(encoding="utf-8"), table.read_text(encoding="utf-8"), capsys.readouterr().out):
        assert {sign for sign in written if printable(sign) != sign} <= {"\n", "\t"}
        assert "hunter2" not in written
    assert "NaN" not in own
    assert "Infinity" not in own
    assert "<script>alert" not in own
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(NAMES) + len(TEXTS) + len(EXTREME) + len(CELLS)
    for row in rows:
        for cell in row.values():
            assert not cell.startswith(("=", "@", "+"))
    pictures = re.findall(r"!\[[^]]*\]\(([^)]*)\)", markdown.read_text(encoding="utf-8"))
    assert pictures
    assert sorted(pictures) == sorted(file.name for file in shown.glob("*.png"))
