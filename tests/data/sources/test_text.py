import gzip
import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from throughline.data.codecs.bytes import Bytes
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.data.sources.text import Text
from throughline.plumbing.errors import UserError
from throughline.settings import checked, from_plain


def write(folder: Path, content: bytes) -> str:
    (folder / "data.txt").write_bytes(content)
    return str(folder / "data.txt")


def test_the_last_fraction_is_validated_on_and_its_new_symbols_are_unknown(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, "abcabcab€z".encode()), val_fraction=0.2).read()
    assert corpus.codec.symbols == ["a", "b", "c"]
    assert corpus.train.steps.tolist() == [1, 2, 3, 1, 2, 3, 1, 2]
    assert corpus.val.steps.tolist() == [0, 0]
    assert corpus.unknown == 1  # of the two, one is the first step, which is no target
    assert corpus.fingerprint["bytes"] == 12
    assert corpus.fingerprint["vocab"] == 4


def test_the_same_text_split_elsewhere_is_other_data(tmp_path: Path) -> None:
    path = write(tmp_path, b"abcabcabcabc")
    one, other = (Text(path=path, val_fraction=fraction).read().fingerprint for fraction in (0.25, 0.5))
    assert one["vocab_sha256"] == other["vocab_sha256"]
    assert one["tokens_sha256"] != other["tokens_sha256"]


def test_a_file_of_its_own_to_validate_on(tmp_path: Path) -> None:
    (tmp_path / "val.txt").write_text("ba")
    corpus = Text(path=write(tmp_path, b"aab"), val_path=str(tmp_path / "val.txt")).read()
    assert (corpus.train.steps.tolist(), corpus.val.steps.tolist()) == ([1, 1, 2], [2, 1])


def test_a_separator_ends_a_sequence_and_belongs_to_it(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, b"ab\n\nc\n\nde--------"), val_fraction=0.5, separator="\n\n").read()
    assert corpus.codec.decode(corpus.train.steps) == "ab\n\nc\n\nd"
    assert corpus.train.ends.tolist() == [4, 7]  # in targets: the last target of a sequence is the first token of the next


def test_line_breaks_of_windows_are_line_feeds_unless_they_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfa\r\nb\rab\na")
    corpus = Text(path=path, val_fraction=0.3).read()
    assert corpus.codec.decode(corpus.line("all").steps) == "a\nb\nab\na"
    assert corpus.fingerprint["read"] == "the line breaks of Windows are read as line feeds"
    kept = Text(path=path, val_fraction=0.3, newline="keep").read()
    assert kept.codec.decode(kept.line("all").steps) == "a\r\nb\rab\na"
    assert "read" not in kept.fingerprint
    raw = Text(path=path, val_fraction=0.3).read(Bytes())
    assert (raw.line("all").steps - 1).astype("uint8").tobytes() == b"\xef\xbb\xbfa\r\nb\rab\na"


def test_an_encoding_is_given(tmp_path: Path) -> None:
    path = write(tmp_path, "größer ".encode("cp1252") * 9)
    corpus = Text(path=path, encoding="cp1252").read()
    assert corpus.codec.decode(corpus.line("all").steps) == "größer " * 9
    assert Text(path=path).read(Bytes()).fingerprint["sha256"] == corpus.fingerprint["sha256"]


def test_a_compressed_text_is_the_same_data(tmp_path: Path) -> None:
    plain = Text(path=write(tmp_path, b"abcabc" * 5)).read()
    (tmp_path / "data.txt.gz").write_bytes(gzip.compress(b"abcabc" * 5))
    packed = Text(path=str(tmp_path / "data.txt.gz")).read()
    assert {**packed.fingerprint, "source": ""} == {**plain.fingerprint, "source": ""}
    assert Text(path=str(tmp_path / "data.txt.gz")).read(Bytes()).fingerprint["bytes"] == 30


def files(folder: Path, *texts: str) -> str:
    (folder / "texts").mkdir()
    for number, text in enumerate(texts):
        (folder / "texts" / f"{number:02}.txt").write_text(text)
    return str(folder / "texts")


def sequences(corpus: Corpus, split: str) -> list[str]:
    """The sequences of a split, as text."""
    line = corpus.splits[split]
    if line.ended:
        edges = zip([0, *line.ends], line.ends, strict=False)
        return [corpus.codec.decode(line.steps[first + 1 : last].tolist()) for first, last in edges]
    ends = [*line.ends[:-1], len(line.steps)]
    return [corpus.codec.decode(line.steps[a:b].tolist()) for a, b in zip([0, *ends], ends, strict=False)]


