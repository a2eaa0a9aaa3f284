"""A sequence per line."""

from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from helpers import shared_data
from throughline.data.codecs import Codec
from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.line import Line
from throughline.data.sources.lines import Lines
from throughline.plumbing.errors import UserError


def write(folder: Path, content: bytes, name: str = "lines.txt") -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


def sequences(line: Line, codec: Codec) -> list[str]:
    """The sequences of a line with ends, as text."""
    assert line.ended
    return [codec.decode(line.steps[a + 1 : b].tolist()) for a, b in zip([0, *line.ends], line.ends, strict=False)]


def test_names_written_out(tmp_path: Path) -> None:
    corpus = Lines(write(tmp_path, b"ab\nc\n\n \nb\nab"), val_fraction=0.5).read()
    assert corpus.codec == Characters(symbols=["a", "b"], ended=True)  # those of the training split
    assert corpus.train.steps.tolist() == [3, 1, 2, 3, 2, 3]
    assert corpus.train.ends.tolist() == [3, 5]
    assert corpus.val.steps.tolist() == [3, 0, 3, 1, 2, 3]
    assert not corpus.train.joined
    assert corpus.fingerprint["read"] == (
        "4 sequences of 1 to 2 characters; blank lines left out: 2; 2 of 4 lines occur more than once"
    )


def test_tokens_written_out(tmp_path: Path) -> None:
    path = write(tmp_path, b"5 26\t5\n  26\n")
    corpus = Lines(path, by="tokens", val_path=path).read()
    assert corpus.codec == Symbols(symbols=["26", "5"], ended=True)
    assert corpus.train.steps.tolist() == [3, 2, 1, 2, 3, 1, 3]
    assert corpus.val.steps.tolist() == corpus.train.steps.tolist()
    assert corpus.fingerprint["read"] == "2 sequences of 1 to 3 tokens"


def test_words_of_sentences_that_are_joined(tmp_path: Path) -> None:
    """As Penn Treebank is read: an end after each sentence, the state carried, every word and every end scored."""
    path = write(tmp_path, b" a b \n c a \n")
    corpus = Lines(path, by="tokens", joined=True, val_path=path, test_path=path).read()
    for split in ("train", "val", "test"):
        assert corpus.line(split).steps.tolist() == [4, 1, 2, 4, 3, 1, 4]
        assert corpus.line(split).edges.tolist() == [0, 6]


