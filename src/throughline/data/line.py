"""The line: sequences laid end to end. A regime cuts it into batches.

joined         the quick. the slow.             steps  t h e . t h e      the next sequence is predicted from this one
with ends      ana, bo                          steps  | a n a | b o |    an end symbol | before the first and after each

A line with ends is joined as well, or it is not. If not, each sequence is a whole: the network reads it from zeros, first
the end symbol, and predicts the end symbol last.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from throughline.plumbing.errors import UserError


@dataclass(frozen=True)
class Line:
    """Sequences laid end to end: N steps; every step but the first is one of the N - 1 targets.

    Attributes:
        steps: (N,) ids.
        ends: (S,) where each sequence ends, counted in targets; the last is N - 1. The last target of a sequence is the
            first input of the next one, so every way of cutting the line has the same N - 1 targets.
        joined: whether state is carried from a sequence to the next; otherwise each one starts from zeros.
        ended: whether the end symbol stands before the first sequence and after each.
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
        ends = np.unique(np.minimum(np.cumsum([len(s) for s in sequences], dtype=np.int64), len(steps) - 1))
        return cls(steps, ends[ends > 0])  # a sequence without targets has no end

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
        return self.steps.take(positions, mode="clip")

    @classmethod
    def end_to_end(cls, lines: "Sequence[Line]") -> "Line":
        """Several lines of one kind as one."""
        if lines[0].ended:  # the last step of a line is the first of the next one
            first = np.cumsum([0, *(line.num_targets for line in lines)])
            steps = np.concatenate([lines[0].steps[:1], *(line.steps[1:] for line in lines)])
            ends = [start + line.ends for line, start in zip(lines, first, strict=False)]
            names = None if lines[0].names is None else [name for line in lines for name in line.names or ()]
            return cls(steps, np.concatenate(ends), lines[0].joined, ended=True, names=names)
        return cls.of([sequence for line in lines for sequence in np.split(line.steps, line.ends[:-1])])
