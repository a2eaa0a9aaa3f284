"""The line: sequences laid end to end. A regime cuts it into batches.

joined         the quick. the slow.             steps  t h e . t h e      the next sequence is predicted from this one
with ends      ana, bo                          steps  | a n a | b o |    an end symbol | before the first and after each
of frames      u v w, x y                       steps  0 u v w x y        of each, the first input is a frame of zeros

A line with ends is joined as well, or it is not. If not, each sequence is a whole: the network reads it from zeros, first
the end symbol, and predicts the end symbol last. Frames have no end symbol. The last frame of a sequence stands where the
next one begins, so a line of frames has the form of every other line; as an input, it is zeros there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from throughline.data.mapped import EndToEnd
from throughline.plumbing.errors import UserError


@dataclass(frozen=True)
class Line:
    """Sequences laid end to end: N steps; every step but the first is one of the N - 1 targets.

    Attributes:
        steps: (N,) ids, or (N, F) frames.
        ends: (S,) where each sequence ends, counted in targets; the last is N - 1. The last target of a sequence is the
            first input of the next one, so every way of cutting the line has the same N - 1 targets.
        joined: whether state is carried from a sequence to the next; otherwise each one starts from zeros.
        ended: whether sequences have beginnings of their own: the end symbol stands before the first and after each, or the
            first input of each is a frame of zeros.
        names: what each sequence is called in the data, such as the case of an event log; None if they have no names.
    """

    steps: np.ndarray
    ends: np.ndarray
    joined: bool = True
    ended: bool = False
    names: Sequence[str] | None = None

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> "Line":
        """Sequences without end symbols."""
        steps = np.concatenate(sequences) if len(sequences) else np.zeros(0, np.uint8)
        return cls(steps, cls.ends_of([len(sequence) for sequence in sequences]))

    @staticmethod
    def ends_of(lengths: Sequence[int]) -> np.ndarray:
        """(S,) the ends of sequences without end symbols; a sequence without targets has none."""
        ends = np.unique(np.minimum(np.cumsum(lengths, dtype=np.int64), sum(lengths) - 1))
        return ends[ends > 0]

    @classmethod
    def with_ends(
        cls, sequences: Sequence[np.ndarray], end: int, joined: bool = False, names: Sequence[str] | None = None
    ) -> "Line":
        """Sequences with the end symbol before the first and after each; a sequence of n steps has n + 1 targets."""
        lengths = np.fromiter(map(len, sequences), np.int64, len(sequences))
        ends = np.cumsum(lengths + 1)
        steps = np.full(
            int(ends[-1]) + 1 if len(ends) else 1, end, dtype=np.result_type(np.min_scalar_type(end), *sequences[:1])
        )
        if len(sequences):
            inner = np.ones(len(steps), dtype=bool)
            inner[0], inner[ends] = False, False
            steps[inner] = np.concatenate(sequences)
        return cls(steps, ends, joined, ended=True, names=names)

    @classmethod
    def with_openings(
        cls, sequences: Sequence[np.ndarray], size: int, joined: bool = False, names: Sequence[str] | None = None
    ) -> "Line":
        """Sequences of frames (n, F), each with a frame of zeros as its first input and n targets; empty ones are left out.

        Args:
            size: F.
        """
        there = [place for place, sequence in enumerate(sequences) if len(sequence)]
        kept = [sequences[place] for place in there]
        dtype = kept[0].dtype if kept else np.dtype(np.uint8)
        steps = np.concatenate([np.zeros((1, size), dtype), *kept])
        names = None if names is None else [names[place] for place in there]
        return cls(steps, np.cumsum([len(s) for s in kept], dtype=np.int64), joined, ended=True, names=names)

    @property
    def frames(self) -> bool:
        """Whether the steps are frames, not ids."""
        return len(self.steps.shape) > 1

    @property
    def num_targets(self) -> int:
        return len(self.steps) - 1

    @property
    def edges(self) -> np.ndarray:
        """(P + 1,) where the parts begin over whose edges no state is carried: the whole line if it is joined."""
        return np.array([0, self.num_targets]) if self.joined else np.concatenate([[0], self.ends])

    def refuse_to_join(self, part: object, name: str) -> None:
        """Refuse a regime or a reading that would carry state over the edges of this line.

        Raises:
            UserError: its class does not say that it keeps sequences apart.
        """
        if not self.joined and not vars(type(part)).get("apart", False):
            raise UserError(
                f"{name}: may carry the state from a sequence to the next; give data.joined=true, or another one"
            )

    def read(self, start: np.ndarray, length: int) -> np.ndarray:
        """Read `length` steps from each position in `start` (B,); returns (B, length).

        Positions outside the line give its first or last step.
        """
        return self.at(start[:, None] + np.arange(length))

    def at(self, positions: np.ndarray) -> np.ndarray:
        """The steps at these positions, in their shape. No other code gathers steps."""
        return self.steps.take(positions, axis=0, mode="clip")

    def as_inputs(self, steps: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """The steps at these positions as inputs: of frames, zeros where a sequence begins."""
        if not (self.frames and self.ended):
            return steps
        following = np.searchsorted(self.ends, positions)
        begins = (positions == 0) | (self.ends.take(following, mode="clip") == positions)
        return np.where(begins[..., None], steps.dtype.type(0), steps)

    @classmethod
    def end_to_end(cls, lines: "Sequence[Line]") -> "Line":
        """Several lines of one kind as one."""
        if lines[0].ended:  # the last step of a line is the first of the next one
            first = np.cumsum([0, *(line.num_targets for line in lines)])
            steps = np.concatenate([lines[0].steps[:1], *(line.steps[1:] for line in lines)])
            ends = [start + line.ends for line, start in zip(lines, first, strict=False)]
            names = None if lines[0].names is None else [name for line in lines for name in line.names or ()]
            return cls(steps, np.concatenate(ends), lines[0].joined, ended=True, names=names)
        arrays = [line.steps for line in lines]
        bounds = [0]  # of sequences, in steps: the last one of a line ends with it
        for line in lines:
            bounds += [*(np.asarray(line.ends[:-1]) + bounds[-1]).tolist(), bounds[-1] + len(line.steps)]
        in_memory = all(isinstance(array, np.ndarray) for array in arrays)
        whole: Any = np.concatenate(arrays) if in_memory else EndToEnd(arrays)
        return cls(whole, cls.ends_of(np.diff(bounds).tolist()))
