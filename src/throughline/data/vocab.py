"""The table between symbols and token ids."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from throughline.plumbing.errors import UserError

UNKNOWN = 0
"""The id of every symbol that is not in the table; it is never generated."""


class Vocab:
    """Symbols and their ids: `UNKNOWN` is 0, the symbols follow in the order given.

    Args:
        symbols: distinct non-empty strings.
        separator: what stands between two symbols in writing: "" for characters, " " for events.
    """

    def __init__(self, symbols: Sequence[str], separator: str = "") -> None:
        self.symbols = list(symbols)
        self.separator = separator
        self._ids = {symbol: id for id, symbol in enumerate(self.symbols, start=1)}
        if separator == "":
            codepoints = [ord(symbol) for symbol in self.symbols]
            self._id_of_codepoint = np.full(max(codepoints, default=0) + 2, UNKNOWN, dtype=self.dtype)
            self._id_of_codepoint[codepoints] = np.arange(1, len(self))

    @classmethod
    def of(cls, raw: str | Sequence[str]) -> "Vocab":
        """The table of all symbols in `raw`: characters of a string, or a sequence of event symbols."""
        return cls(sorted(set(raw)), "" if isinstance(raw, str) else " ")

    def __len__(self) -> int:
        """V, the unknown symbol counted."""
        return len(self.symbols) + 1

    @property
    def dtype(self) -> Any:
        """The smallest unsigned type that holds every id."""
        return np.min_scalar_type(len(self.symbols))

    def encode(self, raw: str | Sequence[str]) -> np.ndarray:
        """Ids (N,) of the symbols of `raw`; those that are not in the table become `UNKNOWN`."""
        if isinstance(raw, str) and self.separator == "":
            pieces = [raw[i : i + 2**20] for i in range(0, len(raw), 2**20)]  # keeps the 4-byte copy small
            return np.concatenate([np.zeros(0, self.dtype), *map(self._encode_characters, pieces)])
        return np.fromiter((self._ids.get(symbol, UNKNOWN) for symbol in raw), dtype=self.dtype)

    def _encode_characters(self, text: str) -> np.ndarray:
        codepoints = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        return self._id_of_codepoint[np.minimum(codepoints, len(self._id_of_codepoint) - 1)]

    def encode_prompt(self, prompt: str) -> np.ndarray:
        """Ids (N,) of a prompt as a person writes it.

        Raises:
            UserError: a symbol is not in the table.
        """
        raw = prompt if self.separator == "" else prompt.split()
        if not raw:
            raise UserError("prompt: there is no symbol in it; give at least one")
        unknown = sorted({symbol for symbol in raw if symbol not in self._ids})
        if unknown:
            known = " ".join(map(repr, self.symbols[:100])) + (" ..." if len(self.symbols) > 100 else "")
            raise UserError(f"prompt: {', '.join(map(repr, unknown))} not in the vocabulary of this checkpoint: {known}")
        return self.encode(raw)

    def decode(self, ids: Iterable[int]) -> str:
        """The symbols of `ids` in writing; `UNKNOWN` is shown as U+FFFD."""
        return self.separator.join("\N{REPLACEMENT CHARACTER}" if id == UNKNOWN else self.symbols[id - 1] for id in ids)

    def to_plain(self) -> dict[str, Any]:
        return {"symbols": self.symbols, "separator": self.separator}

    @classmethod
    def from_plain(cls, plain: dict[str, Any]) -> "Vocab":
        return cls(plain["symbols"], plain["separator"])
