import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from throughline.data import files
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


def test_line_breaks_of_windows_are_line_feeds_unless_they_are_kept(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfa\r\nb\rab\na")
    corpus = Text(path=path, val_fraction=0.3).read()
    assert corpus.codec.decode(corpus.line("all").steps) == "a\nb\nab\na"
    assert corpus.fingerprint["read"] == "the line breaks of Windows are read as line feeds"
    kept = Text(path=path, val_fraction=0.3, newline="keep").read()
    assert kept.codec.decode(kept.line("all").steps) == "a\r\nb\rab\na"
    assert "read" not in kept.fingerprint


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_mark_at_the_beginning_tells_the_encoding(encoding: str, tmp_path: Path) -> None:
    text = "größe 数据 " * 9
    corpus = Text(path=write(tmp_path, text.encode(encoding))).read()
    assert corpus.codec.decode(corpus.line("all").steps) == text


def test_another_encoding_is_named_and_can_be_given(tmp_path: Path) -> None:
    text = "“Köln” and “Zürich”, the café, größer. " * 9
    path = write(tmp_path, text.encode("cp1252"))
    with pytest.raises(
        UserError, match=r"data.txt: byte 0 \(0x93\) is not UTF-8; it is likely cp1252: give data.encoding=cp1252"
    ):
        Text(path=path).read()
    corpus = Text(path=path, encoding="cp1252").read()
    assert corpus.codec.decode(corpus.line("all").steps) == text
    with pytest.raises(UserError, match=r"byte 0 \(0x93\) is not ascii; give another data.encoding"):
        Text(path=path, encoding="ascii").read()


@pytest.mark.parametrize("name", ["rot13", "punycode", "unicode_escape", "base64", "no such", "idna", "\0"])
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(UserError, match="is no encoding of text; allowed are auto, utf-8"):
        checked(Text, {"path": "x", "encoding": name})


@pytest.mark.parametrize(("ending", "pack"), [("gz", gzip.compress), ("bz2", bz2.compress), ("xz", lzma.compress)])
def test_compressed_files(ending: str, pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path, packed = tmp_path / f"a.txt.{ending}", pack(b"abcabc" * 5)
    path.write_bytes(packed)
    corpus = Text(path=str(path)).read()
    assert corpus.codec.decode(corpus.line("all").steps) == "abcabc" * 5
    assert corpus.fingerprint["bytes"] == 30
    path.write_bytes(packed[:-9])
    with pytest.raises(UserError, match=rf"a.txt.{ending}: cannot be unpacked: "):
        Text(path=str(path)).read()


def test_a_compressed_bomb_is_refused_before_it_fills_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_UNPACKED", 2**21)
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(2**24)))
    with pytest.raises(UserError, match=r"bomb.gz: grows to more than [\d,]+ bytes when it is unpacked"):
        Text(path=str(tmp_path / "bomb.gz")).read()


def test_several_files_are_documents_in_order_of_their_names(tmp_path: Path) -> None:
    for name, text in (("b.txt", "bbbb"), ("a.txt", "aaa"), (".hidden", "x"), ("c.md", "c")):
        (tmp_path / name).write_text(text)
    (tmp_path / "inner").mkdir()
    everything = Text(path=str(tmp_path), val_path=str(tmp_path / "a.txt")).read()
    assert everything.codec.decode(everything.train.steps) == "aaabbbbc"
    assert everything.fingerprint["files"] == 3
    pattern = Text(path=str(tmp_path / "*.txt"), val_fraction=0.25).read()
    assert pattern.codec.decode(pattern.line("all").steps) == "aaabbbb"
    listed = Text(path=[str(tmp_path / "c.md"), str(tmp_path / "a.txt")], val_fraction=0.5).read()
    assert listed.codec.decode(listed.train.steps) == "ca"
    apart = Text(path=str(tmp_path), joined=False, val_fraction=0.4).read()
    assert (apart.codec.decode(apart.train.steps), apart.train.joined) == ("\naaa\nbbbb\n", False)
    assert Text(path=["a", "b"]).located()["path"] == [str(Path("a").absolute()), str(Path("b").absolute())]


def test_sequences_apart_by_a_separator_that_are_not_joined(tmp_path: Path) -> None:
    path = write(tmp_path, b"ab\n\n\n\nc\n\ndef\n\ngh")
    corpus = Text(path=path, separator="\n\n", joined=False, val_fraction=0.5).read()
    end = corpus.codec.end
    assert end is not None
    assert corpus.train.steps.tolist() == [end, 1, 2, end, 3, 4, 5, end]  # the first and the third
    assert (
        corpus.codec.decode(corpus.val.steps[1:-1].tolist())
        == "\N{REPLACEMENT CHARACTER}\n" + 2 * "\N{REPLACEMENT CHARACTER}"
    )
    with pytest.raises(
        UserError, match=r"^data.joined=false: the text is one sequence; give data.separator, or several files$"
    ):
        Text(path=path, joined=False).read()


def test_a_given_vocabulary_is_used(tmp_path: Path) -> None:
    corpus = Text(path=write(tmp_path, b"abab"), val_fraction=0.5).read(Characters(["b"]))
    assert corpus.val.steps.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"^data.path=\S+/data.txt: No such file or directory; give a readable file$"),
        (b"", r"^data.path=\S+/data.txt: the file is empty; give a file with text$"),
        (b"a\0b\0", r"data.txt: holds zero bytes, so it is no UTF-8; give data.encoding=utf-16-le, or codec=bytes$"),
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
