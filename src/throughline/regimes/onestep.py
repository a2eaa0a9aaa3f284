"""One stream, one step, one update per token: the state carries memory forward, and no gradient reaches earlier steps."""

from typing import ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Plan
from throughline.regimes.sequences import behind
from throughline.regimes.stateful import Stateful
from throughline.settings import STRICT, PositiveInt, Probability


@dataclass(frozen=True, config=STRICT)
class Onestep(Stateful):
    """`Stateful` at its smallest: one time step per batch, with the state kept."""

    apart: ClassVar[bool] = True

    update_every_token: ClassVar[bool] = True

    streams: Literal[1] = 1
    """Always 1."""
    bptt: Literal[1] = 1
    """Always 1."""
    updates: PositiveInt = 256
    """Steps that are handed over together as one batch, because handing over takes longer than an update."""
    reset_probability: Probability = 0.0
    """The probability that a batch of `updates` steps starts from zeros. 0, because code that feeds one step per
    batch keeps its state."""

    sequences: Literal["behind"] = "behind"
    """Always `behind`: one sequence after another."""

    def whole(self, line: Line, rng: np.random.Generator) -> Plan:
        return behind(line, self.streams, self.updates, rng)

    def chunks(self, line: Line, seed: int, epoch: int) -> Plan:
        return Stateful(streams=self.streams, bptt=self.updates, rotate=self.rotate).chunks(line, seed, epoch)
