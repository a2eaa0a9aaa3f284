"""One stream, one step, one update per token: memory goes forward with the state, and no gradient travels at all."""

from typing import ClassVar, Literal

from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Plan
from throughline.regimes.stateful import Stateful
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Onestep(Stateful):
    """`Stateful` at its smallest, which is what feeding one time step per batch with kept state amounts to.

    `updates` of them, one after the other, are handed over as one batch, since handing over takes longer than an update.
    """

    update_every_token: ClassVar[bool] = True

    streams: Literal[1] = 1
    bptt: Literal[1] = 1
    updates: PositiveInt = 256

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        return Stateful(self.streams, self.updates, self.rotate).plan(line, seed, epoch)
