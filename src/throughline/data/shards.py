"""Ids of tokens in flat files, one file after the other, as the steps of a line. They stay in their files."""

import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from throughline.data.mapped import mapped
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable


@dataclass(frozen=True)
class Shard:
    """The ids in one file.

    Attributes:
        path: of the file.
        dtype: of its ids, such as "<u2".
        offset: the bytes before them.
        length: the number of ids.
        stamp: the size, time of change and inode of the file when it was checked.
    """

    path: str
    dtype: str
    offset: int
    length: int
    stamp: tuple[int, int, int]

    @cached_property
    def array(self) -> np.ndarray:
        """Its ids; only the pages that are used are read."""
        self.refuse_changed()
        return mapped(self.path, self.dtype, self.offset, (self.length,))

    @property
    def ids(self) -> np.ndarray:
        """Its ids, if the file is still as it was: the system would end a process that reads beyond the end of a file.

        Raises:
            UserError: it has changed, or is not there any more.
        """
        self.refuse_changed()
        return self.array

    def refuse_changed(self) -> None:
        """Refuse a file that is not the one that was checked.

        Raises:
            UserError: it has changed, or is not there any more.
        """
        try:
            now = stamp(self.path)
        except OSError as error:
            raise UserError(f"{printable(self.path)}: {error.strerror}; a run needs the file until it ends") from None
        if now != self.stamp:
            raise UserError(f"{printable(self.path)}: has changed while it is in use; start again with the file as it is")

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in vars(self).items() if key != "array"}  # pickled by path, never as a copy


def stamp(path: str) -> tuple[int, int, int]:
    """What changes when a file does: its size, the time of its last change, and its inode."""
    found = os.stat(path)  # noqa: PTH116  # for every batch, and three times as fast as by Path
    return found.st_size, found.st_mtime_ns, found.st_ino


@dataclass(frozen=True)
class Shards:
    """Steps (N,), read from files when they are asked for: id i of a file is step i + 1, since 0 is the unknown symbol.

    Attributes:
        files: the shards, in order.
        dtype: of the steps.
        start, stop: the part of all ids that these steps are.
    """

    files: Sequence[Shard]
    dtype: np.dtype[Any]
    start: int
    stop: int

    @classmethod
    def of(cls, files: Sequence[Shard], dtype: Any) -> "Shards":
        """All ids of these files."""
        return cls(files, np.dtype(dtype), 0, sum(file.length for file in files))

    @cached_property
    def first(self) -> list[int]:
        """Where each file begins."""
        return [0, *accumulate(file.length for file in self.files)][:-1]

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, part: Any) -> Any:
        """A part, which is not read yet; or a single step."""
        if not isinstance(part, slice):
            return self.take(np.asarray(range(len(self))[part]))[()]
        start, stop, step = part.indices(len(self))
        assert step == 1, "only whole parts stay in their files"
        return replace(self, start=self.start + start, stop=self.start + max(start, stop))

    def pieces(self) -> Iterator[tuple[Shard, int, np.ndarray]]:
        """The ids of each file that these steps are read from, with the file and the place of the first of them in it."""
        for file, first in zip(self.files, self.first, strict=True):
            begin, end = max(self.start - first, 0), min(self.stop - first, file.length)
            if begin < end:
                yield file, begin, file.ids[begin:end]

    def take(self, positions: np.ndarray, axis: None = None, mode: Literal["clip"] = "clip") -> np.ndarray:
        """The steps at these positions, in their shape; positions outside give the first or the last one."""
        places = np.clip(positions, 0, len(self) - 1) + self.start
        low, high = (bisect_right(self.first, int(place)) - 1 for place in (places.min(), places.max()))
        if low == high:
            return self._steps(self.files[low].ids.take(places - self.first[low]))
        number = np.searchsorted(self.first, places, side="right") - 1
        ids = np.empty(places.shape, np.uint32)
        for file in np.unique(number).tolist():
            there = number == file
            ids[there] = self.files[file].ids.take(places[there] - self.first[file])
        return self._steps(ids)

    def _steps(self, ids: np.ndarray) -> np.ndarray:
        steps: np.ndarray = ids.astype(self.dtype) + self.dtype.type(1)
        return steps

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """A copy in memory."""
        pieces = [self._steps(ids) for _, _, ids in self.pieces()]
        return np.concatenate([np.zeros(0, self.dtype), *pieces]).astype(dtype or self.dtype, copy=False)

    def tolist(self) -> list[int]:
        found: list[int] = np.asarray(self).tolist()
        return found

    @property
    def shape(self) -> tuple[int]:
        return (len(self),)

    @property
    def nbytes(self) -> int:
        return len(self) * self.dtype.itemsize
