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
        edges = line.edges
        first = np.concatenate([[0], np.cumsum(-(-np.diff(edges) // self.stride))])
        windows = int(first[-1])
        order = np.random.default_rng((seed, epoch)).permutation(np.arange(windows, dtype=np.min_scalar_type(windows)))
        return Windows(edges, first, self.steps, self.stride, self.batch_size, self.loss == "all", order)


@plain_dataclass(frozen=True)
class Windows(Plan):
    """Windows that end every `stride` targets of a part, plus one at the part's end; `batch_size` per batch in `order`.

    Attributes:
        edges: (P + 1,) of the parts of the line over whose edges no window reaches.
        first: (P + 1,) the number of the first window of each part, and the number of windows.
        order: the windows by number.
    """

    edges: np.ndarray
    first: np.ndarray
    steps: int
    stride: int
    batch_size: int
    score_all: bool
    order: np.ndarray

    def __len__(self) -> int:
        return -(-len(self.order) // self.batch_size)

    def __getitem__(self, k: int) -> Cut:
        window = self.order[k * self.batch_size : (k + 1) * self.batch_size].astype(np.int64)
        part = np.searchsorted(self.first, window, side="right") - 1
        before = self.edges[part] + (window - self.first[part]) * self.stride
        end = np.minimum(before + self.stride, self.edges[part + 1])
        start = np.maximum(end - self.steps, self.edges[part])
        scored = end - start if self.score_all else end - before
        return Cut(start, end - start, scored, np.ones(len(window), bool))
