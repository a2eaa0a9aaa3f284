"""Which files a path names, and how a file is read: unpacked, and decoded as text."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
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
READ = 2**20
"""The bytes that are read at once."""
Newline = Literal["lf", "keep"]
"""Whether the line breaks of Windows and of old Macs are read as line feeds."""
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

SAMPLE = 2**15
"""The bytes before and after a wrong one by which an encoding is guessed."""
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
        decoding = Decoding(self, where, lambda start, stop: content[start:stop])
        text = decoding.piece(content, final=True)
        decoding.refuse_zeros()
        return text


class Decoding:
    """Decodes a text that comes in pieces, without a mark at its beginning, and refuses what is no text."""

    def __init__(
        self,
        as_text: AsText,
        where: str,
        content: Callable[[int, int], bytes],
        newline: Newline = "keep",
    ) -> None:
        """Begin.

        Args:
            as_text: the encoding.
            where: the file, for messages.
            content: reads the bytes between two places of the file.
            newline: whether other line breaks are read as line feeds.
        """
        self._as_text, self._where, self._content = as_text, where, content
        first = content(0, 4)
        marked = next((name for mark, name in MARKS.items() if first.startswith(mark)), None)
        auto = as_text.encoding == "auto"
        self._name = as_text.encoding if not auto else marked or "utf-8"
        self._guess = auto and marked is None
        decoder = codecs.lookup(self._name).name
        if decoder in ("utf-16", "utf-32") and marked != decoder:  # decoders of pieces ask for a mark
            decoder += f"-{sys.byteorder[0]}e"
        self._decoder: Any = codecs.getincrementaldecoder(decoder)()
        if newline == "lf":
            self._decoder = io.IncrementalNewlineDecoder(self._decoder, translate=True)
        self._read, self._begun, self._zeros = 0, False, False

    @property
    def state(self) -> Any:
        """Where it stands between two pieces, for `begin_at`."""
        return self._read, self._begun, self._decoder.getstate()

    def begin_at(self, state: Any) -> None:
        """Begin behind the pieces that were decoded up to a state; they are not checked again."""
        self._read, self._begun, decoder = state
        self._decoder.setstate(decoder)

    @property
    def with_returns(self) -> bool:
        """Whether other line breaks were read as line feeds."""
        found = getattr(self._decoder, "newlines", None) or ()
        return any("\r" in newline for newline in ([found] if isinstance(found, str) else found))

    def piece(self, raw: bytes, final: bool = False) -> str:
        """The text of the next bytes; what its last bytes begin comes with the next piece, if there is one.

        Raises:
            UserError: they have another encoding.
        """
        try:
            text: str = self._decoder.decode(raw, final)
        except UnicodeDecodeError as error:
            # What it could not decode ends where the bytes end; it may begin in the bytes before them.
            raise self._refused(self._wrong_bytes(self._read + len(raw) - len(error.object) + error.start)) from None
        self._read += len(raw)
        if text and not self._begun:
            text, self._begun = text.removeprefix("\N{BYTE ORDER MARK}"), True
        self._zeros = self._zeros or "\0" in text
        return text

    def refuse_zeros(self) -> None:
        """Refuse a text with zero bytes, after its last piece: a wrong encoding is the better advice.

        Raises:
            UserError: it has some.
        """
        if self._zeros:
            advice = _to_give(_utf_16(self._content(0, SAMPLE))) if self._guess else "give another data.encoding"
            raise self._refused(f"holds zero bytes, so it is no {self._name.upper()} text; {advice}")

    def _refused(self, why: str) -> UserError:
        refuse_no_text(self._content(0, 16), self._where)
        return UserError(f"{self._where}: {why}{', or codec=bytes' if self._as_text.or_bytes else ''}")

    def _wrong_bytes(self, at: int) -> str:
        byte = self._content(at, at + 1)
        place = f"byte {at} (0x{byte[0]:02x})" if byte else "its end"
        if not self._guess:
            return f"{place} is not {self._name}; give another data.encoding"
        before = self._content(max(0, at - SAMPLE), at)
        sample = before[before.rfind(b"\n") + 1 :] + self._content(at, at + SAMPLE)
        likely = _utf_16(self._content(0, SAMPLE)) if b"\0" in sample else _likely(sample)
        return f"{place} is not UTF-8; {_to_give(likely, sample)}"


def refuse_no_text(content: bytes, where: str) -> None:
    """Refuse a file that is known to be no text.

    Raises:
        UserError: it is none.
    """
    known = next((what for first, what in NO_TEXTS.items() if content.startswith(first)), None)
    if known is not None and where.endswith(".npz"):  # an archive as well
        known = NO_TEXTS[b"\x93NUMPY"]
    if known is not None:
        raise UserError(f"{where}: is no text but {known}")


def line_feeds(text: str) -> str:
    """The text with the line breaks of Windows and of old Macs as line feeds."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


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
    content = io.BytesIO()  # gives its bytes without another copy
    for piece in pieces_of(path, key):
        content.write(piece)
    if not content.tell():
        raise UserError(f"{key}={printable(path)}: the file is empty; give a file with text")
    return content.getvalue()


