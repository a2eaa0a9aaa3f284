"""Which files a path names, and how a file is read: unpacked, and decoded as text."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from glob import has_magic
from itertools import islice
from pathlib import Path
from typing import IO, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT

LARGEST_FILE = 2**40
"""The most bytes of a file of data."""
MOST_FILES = 100_000
"""The most files that one setting names: `/` would name millions."""
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""How compressed files are opened, by their ending."""
MOST_UNPACKED, MOST_TIMES = 2**26, 200
"""A compressed file may grow to so many bytes, or to so many times its size: text grows 3 to 30 times, a bomb 1,000."""
NO_TEXT_ENCODINGS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem", "utf_7"}
"""Encodings of Python that are none of files, differ from machine to machine, or let through what is no character."""
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The encodings by the mark at the beginning of a file; UTF-32 before UTF-16, whose mark it begins with."""

ENOUGH_TO_TELL = 64
"""The bytes from which on an encoding is guessed."""
COMMON = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "koi8_r", "cp932", "euc_jp", "cp949"]
COMMON += ["gb18030", "big5"]
"""The encodings that are guessed; rare ones are mistaken for them."""
NO_TEXTS = {
    b"\x93NUMPY": "an array of NumPy; give data=array",
    b"PAR1": "Parquet; give data=table",
    b"PK\3\4": "an archive, such as an Excel file; save it as CSV or text",
    b"\xd0\xcf\x11\xe0": "an old Office file; save it as CSV or text",
    b"%PDF-": "a PDF; save it as text",
    b"SQLite format 3\0": "a database; save a table of it as CSV",
    b"\x89HDF": "an HDF5 file; save the data as .npy, .npz or CSV",
    b"\x1f\x8b": "compressed; its name has to end with .gz",
    b"BZh": "compressed; its name has to end with .bz2",
    b"\xfd7zXZ": "compressed; its name has to end with .xz",
    b"MThd": "MIDI; convert it to an array or a text, as the README shows",
}
"""What a file is that is no text, by its first bytes."""


def _encoding(name: str) -> str:
    if name == "auto":
        return name
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding or found.name.replace("-", "_") in NO_TEXT_ENCODINGS:
        raise ValueError(f"{name!r} is no encoding of text; allowed are auto, utf-8, utf-16, latin-1, cp1252, ...")
    return name


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AsText:
    """How files are read as text.

    Attributes:
        or_bytes: whether `codec=bytes` reads what is no text.
    """

    or_bytes: ClassVar[bool] = True

    encoding: Annotated[str, AfterValidator(_encoding)] = "auto"
    """`auto`: UTF-8, or UTF-16 and UTF-32 by the mark at their beginning. Give a name such as cp1252 for other files."""

    def decoded(self, content: bytes, where: str) -> str:
        """The text with line feeds, without a mark at its beginning.

        Raises:
            UserError: as in `text`.
        """
        return line_feeds(self.text(content, where))

    def text(self, content: bytes, where: str) -> str:
        """The text with its own line breaks, without a mark at its beginning.

        Raises:
            UserError: it has another encoding, or is no text.
        """
        marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
        auto = self.encoding == "auto"
        name = self.encoding if not auto else marked or "utf-8"
        guess, or_bytes = auto and marked is None, ", or codec=bytes" if self.or_bytes else ""
        try:
            text = content.decode(name).removeprefix("\N{BYTE ORDER MARK}")
        except UnicodeDecodeError as error:
            refuse_no_text(content, where)
            raise UserError(f"{where}: {_wrong_bytes(content, name, error, guess)}{or_bytes}") from None
        if "\0" in text:
            refuse_no_text(content, where)
            advice = _to_give(_utf_16(content)) if guess else "give another data.encoding"
            raise UserError(f"{where}: holds zero bytes, so it is no {name.upper()} text; {advice}{or_bytes}")
        return text


def refuse_no_text(content: bytes, where: str) -> None:
    """Refuse a file that is known to be no text.

    Raises:
        UserError: it is none.
    """
    known = next((what for first, what in NO_TEXTS.items() if content.startswith(first)), None)
    if known is not None:
        raise UserError(f"{where}: is no text but {known}")


def line_feeds(text: str) -> str:
    """The text with the line breaks of Windows and of old Macs as line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wrong_bytes(content: bytes, name: str, error: UnicodeDecodeError, guess: bool) -> str:
    place = f"byte {error.start} (0x{content[error.start]:02x})" if error.start < len(content) else "its end"
    if not guess:
        return f"{place} is not {name}; give another data.encoding"
    sample = content[max(0, content.rfind(b"\n", 0, error.start) + 1, error.start - 2**15) : error.start + 2**15]
    likely = _utf_16(content) if b"\0" in sample else _likely(sample)
    return f"{place} is not UTF-8; {_to_give(likely, sample)}"


