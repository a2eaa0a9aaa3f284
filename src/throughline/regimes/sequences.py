"""Plans for a line that is not joined: each row plays whole sequences, from zeros and the end symbol to the end symbol.

Short sequences, `beside`: sequences of like length stand side by side, as many as fill a batch. Rows that have ended leave.

    | a n a            batch 0    | a n    batch 1    a       the row of "bo" has ended with batch 1
    | b o                         | b o               -
                       reset      1 1                 0

Long sequences, `behind`: a row plays one sequence behind the other. Between two of them lies a step that closes all gates
(x), so the state is zeros after it. It costs one step per sequence, where padding to the end of a batch costs bptt / 2.

    | a n a x | b o    batch 0    | a n a x    batch 1    | b o
"""

import heapq
import itertools
from dataclasses import dataclass as plain_dataclass

import numpy as np

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Played

POOL = 64
"""Batches whose sequences are sorted by length together. More of them mean less padding, and less chance in what meets."""

MOST_PADDING = 0.05
"""The share of padding in a batch above which a group of short sequences ends. A lower one means smaller batches."""


@plain_dataclass(frozen=True)
class Beside(Plan):
    """Groups of sequences of like length, each read from its first step to its last in batches of up to `bptt` steps.

    Attributes:
        start, length: (S,) targets of each sequence, ordered by groups, and within a group from the longest to the shortest.
        group: (K,) where the group of each batch begins, as a number of a sequence.
        size: (K,) number of sequences of the group.
        first, last: (K,) the columns of each batch.
    """

    start: np.ndarray
    length: np.ndarray
    group: np.ndarray
    size: np.ndarray
    first: np.ndarray
    last: np.ndarray

    def __len__(self) -> int:
        return len(self.group)

    def __getitem__(self, k: int) -> Cut:
        first, last = self.first[k], self.last[k]
        rows = slice(self.group[k], self.group[k] + self.size[k])
        there = self.length[rows] > first  # the first rows, because they are the longest
        length = np.minimum(self.length[rows][there], last) - first
        return Cut(self.start[rows][there] + first, length, length, np.full(len(length), first == 0))


def beside(line: Line, streams: int, bptt: int, rng: np.random.Generator | None) -> Beside:
    """The sequences of a line side by side, in batches of about `streams` x `bptt` targets.

    Args:
        streams: rows of sequences that are longer than `bptt`; shorter ones get more rows.
        bptt: steps per batch.
        rng: shuffles; None keeps all sequences in one pool, for the least padding.
    """
    start, length = line.edges[:-1], np.diff(line.edges)
    order, pool = np.arange(len(start)), np.zeros(len(start), int)
    if rng is not None:
        order = rng.permutation(len(start))
        pool = np.cumsum(length[order]) // (POOL * streams * bptt)
    # Neighbouring pools are sorted in opposite directions, so that a group may lie in two of them.
    order = order[np.lexsort((length[order] * np.where(pool % 2, 1, -1), pool))]
    start, length = start[order], length[order]
    groups = _groups(length, streams, bptt)
    within = np.concatenate([first + np.argsort(-length[first:last], kind="stable") for first, last in groups])
    start, length = start[within], length[within]
    if rng is not None:
        groups = [groups[i] for i in rng.permutation(len(groups))]
    batches = []
    for first, last in groups:
        longest = int(length[first])
        columns = np.linspace(0, longest, -(-longest // bptt) + 1).astype(int)  # alike, so that no batch is thin
        batches += [(first, last - first, *ends) for ends in itertools.pairwise(columns)]
    return Beside(start, length, *np.array(batches, int).T)


def _groups(length: np.ndarray, streams: int, bptt: int) -> list[tuple[int, int]]:
    """Where groups of sequences begin and end: as many as fill a batch with their first `bptt` steps.

    A group of short sequences ends earlier where it is half full, or has an eighth of a small set, and further ones would
    bring much padding.
    """
    groups, first, least = [], 0, min(streams * bptt // 2, int(length.sum()) // 8)
    while first < len(length):
        rows = max(1, streams * bptt // min(int(length[first]), bptt))
        if length[first] <= bptt:
            longest = np.maximum.accumulate(length[first : first + rows])
            read = longest * np.arange(1, len(longest) + 1)
            padding = read - np.cumsum(length[first : first + rows])
            fits = (longest <= bptt) & (read <= streams * bptt)
            allowed = (padding <= MOST_PADDING * read) | (read <= least)
            rows = int(np.flatnonzero(fits & allowed)[-1]) + 1
        groups.append((first, min(first + rows, len(length))))
        first += rows
    return groups


@plain_dataclass(frozen=True)
class Behind(Plan):
    """Rows that play sequences one behind the other, `bptt` columns per batch, the longest row first.

    Attributes:
        start, length: (S,) targets of each sequence, in the order in which they are played, row after row.
        place: (S,) where each sequence begins: its column, plus the number of its row times `width`.
        totals: (B,) the columns of each row; a restart stands between two sequences.
        bptt: columns per batch.
    """

    start: np.ndarray
    length: np.ndarray
    place: np.ndarray
    totals: np.ndarray
    bptt: int

    @property
    def width(self) -> int:
        return int(self.totals[0]) + 1

    def __len__(self) -> int:
        return -(-int(self.totals[0]) // self.bptt)

    def __getitem__(self, k: int) -> Played:
        first = k * self.bptt
        column = np.arange(first, min(first + self.bptt, int(self.totals[0])))
        rows = np.arange(np.count_nonzero(self.totals > first))[:, None]
        place = rows * self.width + column  # B, T
        number = np.searchsorted(self.place, place, side="right") - 1
        step, length = place - self.place[number], self.length[number]
        scored, there = step < length, column < self.totals[rows]
        return Played(
            inputs=self.start[number] + np.minimum(step, length),
            scored=scored,
            restart=there & ~scored,
            reset=step[:, 0] == 0,
        )


def behind(line: Line, streams: int, bptt: int, rng: np.random.Generator) -> Behind:
    """The sequences of a line dealt to `streams` rows of like length, in random order.

    No restart is needed where a sequence ends with a batch. So every row of a batch begins with a target.
    """
    start, length = line.edges[:-1], np.diff(line.edges)
    order, rows = rng.permutation(len(start)), min(streams, len(start))
    late = max(len(order) - 4 * rows, 0)  # of the last sequences the longest come first, so that all rows end together
    order[late:] = order[late:][np.argsort(-length[order[late:]], kind="stable")]
    row, column = np.empty((2, len(order)), int)
    ends = [(0, row) for row in range(rows)]
    for i, steps in enumerate(length[order].tolist()):
        end, row[i] = ends[0]
        column[i] = end + bool(end % bptt)
        heapq.heapreplace(ends, (int(column[i]) + steps, int(row[i])))
    totals = np.array([end for end, _ in sorted(ends, key=lambda e: e[1])])
    rank = np.argsort(np.argsort(-totals, kind="stable"), kind="stable")  # the row with the most columns becomes the first
    totals, row = -np.sort(-totals), rank[row]
    played = np.lexsort((column, row))
    order, place = order[played], (row * (totals[0] + 1) + column)[played]
    return Behind(start[order], length[order], place, totals, bptt)
