"""The settings of a run, and the one place where they are checked.

The fields of these classes are the only schema: YAML fills them, pydantic checks them, and nothing here imports torch, so
that a typo is answered at once. Regimes and sources are chosen by `_target_` from the classes in `throughline.regimes` and
`throughline.data.sources`; every other group has one class.
"""

import importlib
import inspect
import math
import pkgutil
from dataclasses import asdict, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from omegaconf import DictConfig, OmegaConf
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.runs.resume import run_folder, sweep_folder
from throughline.settings import STRICT, Fraction, Positive, PositiveInt, Probability

Precision = Literal["32-true", "64-true", "bf16-mixed"]

# Where the checkout lies, so that outputs do too, from whatever folder a script is called.
OmegaConf.register_new_resolver("project", lambda path: str(Path(__file__).parents[2] / path), replace=True)
OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
# Cached, since Hydra asks once for the sweep and again for each member, whose own overrides no longer tell the sweep.
OmegaConf.register_new_resolver("sweep_folder", sweep_folder, replace=True, use_cache=True)


@dataclass(frozen=True, config=STRICT)
class Model:
    """Sizes of the LSTM generator, under the names that PyTorch gives them."""

    hidden_size: PositiveInt = 256
    num_layers: PositiveInt = 1
    input: Literal["embedding", "onehot"] = "embedding"
    embedding_size: PositiveInt = 64
    dropout: Probability = 0.0
    tie_weights: bool = False
    forget_bias: float = 0.0

    def __post_init__(self) -> None:
        if self.tie_weights and (self.input != "embedding" or self.embedding_size != self.hidden_size):
            raise ValueError(
                "tie_weights needs input=embedding and embedding_size equal to hidden_size "
                f"(here input={self.input}, {self.embedding_size} and {self.hidden_size})"
            )

    @property
    def name(self) -> str:
        return f"lstm{self.hidden_size}" + (f"x{self.num_layers}" if self.num_layers > 1 else "")


@dataclass(frozen=True, config=STRICT)
class Optimizer:
    """One of PyTorch's optimizers and its arguments; `momentum` is for SGD, `betas` for the others."""

    name: Literal["Adam", "AdamW", "SGD"]
    lr: Positive
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: Annotated[list[Probability], Field(min_length=2, max_length=2)] | None = None
    momentum: Probability | None = None

    def __post_init__(self) -> None:
        foreign = "betas" if self.name == "SGD" else "momentum"
        if getattr(self, foreign) is not None:
            raise ValueError(f"{foreign} is not an argument of {self.name}")

    def arguments(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "name" and value is not None}


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """The learning rate as a factor of `optimizer.lr`, over the share of the budget that is spent."""

    name: Literal["constant", "cosine"]
    warmup: Probability = 0.0
    floor: Fraction = 0.0

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
    seconds: Positive | None = None


@dataclass(frozen=True, config=STRICT)
class Trainer:
    """How the Lightning Trainer runs, under its own names where it has them."""

    max_epochs: PositiveInt | None = None
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    devices: PositiveInt = 1
    precision: Precision | Literal["auto"] = "auto"
    gradient_clip_val: Positive | None = 1.0
    accumulate_grad_batches: PositiveInt = 1
    val_check_interval: PositiveInt | None = None
    val_checks: PositiveInt | None = None
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
class Evaluation:
    """The one protocol by which every regime is measured."""

    reset_every: PositiveInt = 256
    streams: PositiveInt = 64
    warmup: Annotated[int, Field(ge=0)] = 256
    tokens: PositiveInt | None = None


@dataclass(frozen=True, config=STRICT)
class Logger:
    """Where figures go besides `metrics.csv`."""

    name: Literal["wandb", "none"] = "wandb"
    project: str = "throughline"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    init_timeout: Positive = 6.0


@dataclass(frozen=True, config=STRICT)
class Sampling:
    """The passage generated when a run ends."""

    length: PositiveInt = 500
    temperature: Positive = 0.8


@dataclass(frozen=True, config=STRICT)
class Config:
    """Everything that a training run is told."""

    data: Source
    model: Model
    regime: Regime
    optimizer: Optimizer
    schedule: Schedule
    budget: Budget
    trainer: Trainer
    numerics: Numerics
    evaluation: Evaluation
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
        """At whichever of these comes first the run ends."""
        return {**asdict(self.budget), "max_epochs": self.max_epochs}

    def identity(self, corpus: Corpus) -> dict[str, Any]:
        """What two lives of one run must have in common, by the names of the fields."""
        plain = self.to_plain()
        groups = {name: plain[name] for name in ("model", "regime", "optimizer", "schedule")}
        alike = ["precision", "gradient_clip_val", "accumulate_grad_batches"]
        if self.model.dropout:
            alike.append("devices")  # each process draws for its own rows; without dropout their number changes nothing
        trainer = {key: plain["trainer"][key] for key in alike}
        data = {key: corpus.fingerprint[key] for key in ("tokens_sha256", "vocab_sha256")}
        nested = {**groups, "trainer": trainer, "data": data}
        flat = {f"{name}.{key}": value for name, group in nested.items() for key, value in group.items()}
        return {**flat, "seed": self.seed}

    def to_plain(self) -> dict[str, Any]:
        """The same as dicts, lists, strings and numbers."""
        plain = asdict(self)
        plain["data"] = {"name": type(self.data).__name__, **plain["data"]}
        plain["regime"] = {"name": self.regime.name, **plain["regime"]}
        return plain


