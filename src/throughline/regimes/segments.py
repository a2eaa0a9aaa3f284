"""Non-overlapping pieces, shuffled, each read from zeros. Most code does this: `stateful` without the carried state."""

from dataclasses import dataclass as plain_dataclass
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Regime
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

    @property
    def shape(self) -> tuple[int, int]:
        return self.batch_size, self.steps

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        edges = cut_every(self.steps, line.edges)
        start, length = edges[:-1], np.diff(edges)
        order = np.random.default_rng((seed, epoch)).permutation(len(start))
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return Pieces(start, length, batches)


def cut_every(steps: int, edges: np.ndarray) -> np.ndarray:
    """The edges of parts, and between them further ones, every `steps` targets from the beginning of a part."""
    pieces = -(-np.diff(edges) // steps)  # of each part
    first = np.repeat(np.cumsum(pieces) - pieces, pieces)
    inner: np.ndarray = np.repeat(edges[:-1], pieces) + (np.arange(len(first)) - first) * steps
    return np.append(inner, edges[-1])


@plain_dataclass(frozen=True)
class Pieces(Plan):
    """Pieces of the line, each in one batch and read from zeros; `batches[k]` lists the pieces of batch k by number.

    Attributes:
        start, length: (P,) of the pieces.
        batches: K arrays of piece numbers.
        pad_left: whether padding stands before a short piece rather than after it.
    """

    start: np.ndarray
    length: np.ndarray
    batches: list[np.ndarray]
    pad_left: bool = False

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> Cut:
        pieces = self.batches[k]
        length = self.length[pieces]
        return Cut(self.start[pieces], length, length, np.ones(len(pieces), bool), self.pad_left)
