"""Non-overlapping pieces, shuffled, each read from zeros. Most code does this: `stateful` without the carried state."""

from dataclasses import dataclass as plain_dataclass

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Regime
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Segments(Regime):
    """The line is cut every `steps` targets; a batch has `batch_size` pieces in random order, with loss on all steps."""

    steps: PositiveInt = 32
    """Targets per piece. The network sees no further back."""
    batch_size: PositiveInt = 64
    """Pieces per batch."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.batch_size, self.steps

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        start = np.arange(0, line.num_targets, self.steps)
        order = np.random.default_rng((seed, epoch)).permutation(len(start))
        length = np.minimum(self.steps, line.num_targets - start)
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return Pieces(start, length, batches)


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
