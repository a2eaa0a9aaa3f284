"""A random order of any number of things, of which any part can be asked for.

Up to `MOST` it is NumPy's own shuffle, an array. Above, an order is computed where it is needed, because an array of ten
thousand million numbers takes 80 GB. It is a Feistel network (Luby and Rackoff 1988), in the form of Black and Rogaway 2002
for sets of any size. A number is written with two digits, left and right. Each round adds a function of one digit to the
other one. This can be undone, so no two numbers become the same.
"""

from dataclasses import dataclass
from math import isqrt
from typing import Protocol

import numpy as np

MOST = 2**22
"""The largest number of things that are shuffled as an array."""
ROUNDS = 6
"""Rounds of the network. After 4 of them every digit depends on all of both; two more cost a third."""
BLOCK = 2**13
"""Numbers that are computed at once: one at a time, NumPy's calls would take a hundred times as long."""


class Permutation(Protocol):
    """An order of `len(order)` things: `order[i:j]` are the numbers of those at the places i to j."""

    def __len__(self) -> int: ...

    def __getitem__(self, places: slice) -> np.ndarray: ...


def permutation(count: int, rng: np.random.Generator) -> Permutation:
    """A random order of `count` things."""
    if count <= MOST:
        order: np.ndarray = rng.permutation(np.arange(count, dtype=np.uint32))  # half the memory, and the same order
        return order
    return Feistel(count, rng.integers(2**64, size=ROUNDS, dtype=np.uint64))


@dataclass(frozen=True)
class Feistel:
    """An order that is computed.

    Attributes:
        count: of things.
        keys: (ROUNDS,) one for each round.
    """

    count: int
    keys: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_block", (-1, np.zeros(0, np.int64)))  # the last one; it is asked for again and again

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, places: slice) -> np.ndarray:
        first, last, _ = places.indices(self.count)
        blocks = [self._of_block(number) for number in range(first // BLOCK, -(-max(last, first) // BLOCK))]
        whole: np.ndarray = blocks[0] if len(blocks) == 1 else np.concatenate([np.zeros(0, np.int64), *blocks])
        begin = first // BLOCK * BLOCK
        return whole[first - begin : max(last, first) - begin]

    def _of_block(self, number: int) -> np.ndarray:
        known, numbers = self._block  # type: ignore[attr-defined]
        if known != number:
            first = number * BLOCK
            numbers = self.at(np.arange(first, min(first + BLOCK, self.count)))
            object.__setattr__(self, "_block", (number, numbers))
        return numbers  # type: ignore[no-any-return]

    def at(self, places: np.ndarray) -> np.ndarray:
        """The numbers at these places."""
        base = isqrt(self.count - 1) + 1
        size = base * -(-self.count // base)  # a little more than `count`
        numbers = self._mixed(places.astype(np.uint64), base, size // base)
        while len(outside := np.flatnonzero(numbers >= self.count)):  # follow the cycle until it comes back inside
            numbers[outside] = self._mixed(numbers[outside], base, size // base)
        return numbers.astype(np.int64)

    def _mixed(self, numbers: np.ndarray, base: int, others: int) -> np.ndarray:
        left, right = np.divmod(numbers, np.uint64(base))
        for number, key in enumerate(self.keys):
            if number % 2:
                right = (right + _hashed(left, key) % np.uint64(base)) % np.uint64(base)
            else:
                left = (left + _hashed(right, key) % np.uint64(others)) % np.uint64(others)
        mixed: np.ndarray = left * np.uint64(base) + right
        return mixed


def _hashed(digit: np.ndarray, key: np.uint64) -> np.ndarray:
    """A number that looks random (the finalizer of splitmix64, Steele et al. 2014)."""
    x = digit * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
