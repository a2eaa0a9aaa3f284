"""A text that stays in its file: it has a length and slices as any text, and it is read part by part."""

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from throughline.data.files import PACKED, AsText, Decoding, Newline, pieces_of
from throughline.plumbing import progress
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable

LARGE = 2**26
"""From so many bytes on, texts stay in their files; encoded and held as text, they would need a multiple of it."""
UNPACKED = 4
"""How much larger a compressed text is taken to be."""
PLACE = 2**26
"""The bytes from one place to the next at which reading can begin."""
END = 2**20
"""How much of the end of a text is looked at first for a place to cut."""
LONGEST = 2**26
"""The longest part that a codec may ask for before it encodes any of it."""


@dataclass(frozen=True)
class LongText:
    """A text, or bytes, between two places of a file.

    Attributes:
        path, key: the file, and the setting that names it.
        decode: makes the decoder; None for bytes.
        places: lengths of the text at which reading can begin, each with the byte of the file and the state of the decoder.
        start, stop: where it begins and ends, in characters or bytes.
    """

    path: str
    key: str
    decode: Callable[[], Decoding] | None
    places: Sequence[tuple[int, int, Any]]
    start: int
    stop: int

    @classmethod
    def scanned(
        cls, path: str, key: str, as_text: AsText | None, newline: Newline, digest: Any
    ) -> tuple["LongText", int, bool]:
        """Go over a file once, with the checks and results of `throughline.data.files.in_memory`."""

        def between(start: int, stop: int) -> bytes:
            return next(pieces_of(path, key, start), b"")[: stop - start]

        def decode() -> Decoding:
            assert as_text is not None
            return Decoding(as_text, path, between, newline)

        decoding = None if as_text is None else decode()
        places, size, length = [(0, 0, None if decoding is None else decoding.state)], 0, 0
        for raw in pieces_of(path, key):
            digest.update(raw)
            length += len(raw if decoding is None else decoding.piece(raw))
            size += len(raw)
            progress.advance(len(raw))
            if size - places[-1][1] >= PLACE:
                places.append((length, size, None if decoding is None else decoding.state))
        if decoding is not None:
            length += len(decoding.piece(b"", final=True))
            decoding.refuse_zeros()
        if not length:
            raise UserError(f"{key}={printable(path)}: the file is empty; give a file with text")
        text = cls(path, key, None if as_text is None else decode, places, 0, length)
        return text, size, decoding is not None and decoding.with_returns

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: slice) -> "LongText":
        start, stop, _ = part.indices(len(self))
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def pieces(self) -> Iterator[Any]:
        """Its text, as it is read from the file.

        Raises:
            UserError: the file has become shorter since it was scanned.
        """
        at, offset, state = self.places[bisect_right(self.places, self.start, key=lambda place: place[0]) - 1]
        decoding = None if self.decode is None else self.decode()
        if decoding is not None:
            decoding.begin_at(state)
        for raw in _and_an_end(pieces_of(self.path, self.key, offset)):
            if at >= self.stop:
                return
            text = raw if decoding is None else decoding.piece(raw, final=not raw)
            first, last = max(0, self.start - at), self.stop - at
            if first < len(text):
                yield text[first:last]
            at += len(text)
            progress.advance(len(raw))
        if at < self.stop:
            raise changed(self.path, self.key)

    def parts(self, cut: Callable[[Any], int]) -> Iterator[Any]:
        """Its text in parts that `cut` allows, see `Codec.cut`.

        Raises:
            UserError: a codec finds no place to cut, or as in `pieces`.
        """
        rest = None
        for piece in self.pieces():
            rest = piece if rest is None else rest + piece
            end = cut(rest)
            if end:
                yield rest[:end]
                rest = rest[end:]
            elif len(rest) > LONGEST:
                raise UserError(
                    f"{self.key}={printable(self.path)}: more than {LONGEST:,} characters without a place to cut, such as "
                    "white space; give codec=characters"
                )
        if rest:
            yield rest


def _and_an_end(pieces: Iterable[bytes]) -> Iterator[bytes]:
    yield from pieces
    yield b""


def parts_of(raw: Any, cut: Callable[[Any], int]) -> Iterable[Any]:
    """The parts of a raw sequence that are encoded one after the other; of one in memory, itself."""
    return raw.parts(cut) if isinstance(raw, LongText) else [raw]


def cut_of(raw: Any, cut: Callable[[Any], int]) -> int:
    """Where `Codec.cut` cuts a raw sequence, and 0 if nowhere; of a text in a file, only the end is read."""
    if not isinstance(raw, LongText):
        return cut(raw)
    for most in (END, LONGEST):
        end = raw[-most:]
        pieces = list(end.pieces())
        place = cut(pieces[0][:0].join(pieces)) if pieces else 0
        if place or len(end) == len(raw):
            return len(raw) - len(end) + place
    return 0


def size_on_disk(paths: Iterable[str]) -> int:
    """About how many bytes of text there are in files; those that are not there are counted as empty."""
    found = 0
    for path in paths:
        try:
            found += os.stat(path).st_size * (UNPACKED if Path(path).suffix.lower() in PACKED else 1)  # noqa: PTH116
        except (OSError, ValueError):
            continue
    return found


def changed(path: str, key: str) -> UserError:
    """What to say about a file that has changed."""
    return UserError(f"{key}={printable(path)}: the file changed while it was read; run again when it stays as it is")
