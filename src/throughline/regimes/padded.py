"""Whole sequences, shuffled, and padded to the longest of their batch: the usual advice to people who ask."""

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
        pieces = Pieces.cut(np.concatenate([[0], line.ends]), self.max_length)
        rng = np.random.default_rng((seed, epoch))
        order = permutation(len(pieces), rng)
        batches = permutation(-(-len(pieces) // self.batch_size), rng)
        return Pools(pieces, order, batches, self.batch_size, self.bucket, self.padding == "pre")


@plain_dataclass(frozen=True)
class Pools(Plan):
    """Pieces in pools of `bucket` batches, sorted by length inside their pool; the batches of all pools are shuffled.

    Attributes:
        pieces: sequences, or parts of long ones; each is read from zeros.
        order: the pieces by number, pool after pool.
        batches: the batches by number.
        pad_left: whether padding stands before a short piece rather than after it.
    """

    pieces: Pieces
    order: Permutation
    batches: Permutation
    batch_size: int
    bucket: int
    pad_left: bool

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, k: int) -> Cut:
        pool, place = divmod(int(self.batches[k : k + 1][0]), self.bucket)
        size = self.batch_size * self.bucket
        # The whole pool is sorted for each of its batches: 0.1 ms, and nothing has to be stored.
        begin, end, _ = self.pieces.at(self.order[pool * size : (pool + 1) * size].astype(np.int64))
        rows = np.argsort(end - begin, kind="stable")[place * self.batch_size : (place + 1) * self.batch_size]
        start, length = begin[rows], (end - begin)[rows]
        return Cut(start, length, length, np.ones(len(rows), bool), self.pad_left)
