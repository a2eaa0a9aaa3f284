"""Which files a path names, and how each is read."""

import bz2
import gzip
import lzma
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import given

from throughline.data import files
from throughline.data.files import NO_TEXTS, AsText, files_of, read_bytes, read_documents
from throughline.plumbing.errors import UserError
from throughline.settings import checked

PACK: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Texts in folders, with links that lead in a circle, and what is no text."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.txt",
        "a.txt",
        "c[1].txt",
        "texts/2.txt",
        "texts/10.txt",
        "texts/in/3.txt",
        "texts/.hidden",
        "texts/.git/x",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "texts" / "back").symlink_to(tmp_path)
    (tmp_path / "texts" / "same.txt").symlink_to(tmp_path / "texts" / "2.txt")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "nothing" / "inside").mkdir(parents=True)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("a.txt", ["a.txt"]),
        ("nowhere.txt", ["nowhere.txt"]),  # reading it says so
        ("texts", ["texts/10.txt", "texts/2.txt", "texts/in/3.txt"]),
        ("texts/", ["texts/10.txt", "texts/2.txt", "texts/in/3.txt"]),
        ("*.txt", ["a.txt", "b.txt", "c[1].txt"]),
        ("texts/*", ["texts/10.txt", "texts/2.txt"]),
        ("texts/**/*.txt", ["texts/10.txt", "texts/2.txt", "texts/in/3.txt"]),
        ("c[1].txt", ["c[1].txt"]),  # a name that is there is no pattern
        (["b.txt", "a.txt"], ["b.txt", "a.txt"]),
        (["b.txt", "texts"], ["b.txt", "texts/10.txt", "texts/2.txt", "texts/in/3.txt"]),
    ],
)
def test_a_path_names_files_in_order_each_once(path: str | list[str], named: list[str], folder: Path) -> None:
    assert files_of(path, "data.path") == named
    if isinstance(path, str) and path != "texts/":
        assert files_of(str(folder / path), "data.path") == [str(folder / name) for name in named]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("nothing", "data.path=nothing: the folder has no files; give a folder of texts, or a file"),
        ("*.csv", "data.path=*.csv: no file has such a name; give a file, a folder or a pattern"),
        ("nothing/*", "data.path=nothing/*: no file has such a name; give a file, a folder or a pattern"),
        (["a.txt", "./a.txt"], "data.path: {folder}/a.txt is named twice"),
        (["texts", "texts/same.txt"], "data.path: {folder}/texts/2.txt is named twice"),
    ],
)
def test_what_names_no_files_is_refused(path: str | list[str], line: str, folder: Path) -> None:
    with pytest.raises(UserError) as error:
        files_of(path, "data.path")
    assert str(error.value) == line.format(folder=os.path.realpath(folder))


def test_too_many_files_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_FILES", 3)
    assert len(files_of("texts/in", "data.path")) == 1
    with pytest.raises(UserError, match=r"^data.path=texts: names more than 3 files; give a part of them$"):
        files_of("texts", "data.path")


