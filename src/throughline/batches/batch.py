"""One batch as tensors, read from the line at the positions of a regime's cut."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from throughline.data.codecs import UNKNOWN
from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Played


class Batch(NamedTuple):
    """The input of one training step; `reset` is made together with the data and travels with them.

    Attributes:
        inputs: (B, T) token ids, or (B, T, F) frames in float32.
        targets: in the same shape, the step after each input.
        scored: (B, T) bool, whether a target is scored; False for padding and for targets without loss.
        reset: (B,) bool, rows that start from zeros instead of the carried state.
        n_valid: number of scored targets; a plain number, so that counting never waits for a device.
        restart: (B, T) bool, steps after which a row is at zeros, in front of its next sequence; None if there are none.
        burn_in: the first steps, which are read without gradient and never scored.
        handed: the steps after which the state is handed to the next batch; None is all of them.
        from_noise: whether rows that do not reset start from noise instead of the carried state.
    """

    inputs: Tensor
    targets: Tensor
    scored: Tensor
    reset: Tensor
    n_valid: int
    restart: Tensor | None = None
    burn_in: int = 0
    handed: int | None = None
    from_noise: bool = False

    def to(self, device: torch.device) -> "Batch":
        return self.each(lambda part: part.to(device, non_blocking=True))

    def each(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        """The batch with each of its tensors changed; the plain values stay."""
        changed: dict[str, Any] = {name: change(part) for name, part in self._asdict().items() if isinstance(part, Tensor)}
        return self._replace(**changed)


def read(cut: Cut | Played, line: Line) -> Batch:
    """Read the steps at these positions; steps that are not part of a sequence are the unknown symbol, or zeros."""
    return _played(cut, line) if isinstance(cut, Played) else _cut(cut, line)


def _played(played: Played, line: Line) -> Batch:
    inputs, targets = line.as_inputs(line.at(played.inputs), played.inputs), line.at(played.inputs + 1)
    there = played.scored.copy()
    there[:, : played.burn_in] = ~played.restart[:, : played.burn_in]
    return Batch(
        _tensor(_where(there, inputs)),
        _tensor(_where(played.scored, targets)),
        torch.from_numpy(played.scored),
        torch.from_numpy(played.reset),
        int(played.scored.sum()),
        torch.from_numpy(played.restart) if played.restart.any() else None,
        played.burn_in,
    )


def _cut(cut: Cut, line: Line) -> Batch:
    """Shorter rows are padded with the unknown symbol to the length of the longest."""
    steps = int(cut.length.max())
    # Positions off the line are padding. The padding is replaced below.
    begin = cut.start + cut.length - steps if cut.pad_left else cut.start
    tokens = line.read(begin, steps + 1)  # B, T + 1
    inputs, targets = line.as_inputs(tokens[:, :-1], begin[:, None] + np.arange(steps)), tokens[:, 1:]
    if (cut.scored < steps).any():
        column = np.arange(steps)
        first = (steps - cut.length if cut.pad_left else np.zeros_like(cut.length))[:, None]
        last = first + cut.length[:, None]
        there = (first <= column) & (column < last)
        inputs, targets = _where(there, inputs), _where(there, targets)
        scored = there & (last - cut.scored[:, None] <= column)
    else:
        scored = np.ones(targets.shape[:2], dtype=bool)
    return Batch(
        _tensor(inputs),
        _tensor(targets),
        torch.from_numpy(scored),
        torch.from_numpy(cut.reset),
        int(cut.scored.sum()),
        handed=cut.handed,
        from_noise=cut.from_noise,
    )


def _where(there: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """The steps (B, T) or (B, T, F) where they are `there` (B, T), else padding."""
    return np.where(there if steps.ndim == 2 else there[..., None], steps, steps.dtype.type(UNKNOWN))


def _tensor(steps: np.ndarray) -> Tensor:
    return torch.from_numpy(steps.astype(np.int64 if steps.ndim == 2 else np.float32))


def rows_of_rank(rows: int, rank: int, world_size: int) -> slice:
    """The rows, out of `rows`, that belong to process `rank`: every n-th, so a row stays there when later ones leave."""
    return slice(rank, rows, world_size)


def rows_of(batch: Batch, rows: slice) -> Batch:
    """A slice of rows; an empty slice gives one row without targets. `n_valid` still counts the whole batch."""
    if not len(batch.reset[rows]):
        nothing = torch.zeros_like(batch.scored[:1])
        return batch._replace(
            inputs=batch.inputs[:1],
            targets=batch.targets[:1],
            scored=nothing,
            reset=torch.ones_like(batch.reset[:1]),
            restart=None,
        )
    return batch.each(lambda part: part[rows])


class Batches(Dataset[Batch]):
    """The batches of a plan, one item per whole batch: in order for the Trainer, or by number for a loader's workers.

    Args:
        plan: the batches.
        line: the line that they are read from.
        numbers: the numbers of the batches to read; all by default.
        rank, world_size: the reading process and the number of processes; each gets its share of the rows of every batch.
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
        # Without this method, Python would take an IndexError from a plan as the end of the data.
        for item in range(len(self)):
            yield self[item]

    def __getitem__(self, item: int) -> Batch:
        batch = read(self.plan[self.numbers[item]], self.line)
        if self.world_size == 1:
            return batch
        return rows_of(batch, rows_of_rank(len(batch.reset), self.rank, self.world_size))
