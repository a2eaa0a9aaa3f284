"""A step is a symbol: an event, a word, a note, or any other value in a column."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.table import Tabled
from throughline.settings import STRICT

BETWEEN = (" ", ", ", "; ", " | ", "\t")
"""What may stand between two symbols. The first that no symbol holds is taken, or else an arrow or another sign."""


@dataclass(frozen=True, config=STRICT)
class Symbols(Tabled):
    """Steps are symbols of any number of characters; in prompts and generated text, `between` stands between two symbols."""

    reads: ClassVar = "symbols"

    between: str | None = None
    """The text between two symbols. None: a space, or if symbols hold spaces, a comma or another sign that none holds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.between is not None and not self.between:
            raise ValueError("between: must not be empty")
        sign = (self.between or "").strip() or self.between
        if any(not symbol.strip() or (sign is not None and sign in symbol) for symbol in self.symbols or []):
            raise ValueError("a symbol is empty, or holds what stands between symbols")

    def fit(self, sequences: Iterable[Any]) -> Self:
        fitted = super().fit(sequences)
        text = "".join(fitted.symbols or [])
        if fitted.between is not None or not any(map(str.isspace, text)):
            return fitted
        signs = itertools.chain(BETWEEN, map(" {} ".format, map(chr, range(0x2190, 0xD800))))
        return replace(fitted, between=next(sign for sign in signs if (sign.strip() or sign) not in text))

    def encode(self, raw: Sequence[str]) -> np.ndarray:
        return np.fromiter((self.ids.get(symbol, UNKNOWN) for symbol in raw), dtype=self.dtype)

    def encodes_as(self, other: Codec) -> bool:
        return isinstance(other, Symbols) and self == replace(other, between=self.between)

    def prompt(self, text: str) -> np.ndarray:
        between = self.between or " "
        pieces = text.split() if between == " " else [piece.strip() for piece in text.split(between.strip() or between)]
        return self.after_end(self.encode(self.known([piece for piece in pieces if piece])))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        before = ""
        for id in ids:
            if id == self.end:
                yield self.shown[id]
                before = ""
            else:
                yield before + self.shown[id]
                before = self.between or " "