def test_a_folder_that_cannot_be_entered_is_named(folder: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root can enter every folder")
    (folder / "texts" / "in").chmod(0)
    with pytest.raises(UserError, match=r"^data.path=texts/in: Permission denied; give a readable folder$"):
        files_of("texts", "data.path")
    (folder / "texts" / "in").chmod(0o755)


# ---- Compressed files


@given(st.binary(min_size=1), st.sampled_from(sorted(PACK)))
def test_a_compressed_file_is_read_as_if_it_were_not(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, end: str
) -> None:
    file = tmp_path_factory.mktemp("packed") / f"x.txt{end.upper()}"
    file.write_bytes(PACK[end](content))
    assert read_bytes(str(file), "data.path") == content
    file.write_bytes(PACK[end](content) * 2)
    assert read_bytes(str(file), "data.path") == content * 2


@pytest.mark.parametrize("end", sorted(PACK))
def test_what_grows_too_much_is_refused_while_it_is_unpacked(
    end: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "MOST_UNPACKED", 2**20)
    bomb = PACK[end](bytes(2**28))
    assert len(bomb) * files.MOST_TIMES < 2**28
    (folder / f"bomb{end}").write_bytes(bomb)
    most = max(2**20, files.MOST_TIMES * len(bomb))
    with pytest.raises(UserError) as error:
        read_bytes(f"bomb{end}", "data.path")
    assert str(error.value) == (
        f"data.path=bomb{end}: grows to more than {most:,} bytes when it is unpacked; give it unpacked"
    )


@pytest.mark.parametrize("end", sorted(PACK))
@given(cut=st.integers(1, 40), at=st.integers(0, 10_000))
def test_damage_is_a_line_or_changes_nothing(tmp_path_factory: pytest.TempPathFactory, end: str, cut: int, at: int) -> None:
    content = bytes(range(256)) * 4
    packed = PACK[end](content)
    file = tmp_path_factory.mktemp("damaged") / f"x{end}"
    file.write_bytes(packed[:-cut])
    with pytest.raises(UserError, match=r"^data.path=\S+: cannot be unpacked: .*; give a whole file$"):
        read_bytes(str(file), "data.path")
    at %= len(packed)
    file.write_bytes(packed[:at] + bytes([packed[at] ^ 1]) + packed[at + 1 :])
    try:
        assert read_bytes(str(file), "data.path") == content
    except UserError as error:
        assert str(error).count("\n") == 0  # noqa: PT017  # either is right


def test_a_header_that_asks_for_four_gigabytes_is_harmless(folder: Path) -> None:
    packed = bytearray(lzma.compress(b"text" * 9))
    size = 4 * (packed[12] + 1)  # of the block's header, with its checksum
    header = packed[12 : 12 + size - 4]
    header[header.index(0x21) + 2] = 40  # LZMA2 with the largest dictionary
    packed[12 : 12 + size] = header + struct.pack("<I", zlib.crc32(header))
    (folder / "x.xz").write_bytes(packed)
    try:
        assert read_bytes("x.xz", "data.path") == b"text" * 9
    except UserError as error:
        assert "cannot be unpacked" in str(error)  # noqa: PT017  # where memory is not lent


def test_only_the_ending_says_that_a_file_is_compressed(folder: Path) -> None:
    packed = gzip.compress(b"text", mtime=0)
    (folder / "any.bin").write_bytes(packed)
    assert read_bytes("any.bin", "data.path") == packed


# ---- Encodings

TEXT = "Größe “à la carte”: 12 €\n"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_by_itself_utf_8_is_read_and_what_has_a_mark(encoding: str) -> None:
    assert AsText().decoded(TEXT.encode(encoding), "x") == TEXT


@pytest.mark.parametrize("mark", [b"\xff\xfe", b"\xfe\xff", b"\xff\xfe\0\0", b"\0\0\xfe\xff", b"\xef\xbb\xbf"])
def test_a_mark_alone_is_an_empty_text(mark: bytes) -> None:
    assert AsText().decoded(mark, "x") == ""


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16", "UTF8", "utf-8-sig", "gb18030", "mac_roman"])
def test_any_encoding_can_be_named_and_no_mark_is_left(encoding: str) -> None:
    text = TEXT.encode(encoding, "ignore").decode(encoding)
    assert len(text) > 20
    content = text.encode(encoding)
    assert AsText(encoding=encoding).decoded(content, "x") == text
    if encoding == "utf-16-le":
        assert AsText(encoding=encoding).decoded(b"\xff\xfe" + content, "x") == text


@pytest.mark.parametrize(
    "name",
    [
        *(
            "rot13",
            "hex",
            "base64",
            "zlib",
            "idna",
            "punycode",
            "unicode_escape",
            "raw_unicode_escape",
            "undefined",
            "utf-7",
        ),
        *("utf88", "", " ", "os", "../x", "a\0b", "\udc80", "aliases", "x" * 999),
    ],
)
def test_what_is_no_encoding_of_text_is_refused(name: str) -> None:
    with pytest.raises(UserError) as error:
        checked(AsText, {"encoding": name}, where="data.")
    told = f"data.encoding: {name!r} is no encoding of text; allowed are auto, utf-8, utf-16, latin-1, cp1252, ..."
    assert str(error.value) == told


GERMAN = "Der Müller sagte: „Größe und Übermut tun selten gut.“ Er ging früh über die Brücke nach Hause. " * 9
RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива. " * 9  # noqa: RUF001
NO_UTF_8 = "holds zero bytes, so it is no UTF-8 text; give a text in UTF-8, or codec=bytes"
LIKELY = "it is likely {0}: give data.encoding={0}, or codec=bytes"


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GERMAN.encode("cp1252"), f"byte 5 (0xfc) is not UTF-8; {LIKELY.format('cp1252')}"),
        (RUSSIAN.encode("koi8_r"), f"byte 0 (0xf7) is not UTF-8; {LIKELY.format('koi8_r')}"),
        (RUSSIAN.encode("utf-16-le"), f"holds zero bytes, so it is no UTF-8 text; {LIKELY.format('utf-16-le')}"),
        (GERMAN.encode("utf-16-be"), f"byte 11 (0xfc) is not UTF-8; {LIKELY.format('utf-16-be')}"),
        (
            b"\x7fELF\2\1\1" + bytes(9) + b"text",
            "holds zero bytes, so it is no UTF-8 text; give a text in UTF-8, or codec=bytes",
        ),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0", "byte 0 (0x89) is not UTF-8; give a text in UTF-8, or codec=bytes"),
        (b"\xff\xfea", "byte 2 (0x61) is not utf-16; give another data.encoding, or codec=bytes"),
    ],
    ids=["cp1252", "koi8_r", "utf-16-le", "utf-16-be", "ELF", "PNG", "cut"],
)
def test_what_is_not_utf_8_gets_a_line_with_its_likely_encoding(content: bytes, line: str) -> None:
    with pytest.raises(UserError) as error:
        AsText().decoded(content, "x.txt")
    assert str(error.value) == f"x.txt: {line}"


