"""The row per sequence that `evaluate.py out=FILE` writes."""

import csv
from pathlib import Path

import pytest
import torch

from helpers import saved
from throughline.commands.evaluate import Evaluate, evaluate
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.sources import text as text_source
from throughline.data.sources.lines import Lines
from throughline.data.sources.reber import Reber
from throughline.data.sources.table import Table
from throughline.data.sources.text import Text
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError

EVENTS = Symbols(["a", "go in"]).with_end()
NAMES = Characters(list("\rabn")).with_end()
LOG = """case;activity
007;go in
x,"1";a
007;a
007;never seen
"""


def test_a_row_per_case_with_its_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    model = saved(tmp_path / "events.ckpt", LSTM(hidden_size=8), EVENTS)
    log = Table(str(tmp_path / "log.csv"), sequence="case", symbol="activity", val_fraction=0.5, quotes=False)
    out = tmp_path / "scores.csv"
    evaluate(Evaluate(str(tmp_path / "events.ckpt"), split="all", data=log, out=str(out)))
    rows = list(csv.DictReader(out.read_text().splitlines()))
    assert [(row["sequence"], row["targets"], row["unknown"], row["text"]) for row in rows] == [
        ("007", "4", "1", "go in, a, \N{REPLACEMENT CHARACTER}"),
        ('x,"1"', "2", "0", "a"),
    ]
    for row, ids in zip(rows, ([3, 2, 1, 0, 3], [3, 1, 3]), strict=True):
        steps = torch.tensor([ids])
        with torch.no_grad():
            nll, _ = model.nll(steps[:, :-1], steps[:, 1:])
            predicted, _ = model(steps[:, :-1])
        assert float(row["nll"]) == pytest.approx(float(nll.sum()), rel=1e-6)
        assert int(row["correct"]) == int((predicted.argmax(-1) == steps[:, 1:]).sum())
    assert capsys.readouterr().out.endswith(f"{out}: 2 sequences\n")


def test_texts_are_quoted_and_sequences_without_names_are_numbered(tmp_path: Path) -> None:
    (tmp_path / "names.jsonl").write_text('{"name": "anna"}\n{"name": "b\\ra"}\n{"name": "bob"}\n')
    saved(tmp_path / "names.ckpt", LSTM(hidden_size=8), NAMES)
    lines = Table(str(tmp_path / "names.jsonl"), by="characters")
    out = tmp_path / "scores.csv"
    evaluate(Evaluate(str(tmp_path / "names.ckpt"), split="all", data=lines, out=str(out)))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["sequence"] for row in rows] == ["1", "2", "3"]
    assert [row["text"] for row in rows] == ["anna", "b\ra", "b\N{REPLACEMENT CHARACTER}b"]


def test_a_file_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("anna\nban\n")
    saved(tmp_path / "names.ckpt", LSTM(hidden_size=8), NAMES)
    monkeypatch.setattr("throughline.runs.trained.Trained.evaluate", lambda *_: pytest.fail("it was evaluated"))
    for out, why in (
        ("no/such.csv", "No such file or directory"),
        ("", "not a regular file"),
        ("/dev/null", "not a regular file"),
    ):
        settings = Evaluate(
            str(tmp_path / "names.ckpt"),
            split="all",
            data=Lines(str(tmp_path / "names.txt"), by="characters"),
            out=out if out.startswith("/") else str(tmp_path / out),
        )
        with pytest.raises(UserError, match=rf"^out=.*: {why}.*; give a file that can be written$"):
            evaluate(settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["names.ckpt", "names.txt"]


def test_another_file_is_read_as_the_runs_own_data_were(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    own, other = tmp_path / "log.csv", tmp_path / "other.csv"
    own.write_text(LOG)
    other.write_text("case;activity\n9;go in\n8;a\n9;a\n")
    log = Table(str(own), sequence="case", symbol="activity", val_path=str(own), delimiter=";", quotes=False)
    data = {"source": log.located(), "tokens_sha256": "0" * 64}
    saved(tmp_path / "events.ckpt", LSTM(hidden_size=8), EVENTS, data=data)
    out = tmp_path / "scores.csv"
    evaluate(Evaluate(str(tmp_path / "events.ckpt"), path=str(other), out=str(out)))
    with out.open(newline="") as file:
        assert [(row["sequence"], row["text"]) for row in csv.DictReader(file)] == [("9", "go in, a"), ("8", "a")]
    assert "split all, 2 sequences, 5 targets" in capsys.readouterr().out
    with pytest.raises(UserError, match=r"^path=x: is read as the run's own data were; with data=... give data.path$"):
        evaluate(Evaluate(str(tmp_path / "events.ckpt"), path="x", data=log))
    saved(tmp_path / "generated.ckpt", LSTM(hidden_size=8), EVENTS, data={**data, "source": Reber().located()})
    with pytest.raises(UserError, match=r"^path=x: the data of the run, reber, are no file; give data=... instead$"):
        evaluate(Evaluate(str(tmp_path / "generated.ckpt"), path="x"))


def test_a_large_text_is_prepared_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_source, "LARGE", 0)
    (tmp_path / "x.txt").write_text("abab " * 90)
    saved(tmp_path / "run.ckpt", LSTM(hidden_size=8), Characters(list(" ab")))
    data = Text(path=str(tmp_path / "x.txt"), prepared_path=str(tmp_path / "p"))
    evaluate(Evaluate(str(tmp_path / "run.ckpt"), split="all", data=data))
    assert len([path for path in (tmp_path / "p").iterdir() if path.is_dir()]) == 1
