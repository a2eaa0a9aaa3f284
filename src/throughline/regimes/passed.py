"""`segments` that start from a state instead of zeros: the last one of another place, or noise (arXiv 2507.02782).

A network that always starts from zeros is surprised by the states of long sequences. One that has met many states is not.
"""

from dataclasses import dataclass as plain_dataclass
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan
from throughline.regimes.segments import Segments
from throughline.settings import STRICT, Probability


@dataclass(frozen=True, config=STRICT)
class Passed(Segments):
    """Shuffled pieces, each of which starts from the state in which the same row of the batch before has ended.

    The state comes from a random other place of the line. With `first_state=noise` a row starts from a normal distribution
    instead, with the mean and the std of each cell over the rows of the batch before.
    """

    first_state: Literal["passed", "noise"] = "passed"
    """Where a piece starts: from the state of another piece, or from noise that looks like it."""
    zeros: Probability = 0.1
    """The share of pieces that start from zeros all the same, as every sequence does at first."""
    burn_in: Literal[0] = 0
    """Always 0: the first state takes its place."""

    @property
    def draws_states(self) -> bool:
        return self.first_state == "noise"

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        return PassedPieces(super().plan(line, seed, epoch), self.draws_states, self.zeros, seed, epoch)


@plain_dataclass(frozen=True)
class PassedPieces(Plan):
    """The batches of another plan, in which most rows do not start from zeros, but the first batch does."""

    pieces: Plan
    noise: bool
    zeros: float
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.pieces)

    def __getitem__(self, k: int) -> Cut:
        cut = self.pieces[k]
        assert isinstance(cut, Cut)
        draws = np.random.default_rng((self.seed, self.epoch, k)).random(len(cut.reset))
        return cut._replace(reset=(draws < self.zeros) | (k == 0), from_noise=self.noise)
