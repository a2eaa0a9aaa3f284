"""A symbol is a step: an event, a note, whatever stands in a column."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.characters import UNKNOWN_SHOWN, Table, ids_of, known
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Symbols(Codec):
    """Symbols without white space, written with a space between two; the table is that of the training split, sorted."""

    reads: ClassVar = "symbols"

    symbols: Table | None = None

    def __post_init__(self) -> None:
        ids_of(self.symbols)
        if any(len(symbol.split()) != 1 for symbol in self.symbols or []):
            raise ValueError("a symbol is empty or holds white space")

    def fit(self, sequences: Sequence[Any]) -> Self:
        return self if self.symbols is not None else replace(self, symbols=sorted(set().union(*sequences)))

    @property
    def size(self) -> int:
        return len(self.symbols or []) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return ids_of(self.symbols)

    def encode(self, raw: Sequence[str]) -> np.ndarray:
        return np.fromiter((self._ids.get(symbol, UNKNOWN) for symbol in raw), dtype=self.dtype)

    def prompt(self, text: str) -> np.ndarray:
        return self.encode(known(text.split(), self._ids))

    @property
    def opening(self) -> str:
        return (self.symbols or [""])[0]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.stream(ids))[1:]

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        symbols = [UNKNOWN_SHOWN, *(self.symbols or [])]
        return (f" {symbols[id]}" for id in ids)
