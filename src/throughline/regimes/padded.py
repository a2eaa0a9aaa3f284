"""Whole sequences, shuffled, and padded to the longest of their batch: the usual advice to people who ask."""

from typing import ClassVar, Literal

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Plan, Regime
from throughline.regimes.segments import Pieces, cut_every
from throughline.settings import STRICT, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Padded(Regime):
    """`batch_size` sequences per batch, each from zeros; a sequence over `max_length` is read in pieces of that length.

    Sequences of similar length share a batch: the random order is cut into pools of `bucket` batches, and each pool is
    sorted by length. Padding carries no loss. With `padding=pre` the network reads the padding (as the unknown symbol)
    before the sequence. This is left-padding without a recurrent mask. A mask would make it the same as `post`.
    """

    apart: ClassVar[bool] = True

    batch_size: PositiveInt = 32
    """Sequences per batch."""
    max_length: PositiveInt = 256
    """Longer sequences are read in pieces of this length."""
    padding: Literal["pre", "post"] = "post"
    """The place of padding: before a sequence (`pre`) or after it (`post`)."""
    bucket: PositiveInt = 32
    """Batches whose sequences are sorted by length together. Raise it if much of the input is padding."""

    @property
    def shape(self) -> tuple[int, int]:
        return self.batch_size, self.max_length

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        edges = cut_every(self.max_length, np.concatenate([[0], line.ends]))
        start, length = edges[:-1], np.diff(edges)
        rng = np.random.default_rng((seed, epoch))
        order, pool = rng.permutation(len(start)), self.batch_size * self.bucket
        pools = [order[i : i + pool] for i in range(0, len(order), pool)]
        order = np.concatenate([piece[np.argsort(length[piece], kind="stable")] for piece in pools])
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        return Pieces(start, length, [batches[i] for i in rng.permutation(len(batches))], self.padding == "pre")
