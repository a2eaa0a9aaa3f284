"""A character is a step."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, ClassVar, Self

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import UNKNOWN, Codec
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT

Table = Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
"""Symbols in the order of their ids, from 1 on."""
UNKNOWN_SHOWN = "\N{REPLACEMENT CHARACTER}"


def ids_of(symbols: Table | None) -> dict[str, int]:
    """The id of each symbol.

    Raises:
        ValueError: a symbol is there twice.
    """
    ids = {symbol: id for id, symbol in enumerate(symbols or [], start=1)}
    if len(ids) < len(symbols or []):
        raise ValueError("a symbol is there twice")
    return ids


def known(raw: Sequence[str], ids: dict[str, int]) -> Sequence[str]:
    """The symbols of a prompt, if there are any and all of them are known.

    Raises:
        UserError: there is none, or one is not in the table.
    """
    if not raw:
        raise UserError("prompt: there is no symbol in it; give at least one")
    unknown = sorted({symbol for symbol in raw if symbol not in ids})
    if unknown:
        shown = " ".join(map(repr, list(ids)[:100])) + (" ..." if len(ids) > 100 else "")
        raise UserError(f"prompt: {', '.join(map(repr, unknown))} not in the vocabulary of this checkpoint: {shown}")
    return raw


@dataclass(frozen=True, config=STRICT)
class Characters(Codec):
    """Unicode characters; the table holds those that the training split shows, in the order of their code points."""

    reads: ClassVar = "text"

    symbols: Table | None = None

    def __post_init__(self) -> None:
        ids_of(self.symbols)
        if any(len(symbol) > 1 for symbol in self.symbols or []):
            raise ValueError("a symbol is longer than one character")

    def fit(self, sequences: Sequence[Any]) -> Self:
        return self if self.symbols is not None else replace(self, symbols=sorted(set().union(*sequences)))

    @property
    def size(self) -> int:
        return len(self.symbols or []) + 1

    @cached_property
    def _ids(self) -> dict[str, int]:
        return ids_of(self.symbols)

    @cached_property
    def _id_of_codepoint(self) -> np.ndarray:
        codepoints = [ord(symbol) for symbol in self.symbols or []]
        ids = np.full(max(codepoints, default=0) + 2, UNKNOWN, dtype=self.dtype)
        ids[codepoints] = np.arange(1, self.size)
        return ids

    def encode(self, raw: str) -> np.ndarray:
        pieces = [raw[i : i + 2**20] for i in range(0, len(raw), 2**20)]  # keeps the 4-byte copy small
        return np.concatenate([np.zeros(0, self.dtype), *map(self._encode, pieces)])

    def _encode(self, text: str) -> np.ndarray:
        codepoints = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return self._id_of_codepoint[np.minimum(codepoints, len(self._id_of_codepoint) - 1)]

    def prompt(self, text: str) -> np.ndarray:
        known(text, self._ids)
        return self.encode(text)

    @property
    def opening(self) -> str:
        return "\n" if "\n" in self._ids else (self.symbols or [""])[0]

    def decode(self, ids: Iterable[int]) -> str:
        return "".join(self.stream(ids))

    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        symbols = [UNKNOWN_SHOWN, *(self.symbols or [])]
        return (symbols[id] for id in ids)