PORTUGUESE = "A ação não é só uma questão de opinião; o coração dói e as mães estão lá. Amanhã vocês irão à praia. " * 9
TURKISH = "Çocuk okula gitti ve öğretmen ona güzel bir kitap verdi. Şimdi yağmur yağıyor, ışık sönük. " * 9  # noqa: RUF001


@pytest.mark.parametrize(
    ("text", "encoding", "words"),
    [
        (PORTUGUESE, "cp1252", "cp1252 (ação) or cp1250 (açăo)"),
        (TURKISH, "cp1254", "cp1252 (öðretmen) or cp1254 (öğretmen)"),
    ],
)
def test_encodings_that_are_hard_to_tell_apart_are_both_named_with_a_word(text: str, encoding: str, words: str) -> None:
    with pytest.raises(UserError) as error:
        AsText().decoded(text.encode(encoding), "x.txt")
    assert f"is not UTF-8; it is likely {words}: give the right one as data.encoding, or codec=bytes" in str(error.value)


@pytest.mark.parametrize("first", NO_TEXTS)
def test_a_file_that_is_known_to_be_no_text_is_called_by_its_name(first: bytes) -> None:
    for rest in (bytes(100), b"\xff\xfe\xfd" * 40):
        with pytest.raises(UserError) as error:
            AsText().decoded(first + rest, "x")
        assert str(error.value) == f"x: is no text but {NO_TEXTS[first]}"
    if first.isascii() and first.isalnum():
        assert AsText().decoded(first + b" and more", "x").endswith(" and more")  # a text may begin like that


