"""The line: sequences laid end to end. A regime cuts it into batches."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Line:
    """Sequences laid end to end: N steps; every step but the first is one of the N - 1 targets.

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
        """Read `length` steps from each position in `start` (B,); returns (B, length).

        Positions outside the line give its first or last step. No other code gathers steps.
        """
        return self.steps.take(start[:, None] + np.arange(length), mode="clip")

    @classmethod
    def end_to_end(cls, lines: "Sequence[Line]") -> "Line":
        """Several lines as one."""
        first = np.cumsum([0, *(len(line.steps) for line in lines)])
        ends = [start + np.append(line.ends[:-1], len(line.steps)) for line, start in zip(lines, first, strict=False)]
        steps = np.concatenate([line.steps for line in lines])
        return cls(steps, np.unique(np.minimum(np.concatenate(ends), len(steps) - 1)))