def pieces_of(path: str, key: str, offset: int = 0) -> Iterator[bytes]:
    """The bytes of a file from a place on, `READ` at a time, unpacked if its name ends with .gz, .bz2 or .xz.

    Raises:
        UserError: it cannot be read, or grows too much when it is unpacked.
    """
    try:
        opened = reading.opened(Path(path), LARGEST_FILE)
    except UserError as error:
        raise UserError(f"{key}={error}; give a readable file") from None
    where, pack = f"{key}={printable(path)}", PACKED.get(Path(path).suffix.lower())
    with opened:
        most = LARGEST_FILE if pack is None else max(MOST_UNPACKED, MOST_TIMES * os.fstat(opened.fileno()).st_size)
        try:
            file: IO[bytes] = opened if pack is None else pack(opened)
            total = file.seek(offset)
            while piece := file.read(READ):
                total += len(piece)
                if total > most:
                    much = "has" if pack is None else "grows to"
                    advice = "give a part of it" if pack is None else "give it unpacked"
                    unpacked = "" if pack is None else " when it is unpacked"
                    raise UserError(f"{where}: {much} more than {most:,} bytes{unpacked}; {advice}")
                yield piece
        except (OSError, EOFError, zlib.error, lzma.LZMAError, MemoryError) as error:  # a header may ask for any memory
            if pack is None:
                raise UserError(f"{where}: {getattr(error, 'strerror', error)}; give a readable file") from None
            raise UserError(f"{where}: cannot be unpacked: {printable(error, most=100)}; give a whole file") from None


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


def in_memory(path: str, key: str, as_text: AsText | None, newline: Newline, digest: Any) -> tuple[Any, int, bool]:
    """Read a file; returns its text, its size in bytes, and whether other line breaks were read as line feeds.

    Args:
        path, key: the file, and the setting that names it.
        as_text: how it is decoded; None leaves it bytes.
        newline: whether other line breaks are read as line feeds.
        digest: takes the bytes of the file.

    Raises:
        UserError: it cannot be read, is no text, or is empty.
    """
    content = read_bytes(path, key)
    digest.update(content)
    if as_text is None:
        return content, len(content), False
    text = as_text.text(content, path)
    with_returns = newline == "lf" and "\r" in text
    if not text:
        raise UserError(f"{key}={printable(path)}: the file is empty; give a file with text")  # but a mark
    return line_feeds(text) if with_returns else text, len(content), with_returns


def read_documents(
    path: str | Sequence[str],
    key: str,
    as_text: AsText | None,
    newline: Newline = "lf",
    without: Mapping[str, str] = {},
    read: Callable[..., tuple[Any, int, bool]] = in_memory,
) -> Documents:
    """Read the files that a setting names.

    Args:
        path, key, without: see `files_of_split`.
        as_text, newline: see `in_memory`.
        read: `in_memory`, or what leaves texts in their files, with the same arguments.

    Raises:
        UserError: a file cannot be read, or is no text.
    """
    names, said = files_of_split(path, key, without)
    digest, sizes, with_returns = hashlib.sha256(), 0, False
    contents: list[Any] = []
    for name in names:
        text, size, returns = read(name, key, as_text, newline, digest)
        contents.append(text)
        sizes += size
        with_returns = with_returns or returns
    origin: dict[str, Any] = {"source": shown(path), "bytes": sizes, "sha256": digest.hexdigest()}
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
