"""What a step is, and how a person writes it: one file per codec.

A new codec is one file here, one YAML in `conf/codec`, one line in `tests/data/codecs/test_every_codec.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, Self

import numpy as np

from throughline.settings import plain, word

Raw = str | bytes | list[str]
"""A raw sequence: text, bytes, or a list of symbols; `Codec.reads` says which."""

UNKNOWN = 0
"""The id of everything that a codec does not know, and of padding; it is never generated."""


class Codec(ABC):
    """Turns raw sequences into steps and steps into text.

    The fields of a subclass are its settings and its table. A table that is not there yet is made by `fit`; a checkpoint
    holds the fitted codec as plain values. Ids are 0 for what is unknown, then 1, 2, ...

    Attributes:
        reads: the kind of raw sequences that it takes.
    """

    reads: ClassVar[Literal["text", "bytes", "symbols"]]

    @property
    def name(self) -> str:
        return word(type(self))

    @abstractmethod
    def fit(self, sequences: Sequence[Raw]) -> Self:
        """The codec with a table of all that these sequences hold; itself where it has one."""

    @property
    @abstractmethod
    def size(self) -> int:
        """V, the unknown symbol counted."""

    @property
    def dtype(self) -> Any:
        """The smallest unsigned type that holds every id."""
        return np.min_scalar_type(self.size - 1)

    @abstractmethod
    def encode(self, raw: Any) -> np.ndarray:
        """The ids (N,) of a raw sequence; what is not in the table becomes `UNKNOWN`."""

    @abstractmethod
    def prompt(self, text: str) -> np.ndarray:
        """The ids (N,) of a prompt as a person writes it.

        Raises:
            UserError: there is nothing in it, or something that is not in the table.
        """

    @property
    @abstractmethod
    def opening(self) -> str:
        """The prompt of a sequence that is to begin by itself."""

    @abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """What the ids stand for, in writing; `UNKNOWN` is shown as U+FFFD."""

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text that continues a prompt, piece by piece as ids arrive; it joins up to what `decode` gives."""

    def to_plain(self) -> dict[str, Any]:
        """The codec as plain values, for a checkpoint; `throughline.settings.from_plain` reads them back."""
        return plain(self)