def test_the_likely_encoding_is_told_by_the_place_of_the_first_wrong_byte() -> None:
    content = b"plain text\n" * 100_000 + GERMAN.encode("cp1252")
    with pytest.raises(UserError, match=r"^x: byte 1100005 \(0xfc\) is not UTF-8; it is likely cp1252: "):
        AsText().decoded(content, "x")


def test_bytes_that_a_named_encoding_does_not_have_are_refused_with_their_place() -> None:
    with pytest.raises(UserError) as error:
        AsText(encoding="cp1252").decoded(b"ab\x81", "x.txt")
    assert str(error.value) == "x.txt: byte 2 (0x81) is not cp1252; give another data.encoding, or codec=bytes"
    with pytest.raises(
        UserError, match=r"^x: holds zero bytes, so it is no LATIN-1 text; give another data.encoding, or codec="
    ):
        AsText(encoding="latin-1").decoded(b"a\0b\0", "x")


@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r\ufeff")), st.sampled_from(["\n", "\r\n", "\r"]))
def test_every_text_is_read_back_whatever_its_line_breaks(text: str, line_break: str) -> None:
    assert AsText().decoded(text.replace("\n", line_break).encode(), "x") == text
    assert AsText().text(text.replace("\n", line_break).encode(), "x") == text.replace("\n", line_break)


# ---- Documents


def test_documents_with_their_origin(folder: Path) -> None:
    (folder / "a.txt").write_bytes(b"\xef\xbb\xbfa\r\nb\r")
    documents = read_documents(["b.txt", "a.txt"], "data.path", AsText())
    assert documents.names == ["b.txt", "a.txt"]
    assert documents.contents == ["b.txt", "a\nb\n"]
    assert documents.origin == {
        "source": "b.txt, a.txt",
        "bytes": 13,
        "sha256": "83465f92eac6cd74c136b1af4d9c9163d3b70688274298667a204558eee09ea5",
        "files": 2,
    }
    assert documents.said == ["2 files in order of their names", "the line breaks of Windows are read as line feeds"]
    kept = read_documents("a.txt", "data.path", AsText(), newline="keep")
    assert (kept.contents, kept.said, "files" in kept.origin) == (["a\r\nb\r"], [], False)
    assert read_documents("a.txt", "data.path", None).contents == [b"\xef\xbb\xbfa\r\nb\r"]
    assert read_documents([f"{n}.txt" for n in "ab"] + ["texts"], "x", AsText()).origin["source"] == "a.txt, b.txt, texts"
    assert read_documents(["a.txt", "b.txt", *files_of("texts", "x")], "x", AsText()).origin["source"] == "a.txt and 4 more"


def test_files_of_other_splits_are_left_out(folder: Path) -> None:
    documents = read_documents("texts", "data.path", AsText(), without={"data.val_path": "texts/same.txt"})
    assert documents.names == ["texts/10.txt", "texts/in/3.txt"]
    assert documents.said == ["2 files in order of their names", "files of other splits that were left out: 1"]
    alone = read_documents("a.txt", "data.path", AsText(), without={"data.val_path": "a.txt"})
    assert alone.names == ["a.txt"]  # a person may want to see how well a text is learned by heart
    with pytest.raises(UserError, match=r"^data.path=texts: all its files are in another split$"):
        read_documents("texts", "data.path", AsText(), without={"data.val_path": "texts"})
    with pytest.raises(UserError, match=r"^data.test_path=nothing: the folder has no files"):
        read_documents("texts", "data.path", AsText(), without={"data.test_path": "nothing"})


# gzip writes the time into its header: without `mtime=0` two workers would collect tests with unlike names.
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_refused(content: bytes, folder: Path) -> None:
    name = "empty.txt.gz" if content[:1] == b"\x1f" else "empty.txt"
    (folder / name).write_bytes(content)
    with pytest.raises(UserError) as error:
        read_documents(["a.txt", name], "data.path", AsText())
    assert str(error.value) == f"data.path={name}: the file is empty; give a file with text"
