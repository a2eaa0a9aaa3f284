"""One stream, one step, one update per token: memory goes forward with the state, and no gradient travels at all."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes.stateful import Chunks, Stateful
from throughline.settings import STRICT, PositiveInt, Probability


@dataclass(frozen=True, config=STRICT)
class Onestep(Stateful):
    """`Stateful` at its smallest, which is what feeding one time step per batch with kept state amounts to."""

    update_every_token: ClassVar[bool] = True

    streams: Literal[1] = 1
    bptt: Literal[1] = 1
    updates: PositiveInt = 256
    """Steps that are handed over as one batch, because handing over takes longer than an update."""
    reset_probability: Probability = 0.0
    """0, because code that feeds one step per batch keeps its state; otherwise for a batch of `updates` steps."""

    def chunks(self, line: Line, seed: int, epoch: int) -> Chunks:
        return Stateful(self.streams, self.updates, self.rotate).chunks(line, seed, epoch)
