"""The settings of a training run. Nothing here imports torch."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, field, fields, is_dataclass, replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.callbacks import Callback
from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.data.sources import Source
from throughline.data.sources.stdlib import StandardLibrary
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.model.optimizers import AdamW, Optimizer
from throughline.model.settings import LSTM, Bernoulli, Categorical, Head, Mixture, Model
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.regimes.stateful import Stateful
from throughline.settings import (
    STRICT,
    Fraction,
    NonNegative,
    PathStr,
    Positive,
    PositiveInt,
    Probability,
    defaults,
    plain,
    word,
)

Precision = Literal["32-true", "64-true", "bf16-mixed"]

CHANGEABLE = ("optimizer", "schedule", "trainer.gradient_clip_val")
"""How settings begin that may change in the middle of a run."""

KEPT = ("model", "head", "regime", "optimizer", "schedule", "penalties")
"""The groups of settings that stay the same when a run is resumed."""


@dataclass(frozen=True, config=STRICT)
class Schedule:
    """The learning rate as a factor of `optimizer.lr`, over the share of the budget that is spent, or over epochs."""

    name: Literal["constant", "cosine", "step"] = "cosine"
    """Take `constant` if the run may be continued later with a larger budget: a cosine has already reached its end then.
    `step` falls by `decay` at the beginning of each epoch after the first `epochs`, as in Zaremba 2014."""
    warmup: Probability = 0.02
    """The share of the budget over which the rate rises from 0. Raise it if the loss jumps in the first updates."""
    floor: Fraction = 0.0
    """The factor at the end of a cosine."""
    epochs: Annotated[int, Field(ge=0)] = 4
    """The epochs of `step` with the full rate."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    """By what `step` multiplies the rate at each later epoch."""

    def __post_init__(self) -> None:
        usual = defaults(type(self))
        for key in ("epochs", "decay"):
            value = getattr(self, key)
            if self.name != "step" and value != usual[key]:
                raise ValueError(f"{key}={value}: is for schedule=step; leave it out")

    def factor(self, spent: float, epochs: float = 0.0) -> float:
        """The factor at `spent` in [0, 1] and after so many epochs: linear up to 1 over `warmup`, then as the name says."""
        if spent < self.warmup:
            return max(spent / self.warmup, 0.01)
        if self.name == "constant":
            return 1.0
        if self.name == "step":
            return self.decay ** max(0, int(epochs) + 1 - self.epochs)
        rest = min((spent - self.warmup) / (1.0 - self.warmup), 1.0)
        return self.floor + (1.0 - self.floor) * 0.5 * (1.0 + math.cos(math.pi * rest))


@dataclass(frozen=True, config=STRICT)
class Budget:
    """The limits of a run. It ends at the first one that it reaches. Without any, and without `trainer.max_epochs`, it ends
    after 5 epochs."""

    DEFAULT_EPOCHS: ClassVar[int] = 5

    tokens: PositiveInt | None = None
    """Targets to train on. Take it if a run must be repeatable: it does not depend on the clock."""
    seconds: Positive | None = None
    """Seconds of training; validation and checkpoints are not counted. Take it to compare settings at equal time."""


@dataclass(frozen=True, config=STRICT)
class Trainer:
    """Settings of the Lightning Trainer, under Lightning's names where they exist."""

    max_epochs: PositiveInt | None = None
    """Passes over the training data. None: as many as the budget allows, or 5 if there is no budget."""
    accelerator: Literal["auto", "cpu", "gpu", "mps"] = "auto"
    """`auto` takes a GPU if PyTorch can use one. A network this small on few streams may be faster on the CPU."""
    devices: PositiveInt = 1
    """Processes on each machine, each with its share of the rows of every batch. Take one per GPU."""
    num_nodes: PositiveInt = 1
    """Machines that train together. With more than one, torchrun or srun starts the processes on them."""
    precision: Precision | Literal["auto"] = "auto"
    """`auto`: bf16-mixed on a CPU that multiplies bfloat16 faster, and on a GPU for networks and batches so large that it
    gains; else 32-true. On a GPU, products of 32-true are rounded to TF32 in training. 64-true is for checks."""
    cuda_graphs: bool = True
    """On a GPU, launch a whole step at once, as a CUDA graph; the kernels are the same. Small networks are then 2 to 4 times
    faster. Steps of a user's own modules, of several processes and of accumulated gradients are never recorded."""
    gradient_clip_val: Positive | None = 1.0
    """The largest norm that the gradient may have. Lower it if single batches make the loss jump."""
    loss: Literal["mean", "sum_over_steps"] = "mean"
    """`mean`: over all scored targets of a batch. `sum_over_steps`: the sum over the steps, and the mean over the rows, as
    in Zaremba 2014; its gradient is as many times as large as a batch has steps, and so must the clip be."""
    accumulate_grad_batches: PositiveInt = 1
    """Batches whose gradients are averaged for one update. Raise it if more streams do not fit into memory."""
    val_check_interval: PositiveInt | None = None
    """Batches between validations. None: at the end of each epoch and of the run. Set it if an epoch takes hours."""
    val_checks: PositiveInt | None = None
    """Validations over the whole budget. Check k of n comes when (k / n)^2 of it is spent, so that a loss curve is even."""
    checkpoint_seconds: Positive = 300.0
    """The longest time between checkpoints. A crash loses at most this much training."""
    log_every_n_steps: PositiveInt = 50
    """Batches per row of `metrics.csv`."""
    threads: Annotated[int, Field(gt=0, le=1024)] | Literal["auto"] = "auto"
    """Threads on a CPU. `auto`: all, if there are no more than parts of the rows; else it times a few steps with one and
    with all, and takes the faster: one, if the machine is busy. Give a number if runs must be comparable in speed."""
    row_shares: Annotated[int, Field(gt=0, le=1024)] | Literal["auto"] = "auto"
    """On a CPU: the parts of the rows of a batch that are read at the same time, each by one thread (or several, if there
    are more threads than parts). `auto`: 2, if there are 32 rows and 2 threads or more; 1 with `penalties`, with an update
    per token, with several processes, and if a module is not PyTorch's or this project's. Resumed runs keep the number."""
    num_workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that read batches. Reading is one slice of an array, so more than 0 rarely helps."""

    def __post_init__(self) -> None:
        if self.val_check_interval is not None and self.val_check_interval % self.accumulate_grad_batches:
            raise ValueError(
                f"val_check_interval={self.val_check_interval} comes between the batches of one update: "
                f"allowed are multiples of accumulate_grad_batches={self.accumulate_grad_batches}"
            )
        if self.accelerator == "mps" and self.devices > 1:
            raise ValueError(f"devices={self.devices}: allowed with accelerator=mps is 1")
        if self.row_shares not in ("auto", 1) and self.devices * self.num_nodes > 1:
            raise ValueError(f"row_shares={self.row_shares}: several processes share the rows already; leave it out")
        if self.val_check_interval is not None and self.val_checks is not None:
            raise ValueError(
                f"val_check_interval={self.val_check_interval} and val_checks={self.val_checks}: give one of them"
            )


@dataclass(frozen=True, config=STRICT)
class Penalties:
    """What is added to the mean nll in training (Merity 2017, arXiv 1708.01009). Validation never has it."""

    activation: NonNegative = 0.0
    """AR: how much the mean square of the outputs of the core counts, after dropout. AWD-LSTM has 2."""
    temporal: NonNegative = 0.0
    """TAR: how much the mean square of what changes in the outputs from a step to the next counts. AWD-LSTM has 1."""

    @property
    def any(self) -> bool:
        """Whether there are any."""
        return bool(self.activation or self.temporal)


@dataclass(frozen=True, config=STRICT)
class Numerics:
    """What happens when a loss or a gradient is not finite."""

    on_bad_batch: Literal["stop", "skip"] = "stop"
    """`skip` leaves the batch out and continues. Take it for long runs on data that you cannot clean."""
    max_skipped: PositiveInt = 10
    """The number of batches that may be skipped before the run stops."""


@dataclass(frozen=True, config=STRICT)
class Logger:
    """Where metrics go in addition to `metrics.csv`."""

    name: Literal["wandb", "none"] = "wandb"
    """`wandb` logs online if a key is configured and the server answers, else offline."""
    tensorboard: bool = False
    """Whether to write events for TensorBoard as well, into `tensorboard/` in the folder of the run."""
    project: str = "throughline"
    """The W&B project."""
    entity: str | None = None
    """The W&B user or team. None: the owner of the key."""
    run_name: str | None = None
    """The name of the run in W&B. None: what differs in a sweep first, then the regime, the model and the seed."""
    notes: str | None = None
    """A text that W&B shows beside the run."""
    artifact: Literal["none", "best", "last"] = "none"
    """The checkpoint that W&B keeps as a versioned file, at the end of the run."""
    group: str | None = None
    """The W&B group, for the runs of one experiment. None: those of a sweep are one."""
    init_timeout: Annotated[float, Field(gt=0, le=86400)] = 6.0
    """Seconds to wait for the server. Raise it behind a slow connection."""


@dataclass(frozen=True, config=STRICT)
class Sampling:
    """What is generated when a run ends, and short passages on the way."""

    length: Annotated[int, Field(gt=0, le=10**6)] = 500
    """The number of symbols."""
    temperature: Positive = 0.8
    """Below 1, likelier symbols are preferred; 1 draws from the distribution as it is."""
    every: Annotated[int, Field(ge=0)] = 1
    """A short passage is generated at every such validation, so that one sees how the network learns; 0: at none."""


class Sweep(ABC):
    """What `-m` does with several values, if not all combinations of them."""

    @property
    @abstractmethod
    def num_members(self) -> int:
        """How many runs it makes."""


@dataclass(frozen=True, config=STRICT)
class Optuna(Sweep):
    """A search for the settings with the lowest `val/nll`, with Optuna's sampler TPE.

    Give every trial the same budget. The folder of the search may be shared by commands on several machines.
    """

    space: dict[str, Any] | None = None
    """What is searched, by setting, in Hydra's words: `choice(8,16)`, `interval(0,0.5)`, `int(interval(8,128))`, and
    `tag(log,interval(1e-4,1e-1))` on a logarithmic scale. `{when: "regime=stateful", values: "choice(8,16)"}` is drawn only
    where an earlier setting has that value. Several values on the command line add to it, and a single one takes it out.
    None: those of the command line alone."""
    n_trials: PositiveInt = 30
    """The trials of all commands together. Pruned and failed ones count, too."""
    seconds: Positive | None = None
    """After so many seconds a command begins no further trial."""
    prune: bool = True
    """Whether a trial ends early if, at a validation, its nll is above the median of the others at theirs."""
    startup: PositiveInt = 8
    """Trials that are drawn at random, and none of which is pruned, before the sampler and the pruner have seen enough."""
    parallel: PositiveInt = 1
    """Trials that the launcher gets at once. The next ones are drawn when all of them have ended."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 1
    """Seeds what is drawn."""

    @property
    def num_members(self) -> int:
        return self.n_trials

    def __post_init__(self) -> None:
        for key, values in (self.space or {}).items():
            if isinstance(values, dict) and (values.keys() != {"when", "values"} or "=" not in str(values["when"])):
                raise ValueError(f"space.{key}={values}: give {{when: KEY=VALUE, values: ...}}")


