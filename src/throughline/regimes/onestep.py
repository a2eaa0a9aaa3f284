"""One stream, one step, one update a token: memory goes forward with the state, and no gradient travels at all."""

from typing import Literal

from pydantic.dataclasses import dataclass

from throughline.regimes.stateful import Stateful
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class OneStep(Stateful):
    """`Stateful` at its smallest, which is what feeding one time step per batch with kept state amounts to."""

    streams: Literal[1] = 1
    bptt: Literal[1] = 1