def _to_give(likely: list[str], sample: bytes = b"") -> str:
    """What to do about a text that has one of these encodings, or none that is known."""
    if len(likely) > 1:
        first, second = _where_unlike(sample, *likely)
        return f"it is likely {likely[0]} ({first}) or {likely[1]} ({second}): give the right one as data.encoding"
    return f"it is likely {likely[0]}: give data.encoding={likely[0]}" if likely else "give a text in UTF-8"


def _likely(sample: bytes) -> list[str]:
    """The encoding that a text likely has, or two; none for what is no text.

    Of languages with few accents, statistics tell Western and Central Europe apart badly, so both are named, with a word of
    the text in which they differ.
    """
    if len(sample) < ENOUGH_TO_TELL:
        return []
    from charset_normalizer import from_bytes

    found = from_bytes(sample, cp_isolation=COMMON)
    best = found.best()
    if best is None:
        return []
    alike = [*best.could_be_from_charset, *(match.encoding for match in found if match.coherence >= best.coherence - 0.1)]
    names = ["cp1252", best.encoding] if "cp1252" in alike else [best.encoding]
    return names[:1] if sample.decode(names[0], "replace") == sample.decode(names[-1], "replace") else names


def _where_unlike(sample: bytes, first: str, second: str) -> tuple[str, str]:
    """A word of the text that two encodings of single bytes read differently, by each of them."""
    words = zip(sample.decode(first, "replace").split(), sample.decode(second, "replace").split(), strict=False)
    return next((printable(a, most=30), printable(b, most=30)) for a, b in words if a != b)


def _utf_16(content: bytes) -> list[str]:
    """UTF-16 without a mark, by the zero bytes of its spaces and Latin letters, which are all on one side; or nothing."""
    sample = content[: 2**12]
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if len(sample) < ENOUGH_TO_TELL or min(first, second) or 20 * max(first, second) < len(sample):
        return []
    return ["utf-16-le" if second else "utf-16-be"]


def files_of(path: str | Sequence[str], key: str) -> list[str]:
    """The files that a setting names: a file, a folder, a pattern such as `texts/*.txt`, or a list.

    The files of a folder and of a pattern are in order of their names, each once, also if links lead to it again. A folder
    includes those inside it, but no hidden files, and no folders behind links.

    Raises:
        UserError: there are none, one is named twice, or they are too many.
    """
    if not isinstance(path, str):
        files = [file for part in path for file in files_of(part, key)]
        twice = [file for file, times in Counter(map(os.path.realpath, files)).items() if times > 1]
        if twice:
            raise UserError(f"{key}: {printable(twice[0])} is named twice")
        return files
    if os.path.isdir(path):  # noqa: PTH112  # Path.is_dir raises where a folder above cannot be entered
        found, nothing = _inside(path, key), "the folder has no files; give a folder of texts, or a file"
    elif has_magic(path) and not os.path.lexists(path):
        found, nothing = _matching(path, key), "no file has such a name; give a file, a folder or a pattern"
    else:
        return [path]
    several = sorted(islice(found, MOST_FILES + 1), reverse=True)
    files = sorted({os.path.realpath(file): file for file in several}.values())
    if not files:
        raise UserError(f"{key}={printable(path)}: {nothing}")
    if len(several) > MOST_FILES:
        raise UserError(f"{key}={printable(path)}: names more than {MOST_FILES:,} files; give a part of them")
    return files


def _inside(folder: str, key: str) -> Iterator[str]:
    def refuse(error: OSError) -> None:
        raise UserError(f"{key}={printable(error.filename)}: {error.strerror}; give a readable folder")

    for inner, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (str(Path(inner, name)) for name in files if not name.startswith("."))


def _matching(pattern: str, key: str) -> Iterator[str]:
    root, written = Path(Path(pattern).anchor), set(Path(pattern).parts)
    try:
        for path in root.glob(str(Path(pattern).relative_to(root))):  # glob.glob would follow links in circles
            if not any(part.startswith(".") for part in {*path.parts} - written) and not path.is_dir():
                yield str(path)
    except (ValueError, OSError) as error:
        raise UserError(f"{key}={printable(pattern)}: no pattern of names: {printable(error, most=100)}") from None


