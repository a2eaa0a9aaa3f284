"""Overlapping windows, shuffled: each is read from zeros, and only targets that no earlier window predicts carry loss.

line     a b c d e f           steps=3, stride=1, loss=last

windows  a      -> b           the first ones are short, so that no target is left out
         a b    ->   c
         a b c  ->     d
           b c d ->      e
             c d e ->      f
"""

from dataclasses import dataclass as plain_dataclass
from typing import ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Regime
from throughline.regimes.permutation import Permutation, permutation
from throughline.regimes.segments import Pieces
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Windowed(Regime):
    """Windows of `steps` tokens, `stride` apart, `batch_size` per batch; they are stored as positions, never as copies.

    `loss=last` scores the last `stride` targets of a window, so every target once. With stride 1 this is the very last
    target. `loss=all` scores the whole window, so every target up to steps / stride times.
    """

    apart: ClassVar[bool] = True

    steps: PositiveInt = 64
    """Inputs per window. The network sees no further back."""
    stride: PositiveInt = 1
    """The distance between windows. A larger stride means less work per epoch."""
    batch_size: PositiveInt = 64
    """Windows per batch."""
    loss: Literal["last", "all"] = "last"
    """`last` scores the last `stride` targets of a window, so every target once. `all` scores all targets of a window."""

    def __post_init__(self) -> None:
        if self.stride > self.steps:
            raise ValueError(f"stride={self.stride} leaves targets out: allowed is at most steps={self.steps}")

    @property
    def shape(self) -> tuple[int, int]:
        return self.batch_size, self.steps

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        ahead = Pieces.cut(line.edges, self.stride)
        order = permutation(len(ahead), np.random.default_rng((seed, epoch)))
        return Windows(ahead, self.steps, self.batch_size, self.loss == "all", order)


@plain_dataclass(frozen=True)
class Windows(Plan):
    """Windows that end every `stride` targets of a part, plus one at the part's end; `batch_size` per batch in `order`.

    Attributes:
        ahead: the last `stride` targets of each window, which no earlier window predicts.
        order: the windows by number.
    """

    ahead: Pieces
    steps: int
    batch_size: int
    score_all: bool
    order: Permutation

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, k: int) -> Cut:
        windows = self.order[k * self.batch_size : (k + 1) * self.batch_size].astype(np.int64)
        before, end, part = self.ahead.at(windows)
        start = np.maximum(end - self.steps, part)
        scored = end - start if self.score_all else end - before
        return Cut(start, end - start, scored, np.ones(len(windows), bool))
