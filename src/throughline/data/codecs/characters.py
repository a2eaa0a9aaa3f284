"""A step is a character."""

from collections.abc import Iterable, Iterator
from functools import cached_property
from typing import ClassVar

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

    @cached_property
    def _id_of_codepoint(self) -> np.ndarray:
        codepoints = [ord(symbol) for symbol in self.symbols or []]
        ids = np.full(max(codepoints, default=0) + 2, UNKNOWN, dtype=self.dtype)
        ids[codepoints] = np.arange(1, len(codepoints) + 1)
        return ids

    def encode(self, raw: str) -> np.ndarray:
        pieces = [raw[i : i + 2**20] for i in range(0, len(raw), 2**20)]  # keeps the 4-byte copy small
        return np.concatenate([np.zeros(0, self.dtype), *map(self._encode, pieces)])

    def _encode(self, text: str) -> np.ndarray:
        codepoints = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return self._id_of_codepoint[np.minimum(codepoints, len(self._id_of_codepoint) - 1)]

    def prompt(self, text: str) -> np.ndarray:
        self.known(text)
        return self.after_end(self.encode(text))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (self.shown[id] for id in ids)
