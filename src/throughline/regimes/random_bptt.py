"""`stateful` with a random number of steps per batch, so that gradients stop at other places in every epoch (Merity 2017).

Every place of the line then gets a chance to be seen from further ahead: with a fixed `bptt` that divides the length of a
stream, gradients from the first step of a batch never reach back.
"""

from dataclasses import dataclass as plain_dataclass
from dataclasses import replace

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Plan
from throughline.regimes.stateful import Stateful
from throughline.settings import STRICT, NonNegative, Probability

SHORTEST = 5
"""The fewest steps of a batch, unless `bptt` is smaller."""
BLOCK = 4096
"""Lengths that are drawn in an epoch. They are repeated, so that a line of any length takes no memory."""
STDS = 3
"""How many stds above `bptt` the longest batch may be; longer draws are cut off, so that memory is bounded."""


@dataclass(frozen=True, config=STRICT)
class RandomBptt(Stateful):
    """The steps of each batch are drawn from a normal distribution around `bptt`, or sometimes around half of it.

    AWD-LSTM (arXiv 1708.02182) multiplies the learning rate by the drawn length over `bptt`. `trainer.loss=sum_over_steps`
    does the same: the loss of a batch then grows with its length. CUDA graphs are hardly used, because lengths differ.
    """

    halved: Probability = 0.05
    """The probability of a draw around half of `bptt`."""
    std: NonNegative = 5.0
    """The standard deviation of the length."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.streams, self.longest

    @property
    def longest(self) -> int:
        """The most steps of a batch."""
        return self.bptt + int(STDS * self.std)

    def chunks(self, line: Line, seed: int, epoch: int) -> Plan:
        strips, seam = self.strips(line, seed, epoch)
        rng = np.random.default_rng((seed, epoch, 1))
        mean = np.where(rng.random(BLOCK) < self.halved, self.bptt / 2, self.bptt)
        drawn = rng.normal(mean, self.std).astype(np.int64).clip(min(SHORTEST, self.bptt), self.longest)
        return replace(strips, bounds=Drawn(np.append(0, np.cumsum(drawn)), seam, int(strips.bounds[-1])))


@plain_dataclass(frozen=True)
class Drawn:
    """The bounds of batches whose lengths were drawn; a batch begins at `seam` as well.

    Attributes:
        block: (BLOCK + 1,) the bounds of the lengths that were drawn, which come again and again.
        seam: 0 if there is none.
        last: the last bound.
    """

    block: np.ndarray
    seam: int
    last: int

    def __len__(self) -> int:
        return self._before(self.seam) + self._before(self.last - self.seam) + 1

    def __getitem__(self, k: int) -> int:
        first = self._before(self.seam)
        if k < first:
            return self._at(k)
        return min(self.seam + self._at(k - first), self.last)

    def _at(self, k: int) -> int:
        again, place = divmod(k, BLOCK)
        return again * int(self.block[-1]) + int(self.block[place])

    def _before(self, column: int) -> int:
        """How many bounds lie before a column."""
        again, rest = divmod(column, int(self.block[-1]))
        return again * BLOCK + int(np.searchsorted(self.block[:-1], rest))
