"""The accepted way: B contiguous streams are read in parallel and in order, and the state is handed from batch to batch.

line     a b c d e f g h i j k l m            streams=3, bptt=2

stream 0 a b c d              batch 0   batch 1
stream 1 e f g h      inputs   a b       c d
stream 2 i j k l               e f       g h
                               i j       k l
                      reset    1 1 1     0 0 0

Sequences that are not joined are played whole (see `throughline.regimes.sequences`).
"""

from dataclasses import dataclass as plain_dataclass
from dataclasses import replace
from typing import ClassVar, Literal, Protocol, Self

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.regimes import Cut, Plan, Played, Regime
from throughline.regimes.sequences import behind, beside
from throughline.settings import STRICT, PositiveInt, Probability

LONG = 24
"""The mean number of targets above which sequences are played one behind the other. Measured against one long text with
LSTM(256), 64 x 32 tokens and 2 cores, side by side and behind: 0.99 and 0.77 with 7 targets, 1.01 and 0.93 with 12, 0.99 and
0.93 with 16, 1.03 and 0.95 with 20, 0.95 and 0.96 with 26, 0.83 and 0.99 with 250."""


@dataclass(frozen=True, config=STRICT)
class Stateful(Regime):
    """`streams` strips of the line are read side by side, `bptt` steps per batch; gradients stop where a batch begins."""

    apart: ClassVar[bool] = True

    streams: PositiveInt = 64
    """Rows per batch. More rows fill a GPU, but give fewer updates from the same data. Start from 64, or 512 on a GPU."""
    bptt: PositiveInt = 32
    """Steps per batch. Gradients reach no further back. Raise it if important information lies further back."""
    bptt_start: PositiveInt | None = None
    """`bptt` of the first epoch, from which it grows by an equal factor per epoch (length warm-up). None: no growth."""
    bptt_epochs: PositiveInt = 4
    """The epochs before `bptt` is reached, with `bptt_start`."""
    rotate: bool = False
    """Shift the strips along the line by a random distance each epoch. The strips and the places where gradients stop then
    differ in every epoch. The end and the beginning of the line meet inside a stream, and the stream starts from zeros
    there. Kocher 2019 and Press 2019 measured the gain. Use it for more than a few epochs."""
    reset_probability: Probability = 0.02
    """The probability that a row starts a batch from zeros (state dropout). The network then also learns to start from an
    empty state. With 0 it sees an empty state once per epoch, and may write noise when it generates without a prompt.
    Sequences that are not joined all start from zeros anyway."""
    sequences: Literal["auto", "beside", "behind"] = "auto"
    """How sequences that are not joined are played: of like length side by side, or one behind the other. `auto` is `behind`
    if they have more than 24 targets on average, or more than `bptt`."""

    def __post_init__(self) -> None:
        if self.bptt_start is not None and self.bptt_start > self.bptt:
            raise ValueError(f"bptt_start={self.bptt_start}: bptt grows, so allowed is at most bptt={self.bptt}")

    @property
    def label(self) -> str:
        return self.name if self.streams == type(self).streams else f"{self.name}{self.streams}"

    @property
    def shape(self) -> tuple[int, int]:
        return self.streams, self.bptt

    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        grown = self.at(epoch)
        if not line.joined:
            return grown.whole(line, np.random.default_rng((seed, epoch)))
        return with_resets(grown.chunks(line, seed, epoch), self.reset_probability, seed, epoch)

    def at(self, epoch: int) -> Self:
        """The regime with the `bptt` of an epoch."""
        if self.bptt_start is None:
            return self
        share = min(epoch / self.bptt_epochs, 1.0)
        return replace(self, bptt=round(self.bptt_start * (self.bptt / self.bptt_start) ** share), bptt_start=None)

    def whole(self, line: Line, rng: np.random.Generator) -> Plan:
        """The batches of a line that is not joined."""
        long = line.num_targets > min(LONG, self.bptt) * len(line.ends)
        if self.sequences == "behind" or (self.sequences == "auto" and long):
            return behind(line, self.streams, self.bptt, rng)
        return beside(line, self.streams, self.bptt, rng)

    def chunks(self, line: Line, seed: int, epoch: int) -> Plan:
        """The batches in the order of the line; rows start from zeros only where a stream begins."""
        strips, seam = self.strips(line, seed, epoch)
        return replace(strips, bounds=Every(seam % self.bptt or self.bptt, self.bptt, strips.bounds[-1]))

    def strips(self, line: Line, seed: int, epoch: int) -> "tuple[Chunks, int]":
        """The strips as one batch, and a column at which a batch has to begin; 0 if there is none."""
        shift = int(np.random.default_rng((seed, epoch)).integers(line.num_targets)) if self.rotate else 0
        streams = min(self.streams, line.num_targets)  # each has a target; empty ones would only take memory
        edges = np.arange(streams + 1) * line.num_targets // streams
        start, length = shift + edges[:-1], np.diff(edges)
        # The column at which one of the streams passes the end of the line. A batch has to begin there.
        passes = (start < line.num_targets) & (line.num_targets < start + length)
        seam = int((line.num_targets - start)[passes][0]) if passes.any() else 0
        return Chunks(line.num_targets, start, length, np.zeros_like(length), [0, int(length.max())]), seam


class Bounds(Protocol):
    """Rising columns, from 0 to the length of the longest strip; between two of them lies a batch."""

    def __len__(self) -> int: ...

    def __getitem__(self, k: int, /) -> int: ...


@plain_dataclass(frozen=True)
class Every:
    """The bounds 0, first, first + step, first + 2 * step, ... and last; they are computed, because they may be many."""

    first: int
    step: int
    last: int

    def __len__(self) -> int:
        return 2 + max(0, -(-(self.last - self.first) // self.step))

    def __getitem__(self, k: int) -> int:
        return min(self.first + (k - 1) * self.step, self.last) if k else 0


@plain_dataclass(frozen=True)
class Chunks(Plan):
    """Strips read side by side: batch k holds the columns from `bounds[k]` to `bounds[k + 1]` of every strip.

    Attributes:
        targets: length of the line; positions wrap around it.
        start, length: (B,) of the strips.
        warmup: (B,) number of targets without loss at the beginning of each strip.
        bounds: (K + 1,) columns.
    """

    targets: int
    start: np.ndarray
    length: np.ndarray
    warmup: np.ndarray
    bounds: "Bounds"

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def __getitem__(self, k: int) -> Cut:
        first, last = self.bounds[k], self.bounds[k + 1]
        start = (self.start + first) % self.targets
        end = np.minimum(self.length, last)
        return Cut(
            start=start,
            length=np.maximum(end - first, 0),
            scored=np.maximum(end - np.maximum(self.warmup, first), 0),
            reset=(start == 0) | (k == 0),
        )


def with_resets(plan: Plan, probability: float, seed: int, epoch: int) -> Plan:
    """The plan in which each row of a batch also starts from zeros with this probability."""
    return RandomResets(plan, probability, seed, epoch) if probability else plan


@plain_dataclass(frozen=True)
class RandomResets(Plan):
    """The batches of another plan, in which each row may start from zeros instead of the carried state."""

    plan: Plan
    probability: float
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, k: int) -> Cut | Played:
        cut = self.plan[k]
        draws = np.random.default_rng((self.seed, self.epoch, k)).random(len(cut.reset))
        return cut._replace(reset=cut.reset | (draws < self.probability))
