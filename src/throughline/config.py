"""The settings of a training run. Nothing here imports torch."""

import math
from collections.abc import Mapping
from dataclasses import asdict, field
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.model.optimizers import Optimizer
from throughline.model.settings import Head, Model
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.settings import STRICT, Fraction, Positive, PositiveInt, Probability, plain

Precision = Literal["32-true", "64-true", "bf16-mixed"]


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """The learning rate as a factor of `optimizer.lr`, over the share of the budget that is spent."""

    name: Literal["constant", "cosine"]
    warmup: Probability = 0.0
    """The share of the budget over which the rate rises from 0."""
    floor: Fraction = 0.0
    """The factor at the end of a cosine."""

    def factor(self, spent: float) -> float:
        """The factor at `spent` in [0, 1]: linear up to 1 over `warmup`, then level or half a cosine down to `floor`."""
        if spent < self.warmup:
            return max(spent / self.warmup, 0.01)
        if self.name == "constant":
            return 1.0
        rest = min((spent - self.warmup) / (1.0 - self.warmup), 1.0)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * rest))


@dataclass(frozen=True, config=STRICT)
class Budget:
    """When a run ends: at whichever of these comes first."""

    DEFAULT_EPOCHS: ClassVar[int] = 5

    tokens: PositiveInt | None = None
    """Targets trained on."""
    seconds: Positive | None = None
    """Of training; validation and checkpoints are not counted."""


@dataclass(frozen=True, config=STRICT)
class Trainer:
    """How the Lightning Trainer runs, under its own names where it has them."""

    max_epochs: PositiveInt | None = None
    """None: as many as the budget allows, or 5 where there is no budget either."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt = 1
    """Processes, each with its share of the rows of every batch."""
    precision: Precision | Literal["auto"] = "auto"
    """auto: bf16-mixed on a CPU that multiplies it faster, else 32-true."""
    gradient_clip_val: Positive | None = 1.0
    accumulate_grad_batches: PositiveInt = 1
    val_check_interval: PositiveInt | None = None
    """In batches. None: at the end of each epoch and of the run."""
    val_checks: PositiveInt | None = None
    """Validations over the whole budget: check k of n comes when (k / n)^2 of it is spent."""
    checkpoint_seconds: Positive = 300.0
    log_every_n_steps: PositiveInt = 50
    num_workers: Annotated[int, Field(ge=0)] = 0

    def __post_init__(self) -> None:
        if self.val_check_interval is not None and self.val_check_interval % self.accumulate_grad_batches:
            raise ValueError(
                f"val_check_interval={self.val_check_interval} comes between the batches of one update: "
                f"allowed are multiples of accumulate_grad_batches={self.accumulate_grad_batches}"
            )
        if self.accelerator == "mps" and self.devices > 1:
            raise ValueError(f"devices={self.devices}: allowed with accelerator=mps is 1")
        if self.val_check_interval is not None and self.val_checks is not None:
            raise ValueError(
                f"val_check_interval={self.val_check_interval} and val_checks={self.val_checks}: give one of them"
            )


@dataclass(frozen=True, config=STRICT)
class Numerics:
    """What happens when a loss or a gradient is not finite: the run stops, or skips up to `max_skipped` such batches."""

    on_bad_batch: Literal["stop", "skip"] = "stop"
    max_skipped: PositiveInt = 10


@dataclass(frozen=True, config=STRICT)
class Logger:
    """Where metrics go besides `metrics.csv`."""

    name: Literal["wandb", "none"] = "wandb"
    project: str = "throughline"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    init_timeout: Positive = 6.0
    """Seconds to wait for the server."""


@dataclass(frozen=True, config=STRICT)
class Sampling:
    """The passage generated when a run ends."""

    length: PositiveInt = 500
    temperature: Positive = 0.8


@dataclass(frozen=True, config=STRICT)
class Config:
    """All settings of a training run."""

    data: Source
    codec: Codec | None
    """None: the one that the source chooses."""
    model: Model
    head: Head
    regime: Regime
    optimizer: Optimizer
    schedule: Schedule
    budget: Budget
    trainer: Trainer
    numerics: Numerics
    evaluation: Evaluation
    readings: dict[str, Reading]
    """Besides `carried` and `reset`, which every run is measured by."""
    logger: Logger
    sampling: Sampling
    output_root: str
    resume: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]

    @property
    def name(self) -> str:
        return f"{self.model.name}-{self.regime.name}-s{self.seed}"

    @property
    def max_epochs(self) -> int | None:
        """`trainer.max_epochs`; without one, a run that has no budget either gets `Budget.DEFAULT_EPOCHS`."""
        if self.trainer.max_epochs is None and self.budget == Budget():
            return Budget.DEFAULT_EPOCHS
        return self.trainer.max_epochs

    @property
    def limits(self) -> dict[str, Any]:
        """The run ends at whichever of these comes first."""
        return {**asdict(self.budget), "max_epochs": self.max_epochs}

    @property
    def all_readings(self) -> list[Reading]:
        return all_readings(self.readings)

    def identity(self, corpus: Corpus) -> dict[str, Any]:
        """What two lives of one run must have in common, by the names of the fields."""
        values = self.to_plain()
        groups = {name: values[name] for name in ("model", "head", "regime", "optimizer", "schedule")}
        alike = ["precision", "gradient_clip_val", "accumulate_grad_batches"]
        if self.model.dropout:
            alike.append("devices")  # each process draws for its own rows; without dropout their number changes nothing
        trainer = {key: values["trainer"][key] for key in alike}
        data = {key: corpus.fingerprint[key] for key in ("tokens_sha256", "vocab_sha256")}
        nested = {**groups, "trainer": trainer, "data": data}
        flat = {f"{name}.{key}": value for name, group in nested.items() for key, value in group.items()}
        return {**flat, "seed": self.seed}

    def to_plain(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers, with a plain word for each class that YAML names by `_target_`."""
        chosen = {key: plain(getattr(self, key)) for key in ("data", "head", "regime", "optimizer")}
        codec = {"name": "auto"} if self.codec is None else plain(self.codec)
        return {**asdict(self), **chosen, "model": plain(self.model, "core"), "codec": codec}


def all_readings(chosen: Mapping[str, Reading]) -> list[Reading]:
    """`carried` and `reset`, by which every generator is measured, then the others that were chosen.

    Raises:
        UserError: two have one name, or one learns while the network is trained.
    """
    readings = [Carried(), Reset(), *(reading for reading in chosen.values() if type(reading) not in (Carried, Reset))]
    for place, reading in enumerate(readings):
        others = readings[:place]
        if reading.name == "train" or any((reading.name == o.name or reading.suffix == o.suffix) for o in others):
            raise UserError(f"readings: {reading.name} is there already; give the class another name")
        if reading.while_training and reading.learns:
            raise UserError(f"readings: {reading.name} learns, so it cannot be read while the network is trained")
    return readings
