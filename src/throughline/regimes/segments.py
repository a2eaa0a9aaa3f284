"""Non-overlapping pieces, shuffled, each read from zeros. Most code does this: `stateful` without the carried state."""

from dataclasses import dataclass as plain_dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Played, Regime
from throughline.regimes.permutation import Permutation, permutation
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Segments(Regime):
    """The line is cut every `steps` targets; a batch has `batch_size` pieces in random order, with loss on all steps.

    Sequences that are not joined are cut one by one.
    """

    apart: ClassVar[bool] = True

    steps: PositiveInt = 32
    """Targets per piece. The network sees no further back."""
    batch_size: PositiveInt = 64
    """Pieces per batch."""
    burn_in: Annotated[int, Field(ge=0)] = 0
    """Steps before a piece that are read first, from zeros and without gradient, so that it starts from a state that fits
    (Kapturowski 2019). Where a sequence begins there are fewer. Needs a core that can start a row inside a batch."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.batch_size, self.burn_in + self.steps

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        pieces = Pieces.cut(line.edges, self.steps)
        order = permutation(len(pieces), np.random.default_rng((seed, epoch)))
        if burn_in := min(self.burn_in, pieces.most_before):
            return BurntIn(pieces, order, self.batch_size, burn_in)
        return ShuffledPieces(pieces, order, self.batch_size)


def cut_every(steps: int, edges: np.ndarray) -> np.ndarray:
    """The edges of parts, and between them further ones, every `steps` targets from the beginning of a part."""
    pieces = -(-np.diff(edges) // steps)  # of each part
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    inner: np.ndarray = np.repeat(edges[:-1], pieces) + (np.arange(len(first)) - first) * steps
    return np.append(inner, edges[-1])


@plain_dataclass(frozen=True)
class Pieces:
    """The pieces of a line whose parts are cut every `steps` targets; they are computed by number, never stored.

    Attributes:
        edges: (P + 1,) of the parts, over which no piece reaches.
        first: (P + 1,) the number of the first piece of each part, and the number of pieces.
        steps: targets per piece; the last of a part may be shorter.
    """

    edges: np.ndarray
    first: np.ndarray
    steps: int

    @classmethod
    def cut(cls, edges: np.ndarray, steps: int) -> "Pieces":
        """The pieces of parts with these edges."""
        return cls(edges, np.concatenate([[0], np.cumsum(-(-np.diff(edges) // steps))]), steps)

    def __len__(self) -> int:
        return int(self.first[-1])

    @property
    def most_before(self) -> int:
        """The most steps of a part that lie before a piece: those before the last one of the longest part."""
        return (int(np.diff(self.first).max()) - 1) * self.steps

    def at(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where these pieces begin and end, and where their parts begin."""
        part = np.searchsorted(self.first, numbers, side="right") - 1
        begin = self.edges[part] + (numbers - self.first[part]) * self.steps
        return begin, np.minimum(begin + self.steps, self.edges[part + 1]), self.edges[part]


@plain_dataclass(frozen=True)
class ShuffledPieces(Plan):
    """Pieces in `order`, `batch_size` per batch, each read from zeros."""

    pieces: Pieces
    order: Permutation
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, k: int) -> Cut | Played:
        begin, end, _ = self.batch(k)
        return Cut(begin, end - begin, end - begin, np.ones(len(begin), bool))

    def batch(self, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the pieces of batch k begin and end, and where their parts begin."""
        return self.pieces.at(self.order[k * self.batch_size : (k + 1) * self.batch_size].astype(np.int64))


@plain_dataclass(frozen=True)
class BurntIn(ShuffledPieces):
    """Pieces in `order`, each with up to `burn_in` steps before it; a row whose sequence has fewer begins later.

    Until then it is kept at zeros by restarts.
    """

    burn_in: int

    def __getitem__(self, k: int) -> Played:
        begin, end, part = self.batch(k)
        inputs = (begin - self.burn_in)[:, None] + np.arange(self.burn_in + int((end - begin).max()))
        column = np.arange(inputs.shape[1]) >= self.burn_in
        return Played(
            inputs=inputs,
            scored=column & (inputs < end[:, None]),
            restart=inputs < part[:, None],
            reset=np.ones(len(begin), bool),
            burn_in=self.burn_in,
        )