@pytest.mark.parametrize(
    ("content", "by"),
    [
        (b"5 26 5\n26 5\n5 5 26\n", "tokens"),
        (b" the <unk> ran \n the dog ran \n the <unk> dog\n" * 9, "tokens"),
        (b"anna\nbo\nanna\n", "characters"),
        (b"Anna Smith\nBo Jones\nCarl Miller\n" * 1, "characters"),  # most tokens occur once
        (b"a\na\na\na b\n", "characters"),  # few lines hold several
    ],
)
def test_without_being_asked_lines_are_read_by_tokens_that_come_again(content: bytes, by: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    corpus = Lines(path, val_path=path).read()
    assert corpus.codec.reads == ("symbols" if by == "tokens" else "text")
    assert f" {by}" in corpus.fingerprint["read"].split("; ")[0]


def test_what_was_taken_and_how_to_have_the_other(tmp_path: Path) -> None:
    tokens, prose = write(tmp_path, b"1 2 1\n2 1\n1 2\n"), write(tmp_path, b"one two\nthree four\n", "prose.txt")
    assert Lines(tokens, val_path=tokens).read().fingerprint["read"] == (
        "3 sequences of 2 to 3 tokens; data.by=characters reads characters instead"
    )
    assert Lines(prose, val_path=prose).read().fingerprint["read"] == (
        "2 sequences of 7 to 10 characters; most lines hold white space: data.by=tokens reads what stands between instead"
    )
    for source, codec in ((Lines(tokens, by="tokens", val_path=tokens), None), (Lines(tokens, val_path=tokens), Symbols())):
        assert source.read(codec).fingerprint["read"] == "3 sequences of 2 to 3 tokens"  # it was asked for


def test_a_codec_decides_what_a_step_is(tmp_path: Path) -> None:
    path = write(tmp_path, b"ab c\r\nd\r\n" * 20)
    symbols = Lines(path).read(Symbols())
    assert symbols.codec == Symbols(symbols=["ab", "c", "d"], ended=True)
    assert Lines(path).read(symbols.codec).fingerprint == symbols.fingerprint  # as for a checkpoint
    raw = Lines(path).read(Bytes())
    assert set(sequences(raw.train, raw.codec)) == {"ab c", "d"}
    assert raw.fingerprint["read"] == "40 sequences of 1 to 4 bytes; 40 of 40 lines occur more than once"
    for codec, by, other in ((Characters(), "tokens", "characters"), (Symbols(), "characters", "tokens")):
        with pytest.raises(UserError) as error:
            Lines(path, by=by).read(codec)  # type: ignore[arg-type]
        assert str(error.value) == f"codec={codec.name}: does not read {by}; give data.by={other}, or codec=auto"


def test_white_space_at_the_ends_of_a_line_belongs_to_it_by_characters(tmp_path: Path) -> None:
    path = write(tmp_path, " a\t\r\nb\x0b\u2028 \rc\n".encode())
    corpus = Lines(path, val_path=path).read()
    assert sequences(corpus.train, corpus.codec) == [" a\t", "b\x0b\u2028 ", "c"]  # other separators break no line
    assert "the line breaks of Windows are read as line feeds" in corpus.fingerprint["read"]


@pytest.mark.parametrize("name", ["m.smi", "m.SMILES", "m.txt"])
def test_molecules_without_their_names(name: str, tmp_path: Path) -> None:
    path = write(tmp_path, b"CCO ethanol\nCC\tethane of oil\n\n", name)
    corpus = Lines(path, val_path=path).read()
    if name == "m.txt":
        assert sequences(corpus.train, corpus.codec) == ["CCO ethanol", "CC\tethane of oil"]
    else:
        assert sequences(corpus.train, corpus.codec) == ["CCO", "CC"]
        assert corpus.fingerprint["read"] == (
            "2 sequences of 2 to 3 characters; of each line the first field, the molecule without its name; "
            "blank lines left out: 1"
        )
    mixed = write(tmp_path, b"CCO ethanol\nCC\n", name)
    corpus = Lines(mixed, val_path=mixed).read()
    assert sequences(corpus.train, corpus.codec) == ["CCO ethanol", "CC"]
    tokens = Lines(mixed, val_path=mixed, by="tokens").read()
    assert tokens.codec.symbols == ["CC", "CCO", "ethanol"]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\n \n\t\n", "holds blank lines only; give a sequence per line, or data=text for one long text"),
        (b"one two three\n", "holds a single line; give a sequence per line, or data=text for one long text"),
        (b"one\ntwo\n", "the val split has no symbol; give more data, or a larger val_fraction"),
    ],
)
def test_too_few_lines_are_refused(content: bytes, line: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(UserError) as error:
        _ = Lines(path).read().val
    assert str(error.value) == f"{path}: {line}"


def test_several_files_are_read_one_after_the_other(tmp_path: Path) -> None:
    write(tmp_path, b"b\nb", "2.txt")
    write(tmp_path, b"a\n", "1.txt")
    corpus = Lines(str(tmp_path), val_path=write(tmp_path, b"a\n", "3.txt")).read()
    assert sequences(corpus.train, corpus.codec) == ["a", "b", "b"]
    assert corpus.fingerprint["files"] == 2
    assert corpus.fingerprint["read"] == (
        "3 sequences of 1 characters; 2 files in order of their names; files of other splits that were left out: 1; "
        "2 of 3 lines occur more than once"
    )


lines = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0\ufeff"), min_size=1).filter(str.strip),
    min_size=2,
    max_size=30,
)


@given(lines=lines, split=st.sampled_from(["spread", "end"]), line_break=st.sampled_from(["\n", "\r\n"]))
def test_every_line_lies_in_one_split_as_it_stands(
    lines: list[str], split: Any, line_break: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("lines"), line_break.join(lines).encode())
    table = Characters(symbols=sorted(set("".join(lines))))
    corpus = Lines(path, split=split, val_fraction=0.5).read(table)
    found = [sequence for line in corpus.splits.values() for sequence in sequences(line, corpus.codec)]
    assert sorted(found) == sorted(lines)
    assert len(found) >= 2
    if split == "end":
        assert found == lines


@given(lines=lines)
def test_every_token_is_a_step(lines: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = write(tmp_path_factory.mktemp("tokens"), "\n".join(lines).encode())
    corpus = Lines(path, by="tokens", val_path=path).read()
    found = [[corpus.codec.decode([id]) for id in corpus.train.steps[a + 1 : b]] for a, b in _edges(corpus.train)]
    assert found == [line.split() for line in lines]


def _edges(line: Line) -> list[tuple[int, int]]:
    return list(zip([0, *line.ends.tolist()], line.ends.tolist(), strict=False))


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("names-one-per-line-shuffled.txt", "603 sequences of 2 to 11 characters"),
        ("smiles-one-per-line.smi", "420 sequences of 3 to 47 characters"),
        (
            "logkeys-sessions-space-separated.txt",
            "220 sequences of 6 to 24 tokens; data.by=characters reads characters instead",
        ),
    ],
)
def test_files_as_people_bring_them(name: str, read: str) -> None:
    corpus = Lines(str(shared_data(f"cases/{name}"))).read()
    assert corpus.fingerprint["read"] == read
    assert not corpus.train.joined


def test_words_in_the_style_of_penn_treebank() -> None:
    train, valid, test = (str(shared_data(f"cases/words-ptb-style.{part}.txt")) for part in ("train", "valid", "test"))
    corpus = Lines(train, val_path=valid, test_path=test, joined=True).read()
    assert {split: line.num_targets for split, line in corpus.splits.items()} == {"train": 1911, "val": 444, "test": 640}
    assert [len(line.ends) for line in corpus.splits.values()] == [180, 40, 60]
    assert "<unk>" in corpus.codec.symbols  # type: ignore[attr-defined]
