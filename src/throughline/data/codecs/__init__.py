"""Codecs define what a step is and how a person writes it. One file per codec.

A new codec needs one file here, one YAML in `conf/codec`, and one line in `tests/data/codecs/test_every_codec.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, Literal, Self

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.settings import plain, word

Raw = str | bytes | list[str] | np.ndarray
"""A raw sequence: text, bytes, a list of symbols, frames (N, F), or ids of tokens (N,); `Codec.reads` names the kind."""

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

    reads: ClassVar[Literal["text", "bytes", "symbols", "frames", "tokens"]]

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def steps(self) -> Literal["ids", "multi_hot", "real"]:
        """The kind of steps, by which a head is chosen; all but `ids` are frames (N, F)."""
        return "ids"

    @property
    def log_volume(self) -> float:
        """What the nll of a step needs added, in nats, to be that of a density in the units of the data."""
        return 0.0

    @property
    def fitted(self) -> bool:
        """Whether there is a table, or none is needed."""
        return True

    @abstractmethod
    def fit(self, sequences: Iterable[Raw]) -> Self:
        """Return the codec with a table of all symbols in these sequences, or itself if it already has a table.

        They are read once, so they may also be the parts of longer sequences, as `cut` makes them.
        """

    @property
    @abstractmethod
    def size(self) -> int:
        """V, including the unknown symbol, and the end symbol if there is one."""

    @property
    def end(self) -> int | None:
        """The id of the end symbol; None if there is none."""
        return None

    @property
    def unknown(self) -> int:
        """The id of symbols that are not in the table."""
        return UNKNOWN

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
        """The ids (N,) of a raw sequence; symbols that are not in the table become `unknown`."""

    def encodes_as(self, other: "Codec") -> bool:
        """Whether a step of one means the same to the other."""
        return self == other

    def cut(self, raw: Any) -> int:
        """How much of a part of a longer sequence can be encoded before the rest is known.

        So a sequence is encoded part by part: `raw[:cut]` now, and the rest together with what follows. The steps of all
        parts, one after the other, are those of the whole. 0 means that there is no place to cut, and more must be read. A
        codec that has no table yet cuts as it does with one.
        """
        return len(raw)

    @abstractmethod
    def prompt(self, text: str) -> np.ndarray:
        """The ids (N,) of a prompt as a person writes it, after the end symbol if there is one.

        Raises:
            UserError: the prompt has no symbol, or one that is not in the table.
        """

    def cautions(self, prompt: str) -> Iterator[str]:
        """Lines about symbols of a prompt that are not read as they are written."""
        return iter(())

    @property
    @abstractmethod
    def opening(self) -> str:
        """The prompt that is used when none is given."""

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids."""
        return "".join(self.stream(ids))

    @abstractmethod
    def stream(self, ids: Iterable[int]) -> Iterator[str]:
        """The text of the ids: a piece for each, as it arrives, and at the end what remains.

        What continues a prompt are the pieces after those of its ids. `UNKNOWN` is shown as U+FFFD.
        """

    def extent(self, steps: np.ndarray) -> tuple[int, int] | None:
        """The words and the bytes of the text that all steps but the first stand for; a line break or an end is one of each.

        None where a step is a whole word, character or symbol, so that the nll per step already says it.
        """
        return None

    def to_plain(self) -> dict[str, Any]:
        """The codec as plain values, for a checkpoint; `throughline.settings.from_plain` reads them back."""
        return plain(self)