def files_of_split(path: str | Sequence[str], key: str, without: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """The files that a setting names, but of several not those of other splits; and what a person should know about that.

    Args:
        path: see `files_of`.
        key: the name of the setting, for messages.
        without: by key, the paths of other splits.

    Raises:
        UserError: as in `files_of`, or none is left.
    """
    names = files_of(path, key)
    kept = names
    if len(names) > 1:
        others = {os.path.realpath(file) for of, other in without.items() for file in files_of(other, of)}
        kept = [name for name in names if os.path.realpath(name) not in others]
        if not kept:
            raise UserError(f"{key}={printable(shown(path))}: all its files are in another split")
    said = []
    if len(kept) > 1:
        endings = Counter(Path(name).suffix or "without an ending" for name in kept).most_common(4)
        kinds = f" ({', '.join(f'{times:,} {printable(ending)}' for ending, times in endings)})" if len(endings) > 1 else ""
        said.append(f"{len(kept):,} files in order of their names{kinds}")
    if len(kept) < len(names):
        said.append(f"files of other splits that were left out: {len(names) - len(kept):,}")
    return kept, said


def read_bytes(path: str, key: str) -> bytes:
    """The content of a file, unpacked if its name ends with .gz, .bz2 or .xz.

    Raises:
        UserError: it cannot be read, or it is empty.
    """
    try:
        content = reading.content(Path(path), LARGEST_FILE)
    except UserError as error:
        raise UserError(f"{key}={error}; give a readable file") from None
    if Path(path).suffix.lower() in PACKED:
        content = _unpacked(content, path, f"{key}={printable(path)}")
    if not content:
        raise UserError(f"{key}={printable(path)}: the file is empty; give a file with text")
    return content


def _unpacked(packed: bytes, path: str, where: str) -> bytes:
    most = max(MOST_UNPACKED, MOST_TIMES * len(packed))
    unpacked = io.BytesIO()  # gives its bytes without another copy
    try:
        file: IO[bytes]
        with PACKED[Path(path).suffix.lower()](io.BytesIO(packed)) as file:
            while piece := file.read(2**20):
                if unpacked.tell() + len(piece) > most:
                    raise UserError(f"{where}: grows to more than {most:,} bytes when it is unpacked; give it unpacked")
                unpacked.write(piece)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:  # a header may ask for any memory
        raise UserError(f"{where}: cannot be unpacked: {printable(error, most=100)}; give a whole file") from None
    return unpacked.getvalue()


class Documents(NamedTuple):
    """The contents of files.

    Attributes:
        names: their paths.
        contents: texts, or bytes.
        origin: where they come from, for a fingerprint.
        said: what a person should know about how they were read.
    """

    names: list[str]
    contents: list[Any]
    origin: dict[str, Any]
    said: list[str]


def read_documents(
    path: str | Sequence[str],
    key: str,
    as_text: AsText | None,
    newline: Literal["lf", "keep"] = "lf",
    without: Mapping[str, str] = {},
) -> Documents:
    """Read the files that a setting names.

    Args:
        path, key, without: see `files_of_split`.
        as_text: how they are decoded; None leaves them bytes.
        newline: whether other line breaks are read as line feeds.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    names, said = files_of_split(path, key, without)
    digest, size, with_returns = hashlib.sha256(), 0, False
    contents: list[Any] = []
    for name in names:
        content = read_bytes(name, key)
        digest.update(content)
        size += len(content)
        if as_text is None:
            contents.append(content)
            continue
        text = as_text.text(content, name)
        if newline == "lf" and "\r" in text:
            text, with_returns = line_feeds(text), True
        if not text:
            raise UserError(f"{key}={printable(name)}: the file is empty; give a file with text")  # but a mark
        contents.append(text)
    origin: dict[str, Any] = {"source": shown(path), "bytes": size, "sha256": digest.hexdigest()}
    if len(names) > 1:
        origin["files"] = len(names)
    if with_returns:
        said.append("the line breaks of Windows are read as line feeds")
    return Documents(names, contents, origin, said)


def shown(path: str | Sequence[str]) -> str:
    """A path or a list of paths in a few words."""
    if isinstance(path, str):
        return path
    return ", ".join(path) if len(path) < 4 else f"{path[0]} and {len(path) - 1} more"
