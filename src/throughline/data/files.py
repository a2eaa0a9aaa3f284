"""Which files a path names, and how a file is read: unpacked, and decoded as text."""

import bz2
import codecs
import glob
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Annotated, Any, Literal

from pydantic import AfterValidator
from pydantic.dataclasses import dataclass

from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.settings import STRICT

LARGEST_FILE = 2**40
"""The most bytes of a file of data."""
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
"""How compressed files are opened, by their ending."""
MOST_UNPACKED, MOST_TIMES = 2**26, 200
"""A compressed file may grow to so many bytes, or to so many times its size: text grows 3 to 30 times, a bomb 1,000."""
NO_TEXT_ENCODINGS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "mbcs", "oem"}
MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32"} | {
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""The encodings by the mark at the beginning of a file; UTF-32 before UTF-16, whose mark it begins with."""


def _encoding(name: str) -> str:
    if name == "auto":
        return name
    try:
        found = codecs.lookup(name)
    except (LookupError, ValueError):
        found = None
    if found is None or not found._is_text_encoding or found.name.replace("-", "_") in NO_TEXT_ENCODINGS:
        raise ValueError(f"{printable(name)} is no encoding of text; allowed are auto, utf-8, utf-16, latin-1, cp1252, ...")
    return name


@dataclass(frozen=True, config=STRICT, kw_only=True)
class AsText:
    """How files are read as text."""

    encoding: Annotated[str, AfterValidator(_encoding)] = "auto"
    """`auto`: UTF-8, or UTF-16 and UTF-32 by the mark at their beginning. Give a name such as cp1252 for other files."""
    newline: Literal["lf", "keep"] = "lf"
    """`lf` reads the line breaks of Windows as a single line feed; `keep` leaves them as they are."""

    def decoded(self, content: bytes, where: str) -> str:
        """The text, without a mark at its beginning.

        Raises:
            UserError: it has another encoding.
        """
        marked = next((name for mark, name in MARKS.items() if content.startswith(mark)), None)
        if self.encoding == "auto" and marked is None and b"\0" in content:
            raise UserError(f"{where}: holds zero bytes, so it is no UTF-8; give data.encoding=utf-16-le, or codec=bytes")
        name = self.encoding if self.encoding != "auto" else marked or "utf-8"
        try:
            text = content.decode(name).removeprefix("\N{BYTE ORDER MARK}")
        except UnicodeDecodeError as error:
            raise UserError(_wrong_bytes(content, name, error, where, guess=self.encoding == "auto")) from None
        return text.replace("\r\n", "\n").replace("\r", "\n") if self.newline == "lf" else text


def _wrong_bytes(content: bytes, name: str, error: UnicodeDecodeError, where: str, guess: bool) -> str:
    place = f"byte {error.start} (0x{content[error.start]:02x})" if error.start < len(content) else "its end"
    if not guess or name != "utf-8":
        return f"{where}: {place} is not {name}; give another data.encoding"
    from charset_normalizer import from_bytes

    likely = from_bytes(content[: 2**16] + content[error.start : error.start + 2**16]).best() if len(content) > 64 else None
    advice = "give a text in UTF-8, or codec=bytes"
    if likely is not None and not likely.encoding.startswith("utf"):
        name = "cp1252" if "cp1252" in likely.could_be_from_charset else likely.encoding  # the usual one of those alike
        advice = f"it is likely {name}: give data.encoding={name}, or codec=bytes"
    return f"{where}: {place} is not UTF-8; {advice}"


def files_of(path: str | Sequence[str], key: str) -> list[str]:
    """The files that a setting names: a file, a folder, a pattern such as `texts/*.txt`, or a list; in order of their names.

    Raises:
        UserError: there are none.
    """
    if not isinstance(path, str):
        return [file for part in path for file in files_of(part, key)]
    if Path(path).is_dir():
        found = [str(file) for file in Path(path).iterdir() if not file.name.startswith(".")]
        nothing = "the folder has no files; give a folder of texts, or a file"
    elif glob.has_magic(path) and not os.path.lexists(path):
        found = glob.glob(path, recursive=True)  # noqa: PTH207  # Path.glob takes no absolute pattern
        nothing = "no file has such a name; give a file, a folder or a pattern"
    else:
        return [path]
    files = sorted(file for file in found if not Path(file).is_dir())
    if not files:
        raise UserError(f"{key}={printable(path)}: {nothing}")
    return files


def read_bytes(path: str, key: str) -> bytes:
    """The content of a file, unpacked if its name ends with .gz, .bz2 or .xz.

    Raises:
        UserError: it cannot be read, or it is empty.
    """
    try:
        content = reading.content(Path(path), LARGEST_FILE)
        content = _unpacked(content, path) if Path(path).suffix.lower() in PACKED else content
    except UserError as error:
        raise UserError(f"{key}={error}; give a readable file") from None
    if not content:
        raise UserError(f"{key}={printable(path)}: the file is empty; give a file with text")
    return content


def _unpacked(packed: bytes, path: str) -> bytes:
    most = max(MOST_UNPACKED, MOST_TIMES * len(packed))
    pieces: list[bytes] = []
    size = 0
    try:
        file: IO[bytes]
        with PACKED[Path(path).suffix.lower()](io.BytesIO(packed)) as file:
            while piece := file.read(2**20):
                size += len(piece)
                if size > most:
                    raise UserError(f"{printable(path)}: grows to more than {most:,} bytes when it is unpacked")
                pieces.append(piece)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise UserError(f"{printable(path)}: cannot be unpacked: {printable(error, most=100)}") from None
    return b"".join(pieces)