def test_the_kinds_of_several_files_are_said(tmp_path: Path) -> None:
    path = files(tmp_path, "abc", "bcbc", "cab")
    for name in ("notes.md", "README"):
        Path(path, name).write_text("abc", encoding="utf-8")
    said = Text(path=path).read().fingerprint["read"]
    assert said == "5 files in order of their names (3 .txt, 1 without an ending, 1 .md)"


def test_few_files_are_laid_together_and_cut_at_the_end(tmp_path: Path) -> None:
    corpus = Text(path=files(tmp_path, "abc", "bcbc", "cab"), val_fraction=0.4).read()
    assert (sequences(corpus, "train"), sequences(corpus, "val")) == (["abc", "bcb"], ["c", "cab"])
    assert corpus.train.joined
    assert corpus.fingerprint["files"] == 3
    assert corpus.fingerprint["bytes"] == 10
    assert corpus.fingerprint["sha256"] == hashlib.sha256(b"abcbcbccab").hexdigest()
    assert corpus.fingerprint["read"] == "3 files in order of their names"
    one = Text(path=write(tmp_path, b"abcbcbccab"), val_fraction=0.4).read()
    assert one.fingerprint["tokens_sha256"] == corpus.fingerprint["tokens_sha256"]


def test_of_enough_files_whole_ones_are_held_out(tmp_path: Path) -> None:
    path = files(tmp_path, *("ab" * n for n in range(1, 21)))
    corpus = Text(path=path).read()
    assert sequences(corpus, "train") == ["ab" * n for n in range(1, 21) if n not in (10, 20)]
    assert sequences(corpus, "val") == ["ab" * 10, "ab" * 20]
    assert corpus.fingerprint["read"] == ("20 files in order of their names; whole files are held out, at equal distances")
    end = Text(path=path, split="end", test_fraction=0.1).read()
    assert [len(end.line(split).steps) for split in ("train", "val", "test")] == [336, 42, 42]
    assert sequences(end, "test") == ["ab", "ab" * 20]


@pytest.mark.parametrize(
    ("number", "shares", "whole"),
    [
        (10, {}, True),
        (9, {}, False),
        (19, {"val_fraction": 0.05}, False),
        (20, {"val_fraction": 0.05}, True),
        (10, {"test_fraction": 0.1}, True),
        (10, {"test_fraction": 0.05}, False),
        (9, {"val_fraction": 0.5}, False),
    ],
)
def test_files_are_enough_if_each_split_gets_one(number: int, shares: dict[str, float], whole: bool, tmp_path: Path) -> None:
    corpus = Text(path=files(tmp_path, *["ab" * 9] * (number - 1), "ab"), **shares).read()  # type: ignore[arg-type]
    assert ("whole files" in corpus.fingerprint["read"]) == whole
    assert ({len(line.steps) % 18 for line in corpus.splits.values()} <= {0, 2}) == whole


def test_whole_files_can_be_asked_for(tmp_path: Path) -> None:
    corpus = Text(path=files(tmp_path, "abb", "ababb", "ba"), split="spread", val_fraction=0.34, separator="a").read()
    assert (sequences(corpus, "train"), sequences(corpus, "val")) == (["a", "bb", "a", "ba", "bb"], ["ba"])


