"""A sequence per line."""

from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.codecs.symbols import Symbols
from throughline.data.sources.lines import Lines
from throughline.plumbing.errors import UserError


def write(folder: Path, text: str) -> str:
    (folder / "lines.txt").write_bytes(text.encode())
    return str(folder / "lines.txt")


def test_names_written_out(tmp_path: Path) -> None:
    corpus = Lines(write(tmp_path, "ab\nc\n\nb\nab"), val_fraction=0.5).read()
    assert corpus.codec == Characters(symbols=["a", "b"], ended=True)  # those of the training split
    assert corpus.train.steps.tolist() == [3, 1, 2, 3, 2, 3]
    assert corpus.val.steps.tolist() == [3, 0, 3, 1, 2, 3]
    assert not corpus.train.joined
    assert corpus.fingerprint["read"] == "4 sequences of 1 to 2 characters; 1 empty lines left out; 1 lines are there again"


def test_tokens_written_out(tmp_path: Path) -> None:
    corpus = Lines(write(tmp_path, "5 26\t5\n26\n"), by="tokens", val_path=write(tmp_path, "5 26\t5\n26\n")).read()
    assert corpus.codec == Symbols(symbols=["26", "5"], ended=True)
    assert corpus.train.steps.tolist() == [3, 2, 1, 2, 3, 1, 3]
    assert corpus.val.steps.tolist() == corpus.train.steps.tolist()
    assert corpus.fingerprint["read"] == "2 sequences of 1 to 3 tokens"


def test_words_of_sentences_that_are_joined(tmp_path: Path) -> None:
    """As Penn Treebank is read: an end after each sentence, the state carried, every token and every end scored."""
    path = write(tmp_path, " a b \n c a \n")
    corpus = Lines(path, by="tokens", joined=True, val_path=path, test_path=path).read()
    for split in ("train", "val", "test"):
        assert corpus.line(split).steps.tolist() == [4, 1, 2, 4, 3, 1, 4]
        assert corpus.line(split).edges.tolist() == [0, 6]
    assert "joined" not in corpus.fingerprint


def test_a_codec_decides_what_a_step_is(tmp_path: Path) -> None:
    path = write(tmp_path, "ab c\nd\n" * 20)
    assert Lines(path).read(Symbols()).codec.size == 2 + 3  # ab, c, d
    assert Lines(path).read(Bytes()).codec.end == 257
    assert "most lines hold spaces" not in Lines(path).read().fingerprint["read"]
    spaced = write(tmp_path, "a b\nc d\nab\n" * 9)
    assert Lines(spaced).read().fingerprint["read"].split("; ")[1].endswith("data.by=tokens reads words instead")
    with pytest.raises(UserError, match=r"^codec=characters: does not read tokens; give data.by=characters, or codec=auto$"):
        Lines(path, by="tokens").read(Characters())


def test_lines_that_are_all_empty_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"lines.txt: all lines are empty; give a file with a sequence per line$"):
        Lines(write(tmp_path, "\n \n\n")).read()
    with pytest.raises(UserError, match=r"lines.txt: the val split has no symbol; give more data, or a larger val_fraction"):
        Lines(write(tmp_path, "one\n")).read()


sequences = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), min_size=1).filter(str.strip), min_size=2, max_size=30
)


@given(lines=sequences, split=st.sampled_from(["spread", "end"]))
def test_every_line_lies_in_one_split_as_it_stands(
    lines: list[str], split: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = write(tmp_path_factory.mktemp("lines"), "\n".join(["a", *lines]))  # no byte order mark at the beginning
    corpus = Lines(path, split=split, val_fraction=0.5).read()  # type: ignore[arg-type]
    found = []
    known = corpus.codec.symbols or []  # type: ignore[attr-defined]
    for line in corpus.splits.values():
        for first, last in zip(line.edges[:-1], line.edges[1:], strict=True):
            assert line.steps[first] == line.steps[last] == corpus.codec.end
            found.append(corpus.codec.decode(line.steps[first + 1 : last].tolist()))
    shown = ["".join(c if c in known else "\N{REPLACEMENT CHARACTER}" for c in line) for line in ["a", *lines]]
    assert sorted(found) == sorted(shown)
    if split == "end":
        assert found == shown
