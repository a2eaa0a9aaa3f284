"""Arrays that stay in their files: a process reads only the pages that it needs."""

import math
import mmap
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable


class Mapped:
    """An array in a file, opened when it is first read; it is pickled by its path, not as a copy.

    Attributes:
        path: of the file.
        dtype, shape: of the array.
        offset: the byte of the file at which it begins.
    """

    def __init__(self, path: str, dtype: Any, shape: tuple[int, ...], offset: int = 0) -> None:
        self.path, self.dtype, self.shape, self.offset = path, np.dtype(dtype), shape, offset

    def __reduce__(self) -> tuple[Any, ...]:
        return Mapped, (self.path, self.dtype, self.shape, self.offset)

    @cached_property
    def array(self) -> np.ndarray:
        """The array itself.

        Raises:
            UserError: the file is not there any more.
        """
        if not math.prod(self.shape):  # nothing cannot be mapped
            return np.zeros(self.shape, self.dtype)
        try:
            return mapped(self.path, self.dtype, self.offset, self.shape)
        except OSError as error:
            raise UserError(f"{printable(self.path)}: {error.strerror}; a run needs the file until it ends") from None

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, part: Any) -> Any:
        return self.array[part]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.array)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.array, dtype=dtype, copy=copy)

    def take(
        self, positions: np.ndarray, axis: int | None = None, mode: Literal["raise", "wrap", "clip"] = "raise"
    ) -> np.ndarray:
        """The entries at these positions, in their shape; see np.take."""
        return self.array.take(positions, axis=axis, mode=mode)

    def tolist(self) -> list[Any]:
        values: list[Any] = self.array.tolist()
        return values


def mapped(path: str, dtype: Any, offset: int, shape: tuple[int, ...]) -> np.ndarray:
    """An array in a file, of which only the pages that are used are read."""
    array = np.memmap(path, dtype, "r", offset, shape)
    if hasattr(mmap, "MADV_RANDOM"):  # else the system reads 128 KiB around every page that is not in memory
        array._mmap.madvise(mmap.MADV_RANDOM)  # type: ignore[attr-defined]
    return np.asarray(array)


class EndToEnd:
    """Several arrays (N,) one after the other, which stay where they are."""

    def __init__(self, arrays: Sequence[Any]) -> None:
        self.arrays = arrays
        self.dtype = np.result_type(*(array.dtype for array in arrays))
        self.first = [0, *accumulate(map(len, arrays))]
        self.shape = (self.first[-1],)

    def __len__(self) -> int:
        return self.first[-1]

    def __getitem__(self, part: slice) -> np.ndarray:
        """A part, in memory."""
        start, stop, step = part.indices(len(self))
        pieces = [
            np.asarray(array[max(start - first, 0) : max(stop - first, 0)])
            for array, first in zip(self.arrays, self.first, strict=False)
        ]
        return np.concatenate([np.zeros(0, self.dtype), *pieces])[::step]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return self[:].astype(dtype or self.dtype, copy=False)

    def take(self, positions: np.ndarray, axis: None = None, mode: Literal["clip"] = "clip") -> np.ndarray:
        """The entries at these positions, in their shape; positions outside give the first or the last one."""
        places = np.clip(positions, 0, len(self) - 1)
        taken = np.zeros(places.shape, self.dtype)
        low, high = (bisect_right(self.first, int(place)) - 1 for place in (places.min(), places.max()))
        for number in range(low, high + 1):
            there = (places >= self.first[number]) & (places < self.first[number + 1])
            if there.any():
                taken[there] = self.arrays[number].take(places[there] - self.first[number])
        return taken

    def tolist(self) -> list[Any]:
        found: list[Any] = self[:].tolist()
        return found
