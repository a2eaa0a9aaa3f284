"""A regime is only a way to cut a line into batches. One file per regime.

A new regime needs one file here, one YAML in `conf/regime`, and one line in `tests/regimes/test_every_regime.py`. A regime
does not import torch: it returns positions, and `throughline.batches.batch` reads the steps at these positions.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from throughline.data.line import Line
from throughline.settings import word


class Cut(NamedTuple):
    """The positions of the B rows of a batch: row b reads the tokens from `start[b]` on and predicts the token after each.

    Attributes:
        start: (B,) position of the first input.
        length: (B,) number of inputs; shorter rows are padded.
        scored: (B,) number of targets with loss, counted from the end of the row.
        reset: (B,) whether the row starts from zeros; otherwise it continues from the state after the previous batch.
        pad_left: whether padding stands before the row rather than after it.
        handed: the steps after which the state is handed to the next batch; None is all of them.
        from_noise: whether rows that do not reset start from noise that looks like the carried states, instead of these.
    """

    start: np.ndarray
    length: np.ndarray
    scored: np.ndarray
    reset: np.ndarray
    pad_left: bool = False
    handed: int | None = None
    from_noise: bool = False


class Played(NamedTuple):
    """The positions of a batch, step by step: a row may play several sequences of a line that is not joined.

    Attributes:
        inputs: (B, T) position of each input; the target is the token after it.
        scored: (B, T) bool, whether the target has loss; other steps are restarts or padding.
        restart: (B, T) bool, steps after which the row is at zeros.
        reset: (B,) bool, whether the row starts from zeros.
        burn_in: the first steps, which are read without gradient, only for their state.
    """

    inputs: np.ndarray
    scored: np.ndarray
    restart: np.ndarray
    reset: np.ndarray
    burn_in: int = 0


class Plan(ABC):
    """The batches of one epoch, in reading order; item k is a pure function of (line, seed, epoch, k)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, k: int) -> Cut | Played:
        """The positions of batch k. It has no more rows than the batch before, unless all of them start from zeros."""


class Regime(ABC):
    """Cuts a line into batches; the fields of a subclass are its settings.

    Attributes:
        update_every_token: whether every token of a batch is an update; the batch then has one row.
        apart: whether `plan` keeps sequences apart that are not joined, by `Line.edges`. A subclass has to say so again.
    """

    update_every_token: ClassVar[bool] = False
    apart: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def label(self) -> str:
        """The name in folders, on the screen and in reports; a setting may follow it, to distinguish regimes of one name."""
        return self.name

    @property
    def draws_states(self) -> bool:
        """Whether rows start from noise, which each process draws for its own rows."""
        return False

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The largest number of rows and of steps per update, as shown in reports."""

    @abstractmethod
    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        """The batches of `epoch`; together they score every target of the line exactly once."""
