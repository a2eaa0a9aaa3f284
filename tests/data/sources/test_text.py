from pathlib import Path

import pytest

from throughline.data.codecs.characters import Characters
from throughline.data.sources.text import Text
from throughline.plumbing.errors import UserError
from throughline.settings import checked


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


def test_line_breaks_are_kept_as_they_are(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, b"a\r\nb\nab"), val_fraction=0.3).read()
    assert corpus.codec.symbols == ["\n", "\r", "a", "b"]


def test_a_given_vocabulary_is_used(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, b"abab"), val_fraction=0.5).read(Characters(["b"]))
    assert corpus.val.steps.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^data.path=\S+/data.txt: No such file or directory; give a readable file$"),
        (b"", r"^data.path=\S+/data.txt: the file is empty; give a file with text$"),
        (b"ab\xffcd", r"^\S+/data.txt: byte 2 \(0xff\) is not UTF-8; give a text in UTF-8, or codec=bytes$"),
        (b"abcd", r"^\S+/data.txt: too short: the val split needs at least 2 tokens and has 1$"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = str(tmp_path / "data.txt") if content is None else write(tmp_path, content)
    with pytest.raises(UserError, match=message):
        Text(path=path).read()


def test_settings_are_checked() -> None:
    with pytest.raises(UserError, match=r"^val_fraction=1.0: input should be less than 1$"):
        checked(Text, {"path": "x", "val_fraction": 1.0})
