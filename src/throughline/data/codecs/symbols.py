"""A step is a symbol: an event, a note, or any other value in a column."""

from collections.abc import Iterable, Iterator, Sequence
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN
from throughline.data.codecs.table import Tabled
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Symbols(Tabled):
    """Steps are symbols without white space; text has a space between two symbols."""

    reads: ClassVar = "symbols"

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(len(symbol.split()) != 1 for symbol in self.symbols or []):
            raise ValueError("a symbol is empty or holds white space")

    def encode(self, raw: Sequence[str]) -> np.ndarray:
        return np.fromiter((self.ids.get(symbol, UNKNOWN) for symbol in raw), dtype=self.dtype)

    def prompt(self, text: str) -> np.ndarray:
        return self.encode(self.known(text.split()))

    def decode(self, ids: Iterable[int]) -> str:
        return super().decode(ids)[1:]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        return (f" {self.shown[id]}" for id in ids)
