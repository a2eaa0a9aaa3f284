"""The settings of callbacks that a run may have in addition to its own. Nothing here imports torch."""

from abc import ABC, abstractmethod
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, Fraction, NonNegative, PositiveInt, Probability


class Callback(ABC):
    """A callback of a run."""

    @property
    @abstractmethod
    def changes_weights(self) -> bool:
        """Whether a run without it would end with other weights from the same state."""


@dataclass(frozen=True, config=STRICT)
class EarlyStopping(Callback):
    """Ends the run when `val/nll` no longer falls."""

    patience: PositiveInt = 5
    """Validations in a row without a lower nll after which the run ends."""
    min_delta: NonNegative = 0.0
    """By how many nats it must fall to count."""

    @property
    def changes_weights(self) -> bool:
        return False


@dataclass(frozen=True, config=STRICT)
class Ema(Callback):
    """Validates and keeps the exponential moving average of the weights; training goes on with its own."""

    decay: Annotated[Probability, Field(gt=0)] = 0.999
    """The share of the average that stays at each update. 0.999 averages over about 1,000 updates, or all if there were
    fewer."""

    @property
    def changes_weights(self) -> bool:
        return True


@dataclass(frozen=True, config=STRICT)
class Swa(Callback):
    """Validates and keeps the mean of the weights over the end of the run (Izmailov 2018). Give `schedule=constant`."""

    start: Fraction = 0.75
    """The share of the budget after which averaging begins."""

    @property
    def changes_weights(self) -> bool:
        return True


@dataclass(frozen=True, config=STRICT)
class NtAsgd(Callback):
    """Validates and keeps the mean of the weights since `val/nll` stopped falling: NT-ASGD (Merity 2017, arXiv 1708.02182).

    Give `optimizer=sgd schedule=constant`, whose rate stays. Once averaging has begun, it does not end.
    """

    patience: PositiveInt = 5
    """Averaging begins when `val/nll` is above the lowest of all validations but the last so many."""

    @property
    def changes_weights(self) -> bool:
        return True


@dataclass(frozen=True, config=STRICT)
class LrMonitor(Callback):
    """Logs the learning rate at every update, not only in the rows of `metrics.csv`, to the loggers."""

    @property
    def changes_weights(self) -> bool:
        return False


@dataclass(frozen=True, config=STRICT)
class Profile(Callback):
    """Profiles some batches with PyTorch's profiler: `profile.txt` and `trace.json.gz`, for Chrome or Perfetto."""

    wait: PositiveInt = 10
    """Batches before."""
    active: Annotated[int, Field(gt=0, le=1000)] = 5
    """Batches that are profiled."""

    @property
    def changes_weights(self) -> bool:
        return False
