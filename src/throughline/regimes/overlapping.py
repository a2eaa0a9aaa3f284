"""`stateful` with gradients that reach further back than a batch advances: k2 > k1 (Williams and Peng 1990; Sutskever 2013).

line     a b c d e f g h i          one stream, bptt=4, advance=2

batch 0  a b      -> c d            what is scored stands at the end of a row
batch 1  a b c d  ->     d e        read again, for the gradient alone
batch 2      c d e f  ->     f g    begins from the state after b, which batch 1 has handed over

With `bptt = advance` it is `stateful`. There, gradients from the first step of a batch reach back no step at all; here, from
every step at least `bptt - advance` steps. The price is that each step is read `bptt / advance` times.
"""

from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan
from throughline.regimes.stateful import Chunks, Every, Stateful
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Overlapping(Stateful):
    """Each batch scores the next `advance` targets of every stream; gradients reach at least `bptt - advance` steps back.

    The state at the beginning of a batch was computed by the weights of an earlier update, as in every truncated BPTT.
    """

    bptt: PositiveInt = 64
    """k2: steps per batch, and the furthest that a gradient reaches back."""
    advance: PositiveInt = 32
    """k1: the steps by which the next batch begins later, and the targets of each stream that a batch scores."""
    rotate: Literal[False] = False
    """Always false: a stream would meet the end of the line inside an overlap."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.advance > self.bptt:
            raise ValueError(f"advance={self.advance}: leaves steps without a gradient; allowed is at most bptt={self.bptt}")
        if self.bptt_start is not None and self.bptt_start < self.advance:
            raise ValueError(f"bptt_start={self.bptt_start}: allowed is at least advance={self.advance}")

    def chunks(self, line: Line, seed: int, epoch: int) -> Plan:
        strips, _ = self.strips(line, seed, epoch)
        chunks = replace(strips, bounds=Every(self.advance, self.advance, strips.bounds[-1]))
        return Overlaps(chunks, self.bptt - self.advance)


@plain_dataclass(frozen=True)
class Overlaps(Plan):
    """Chunks, each with the `overlap` steps before it, which are read again without loss."""

    chunks: Chunks
    overlap: int

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, k: int) -> Cut:
        first, last = self.chunks.bounds[k], self.chunks.bounds[k + 1]
        begin, following = max(0, first - self.overlap), max(0, last - self.overlap)
        cut, steps = self.chunks[k], first - begin
        return Cut(
            start=cut.start - steps,
            length=cut.length + steps,
            scored=cut.scored,
            reset=np.full(len(cut.start), begin == 0),
            handed=None if k + 1 == len(self) else following - begin,
        )
