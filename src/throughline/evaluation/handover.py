"""Reads one carried pass in many rows at once, and still gives the exact result.

The line is cut into R strips of equal length, one per row. Every row but the first reads a warm-up from zeros before its
strip. The result is that of one row if each strip begins in the state in which the previous strip ends:

    row 0   |---- strip 0 ----|            begins from zeros, as the pass does
    row 1              ~~~~~~~|---- strip 1 ----|      ~ warm-up
                              ^ the hand-over: is the state after the warm-up the one that row 0 ends in?

If the memory of a network fades, most hand-overs agree after the warm-up. The strips that disagree are read again, all at
once, each from the end of the previous strip. A strip is read again only until its state equals the state of the first
reading, because from there on everything is the same. If the memory does not fade, reading again does not help. The rest is
then read in one row.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from throughline.batches.batch import Batch, read
from throughline.batches.carry import State
from throughline.data.line import Line
from throughline.evaluation.protocol import TOKENS_PER_BATCH, Evaluation
from throughline.evaluation.readings import Scores
from throughline.regimes import Cut
from throughline.regimes.stateful import Every

PASSES = 3
"""The largest number of times that strips are read again side by side."""

Score = Callable[[Batch, "State | None"], tuple[Scores, State]]


class Totals(NamedTuple):
    """Sums over all targets of a line.

    Attributes:
        nll: in nats.
        correct: number of targets that are the likeliest step; None if the head has no likeliest step.
        read_again: number of targets read again, once per further reading, without the warm-up.
        in_one_row: number of these that were read in one row.
    """

    nll: float
    correct: int | None
    read_again: int = 0
    in_one_row: int = 0


def carried_totals(
    score: Score, line: Line, evaluation: Evaluation, device: torch.device, advance: Callable[[int, int], None]
) -> Totals:
    """Score every target of the line as one carried pass does.

    Args:
        score: reads a batch from a state; None is zeros.
        line: the split.
        evaluation: gives the number of rows and the warm-up.
        device: the device to read on.
        advance: is called with the number of targets just read, and the number still to be read in addition to the line.
    """
    strips = Strips(score, line, evaluation, device, advance)
    strips.read_all()
    pending, again = strips.handed_over_wrongly(), 0
    for _ in range(PASSES):
        before = len(pending)
        if not before:
            break
        pending, targets = strips.read_again(pending)
        again += targets
        if len(pending) > before // 2:  # the memory does not fade: further passes would cost more than they save
            break
    alone = strips.read_in_one_row(pending)
    strips.read_tail()
    nll, correct = strips.nll.sum().item(), strips.correct
    return Totals(nll, None if correct is None else int(correct.sum()), again + alone, alone)


class Strips:
    """The strips of a line, with their nll per span and their states.

    A strip is read in blocks, and read again up to a mark. So sums are kept for the spans between marks: block 0, block 1,
    blocks 2 and 3, blocks 4 to 7, ... A line of any length has few of them.

    Attributes:
        edges: (R + 1,) the beginnings of the strips, and the end of the last one; the targets after it are the tail.
        bounds: (K + 1,) columns at which the blocks of every strip begin and end.
        nll, correct: (spans + 1, R) sums per span; the last row holds the tail.
        marks: the states (L, R, ...) after some of the blocks: the 1st, 2nd, 4th, 8th, ... and the last.
    """

    def __init__(
        self, score: Score, line: Line, evaluation: Evaluation, device: torch.device, advance: Callable[[int, int], None]
    ) -> None:
        self.score, self.line, self.device, self.advance = score, line, device, advance
        self.warmup = evaluation.warmup
        rows = max(1, min(evaluation.streams, line.num_targets // (4 * max(1, self.warmup))))
        self.edges = np.arange(rows + 1) * (line.num_targets // rows)
        steps = max(1, TOKENS_PER_BATCH // rows)
        self.bounds = Every(steps, steps, int(self.edges[1]))
        last = len(self.bounds) - 2
        self.nll = torch.zeros(last.bit_length() + 2, rows, dtype=torch.float64)
        self.correct: Tensor | None = torch.zeros(last.bit_length() + 2, rows, dtype=torch.int64)
        self.marks: dict[int, State] = dict.fromkeys([*(2**power - 1 for power in range(last.bit_length())), last], ())

    @property
    def ends(self) -> State:
        """The states after the strips."""
        return self.marks[len(self.bounds) - 2]

    def read_all(self) -> None:
        """Read every strip: the first from zeros, the others from a warm-up."""
        state: State | None = None
        if len(self.edges) > 2:
            start, steps = self.edges[1:-1] - self.warmup, max(1, TOKENS_PER_BATCH // len(self.edges))
            for first in range(0, self.warmup, steps):
                _, state = self._block(start + first, min(steps, self.warmup - first), state)
            state = state and tuple(torch.cat([torch.zeros_like(s[:, :1]), s], dim=1) for s in state)
        self.begins = state
        for k in range(len(self.bounds) - 1):
            state = self._read(k, slice(None), state)
            if k in self.marks:
                self.marks[k] = state
            self.advance(len(self.edges[:-1]) * (self.bounds[k + 1] - self.bounds[k]), 0)

    def handed_over_wrongly(self) -> np.ndarray:
        """The strips that did not begin in the state in which the previous strip ended."""
        rows = np.arange(1, len(self.edges) - 1)
        if self.begins is not None and len(rows):
            rows = rows[~alike(rows_of(self.begins, rows), rows_of(self.ends, rows - 1))]
        return rows

    def read_again(self, rows: np.ndarray) -> tuple[np.ndarray, int]:
        """Read strips once more, each from the end of the previous strip.

        Returns:
            The strips that still do not begin in the state in which the previous strip ends, and the number of targets read.
        """
        state, targets = rows_of(self.ends, rows - 1), 0
        for k in range(len(self.bounds) - 1):
            state = self._read(k, rows, state)
            targets += len(rows) * (self.bounds[k + 1] - self.bounds[k])
            if k in self.marks:
                same = alike(state, rows_of(self.marks[k], rows))
                rows, state = rows[~same], rows_of(state, np.flatnonzero(~same))
                self.marks[k] = with_rows(self.marks[k], rows, state)
                if not len(rows):
                    break
        return rows[rows < len(self.edges) - 2] + 1, targets

    def read_in_one_row(self, pending: np.ndarray) -> int:
        """Read strips in order, from the first of `pending` on, as long as states still change.

        Returns:
            The number of targets read.
        """
        waiting, length, targets = set(pending.tolist()), int(self.edges[1]), 0
        for row in range(min(waiting, default=0), len(self.edges) - 1 if waiting else 0):
            if row not in waiting:
                continue
            self.advance(0, length)
            state = rows_of(self.ends, np.array([row - 1]))
            self._forget(slice(None), row)
            for first in range(0, length, TOKENS_PER_BATCH):
                steps = min(TOKENS_PER_BATCH, length - first)
                scores, state = self._block(self.edges[[row]] + first, steps, state)
                self._add(0, row, scores)
                self.advance(steps, 0)
            targets += length
            if not alike(state, rows_of(self.ends, np.array([row]))).all():
                waiting.add(row + 1)
            last = len(self.bounds) - 2
            self.marks[last] = with_rows(self.ends, np.array([row]), state)
        return targets

    def read_tail(self) -> None:
        """Read the targets after the last strip; there are fewer of them than strips."""
        first = int(self.edges[-1])
        steps = self.line.num_targets - first
        if steps:
            scores, _ = self._block(np.array([first]), steps, rows_of(self.ends, np.array([-1])))
            self._add(-1, 0, scores)
            self.advance(steps, 0)

    def _read(self, k: int, rows: "np.ndarray | slice", state: State | None) -> State:
        """Read block k of some strips; its scores take the place of earlier ones, from the beginning of its span on."""
        first, last = self.bounds[k], self.bounds[k + 1]
        scores, state = self._block(self.edges[:-1][rows] + first, last - first, state)
        span = k.bit_length()
        if k in (0, 2 ** (span - 1)):
            self._forget(span, rows)
        self._add(span, rows, scores)
        return state

    def _block(self, start: np.ndarray, steps: int, state: State | None) -> tuple[Scores, State]:
        full = np.full(len(start), steps)
        cut = Cut(start, full, full, np.zeros(len(start), bool))
        return self.score(read(cut, self.line).to(self.device), state)

    def _forget(self, span: "int | slice", rows: "np.ndarray | slice | int") -> None:
        self.nll[span, rows] = 0.0
        if self.correct is not None:
            self.correct[span, rows] = 0

    def _add(self, span: int, rows: "np.ndarray | slice | int", scores: Scores) -> None:
        self.nll[span, rows] += _by_row(scores.nll.double() if scores.nll.device.type != "mps" else scores.nll, rows)
        if scores.correct is None:
            self.correct = None
        elif self.correct is not None:
            self.correct[span, rows] += _by_row(scores.correct, rows)


def _by_row(values: Tensor, rows: "np.ndarray | slice | int") -> Tensor:
    sums = values.sum(dim=1).cpu()
    return sums[0] if isinstance(rows, int) else sums


def rows_of(state: State, rows: np.ndarray) -> State:
    """Some rows of a state."""
    return tuple(s[:, rows] for s in state)


def with_rows(state: State, rows: np.ndarray, new: State) -> State:
    """A state with some of its rows replaced."""
    state = tuple(s.clone() for s in state)
    for s, n in zip(state, new, strict=True):
        s[:, rows] = n
    return state


def alike(first: State, second: State) -> np.ndarray:
    """Whether two states differ by rounding alone, per row (B,); a nan makes them different."""
    same = np.ones(first[0].shape[1], dtype=bool)
    for a, b in zip(first, second, strict=True):
        limit = 100 * torch.finfo(b.dtype).eps * b.abs().clamp(min=1.0) if b.is_floating_point() else 0
        same &= ((a - b).abs() <= limit).transpose(0, 1).flatten(1).all(dim=1).cpu().numpy()
    return same
