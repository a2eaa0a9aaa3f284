"""`src/generate.py`: texts of a given length, sequences that end by themselves, and the formats of the output."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from helpers import saved
from throughline import load
from throughline.commands.generate import Generate, generate, until
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.model.generation import AT_ONCE, generate_sequences
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
from throughline.settings import checked

NAMES = Characters(symbols=["a", "b", "n"], ended=True)
EVENTS = Symbols(symbols=["check ticket", "decide", "pay"], ended=True).fit([])
TEXT = Characters(symbols=["a", "b", "\n"])
SIZES = LSTM(hidden_size=6, embedding_size=5)


@pytest.fixture
def names(tmp_path: Path) -> str:
    saved(tmp_path / "names.ckpt", SIZES, NAMES)
    return str(tmp_path / "names.ckpt")


@pytest.fixture
def text(tmp_path: Path) -> str:
    saved(tmp_path / "text.ckpt", SIZES, TEXT)
    return str(tmp_path / "text.ckpt")


def said(capsys: pytest.CaptureFixture[str], checkpoint: str, **settings: Any) -> str:
    generate(Generate(checkpoint, **{"seed": 1, **settings}))
    return capsys.readouterr().out


def test_sequences_end_by_themselves_one_per_line(names: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = said(capsys, names, num_sequences=20).splitlines()
    assert len(lines) == 20
    assert set("".join(lines)) <= set("abn")
    assert len(set(map(len, lines))) > 2
    begun = said(capsys, names, num_sequences=9, prompt="an").splitlines()
    assert [line[:2] for line in begun] == ["an"] * 9


def test_a_sequence_is_what_the_model_says_of_it(names: str) -> None:
    """Greedily, so that each symbol is the likeliest one, and the end comes where it is likeliest."""
    trained = load(names)
    steps = list(generate_sequences(trained.generator, NAMES.prompt("b"), 4, 50, temperature=0.0))
    (sequence,) = steps
    whole = torch.tensor([[4, 2, *sequence]])
    with torch.no_grad():
        logits = trained.generator(whole)[0][0, 1:-1]
    logits[:, 0] = -torch.inf
    assert sequence == logits.argmax(-1).tolist()
    assert (sequence[-1] == 4) == (len(sequence) < 50)
    assert 4 not in sequence[:-1]


def test_draws_have_the_probabilities_of_the_model(names: str) -> None:
    """The share of each whole sequence among many is its probability."""
    trained = load(names)
    trained.generator.head.bias.data[0] = -50  # the unknown symbol is never drawn, so it must have no share
    drawn = list(generate_sequences(trained.generator, NAMES.prompt(""), 4, 30, num_sequences=20 * AT_ONCE, seed=5))
    texts = [NAMES.decode([t for t in s if t != 4]) for s in drawn if s[-1] == 4]
    likeliest = max(set(texts), key=texts.count)
    probability = np.exp(-sum(trained.score(likeliest)))
    error = np.sqrt(probability / len(drawn))
    assert probability > 20 / len(drawn)
    assert abs(texts.count(likeliest) / len(drawn) - probability) < 5 * error


def test_a_sequence_that_is_cut_is_told(names: str, capsys: pytest.CaptureFixture[str]) -> None:
    generate(Generate(names, num_sequences=30, max_length=2, temperature=3.0, seed=1))
    told = capsys.readouterr()
    assert max(map(len, told.out.splitlines())) == 2
    assert "of 30 sequences had not ended after max_length=2" in told.err


def test_the_end_has_a_probability_and_a_share_of_the_score(names: str) -> None:
    trained = load(names)
    probabilities = trained.probabilities("an")
    assert set(probabilities) == {"", "a", "b", "n"}
    assert sum(probabilities.values()) == pytest.approx(1)
    score = trained.score("ann")
    assert len(score) == 4
    assert len(trained.score("")) == 1
    steps = torch.tensor([[4, 1, 3, 3, 4]])
    with torch.no_grad():
        assert score == pytest.approx(trained.generator.score(steps[:, :-1], steps[:, 1:])[0][0].tolist())
    assert set(trained.generate(length=100, seed=3)) <= set("abn")
    assert trained.generate("b", seed=3).startswith("b")


def test_text_has_a_length_and_may_stop_earlier(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    whole = said(capsys, text, prompt="a", length=200)
    assert len(whole) == 1 + 200 + 1
    place = whole.index("ab", 1)
    assert said(capsys, text, prompt="a", length=200, stop="ab") == whole[:place] + "\n"
    several = said(capsys, text, prompt="a", length=200, stop="ab", num_sequences=3)
    assert several.count("--- ") == 3
    assert "ab" not in several.replace("\na", "\n")  # the prompt is no part of it
    greedy: dict[str, Any] = {"prompt": "a", "length": 50, "temperature": 0.0}
    assert said(capsys, text, **greedy) == said(capsys, text, **greedy, seed=2)


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(1, 4))
def test_a_text_ends_before_the_first_stop_however_it_comes_in_pieces(whole: str, stop: str, size: int) -> None:
    pieces = [whole[i : i + size] for i in range(0, len(whole), size)]
    assert "".join(until(stop, iter(pieces))) == whole.partition(stop)[0]


def test_formats(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "events.ckpt", SIZES, EVENTS)
    checkpoint, few = str(tmp_path / "events.ckpt"), {"num_sequences": 5, "max_length": 9}
    lines = said(capsys, checkpoint, **few).splitlines()
    assert len(lines) == 5
    for name in ("a.csv", "a.jsonl", "a.npy", "a.txt"):
        said(capsys, checkpoint, **few, output=str(tmp_path / name))
    assert (tmp_path / "a.txt").read_text().splitlines() == lines
    table = list(csv.reader(io.StringIO((tmp_path / "a.csv").read_text())))
    assert table == [["sequence", "text"], *([str(i), line] for i, line in enumerate(lines, start=1))]
    records = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [record["text"] for record in records] == lines
    assert [", ".join(record["symbols"]) for record in records] == lines
    ids = np.load(tmp_path / "a.npy", allow_pickle=False)
    assert [EVENTS.decode([i for i in row if i]) for row in ids.tolist()] == lines
    assert said(capsys, checkpoint, **few, format="csv") == (tmp_path / "a.csv").read_text()


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (
            "names",
            {"length": 5},
            r"^length=5: does not suit this model, because its sequences end by themselves; give",
        ),
        (
            "names",
            {"stop": "a"},
            r"^stop=a: does not suit this model, because its sequences end by themselves; give",
        ),
        ("text", {"max_length": 5}, r"^max_length=5: does not suit this model, because its data are joined; give length$"),
        ("text", {"output": "/dev/null/x.csv"}, r"^output=/dev/null/x.csv: File exists; give a file"),
    ],
)
def test_settings_of_another_kind_of_model_are_refused(
    model: str, settings: dict[str, Any], message: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(UserError, match=message):
        generate(Generate(request.getfixturevalue(model), seed=1, **settings))


def test_an_array_on_a_terminal_is_refused() -> None:
    with pytest.raises(UserError, match="format=npy: a terminal cannot show it; give output=FILE"):
        checked(Generate, {"checkpoint": "x", "format": "npy"})