@dataclass(frozen=True, config=STRICT)
class Config:
    """All settings of a training run; `Config()` is what `python src/train.py` runs."""

    data: Source = StandardLibrary()  # a shared default is safe: these classes are frozen
    """The data source: a text, lines, a table, an array, or one of the other choices of `data=`."""
    codec: Codec | None = None
    """Turns the data into steps. None: the codec that suits the source."""
    model: Model = LSTM()
    """The core and its sizes."""
    head: Head | None = None
    """The kind of prediction. None: the head that suits the data: categorical for symbols, bernoulli for multi-hot frames,
    mixture for real ones."""
    regime: Regime = Stateful()
    """The way in which the data are cut into batches."""
    optimizer: Optimizer = AdamW()
    """An optimizer of PyTorch, with its own arguments."""
    schedule: Schedule = Schedule()
    budget: Budget = Budget()
    trainer: Trainer = Trainer()
    penalties: Penalties = Penalties()
    numerics: Numerics = Numerics()
    evaluation: Evaluation = Evaluation()
    readings: dict[str, Reading] = field(default_factory=dict)
    """Ways to measure a run, in addition to `carried` and `reset`. Every run is measured by these two."""
    logger: Logger = Logger()
    callbacks: dict[str, Callback] = field(default_factory=dict)
    """Further callbacks: `early_stopping`, `ema`, `swa`, `nt_asgd`, `lr_monitor`, `profile`."""
    sweep: Sweep | None = None
    """With `-m`: a search. None: all combinations of values."""
    sampling: Sampling = Sampling()
    task_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.]+$", max_length=40)] | None = None
    """What the run is for, in a word; its name begins with it."""
    tags: list[str] = field(default_factory=list)
    """Words by which the run is found in W&B, in addition to its regime and its model."""
    data_limit: Annotated[int, Field(ge=2)] | None = None
    """Train and validate on the first so many steps of the training split alone, which a network learns by heart."""
    output_root: PathStr = "outputs"
    """The folder that contains the folders of all runs."""
    resume: PathStr = "none"
    """`auto`: continue the latest run or sweep of the same command that is unfinished, or that ended at a smaller budget. If
    there is none, begin a new one. `must`: the same, but refuse to begin a new one. The folder of a run or a sweep: continue
    it there. Or a .ckpt file: its run is continued in a new folder."""
    resume_with: list[str] = field(default_factory=list)
    """With `resume=FILE`: settings that change in the middle of the run, such as `[optimizer.lr,schedule]`. Allowed are
    those of the optimizer and the schedule, and `trainer.gradient_clip_val`."""
    init_from: PathStr | None = None
    """A trained model, a `.ckpt` or `.safetensors` file. The run begins with its weights, on any data, with any regime,
    optimizer and schedule. Settings of the model that are at their defaults are those of the file, except for dropout."""
    init_vocab: Literal["extend", "keep", "replace"] = "extend"
    """With `init_from`: `extend` adds the symbols that the trained model does not know; their weights begin at the mean of
    all others. `keep`: such symbols are unknown. `replace`: the vocabulary is new, and only the core keeps its weights."""
    tune: Literal["lr", "streams"] | None = None
    """Train nothing, but find a setting in about a minute. `lr`: a learning rate that is as high as the loss allows.
    `streams`: the number of streams that is fast enough, by the speed of each."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Seeds the weights, the dropout, the order of the data, and the passage at the end."""

    def __post_init__(self) -> None:
        if sum(callback.changes_weights for callback in self.callbacks.values()) > 1:
            raise ValueError("callbacks: ema, swa and nt_asgd are averages of the weights; give one")
        if self.init_from is None and self.init_vocab != "extend":
            raise ValueError(f"init_vocab={self.init_vocab}: is for init_from=FILE; give it, or leave this out")
        for key in self.resume_with:
            if not key.startswith(CHANGEABLE) or key == "optimizer.name":
                raise ValueError(
                    f"resume_with={key}: cannot change in the middle of a run; allowed are optimizer.lr and the like, "
                    "schedule, and trainer.gradient_clip_val; init_from=FILE begins another run with these weights"
                )
        if self.tune is not None and self.resume != "none":
            raise ValueError(
                f"tune={self.tune}: tries a new run, so resume={self.resume} has no effect; leave one of them out"
            )
        shares, rows = self.trainer.row_shares, self.regime.shape[0]
        if shares not in ("auto", 1) and (self.penalties.any or self.regime.update_every_token):
            what = "penalties" if self.penalties.any else f"regime={self.regime.name}"
            raise ValueError(f"trainer.row_shares={shares}: cannot be used with {what}; leave it out")
        if shares != "auto" and shares > rows:
            raise ValueError(f"trainer.row_shares={shares}: a batch has {rows} rows; allowed are up to {rows}")
        if self.resume_with and self.resume == "none":
            raise ValueError(f"resume_with={','.join(self.resume_with)}: is for resume=FILE, whose run it changes; give it")

    @property
    def name(self) -> str:
        task = [] if self.task_name is None else [self.task_name]
        model = self.model.name if self.init_from is None else "init"  # whose sizes are those of a file
        return "-".join([*task, f"{model}-{self.regime.label}-s{self.seed}"])

    def read(self, codec: Codec | None = None) -> Corpus:
        """The configured data.

        Args:
            codec: takes the place of the configured one.

        Raises:
            UserError: they cannot be used.
        """
        data = self.data.under(self.output_root)
        corpus = replace(data.read(codec or self.codec), source=data.located())
        return corpus if self.data_limit is None else corpus.first(self.data_limit)

    def suited(self, codec: Codec) -> "Config":
        """The settings with the head that suits the data.

        Raises:
            UserError: the chosen head predicts another kind of steps, or the model expects symbols.
        """
        head = {"ids": Categorical(), "multi_hot": Bernoulli(), "real": Mixture()}[codec.steps]
        names = {"ids": "symbols", "multi_hot": "multi-hot frames", "real": "real frames"}
        if self.head is not None and self.head.predicts != codec.steps:
            raise UserError(
                f"head={self.head.name}: predicts {names[self.head.predicts]}, and the data are {names[codec.steps]}; "
                f"leave it out, or give head={head.name}"
            )
        of_symbols = {"tie_weights": False, "input": "embedding", "embedding_dropout": 0.0, "embedding_init": None}
        for key, usual in of_symbols.items():
            if codec.steps != "ids" and (value := getattr(self.model, key)) != usual:
                raise UserError(f"model.{key}={value}: is for symbols, and the data are {names[codec.steps]}; leave it out")
        return replace(self, head=self.head or head)

    def differences(self) -> dict[str, Any]:
        """The settings that differ from the defaults, by dotted names; a chosen class is given by its word."""
        found: dict[str, Any] = {}
        usual = Config()
        for f in fields(self):
            value, default = getattr(self, f.name), getattr(usual, f.name)
            if f.name in ("output_root", "resume") or value == default:
                continue
            if not is_dataclass(value) or isinstance(value, type):
                if isinstance(value, dict):
                    more = {key: part for key, part in value.items() if key not in ("carried", "reset")}
                    names = ",".join(more)
                    found |= {f.name: f"[{names}]" if len(more) > 1 else names} if more else {}
                    for key, part in more.items():
                        found |= {f"{f.name}.{key}.{name}": v for name, v in changed(part).items()}
                    continue
                found |= {f.name: value} if value else {}
                continue
            if type(value) is not type(default):
                found[f.name] = word(type(value))
            found |= {f"{f.name}.{key}": v for key, v in changed(value).items()}
        return found

    @property
    def max_epochs(self) -> int | None:
        """`trainer.max_epochs`, or `Budget.DEFAULT_EPOCHS` if it is None and there is no budget."""
        if self.trainer.max_epochs is None and self.budget == Budget():
            return Budget.DEFAULT_EPOCHS
        return self.trainer.max_epochs

    @property
    def limits(self) -> dict[str, Any]:
        """The limits of the run; it ends at the first one that it reaches."""
        return {**asdict(self.budget), "max_epochs": self.max_epochs}

    @property
    def all_readings(self) -> list[Reading]:
        return all_readings(self.readings)

    def identity(self, corpus: Corpus) -> dict[str, Any]:
        """The values that must stay the same when a run is resumed, by the names of the fields.

        A run has decided before what `auto` means: the number of threads may change the order in which values are added up.
        """
        values = self.to_plain()
        groups = {name: values[name] for name in KEPT}
        alike = ["precision", "threads", "row_shares", "gradient_clip_val", "accumulate_grad_batches", "loss"]
        if self.model.drops or self.regime.draws_states:
            alike.append("devices")  # each process draws dropout for its rows; without it, their number changes nothing
        trainer = {key: values["trainer"][key] for key in alike}
        data = {key: corpus.fingerprint[key] for key in ("tokens_sha256", "vocab_sha256")} | {"joined": corpus.train.joined}
        nested = {**groups, "trainer": trainer, "data": data}
        flat = {f"{name}.{key}": value for name, group in nested.items() for key, value in group.items()}
        changing = [plain(callback) for callback in self.callbacks.values() if callback.changes_weights]
        return {**flat, "seed": self.seed, "callbacks": [f"{key}={value}" for one in changing for key, value in one.items()]}

    @property
    def usual(self) -> dict[str, Any]:
        """The defaults of the values in `identity`: a checkpoint of an earlier version does not have new settings."""
        kept = {name: getattr(self, name) for name in KEPT if getattr(self, name) is not None}
        groups = {f"{name}.{key}": value for name, kind in kept.items() for key, value in defaults(type(kind)).items()}
        return {**groups, "trainer.loss": "mean", "trainer.row_shares": 1, "data.joined": True, "callbacks": []}

    def to_plain(self) -> dict[str, Any]:
        """The settings as dicts, lists, strings and numbers; a word replaces each class that YAML names by `_target_`."""
        chosen = {key: plain(getattr(self, key)) for key in ("data", "regime", "optimizer")}
        by_data = {key: getattr(self, key) for key in ("codec", "head")}
        chosen |= {key: {"name": "auto"} if value is None else plain(value) for key, value in by_data.items()}
        return {**asdict(self), **chosen, "model": plain(self.model, "core")}


def changed(chosen: Any) -> dict[str, Any]:
    """The fields of a settings class that differ from its defaults; a field that is a chosen class itself is left out."""
    own = defaults(type(chosen))
    return {key: value for key, value in asdict(chosen).items() if key in own and own[key] != value}


def all_readings(chosen: Mapping[str, Reading]) -> list[Reading]:
    """All readings: `carried` and `reset`, which measure every generator, then the chosen ones.

    Raises:
        UserError: two have the same name, or one learns and would be read while the network is trained.
    """
    readings = [Carried(), Reset(), *(reading for reading in chosen.values() if type(reading) not in (Carried, Reset))]
    for place, reading in enumerate(readings):
        others = readings[:place]
        if reading.name == "train" or any((reading.name == o.name or reading.suffix == o.suffix) for o in others):
            raise UserError(f"readings: the name {reading.name} is already taken; give the class another name")
        if reading.while_training and reading.learns:
            raise UserError(f"readings: {reading.name} learns, so it cannot be read while the network is trained")
    return readings
