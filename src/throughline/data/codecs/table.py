"""The common part of codecs with a table of symbols."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Annotated, Any, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT

UNKNOWN_SHOWN = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, config=STRICT)
class Tabled(Codec):
    """Symbols have the ids 1, 2, ... in table order; `fit` makes a sorted table from the training split."""

    symbols: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)] | None = None
    """The table. None: the symbols of the training split, sorted."""

    ended: bool = False
    """Whether there is an end symbol, with the last id. A source of sequences with ends sets it."""

    def __post_init__(self) -> None:
        if self.symbols is not None and len(set(self.symbols)) < len(self.symbols):
            raise ValueError("a symbol occurs twice")

    @property
    def fitted(self) -> bool:
        return self.symbols is not None

    def fit(self, sequences: Iterable[Any]) -> Self:
        if self.fitted:
            return self
        found: set[str] = set()
        for sequence in sequences:
            found.update(sequence)
        return replace(self, symbols=sorted(found))

    @property
    def size(self) -> int:
        return len(self.symbols or []) + 1 + self.ended

    @property
    def end(self) -> int | None:
        return self.size - 1 if self.ended else None

    def with_end(self) -> Self:
        return replace(self, ended=True)

    @cached_property
    def ids(self) -> dict[str, int]:
        """The id of each symbol."""
        return {symbol: id for id, symbol in enumerate(self.symbols or [], start=1)}

    @cached_property
    def shown(self) -> list[str]:
        """The symbol of each id, including the unknown one; an end is shown as a line break."""
        return [UNKNOWN_SHOWN, *(self.symbols or []), *(["\n"] if self.ended else [])]

    def known(self, raw: Sequence[str]) -> Sequence[str]:
        """Return the symbols of a prompt, after a check that there are any, or an end symbol before, and that all are known.

        Raises:
            UserError: the prompt has no symbol, or one that is not in the table.
        """
        if not raw and not self.ended:
            raise UserError("prompt: contains no symbol; give at least one")
        unknown = sorted({symbol for symbol in raw if symbol not in self.ids})
        if unknown:
            shown = " ".join(map(repr, list(self.ids)[:100])) + (" ..." if len(self.ids) > 100 else "")
            escaped = "; a shell writes a line break as prompt=$'\\n'" if "\\" in unknown and "\n" in self.ids else ""
            raise UserError(
                f"prompt: {', '.join(map(repr, unknown))} not in the vocabulary of this checkpoint: {shown}{escaped}"
            )
        return raw

    @property
    def opening(self) -> str:
        if self.ended:
            return ""
        return "\n" if "\n" in self.ids else self.shown[1]
