"""How new and how varied a generated text is: its distinct n-grams, and what of it stands in the training data."""

from collections.abc import Iterator, Sequence

import numpy as np

from throughline.data.line import Line

DISTINCT = (1, 2, 3, 4)
"""The sizes of n-grams that are counted once (Li 2016, arXiv 1510.03055)."""
SEEN = (4, 8, 16, 32)
"""The sizes of n-grams that are looked for in the training data (McCoy 2023, arXiv 2111.09509)."""
PIECE = 2**22
"""The steps of the training data whose n-grams are in memory at once."""
BASE = np.uint64(0x9E3779B97F4A7C15)


def of_text(ids: np.ndarray, line: Line) -> dict[str, float]:
    """The figures of a generated text (N,), or of any other one, beside the training data.

    `distinct_n` is the number of different n-grams divided by that of all. `seen_n` is the share of n-grams that stand in
    the training data; each is compared symbol by symbol. `longest_copy` is the length of the longest run of symbols that
    stands there.
    """
    found: dict[str, float] = {}
    for n in (n for n in DISTINCT if n <= len(ids)):
        found[f"distinct_{n}"] = len(np.unique(hashes(ids, n))) / (len(ids) - n + 1)
    for n in (n for n in SEEN if n <= len(ids)):
        found[f"seen_{n}"] = float(seen(ids, line, n).mean())
    low, high = 0, len(ids)  # a run of n symbols that is there holds one of n - 1 symbols
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if seen(ids, line, middle).any() else (low, middle - 1)
    return {**found, "longest_copy": float(low)}


def of_sequences(sequences: Sequence[Sequence[int] | None], line: Line) -> dict[str, float]:
    """The figures of generated sequences with ends, as in work on molecules (Polykovskiy 2020, arXiv 1811.12823).

    `ended` is the share of sequences that came to their end, and only these are compared. `distinct` is the share of
    different ones among them, `new` the share of these that are no sequence of the training data.

    Args:
        sequences: None is one that was cut before its end.
        line: the training data.
    """
    whole = [tuple(sequence) for sequence in sequences if sequence is not None]
    ended = len(whole) / max(1, len(sequences))
    if not whole:
        return {"ended": ended}
    different = set(whole)
    lengths = {len(sequence) for sequence in different}
    known = set()
    for first, last in zip([0, *line.ends[:-1].tolist()], line.ends.tolist(), strict=True):
        if last - first - 1 in lengths:
            known.add(tuple(np.asarray(line.steps[first + 1 : last]).tolist()))
    new = sum(sequence not in known for sequence in different) / len(different)
    return {"ended": ended, "distinct": len(different) / len(whole), "new": new}


def seen(ids: np.ndarray, line: Line, n: int) -> np.ndarray:
    """Which of the n-grams of the ids stand in the line, (N - n + 1,) bool."""
    wanted = hashes(ids, n)
    found = np.zeros(len(wanted), bool)
    for steps in _pieces(line, n):
        own = hashes(steps, n)
        order = np.argsort(own, kind="stable")
        place = np.searchsorted(own[order], wanted).clip(max=len(own) - 1)
        there = order[place]
        alike = np.flatnonzero((own[there] == wanted) & ~found)
        for k in range(0, len(alike), PIECE // n + 1):  # equal hashes are no proof
            part = alike[k : k + PIECE // n + 1]
            steps_there = steps[there[part, None] + np.arange(n)]
            found[part] = (steps_there == ids[part[:, None] + np.arange(n)]).all(axis=1)
    return found


def _pieces(line: Line, n: int) -> Iterator[np.ndarray]:
    """The steps of the line in pieces that overlap, so that each n-gram is whole in one of them."""
    for first in range(0, len(line.steps), PIECE):
        steps = np.asarray(line.steps[first : first + PIECE + n - 1])
        if len(steps) >= n:
            yield steps


def hashes(ids: np.ndarray, n: int) -> np.ndarray:
    """A number for each n-gram (N - n + 1,): the same for the same one, and with high probability for no other."""
    with np.errstate(over="ignore"):
        power, span, total = BASE, ids.astype(np.uint64) * BASE + np.uint64(1), None
        size, done = 1, 0
        factor = np.uint64(1)
        while n:
            if n & 1:
                part = span[done:]
                total = part if total is None else total[: len(part)] * power + part[: len(total)]
                factor = factor * power
                done += size
            n >>= 1
            if n:
                span = span[:-size] * power + span[size:]
                power, size = power * power, 2 * size
        assert total is not None
        return total
