"""A regime is only a way to cut a line into batches: one file per regime.

A new regime is one file here, one YAML in `conf/regime`, one line in `tests/regimes/test_every_regime.py`. It imports no
torch: it answers with positions, and `throughline.batches.batch` reads the steps that lie there.
"""

from abc import ABC, abstractmethod
from typing import ClassVar, NamedTuple

import numpy as np

from throughline.data.line import Line
from throughline.settings import word


class Cut(NamedTuple):
    """Where the B rows of one batch lie on the line: row b reads the tokens from `start[b]` on and predicts the ones after.

    Attributes:
        start: (B,) position of the first input.
        length: (B,) how many inputs; shorter rows are padded.
        scored: (B,) how many targets, counted from the row's end, carry loss.
        reset: (B,) whether the row starts from zeros; otherwise it goes on from the state that the batch before left.
        pad_left: whether padding stands before the row rather than after it.
    """

    start: np.ndarray
    length: np.ndarray
    scored: np.ndarray
    reset: np.ndarray
    pad_left: bool = False


class Plan(ABC):
    """The batches of one epoch in the order in which they are read: item k is a pure function of (line, seed, epoch, k)."""

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, k: int) -> Cut: ...


class Regime(ABC):
    """Cuts a line into batches; the fields of a subclass are its settings.

    Attributes:
        update_every_token: whether a batch, then of one row, stands for as many updates as it has tokens.
    """

    update_every_token: ClassVar[bool] = False

    @property
    def name(self) -> str:
        return word(type(self))

    @property
    def label(self) -> str:
        """The name in folders, on the screen and in reports, with what tells regimes of one name apart."""
        return self.name

    @property
    @abstractmethod
    def shape(self) -> tuple[int, int]:
        """The most rows and steps that one update learns from, as reports show them."""

    @abstractmethod
    def plan(self, line: Line, seed: int, epoch: int) -> Plan:
        """The batches of `epoch`; between them every target of the line is scored exactly once."""
