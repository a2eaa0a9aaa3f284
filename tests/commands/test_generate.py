"""What `generate.py` writes: texts, sequences one a line, and data."""

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import saved
from throughline.commands.generate import Generate, csv_lines, generate, json_lines, texts, write_npy
from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
from throughline.runs.trained import Generated, load

NAMES = Corpus.of(Characters(), ["anna", "bob", "eve"], ["eve"], ended=True, joined=False).codec
EVENTS = Corpus.of(Symbols(), [["go in", "sit"], ["sit"]], [["sit"]], ended=True, joined=False).codec
TEXT = Characters(list("\n abc"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generate")
    for name, codec in (("names", NAMES), ("events", EVENTS), ("text", TEXT)):
        saved(folder / f"{name}.ckpt", LSTM(hidden_size=8), codec)
    return folder


def asked(folder: Path, name: str, **settings: Any) -> Generate:
    return Generate(**{"checkpoint": str(folder / f"{name}.ckpt"), "seed": 1, **settings})


def made(codec: Codec, *raw: Any) -> list[Generated]:
    ids = [codec.encode(sequence).tolist() for sequence in raw]
    return [Generated(sequence, codec.decode(sequence), True) for sequence in ids]


def test_sequences_are_written_one_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(asked(folder, "names", num_sequences=20))
    out, err = capsys.readouterr()
    expected = [s.text for s in load(folder / "names.ckpt").sequences(20, seed=1, temperature=0.8)]
    assert (out, err) == ("".join(f"{text}\n" for text in expected), "")
    assert len(set(expected)) > 10
    generate(asked(folder, "names", num_sequences=7))
    assert capsys.readouterr().out.splitlines() == expected[:7]
    generate(asked(folder, "names", prompt="an", num_sequences=3))
    assert [line[:2] for line in capsys.readouterr().out.splitlines()] == ["an"] * 3


def test_an_unknown_word_of_a_prompt_is_said_in_a_program_as_a_warning(tmp_path: Path) -> None:
    saved(tmp_path / "words.ckpt", LSTM(hidden_size=4), Words(symbols=["a", "<unk>"]))
    trained = load(tmp_path / "words.ckpt")
    said = r"^prompt: 'fox' not in the vocabulary, read as <unk>$"
    for asked_with in (trained.generate, trained.score, trained.probabilities):
        with pytest.warns(UserWarning, match=said) as warned:
            asked_with("a fox")
        assert warned[0].filename == __file__
    assert trained.generate("a", 2, seed=1).split()[0] == "a"  # without a warning


def test_sequences_that_did_not_end_are_counted(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(asked(folder, "names", num_sequences=20, max_length=2))
    out, err = capsys.readouterr()
    whole = [s.whole for s in load(folder / "names.ckpt").sequences(20, max_length=2, seed=1, temperature=0.8)]
    assert 0 < sum(whole) < 20
    assert err == f"{20 - sum(whole)} of 20 sequences were cut at max_length=2\n"
    assert max(map(len, out.splitlines())) == 2


def test_a_text_is_streamed_and_several_are_numbered(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(asked(folder, "text", prompt="ab", length=30))
    text = capsys.readouterr().out
    assert text == load(folder / "text.ckpt").generate("ab", 30, seed=1) + "\n"
    generate(asked(folder, "text", prompt="ab", length=30, num_sequences=2, out=str(folder / "two.txt")))
    assert capsys.readouterr() == ("", "")
    one, other = (s.text for s in load(folder / "text.ckpt").sequences(2, "ab", 30, seed=1, temperature=0.8))
    assert (folder / "two.txt").read_text() == f"--- 1\n{one}\n--- 2\n{other}\n"
    stop = text[6:8]
    generate(asked(folder, "text", prompt="ab", length=30, stop=stop))
    assert capsys.readouterr().out == text[: text.index(stop, 2)] + "\n"


def test_the_formats_in_full() -> None:
    sequences = made(NAMES, "anna", "", "ob")
    assert "".join(texts(sequences, NAMES)) == "anna\n\nob\n"
    assert "".join(csv_lines(sequences, NAMES)) == 'number,text\n1,"anna"\n2,""\n3,"ob"\n'
    assert "".join(json_lines(sequences, NAMES)) == (
        '{"number": 1, "text": "anna", "symbols": ["a", "n", "n", "a"]}\n'
        '{"number": 2, "text": "", "symbols": []}\n'
        '{"number": 3, "text": "ob", "symbols": ["o", "b"]}\n'
    )
    assert "".join(texts(made(TEXT, "a b", "c\n"), TEXT)) == "--- 1\na b\n--- 2\nc\n\n"
    events = made(EVENTS, ["sit", "go in"], ["sit"])
    assert "".join(csv_lines(events, EVENTS)) == 'number,text\n1,"sit, go in"\n2,"sit"\n'
    assert "".join(json_lines(events[:1], EVENTS)) == '{"number": 1, "text": "sit, go in", "symbols": ["sit", "go in"]}\n'
    codec = Bytes().with_end()
    assert (
        "".join(json_lines(made(codec, "é!".encode()), codec))
        == '{"number": 1, "text": "\\u00e9!", "ids": [196, 170, 34]}\n'
    )


def test_texts_of_several_lines_are_told_apart() -> None:
    codec = Characters(list('\n\r",a')).with_end()
    hostile = ["a\na", '",\r\n', "a"]
    sequences = made(codec, *hostile)
    assert "".join(texts(sequences, codec)) == 'a\na\n\n",\r\n\n\na\n'
    rows = list(csv.reader(io.StringIO("".join(csv_lines(sequences, codec)), newline="")))
    assert rows == [["number", "text"], *([str(n), text] for n, text in enumerate(hostile, start=1))]
    assert [json.loads(line)["text"] for line in json_lines(sequences, codec)] == hostile


def test_an_array_of_ids() -> None:
    buffer = io.BytesIO()
    write_npy(made(NAMES, "anna", "", "ob"), buffer)
    buffer.seek(0)
    table = np.load(buffer, allow_pickle=False)
    assert (table.dtype, table.tolist()) == (np.int32, [[1, 4, 4, 1], [0, 0, 0, 0], [5, 2, 0, 0]])
    assert not buffer.read()


@pytest.mark.parametrize("ending", ["csv", "jsonl", "npy"])
def test_a_file_of_data_appears_as_a_whole_or_not_at_all(
    folder: Path, tmp_path: Path, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"target.{ending}").write_text("before")
    (tmp_path / f"link.{ending}").symlink_to(f"target.{ending}")
    there = sorted(path.name for path in tmp_path.iterdir())
    settings = asked(folder, "names", num_sequences=70, out=str(tmp_path / f"link.{ending}"))
    with monkeypatch.context() as patch:
        patch.setattr("throughline.plumbing.atomic.os.fsync", full_disk)
        with pytest.raises(UserError, match=r"^out=.*: No space left on device; give a file"):
            generate(settings)
    assert (tmp_path / f"target.{ending}").read_text() == "before"
    generate(settings)
    assert sorted(path.name for path in tmp_path.iterdir()) == there
    assert (tmp_path / f"link.{ending}").is_symlink()
    content = (tmp_path / f"target.{ending}").read_bytes()
    number = len(np.load(io.BytesIO(content))) if ending == "npy" else len(content.splitlines()) - (ending == "csv")
    assert number == 70
    with pytest.raises(UserError, match=r"^out=/dev/null: not a regular file; give a file that can be written$"):
        generate(asked(folder, "names", out="/dev/null", format=ending))


def full_disk(number: int) -> None:
    raise OSError(28, "No space left on device")


def test_the_format_is_said_by_the_ending_or_by_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    expected = load(folder / "names.ckpt").generate(seed=1)
    for output, form, content in (
        ("a", "auto", f"{expected}\n"),
        ("a.txt", "auto", f"{expected}\n"),
        ("a.CSV", "auto", f'number,text\n1,"{expected}"\n'),
        ("a.txt", "csv", f'number,text\n1,"{expected}"\n'),
        ("a.csv", "text", f"{expected}\n"),
    ):
        generate(asked(folder, "names", out=str(folder / output), format=form))
        assert (folder / output).read_text() == content
    generate(asked(folder, "names", format="csv"))
    assert capsys.readouterr().out == f'number,text\n1,"{expected}"\n'


def test_a_terminal_gets_escapes_and_a_file_the_signs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path / "last.ckpt", LSTM(hidden_size=2), Characters(["\x1b"]).with_end())
    for settings in ({}, {"out": str(tmp_path / "a.txt")}):
        generate(Generate(str(tmp_path / "last.ckpt"), prompt="\x1b", max_length=1, seed=1, **settings))
    assert capsys.readouterr().out.startswith("\\x1b")
    assert (tmp_path / "a.txt").read_text().startswith("\x1b")


def test_nothing_random_is_said_to_be_random(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    generate(asked(folder, "text", temperature=0, seed=None, length=20))
    one = capsys.readouterr()
    generate(asked(folder, "text", temperature=0, seed=5, length=20))
    assert (one.err, one.out) == ("", capsys.readouterr().out)
    generate(asked(folder, "text", seed=None, length=5))
    assert capsys.readouterr().err.startswith("seed=")
    assert "throughline.model.generation" in sys.modules
