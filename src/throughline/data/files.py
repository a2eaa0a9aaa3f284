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
from typing import IO, Annotated, Any, Literal, NamedTuple

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
    """How files are read as text."""

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
        try:
            text = content.decode(name).removeprefix("\N{BYTE ORDER MARK}")
        except UnicodeDecodeError as error:
            raise UserError(_wrong_bytes(content, name, error, where, guess=auto and marked is None)) from None
        if "\0" in text:
            likely = _utf_16(content) if auto and marked is None else None
            advice = f"it is likely {likely}: give data.encoding={likely}, or codec=bytes" if likely else "give codec=bytes"
            raise UserError(f"{where}: holds zero bytes, so it is no {name.upper()} text; {advice}")
        return text


def line_feeds(text: str) -> str:
    """The text with the line breaks of Windows and of old Macs as line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _wrong_bytes(content: bytes, name: str, error: UnicodeDecodeError, where: str, guess: bool) -> str:
    place = f"byte {error.start} (0x{content[error.start]:02x})" if error.start < len(content) else "its end"
    if not guess:
        return f"{where}: {place} is not {name}; give another data.encoding, or codec=bytes"
    likely = _likely(content, error.start)
    advice = f"it is likely {likely}: give data.encoding={likely}" if likely else "give a text in UTF-8"
    return f"{where}: {place} is not UTF-8; {advice}, or codec=bytes"


def _likely(content: bytes, place: int) -> str | None:
    """The encoding that a text likely has whose byte at this place is not UTF-8; None for what is no text."""
    sample = content[max(0, content.rfind(b"\n", 0, place) + 1, place - 2**15) : place + 2**15]
    if b"\0" in sample:
        return _utf_16(content)
    if len(sample) < ENOUGH_TO_TELL:
        return None
    from charset_normalizer import from_bytes

    likely = from_bytes(sample).best()
    if likely is None or likely.encoding.startswith("utf"):
        return None
    return "cp1252" if "cp1252" in likely.could_be_from_charset else likely.encoding  # the usual one of those alike


def _utf_16(content: bytes) -> str | None:
    """UTF-16 without a mark, by the zero bytes of its spaces and Latin letters, which are all on one side."""
    sample = content[: 2**12]
    first, second = sample[::2].count(0), sample[1::2].count(0)
    if len(sample) < ENOUGH_TO_TELL or min(first, second) or 20 * max(first, second) < len(sample):
        return None
    return "utf-16-le" if second else "utf-16-be"


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
        path: see `files_of`.
        key: the name of the setting, for messages.
        as_text: how they are decoded; None leaves them bytes.
        newline: whether other line breaks are read as line feeds.
        without: by key, the paths of other splits; of several files, those that they name are left out.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    names = files_of(path, key)
    kept = names
    if len(names) > 1:
        others = [file for of, other in without.items() for file in files_of(other, of)]
        kept = [name for name in names if os.path.realpath(name) not in set(map(os.path.realpath, others))]
        if not kept:
            raise UserError(f"{key}={printable(_shown(path))}: all its files are in another split")
    digest, size, with_returns = hashlib.sha256(), 0, False
    contents: list[Any] = []
    for name in kept:
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
    origin: dict[str, Any] = {"source": _shown(path), "bytes": size, "sha256": digest.hexdigest()}
    said = []
    if len(kept) > 1:
        origin["files"] = len(kept)
        said.append(f"{len(kept):,} files in order of their names")
    if len(kept) < len(names):
        said.append(f"files of other splits that were left out: {len(names) - len(kept):,}")
    if with_returns:
        said.append("the line breaks of Windows are read as line feeds")
    return Documents(kept, contents, origin, said)


def _shown(path: str | Sequence[str]) -> str:
    if isinstance(path, str):
        return path
    return ", ".join(path) if len(path) < 4 else f"{path[0]} and {len(path) - 1} more"
