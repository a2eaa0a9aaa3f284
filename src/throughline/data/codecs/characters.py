"""A step is a character."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN
from throughline.data.codecs.table import Tabled
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Characters(Tabled):
    """Steps are Unicode characters; `fit` orders them by code point."""

    reads: ClassVar = "text"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(len(symbol) > 1 for symbol in self.symbols or []):
            raise ValueError("a symbol is longer than one character")

    def fit(self, sequences: Iterable[Any]) -> Self:
        """As for every table, by numbers: ten times as fast as a set of characters."""
        if self.fitted:
            return self
        there = np.zeros(0x110000, dtype=bool)
        for sequence in sequences:
            for piece in _pieces(sequence):
                there[_codepoints(piece)] = True
        return replace(self, symbols=[chr(codepoint) for codepoint in np.flatnonzero(there).tolist()])

    @cached_property
    def _id_of_codepoint(self) -> np.ndarray:
        codepoints = [ord(symbol) for symbol in self.symbols or []]
        ids = np.full(max(codepoints, default=0) + 2, UNKNOWN, dtype=self.dtype)
        ids[codepoints] = np.arange(1, len(codepoints) + 1)
        return ids

    def encode(self, raw: str) -> np.ndarray:
        table = self._id_of_codepoint
        pieces = [table.take(_codepoints(piece), mode="clip") for piece in _pieces(raw)]  # beyond the table: unknown
        return np.concatenate([np.zeros(0, self.dtype), *pieces])

    def prompt(self, text: str) -> np.ndarray:
        self.known(text)
        return self.after_end(self.encode(text))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (self.shown[id] for id in ids)


def _pieces(text: str) -> Iterator[str]:
    """A text, so little at once that the copy of 4 bytes per character stays small."""
    return (text[start : start + 2**18] for start in range(0, len(text), 2**18))


def _codepoints(text: str) -> np.ndarray:
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
