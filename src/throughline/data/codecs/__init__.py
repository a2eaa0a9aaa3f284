"""Codecs define what a step is and how a person writes it. One file per codec.

A new codec needs one file here, one YAML in `conf/codec`, and one line in `tests/data/codecs/test_every_codec.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.settings import plain, word

Raw = str | bytes | list[str]
"""A raw sequence: text, bytes, or a list of symbols; `Codec.reads` names the kind."""

UNKNOWN = 0
"""The id of padding and of every symbol that a codec does not know; it is never generated."""


class Codec(ABC):
    """Turns raw sequences into steps and steps into text.

    The fields of a subclass are its settings and its table. If there is no table yet, `fit` makes it. A checkpoint holds the
    fitted codec as plain values. Id 0 is the unknown symbol; known symbols have the ids 1, 2, ... A codec of sequences with
    ends has one more id, the last: the end symbol, which stands before the first sequence and after each.

    Attributes:
        reads: the kind of raw sequences that the codec encodes.
    """

    reads: ClassVar[Literal["text", "bytes", "symbols"]]

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def fitted(self) -> bool:
        """Whether there is a table, or none is needed."""
        return True

    @abstractmethod
    def fit(self, sequences: Sequence[Raw]) -> Self:
        """Return the codec with a table of all symbols in these sequences, or itself if it already has a table."""

    @property
    @abstractmethod
    def size(self) -> int:
        """V, including the unknown symbol, and the end symbol if there is one."""

    @property
    def end(self) -> int | None:
        """The id of the end symbol; None if there is none."""
        return None

    def with_end(self) -> Self:
        """The codec with an end symbol.

        Raises:
            UserError: it cannot have one.
        """
        raise UserError(
            f"codec={self.name}: has no end symbol, and these data have sequences with ends; give data.joined=true"
        )

    def after_end(self, ids: np.ndarray) -> np.ndarray:
        """The ids after the end symbol, if there is one."""
        return ids if self.end is None else np.concatenate([np.array([self.end], ids.dtype), ids])

    @property
    def dtype(self) -> Any:
        """The smallest unsigned type that holds every id."""
        return np.min_scalar_type(self.size - 1)

    @abstractmethod
    def encode(self, raw: Any) -> np.ndarray:
        """The ids (N,) of a raw sequence; symbols that are not in the table become `UNKNOWN`."""

    @abstractmethod
    def prompt(self, text: str) -> np.ndarray:
        """The ids (N,) of a prompt as a person writes it, after the end symbol if there is one.

        Raises:
            UserError: the prompt has no symbol, or one that is not in the table.
        """

    @property
    @abstractmethod
    def opening(self) -> str:
        """The prompt that is used when none is given."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; `UNKNOWN` is shown as U+FFFD."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text that continues a prompt, piece by piece as ids arrive.

        Prompt and pieces join up to the text that `decode` gives for all ids.
        """

    def to_plain(self) -> dict[str, Any]:
        """The codec as plain values, for a checkpoint; `throughline.settings.from_plain` reads them back."""
        return plain(self)