@dataclass(frozen=True, config=STRICT)
class EvaluateConfig:
    """What `src/evaluate.py` is told."""

    checkpoint: str
    data: Source
    evaluation: Evaluation


@dataclass(frozen=True, config=STRICT)
class GenerateConfig:
    """What `src/generate.py` is told; without a prompt a sequence begins after a line break, or the first symbol."""

    checkpoint: str
    prompt: Annotated[str, Field(min_length=1)] | None
    length: PositiveInt
    num_sequences: PositiveInt
    temperature: Positive
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True, config=STRICT)
class ExportConfig:
    """What `src/export.py` is told; without an output folder the files go beside the checkpoint."""

    checkpoint: str
    output: str | None
    onnx: bool
    tolerance: Positive


@dataclass(frozen=True, config=STRICT)
class CompareConfig:
    """What `src/compare.py` is told; without `out` the report goes into the first of the folders."""

    runs: str | Annotated[list[str], Field(min_length=1)]
    out: str | None
    logger: Logger
    output_root: str

    @property
    def folders(self) -> list[str]:
        return [self.runs] if isinstance(self.runs, str) else self.runs


@dataclass(frozen=True, config=STRICT)
class DashboardConfig:
    """What `src/dashboard.py` is told; without an entity it is the one that the key of W&B belongs to."""

    entity: str | None
    logger: Logger
    out: str


T = TypeVar("T")


def load(cfg: DictConfig, cls: type[T]) -> T:
    """Check a composed Hydra config and build its settings.

    Raises:
        UserError: one line for each key that is wrong: the key, its value, and what is allowed.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise UserError("\n".join(f"{key} is required: give it as {key}=..." for key in missing))
    plain = OmegaConf.to_container(cfg, resolve=True)
    assert isinstance(plain, dict)
    return checked(cls, {str(key): value for key, value in plain.items()})


def checked(cls: type[T], values: dict[str, Any]) -> T:
    """Build the settings class `cls` from plain values.

    Raises:
        UserError: one line for each key that is wrong: the key, its value, and what is allowed.
    """
    built, lines = dict(values), []
    for f in fields(cls):  # type: ignore[arg-type]
        if f.name in values and inspect.isclass(f.type) and (is_dataclass(f.type) or inspect.isabstract(f.type)):
            try:
                built[f.name] = _group(f.name, f.type, values[f.name])
            except UserError as error:
                lines.append(str(error))
    if not lines:
        try:
            return cls(**built)
        except ValidationError as error:
            lines = _lines(error, cls, "")
    raise UserError("\n".join(lines))


def _group(name: str, cls: type[Any], values: Any) -> Any:
    """Build one group, whose class is `cls` or, where that is abstract, the subclass that `_target_` names."""
    if not isinstance(values, dict):
        raise UserError(f"{name}={values!r}: give a group of keys, for example {name}.{fields(cls)[0].name}=...")
    values = dict(values)
    if inspect.isabstract(cls):
        allowed, target = _targets(cls), values.pop("_target_", None)
        if target not in allowed:
            raise UserError(f"{name}._target_={target!r}: allowed are {', '.join(sorted(allowed))}")
        cls = allowed[target]
    try:
        return cls(**values)
    except ValidationError as error:
        raise UserError("\n".join(_lines(error, cls, f"{name}."))) from None


def _targets(base: type[Any]) -> dict[str, type[Any]]:
    """The classes that a `_target_` may name: the subclasses of `base` defined in the modules of its own package."""
    package = importlib.import_module(base.__module__)
    modules = [importlib.import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    return {
        f"{module.__name__}.{cls.__name__}": cls
        for module in modules
        for cls in vars(module).values()
        if inspect.isclass(cls) and issubclass(cls, base) and cls.__module__ == module.__name__
    }


def _lines(error: ValidationError, cls: type[Any], prefix: str) -> list[str]:
    lines = []
    for e in error.errors():
        key = prefix + ".".join(str(part) for part in e["loc"])
        if e["type"] == "unexpected_keyword_argument":
            allowed = ", ".join(f.name for f in fields(cls))
            lines.append(f"{key} is no key of {prefix.rstrip('.') or 'the config'}: allowed are {allowed}")
        elif e["type"] == "missing":
            lines.append(f"{key} is required: give it as {key}=...")
        elif e["type"] == "value_error":
            lines.append(f"{key.rstrip('.')}: {e['msg'].removeprefix('Value error, ')}")
        else:
            lines.append(f"{key}={e['input']!r}: {e['msg'][0].lower()}{e['msg'][1:]}")
    return lines