@given(
    texts=st.lists(st.text("ab|", min_size=2, max_size=9), min_size=1, max_size=25),
    split=st.sampled_from(["auto", "end"]),
    separator=st.sampled_from([None, "|"]),
)
def test_joined_texts_lose_nothing(
    texts: list[str], split: Any, separator: str | None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = files(tmp_path_factory.mktemp("texts"), "ab|" * 3, *texts, "ab|" * 3)
    corpus = Text(path=path, split=split, separator=separator, val_fraction=0.2).read(Characters(list("ab|")))
    found = "".join(corpus.codec.decode(line.steps.tolist()) for line in corpus.splits.values())
    whole = "".join(["ab|" * 3, *texts, "ab|" * 3])
    assert len(found) >= 18
    if "whole files" in corpus.fingerprint["read"]:
        assert Counter(found) == Counter(whole)
    else:
        assert found == whole


@pytest.mark.parametrize(
    ("text", "sequences"),
    [
        ("a\nb\n***\n\nc\n***\nd\n", ["a\nb", "\nc", "d"]),
        ("***\na\n***\nb", ["a", "b"]),
        ("a\n***\nb\n***\n", ["a", "b"]),
        ("a\n***\nb***\n", ["a\n", "\nb"]),  # once not on a line of its own: only itself
        ("a***b", ["a", "b"]),
    ],
)
def test_a_separator_on_a_line_of_its_own_takes_the_line_with_it(text: str, sequences: list[str], tmp_path: Path) -> None:
    source = Text(path=write(tmp_path, text.encode()), separator="***", joined=False)
    assert source._between([text]) == sequences
    assert source._between([text.encode()]) == [piece.encode() for piece in sequences]


def test_sequences_that_are_not_joined_lose_their_separator(tmp_path: Path) -> None:
    path = write(tmp_path, b"ab\n\n\n\nc\n\nda\nb\n\nbc\n")
    corpus = Text(path=path, separator="\n\n", joined=False, val_fraction=0.5).read(Characters(list("\nabcd")))
    assert corpus.codec.end == 6
    assert corpus.train.steps.tolist() == [6, 2, 3, 6, 5, 2, 1, 3, 6]  # ab, and da with its inner line break
    assert corpus.val.steps.tolist() == [6, 4, 6, 3, 4, 6]  # the line break that ends the file is no part of the last one
    assert not corpus.train.joined
    assert corpus.fingerprint["read"] == "4 sequences of 1 to 4 characters"
    end = Text(path=path, separator="\n\n", joined=False, val_fraction=0.5, split="end").read()
    assert (sequences(end, "train"), len(end.val.ends)) == (["ab", "c"], 2)
    raw = Text(path=path, separator="\n\n", joined=False, val_fraction=0.5).read(Bytes())
    assert sequences(raw, "train") == ["ab", "da\nb"]
    assert raw.fingerprint["read"] == "4 sequences of 1 to 4 bytes"


def test_files_that_are_not_joined_are_a_sequence_each(tmp_path: Path) -> None:
    path = files(tmp_path, "abc", "bcbc", "cab")
    (tmp_path / "val.txt").write_text("cc")
    corpus = Text(path=path, joined=False, val_path=str(tmp_path / "val.txt")).read()
    assert (sequences(corpus, "train"), sequences(corpus, "val")) == (["abc", "bcbc", "cab"], ["cc"])
    assert corpus.fingerprint["read"] == "3 files in order of their names; 3 sequences of 3 to 4 characters"


def test_lists_and_patterns_are_found_again_from_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = files(tmp_path, "ab" * 9, "abc" * 9)
    monkeypatch.chdir(path)
    for named in (["01.txt", "00.txt"], "*.txt", "."):
        source = Text(path=named)
        values = source.located()
        monkeypatch.chdir(tmp_path)
        again = from_plain(Source, values).read()  # type: ignore[type-abstract]
        monkeypatch.chdir(path)
        assert again.fingerprint["tokens_sha256"] == source.read().fingerprint["tokens_sha256"]


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        (
            {"joined": False},
            "data.joined=false: {path} is one sequence; give data.separator or several files, or data=lines",
        ),
        (
            {"joined": False, "separator": "X"},
            "data.separator='X': separates nothing in {path}; give the text between its sequences",
        ),
        (
            {"split": "spread"},
            "data.split=spread: one joined text is cut at its end; "
            "give several files, or data.joined=false with data.separator",
        ),
    ],
)
def test_what_one_text_cannot_give_is_refused(settings: dict[str, Any], line: str, tmp_path: Path) -> None:
    path = write(tmp_path, b"ab" * 50)
    with pytest.raises(UserError) as error:
        Text(path=path, **settings).read()
    assert str(error.value) == line.format(path=path)


def test_a_given_vocabulary_is_used(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, b"abab"), val_fraction=0.5).read(Characters(["b"]))
    assert corpus.val.steps.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^data.path=\S+/data.txt: No such file or directory; give a readable file$"),
        (b"", r"^data.path=\S+/data.txt: the file is empty; give a file with text$"),
        (b"ab\xffcd", r"^\S+/data.txt: byte 2 \(0xff\) is not UTF-8; give a text in UTF-8, or codec=bytes$"),
        (b"a", r"^\S+/data.txt: the train split has no symbol; give more data, or a smaller val_fraction$"),
        (b"abcd", r"^\S+/data.txt: too short: the val split needs at least 2 tokens and has 1$"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = str(tmp_path / "data.txt") if content is None else write(tmp_path, content)
    with pytest.raises(UserError, match=message):
        [Text(path=path).read().line(split) for split in ("train", "val")]


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"^val_fraction=1.0: input should be less than 1$"):
        checked(Text, {"path": "x", "val_fraction": 1.0})


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("", "path: the path is empty"),
        ([], "path: the list of paths is empty"),
        (["a", ""], "path: the path is empty"),
        ("a\0", "path: 'a\\x00' holds a character that no path can hold"),
    ],
)
def test_paths_are_checked(path: Any, line: str) -> None:
    with pytest.raises(UserError) as error:
        checked(Text, {"path": path})
    assert str(error.value) == line
