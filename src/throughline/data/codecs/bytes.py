"""A step is a byte. Any file can be data, and no symbol is ever unknown."""

import codecs
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Bytes(Codec):
    """Steps are bytes, and byte b has the id b + 1; prompts and generated text are UTF-8.

    `val/bpc` then means bits per byte.
    """

    reads: ClassVar = "bytes"

    ended: bool = False
    """Whether there is an end symbol, with the last id. A source of sequences with ends sets it."""

    def fit(self, sequences: Iterable[Any]) -> Self:
        return self

    @property
    def size(self) -> int:
        return 257 + self.ended

    @property
    def end(self) -> int | None:
        return 257 if self.ended else None

    def with_end(self) -> Self:
        return replace(self, ended=True)

    def encode(self, raw: bytes) -> np.ndarray:
        ids: np.ndarray = np.frombuffer(raw, dtype=np.uint8).astype(self.dtype) + self.dtype.type(1)
        return ids

    def prompt(self, text: str) -> np.ndarray:
        if not text and not self.ended:
            raise UserError("prompt: contains no symbol; give at least one")
        try:
            return self.after_end(self.encode(text.encode()))
        except UnicodeEncodeError as error:
            raise UserError(f"prompt: {text[error.start]!r} is not a character; give a prompt in UTF-8") from None

    @property
    def opening(self) -> str:
        return "" if self.ended else "\n"

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """Yield each character when its last byte arrives; bytes that are not UTF-8 are shown as U+FFFD."""
        return characters_of(b"\n" if id == self.end else bytes([id - 1]) if id else b"\xff" for id in ids)


def characters_of(pieces: Iterable[bytes]) -> Iterator[str]:
    """The text of bytes piece by piece: each character with its last byte, and U+FFFD for what is no UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    for piece in pieces:
        yield decoder.decode(piece)
    yield decoder.decode(b"", final=True)
