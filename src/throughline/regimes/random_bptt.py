"""`stateful` with a random number of steps per batch, so that gradients stop at other places in every epoch (Merity 2017).

Every place of the line then gets a chance to be seen from further ahead: with a fixed `bptt` that divides the length of a
stream, gradients from the first step of a batch never reach back.
"""

from dataclasses import replace

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Plan
from throughline.regimes.stateful import Stateful
from throughline.settings import STRICT, NonNegative, Probability

SHORTEST = 5
"""The fewest steps of a batch, unless `bptt` is smaller."""
STDS = 3
"""How many stds above `bptt` the longest batch may be; longer draws are cut off, so that memory is bounded."""


@dataclass(frozen=True, config=STRICT)
class RandomBptt(Stateful):
    """The steps of each batch are drawn from a normal distribution around `bptt`, or sometimes around half of it.

    AWD-LSTM (arXiv 1708.02182) multiplies the learning rate by the drawn length over `bptt`. `trainer.loss=sum_over_steps`
    does the same: the loss of a batch then grows with its length. A CUDA graph is never used, because lengths differ.
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
        rng, bounds, last = np.random.default_rng((seed, epoch, 1)), [0], int(strips.bounds[-1])
        for end in sorted({seam, last} - {0}):
            while bounds[-1] < end:
                bounds += self._drawn(bounds[-1], end, rng)
        return replace(strips, bounds=bounds)

    def _drawn(self, first: int, end: int, rng: np.random.Generator) -> list[int]:
        """Some bounds after `first`; the last is `end` if they reach it."""
        count = (end - first) // self.bptt + 1
        mean = np.where(rng.random(count) < self.halved, self.bptt / 2, self.bptt)
        drawn = rng.normal(mean, self.std).astype(np.int64).clip(min(SHORTEST, self.bptt), self.longest)
        bounds = first + np.cumsum(drawn)
        return [*bounds[bounds < end].tolist(), *([end] if bounds[-1] >= end else [])]
