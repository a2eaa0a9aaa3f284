"""Dropout, also where the rows of a batch are read in several threads: its masks are then drawn for the whole batch.

Each thread takes its rows of the same masks, so what is dropped depends neither on the number of threads nor on their pace.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch.nn.functional as F
from torch import Tensor


class Masks:
    """The masks of one batch, in the order in which they are needed; the thread that comes first draws the next one.

    Args:
        rows: B of the whole batch.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._drawn: list[Tensor] = []
        self._lock = threading.Lock()

    def get(self, number: int, like: Tensor, shape: Sequence[int], probability: float) -> Tensor:
        """Mask `number`; all threads ask for the same ones in the same order."""
        with self._lock:
            if number == len(self._drawn):
                self._drawn.append(F.dropout(like.new_ones(shape), probability))
            return self._drawn[number]


class _Here(threading.local):
    """The rows that this thread reads; all of them if `masks` is None."""

    masks: Masks | None = None
    rows = slice(None)
    taken = 0


_here = _Here()


@contextmanager
def some_rows(masks: Masks, rows: slice) -> Iterator[None]:
    """Inside this block, this thread reads a slice of the rows for which the masks are drawn."""
    _here.masks, _here.rows, _here.taken = masks, rows, 0
    try:
        yield
    finally:
        _here.masks = None


def reads_some_rows() -> bool:
    """Whether this thread reads only some rows of a batch."""
    return _here.masks is not None


def dropped(x: Tensor, probability: float, training: bool, variational: bool = False) -> Tensor:
    """Steps (T, B, ...) after dropout: with a mask for each step, or one mask for all of them (Gal 2016)."""
    if not (training and probability):
        return x
    if _here.masks is None:
        return x * F.dropout(x.new_ones(1, *x.shape[1:]), probability) if variational else F.dropout(x, probability)
    shape = 1 if variational else x.shape[0], _here.masks.rows, *x.shape[2:]
    return x * _next(x, shape, probability)[:, _here.rows]


def dropped_weight(weight: Tensor, probability: float, training: bool) -> Tensor:
    """A weight with some of its elements zero in the whole batch."""
    if not (training and probability):
        return weight
    return weight * mask_of_weights(weight, weight.shape, probability)


def mask_of_weights(like: Tensor, shape: Sequence[int], probability: float) -> Tensor:
    """A mask that all rows have in common."""
    if _here.masks is None:
        return F.dropout(like.new_ones(shape), probability)
    return _next(like, shape, probability)


def _next(like: Tensor, shape: Sequence[int], probability: float) -> Tensor:
    assert _here.masks is not None
    _here.taken += 1
    return _here.masks.get(_here.taken - 1, like, shape, probability)
