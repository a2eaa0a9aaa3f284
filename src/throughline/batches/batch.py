"""One batch as tensors, read off the line where a regime's cut says."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from throughline.data.corpus import Line
from throughline.data.vocab import UNKNOWN
from throughline.regimes import Cut, Plan
from throughline.training.processes import share

IGNORE_INDEX = -100
"""Stands in `targets` where nothing is predicted; PyTorch's own default."""


class Batch(NamedTuple):
    """What one training step needs to know; `reset` is born with the data and rides along.

    Attributes:
        inputs: (B, T) token ids.
        targets: (B, T) the token after each input, or `IGNORE_INDEX`.
        reset: (B,) bool, rows that start from zeros instead of the carried state.
        n_valid: how many targets are predicted; a plain number, so that counting never waits for a device.
    """

    inputs: Tensor
    targets: Tensor
    reset: Tensor
    n_valid: int


def read(cut: Cut, line: Line) -> Batch:
    """Read the tokens of `cut`: every row as long as the longest, shorter ones padded with the unknown symbol."""
    steps = int(cut.length.max())
    # Off the line there is only padding, which is replaced below.
    begin = cut.start + cut.length - steps if cut.pad_left else cut.start
    column = np.arange(steps + 1)
    tokens = line.tokens.take(begin[:, None] + column, mode="clip").astype(np.int64)  # B, T + 1
    inputs, targets = tokens[:, :-1], tokens[:, 1:]
    if (cut.scored < steps).any():
        first = (steps - cut.length if cut.pad_left else np.zeros_like(cut.length))[:, None]
        last = first + cut.length[:, None]
        unscored = last - cut.scored[:, None]
        inputs = np.where((first <= column[:-1]) & (column[:-1] < last), inputs, UNKNOWN)
        targets = np.where((unscored <= column[:-1]) & (column[:-1] < last), targets, IGNORE_INDEX)
    return Batch(
        torch.from_numpy(np.ascontiguousarray(inputs)),
        torch.from_numpy(np.ascontiguousarray(targets)),
        torch.from_numpy(cut.reset),
        int(cut.scored.sum()),
    )


def part(batch: Batch, rows: slice) -> Batch:
    """Some rows of a batch, or where there are none one that predicts nothing; `n_valid` remains that of the whole."""
    if rows.start == rows.stop:
        nothing = torch.full_like(batch.targets[:1], IGNORE_INDEX)
        return Batch(batch.inputs[:1], nothing, torch.ones_like(batch.reset[:1]), batch.n_valid)
    return Batch(batch.inputs[rows], batch.targets[rows], batch.reset[rows], batch.n_valid)


class Batches(Dataset[Batch]):
    """Batches of a plan, each a whole one: items in order for the Trainer, or by number for a loader's workers.

    Args:
        plan: the batches.
        line: what they are read off.
        numbers: which of them; all by default.
        rank, world_size: which process reads, of how many: each gets its share of the rows of every batch.
    """

    def __init__(self, plan: Plan, line: Line, numbers: range | None = None, rank: int = 0, world_size: int = 1) -> None:
        self.plan = plan
        self.line = line
        self.numbers = range(len(plan)) if numbers is None else numbers
        self.rank = rank
        self.world_size = world_size

    def __len__(self) -> int:
        return len(self.numbers)

    def __iter__(self) -> Iterator[Batch]:
        # Without it Python would take an IndexError out of a plan for the end of the data.
        for item in range(len(self)):
            yield self[item]

    def __getitem__(self, item: int) -> Batch:
        batch = read(self.plan[self.numbers[item]], self.line)
        if self.world_size == 1:
            return batch
        return part(batch, share(len(batch.reset), self.rank, self.world_size))
