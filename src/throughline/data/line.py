"""What a regime cuts: sequences laid end to end."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """Sequences laid end to end: N steps, whose N - 1 targets are all steps but the first.

    Attributes:
        steps: (N,) ids.
        ends: (S,) where each sequence ends, counted in targets; the last is N - 1. The last target of a sequence is the
            first step of the next one, so every way of cutting the line has the same N - 1 targets.
    """

    steps: np.ndarray
    ends: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray]) -> "Line":
        steps = np.concatenate(sequences)
        ends = np.minimum(np.cumsum([len(s) for s in sequences]), len(steps) - 1)
        return cls(steps, np.unique(ends))

    @property
    def num_targets(self) -> int:
        return len(self.steps) - 1

    def read(self, start: np.ndarray, length: int) -> np.ndarray:
        """`length` steps from each of the positions `start` (B,): (B, length); beyond the line its first or last step.

        The only place where steps are gathered.
        """
        return self.steps.take(start[:, None] + np.arange(length), mode="clip")

    @classmethod
    def end_to_end(cls, lines: "Sequence[Line]") -> "Line":
        """Several lines as one."""
        first = np.cumsum([0, *(len(line.steps) for line in lines)])
        ends = [start + np.append(line.ends[:-1], len(line.steps)) for line, start in zip(lines, first, strict=False)]
        steps = np.concatenate([line.steps for line in lines])
        return cls(steps, np.unique(np.minimum(np.concatenate(ends), len(steps) - 1)))
