"""A training run, from settings and a corpus to a trained generator and its record."""

import contextlib
import io
import platform
import secrets
import sys
import textwrap
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from rich.console import Console

from throughline.batches.batch import Batches
from throughline.config import Config, Precision
from throughline.config import Trainer as TrainerSettings
from throughline.data.codecs.frames import Frames
from throughline.data.corpus import Corpus
from throughline.evaluation.measure import ByPosition, by_text, measure
from throughline.evaluation.threads import fastest_threads, waits_are_short
from throughline.memory import of_training, refuse_too_much
from throughline.model.generator import Generator
from throughline.plumbing import atomic, stopping
from throughline.plumbing.errors import UserError, noted_failure
from throughline.plumbing.launchers import launched, refuse_foreign_launcher
from throughline.plumbing.progress import progress
from throughline.plumbing.reading import escaped
from throughline.regimes import Played
from throughline.runs import initial
from throughline.runs.checkpoint import load_parts, parts_of
from throughline.runs.csv_log import CSVLogger
from throughline.runs.curve import draw_curve
from throughline.runs.folders import held, refuse_other_run, shown
from throughline.runs.frames_picture import drawn
from throughline.runs.initial import Initial
from throughline.runs.record import AS_IT_LEARNED, Record
from throughline.runs.resume import check_identity, checkpoint_to_resume, finished_run
from throughline.runs.tensorboard_log import tensorboard_logger
from throughline.runs.trained import Trained, about_data
from throughline.runs.wandb_log import WandbRows, log_ending, wandb_logger
from throughline.training.bad_batches import BadBatches
from throughline.training.commit import Commit
from throughline.training.datamodule import StreamDataModule
from throughline.training.display import Display, introduce, show
from throughline.training.extras import built
from throughline.training.internals import leave_signals_alone
from throughline.training.learner import Learner
from throughline.training.machine import (
    begin_peak_memory,
    on_cpu,
    peak_memory_bytes,
    precision,
    prepare_process,
    process_as_before,
    refuse_absent_device,
    use_onednn_where_it_can,
)
from throughline.training.metric_log import MetricLog
from throughline.training.passages import Passages
from throughline.training.processes import environment, following, leading, send, share_of_cores, spawned
from throughline.training.recorded import only_known_modules
from throughline.training.row_shares import FEWEST_ROWS, USUAL
from throughline.training.saving import CheckpointFiles, Checkpoints
from throughline.training.single_token import SingleTokenLearner
from throughline.training.spending import Spending
from throughline.training.utilisation import Utilisation
from throughline.training.validation_times import ValidationTimes


@dataclass(frozen=True)
class Run(Trained):
    """A finished run: the trained generator, its record and its folder.

    Attributes:
        record: the contents of `summary.json`.
        folder: the folder of the run.
    """

    record: Record = field(kw_only=True)
    folder: Path = field(kw_only=True)


def train(
    config: Config = Config(),  # noqa: B008  # frozen
    corpus: Corpus | None = None,
    folder: str | Path | None = None,
    *,
    callbacks: Sequence[Callback] = (),
    console: Console | None = None,
    begin: Callable[[bool], object] | None = None,
) -> Run:
    """Train as configured, and leave metrics, checkpoints, a passage and a curve in `folder`.

    Afterwards, signal handlers, warnings, log levels, seeds, threads and the handling of denormals are as before.

    Args:
        config: the settings.
        corpus: the data; None reads `config.data`.
        folder: the folder of this run alone; None makes a new one under `config.output_root`.
        callbacks: Lightning callbacks beside the project's own; `trainer.callback_metrics` has the last validation metrics.
        console: shows the progress to the user.
        begin: called before anything is written, with whether the folder still has to be found free of other runs.

    Raises:
        UserError: the run cannot be made as configured, it cannot be resumed, or a batch is bad.
        throughline.plumbing.stopping.Stopped: a signal came; what was trained is saved.
    """
    clock, console = time.perf_counter(), console or Console()
    with stopping.heard(), leading():
        config = runnable(config)
        folder = new_folder(config) if folder is None else Path(folder)
        if corpus is None:
            with progress("reading data", console):
                _, corpus, _ = initial.read(config)
        config, corpus, first = initial.read(config, corpus)
        asked, config = config, config.suited(corpus.codec)
        refuse_too_much(config, lambda config: of_training(config, corpus))
        with held(folder), process_as_before(), contextlib.ExitStack() as ending:
            data = data_module(config, corpus)
            config, start = find_start(config, data, folder, first, console)
            if start.finished is not None:
                return Run(*load_parts(folder / "checkpoints" / "last.ckpt"), record=start.finished, folder=folder)
            begin = begin or (lambda new: refuse_other_run(folder, None, config.resume == "auto") if new else None)
            new = start.checkpoint is None or start.checkpoint.parents[1] != folder
            if not new:  # before anything else changes: who watches the folder takes these for the end of this life
                for name in ("summary.json", "failure.txt"):
                    (folder / name).unlink(missing_ok=True)
            begin(new)
            ending.enter_context(noted_failure(folder))
            try:
                return _train(asked, config, data, folder, start, first, callbacks, clock, console, ending)
            except stopping.Stopped as stopped:
                last = folder / "checkpoints" / "last.ckpt"
                what = (
                    f"saved {shown(last)}, resume=auto continues from there" if last.exists() else "nothing was trained yet"
                )
                console.print(f"{stopped.number.name}: {what}", highlight=False, markup=False, soft_wrap=True)
                stopped.told = True
                raise


def _train(
    asked: Config,
    config: Config,
    data: StreamDataModule,
    folder: Path,
    start: "Start",
    first: Initial | None,
    callbacks: Sequence[Callback],
    clock: float,
    console: Console,
    ending: contextlib.ExitStack,
) -> Run:
    """Train in a folder that is held.

    Args:
        asked: the settings with `auto` where `config` may be decided.
        first: the model whose weights a new run begins with.
        ending: closes what was opened.
    """
    (folder / "summary.json").unlink(missing_ok=True)  # of an earlier life, which ended at a smaller budget
    atomic.clear(folder / "checkpoints")
    begin_peak_memory()
    prepare_process()
    config = with_threads(config, data)
    if launched() is None:
        others = spawned(config.trainer.devices, train_silently, config, data, folder, start, callbacks)
    else:
        send((config, folder, start))
        others = share_of_cores(config.trainer.devices)
    with others:
        learner = build_learner(config, data, start)
        if first is not None:
            if start.checkpoint is None:
                first.into(learner.generator, data.corpus.codec)
                told = first.told(data.corpus.codec)
            else:
                told = f"init_from: {config.init_from}, with which this run began; it goes on from its checkpoint"
            console.print(told, highlight=False, markup=False, soft_wrap=True)
        introduce(asked, data, learner.generator, config.trainer.precision, console)
        loggers = open_loggers(config, learner, data, folder, start, console, ending)
        fitted = fit(learner, data, config, folder, start, loggers, callbacks, console)
    return conclude(fitted, config, folder, loggers, clock, console)


def new_folder(config: Config) -> Path:
    """A new folder for a run without a given folder.

    Raises:
        UserError: the run should resume, but no folder is given.
    """
    if config.resume in ("auto", "must"):
        raise UserError(f"resume={config.resume}: give the folder of the run, for example train(config, folder=run.folder)")
    return Path(config.output_root, f"{datetime.now():%Y-%m-%d/%H-%M-%S-%f}-{config.name}")


def data_module(config: Config, corpus: Corpus) -> StreamDataModule:
    """The data of a run, as its regime and its readings cut them."""
    settings = config.regime, config.all_readings, config.evaluation, config.seed, config.trainer.num_workers
    return StreamDataModule(corpus, *settings)


def runnable(config: Config) -> Config:
    """The settings as this machine and the regime can run them.

    Raises:
        UserError: they cannot run them.
    """
    refuse_foreign_launcher(training=True)
    refuse_other_number(config.trainer)
    if config.regime.update_every_token:
        if config.regime.shape[0] != 1:
            raise UserError(f"regime {config.regime.name}: with an update per token, only a batch of one row is allowed")
        config = _on_single_tokens(config)
    refuse_absent_device(config.trainer)
    rows, _ = config.regime.shape
    processes = config.trainer.devices * config.trainer.num_nodes
    if rows < processes:
        key = "trainer.devices" if config.trainer.num_nodes == 1 else "trainer.devices x trainer.num_nodes"
        raise UserError(
            f"{key}={processes}: regime {config.regime.name} has batches of {rows} rows here, "
            f"too few for so many processes; allowed are up to {rows}"
        )
    return config


def refuse_other_number(settings: TrainerSettings) -> None:
    """Refuse a number of processes that is not the one that a launcher has started.

    Raises:
        UserError: it is another one, or several nodes have no launcher.
    """
    launch = launched()
    wanted = f"trainer.devices={settings.devices} trainer.num_nodes={settings.num_nodes}"
    if launch is None and settings.num_nodes > 1:
        raise UserError(f"{wanted}: several machines need torchrun or srun, as docs/sweeps.md shows")
    if launch is not None and launch[2:] != (settings.devices * settings.num_nodes, settings.num_nodes):
        raise UserError(
            f"{wanted}: {launch.by} has started {launch.processes} processes on {launch.nodes} "
            f"machine{'s' * (launch.nodes > 1)}; give trainer.devices={launch.processes // launch.nodes} "
            f"trainer.num_nodes={launch.nodes}"
        )


def join(folders: Sequence[Path] = ()) -> None:
    """Train as one of the processes that a launcher has started, but not as the first, which has sent how.

    Args:
        folders: those of a user's own modules.
    """
    sys.path += [str(folder) for folder in folders]
    with stopping.heard(), following() as job:
        if job is None:
            return
        config, folder, start = job
        config, corpus, _ = initial.read(replace(config, resume="none", resume_with=[]))
        data = data_module(config, corpus)
        train_silently(config, data, folder, start, [])


def _on_single_tokens(config: Config) -> Config:
    """The settings on the CPU in full precision, where updates after single tokens are fastest."""
    settings = config.trainer
    for key, value, allowed in (
        ("accelerator", settings.accelerator, ("auto", "cpu")),
        ("precision", settings.precision, ("auto", "32-true", "64-true")),
        ("accumulate_grad_batches", settings.accumulate_grad_batches, (1,)),
    ):
        if value not in allowed:
            raise UserError(
                f"trainer.{key}={value}: allowed with regime {config.regime.name} are {', '.join(map(str, allowed))}"
            )
    if config.penalties.any:
        raise UserError(f"penalties: regime {config.regime.name} updates after every token, and has none; leave them out")
    numbers: Precision = "32-true" if settings.precision == "auto" else settings.precision
    return replace(config, trainer=replace(settings, accelerator="cpu", precision=numbers))


@dataclass(frozen=True)
class Start:
    """Where a run begins.

    Attributes:
        run_id: identifies the run in W&B, in all of its lives.
        checkpoint: the file that it resumes from; None for a run from the beginning.
        rows: the contents of `metrics.csv` up to the checkpoint.
        finished: the record of a run that is already finished.
        changes: settings that have changed in the middle of the run, those of earlier lives among them.
        init_from: the file and the sha256 of the model that the run began with; empty without one.
    """

    run_id: str
    checkpoint: Path | None = None
    rows: bytes = b""
    finished: Record | None = None
    changes: Sequence[dict[str, Any]] = ()
    init_from: dict[str, str] = field(default_factory=dict)


def find_start(
    config: Config, data: StreamDataModule, folder: Path, first: Initial | None, console: Console
) -> tuple[Config, Start]:
    """The start of a run, by `config.resume`, and the settings with what `auto` meant when the run began.

    Raises:
        UserError: a checkpoint is required but there is none, or it belongs to another run.
    """
    checkpoint, saved, message = checkpoint_to_resume(config.resume, folder / "checkpoints")
    if message:
        console.print(message, highlight=False, markup=False, soft_wrap=True)
    chosen = {} if first is None else first.to_plain()
    if checkpoint is None:
        if config.resume_with:  # a run that is begun again and again, or a member of a sweep that has not begun
            line = f"resume_with: there is no run to resume; a new one begins with {', '.join(config.resume_with)} as given"
            console.print(line, highlight=False, markup=False, soft_wrap=True)
        return config, Start(secrets.token_hex(8), init_from=chosen)
    about = saved["throughline"]
    saved_identity = {**config.usual, **about["identity"]}
    if config.trainer.row_shares == "auto":  # the parts of the rows only round differently, and not every machine has them
        kept = saved_identity["trainer.row_shares"] if on_one_cpu(config.trainer) else 1
        saved_identity["trainer.row_shares"] = kept
        config = replace(config, trainer=replace(config.trainer, row_shares=kept))
    for key in ("precision", "threads"):
        before = about["identity"].get(f"trainer.{key}")
        if getattr(config.trainer, key) == "auto" and before is not None:
            config = replace(config, trainer=replace(config.trainer, **{key: before}))
    began = about.get("init_from", {})
    if "init_from" in about and began.get("sha256") != chosen.get("sha256"):  # checkpoints of before do not say it
        given = f"init_from={config.init_from}" if chosen else "init_from"
        there = f"began with {began['file']} (sha256 {began['sha256'][:12]})" if began else "began with no model"
        raise UserError(
            f"{given}: the run of {checkpoint} {there}; " + ("give that file" if began else "leave init_from= out")
        )
    origin = about.get("data", {}).get("origin")
    changed = check_identity(saved_identity, config.identity(data.corpus), checkpoint, origin, config.resume_with)
    spent = saved["callbacks"]["Spending"]["tokens"]
    changes = [*about.get("changes", []), *({"tokens": spent, **change} for change in changed)]
    for change in changed:
        line = f"resume: from {spent:,} tokens on, {change['setting']} is {change['after']} instead of {change['before']}"
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    unchanged = [key for key in config.resume_with if not any(f"{c['setting']}.".startswith(f"{key}.") for c in changed)]
    if unchanged:
        raise UserError(f"resume_with={','.join(unchanged)}: is as in {checkpoint}; give it another value, or leave it out")
    parts_of(saved, checkpoint)  # a model that does not fit is refused before anything is written
    finished = finished_run(folder, checkpoint, config.limits)
    if finished is not None:
        console.print("already finished", highlight=False)
    rows = saved["callbacks"].get("MetricLog", {}).get("rows")
    return config, Start(
        about.get("run_id") or secrets.token_hex(8),
        checkpoint,
        b"" if rows is None else CSVLogger.unpacked(rows),
        finished,
        changes,
        began,
    )


def with_threads(config: Config, data: StreamDataModule) -> Config:
    """The settings with the precision, the threads and the parts of the rows where they are `auto`; sets the threads."""
    settings = config.trainer
    rows, model = config.regime.shape[0] / (settings.devices * settings.num_nodes), config.model
    work = (
        rows * 48 * model.hidden_size**2 * model.num_layers
    )  # two matrices of 4H x H in each layer, three products with each
    settings = replace(settings, precision=precision(settings.precision, settings.accelerator, work))
    config = replace(config, trainer=settings)
    use_onednn_where_it_can(settings.precision)
    threads = torch.get_num_threads() if settings.threads == "auto" else settings.threads
    shares = 1 if settings.row_shares == "auto" else settings.row_shares
    one_cpu = on_one_cpu(settings) and not config.regime.update_every_token
    if one_cpu and "auto" in (settings.threads, settings.row_shares):
        generator = build_learner(config, data).generator
        shares = parts_of_rows(config, generator, threads)
        # Threads that meet once per step suffer little from other load on the machine, so nothing has to be tried.
        robust = 1 < threads <= shares and waits_are_short()
        if settings.threads == "auto" and not robust:
            threads = fastest_threads(trial_step(config, data, generator))
            shares = parts_of_rows(config, generator, threads)
    torch.set_num_threads(threads)
    return replace(config, trainer=replace(settings, threads=threads, row_shares=shares))


def on_one_cpu(settings: TrainerSettings) -> bool:
    """Whether a single process trains, on a CPU."""
    return on_cpu(settings) and settings.devices * settings.num_nodes == 1


def parts_of_rows(config: Config, generator: Generator, threads: int) -> int:
    """The number of parts in which the rows of a batch are read, with what `auto` means for so many threads."""
    shares, rows = config.trainer.row_shares, config.regime.shape[0]
    if shares != "auto":
        return shares
    can = on_one_cpu(config.trainer) and threads >= USUAL and rows >= FEWEST_ROWS and not config.penalties.any
    return USUAL if can and only_known_modules(generator) else 1


def trial_step(config: Config, data: StreamDataModule, generator: Generator) -> Callable[[], None]:
    """A step of training on the first batch, without its update."""
    generator.train()
    batch = Batches(config.regime.plan(data.corpus.train, config.seed, epoch=0), data.corpus.train)[0]

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=config.trainer.precision == "bf16-mixed"):
            nll, _ = generator.nll(batch.inputs, batch.targets)
        (nll.sum() / batch.n_valid).backward()  # type: ignore[no-untyped-call]

    return step


def build_learner(config: Config, data: StreamDataModule, start: Start = Start("")) -> Learner:  # frozen
    """A new generator, in the learner that trains it."""
    seed_everything(config.seed, verbose=False)
    try:
        assert config.head is not None, "the settings are not suited to the data"
        generator = Generator(config.model, data.corpus.codec.size, config.head)
    except TypeError as error:
        if "abstract" not in str(error):
            raise
        raise UserError(f"{config.model.name}: {error}") from None  # raised by a user's own core or head
    if isinstance(data.following, Played) and not (config.regime.update_every_token or generator.core.restarts):
        raise UserError(
            f"model={config.model.name}: its core cannot start a row from zeros inside a batch; "
            + ("give regime.burn_in=0" if data.following.burn_in else "give regime.sequences=beside")
        )
    if config.trainer.precision == "64-true":
        generator.double()  # here, because Lightning does it only after it has read a checkpoint into the model
    generator.head.in_units_of(data.corpus.codec)
    return (SingleTokenLearner if config.regime.update_every_token else Learner)(
        generator,
        data.corpus.codec,
        config.optimizer,
        data.readings,
        config.seed,
        config.identity(data.corpus),
        about_data(data.corpus),
        start.run_id,
        config.trainer.gradient_clip_val,
        config.trainer.accumulate_grad_batches,
        config.trainer.cuda_graphs,
        start.changes,
        start.init_from,
        config.trainer.loss,
        config.penalties,
        1 if config.trainer.row_shares == "auto" else config.trainer.row_shares,
    )


def open_loggers(
    config: Config,
    learner: Learner,
    data: StreamDataModule,
    folder: Path,
    start: Start,
    console: Console,
    ending: contextlib.ExitStack,
) -> list[Logger]:
    """The loggers of a run; `ending` closes them."""
    head = learner.generator.head
    units = [*head.metrics(1.0), *(["accuracy"] if head.has_likeliest else [])]
    table = CSVLogger(folder / "metrics.csv", data.readings, start.rows, units)
    if table.restored:
        console.print(f"{table.path}: not as the run left it; its rows were restored from the checkpoint", highlight=False)
    loggers: list[Logger] = [table]
    if config.logger.tensorboard:
        loggers.append(tensorboard_logger(folder))
    if config.logger.name == "wandb":
        rows = ending.enter_context(wandb_logger(config, folder, data.corpus.fingerprint, console, start.run_id))
        rows.replay(folder / "metrics.csv")
        loggers.append(rows)
    return loggers


@dataclass(frozen=True)
class Fitted:
    """A trained learner, its data, and the callbacks that counted its training."""

    learner: Learner
    data: StreamDataModule
    trainer: Trainer
    spending: Spending
    utilisation: Utilisation


def fit(
    learner: Learner,
    data: StreamDataModule,
    config: Config,
    folder: Path,
    start: Start,
    loggers: list[Logger],
    callbacks: Sequence[Callback],
    console: Console,
) -> Fitted:
    """Train in this process, which is one of `config.trainer.devices`."""
    settings = config.trainer
    spending = Spending(config.budget, config.max_epochs, config.schedule)
    utilisation = Utilisation(folder / "device.json")
    table = next((logger for logger in loggers if isinstance(logger, CSVLogger)), None)
    metric_log = MetricLog(spending, utilisation, settings.log_every_n_steps, table)
    trainer = Trainer(
        max_epochs=-1,  # the callback `spending` ends the run
        accelerator=settings.accelerator,
        devices=settings.devices,
        num_nodes=settings.num_nodes,
        strategy="ddp" if settings.devices * settings.num_nodes > 1 else "auto",
        precision=settings.precision,  # type: ignore[arg-type]  # no longer auto
        val_check_interval=sys.maxsize if settings.val_checks else settings.val_check_interval,
        check_val_every_n_epoch=None if settings.val_checks or settings.val_check_interval else 1,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # the callback `metric_log` logs instead
        logger=loggers,
        callbacks=[
            Commit(),
            BadBatches(config.numerics, folder / "checkpoints", console),
            spending,
            *([ValidationTimes(spending, settings.val_checks)] if settings.val_checks else []),
            utilisation,
            metric_log,
            Display(console, spending, metric_log),
            Passages(config.sampling, config.seed, spending, partial(_show_passage, console, loggers)),
            *built(list(config.callbacks.values()), folder, spending),
            *callbacks,
            Checkpoints(folder / "checkpoints", spending, settings.checkpoint_seconds),
        ],
        plugins=[CheckpointFiles(), environment()],
        profiler=utilisation.data_wait,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    leave_signals_alone(trainer)
    try:
        trainer.fit(learner, data, ckpt_path=start.checkpoint)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        if start.checkpoint is None or spending.batches > spending.resumed_at:
            raise
        what = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
        raise UserError(
            f"{start.checkpoint}: its parts do not fit together ({what}); resume=none starts a new run"
        ) from error
    return Fitted(learner, data, trainer, spending, utilisation)


def _show_passage(console: Console, loggers: list[Logger], passage: str, rows: list[tuple[int, str]]) -> None:
    """Show a short passage on the way: in one line of the terminal, and in a table that grows."""
    line = escaped(" ".join(passage.split()))
    console.print(f"    {textwrap.shorten(line, 100, placeholder=' ...')}", highlight=False, markup=False, soft_wrap=True)
    for logger in loggers:
        if isinstance(logger, WandbRows):
            logger.log_passages(rows)


def train_silently(
    config: Config, data: StreamDataModule, folder: Path, start: Start, callbacks: Sequence[Callback]
) -> None:
    """Train in one of the other processes, without output."""
    prepare_process()
    use_onednn_where_it_can(config.trainer.precision)
    torch.set_num_threads(max(1, int(config.trainer.threads) // config.trainer.devices))
    fit(build_learner(config, data, start), data, config, folder, start, [], callbacks, Console(quiet=True))


def conclude(
    fitted: Fitted,
    config: Config,
    folder: Path,
    loggers: list[Logger],
    clock: float,
    console: Console,
) -> Run:
    """Measure the trained generator, and write the files of a finished run; `summary.json` comes last."""
    generator, corpus, device = fitted.learner.generator, fitted.data.corpus, fitted.trainer.strategy.root_device
    evaluation, later = config.evaluation, [reading for reading in config.all_readings if not reading.while_training]
    metrics, by_position = fitted.learner.metrics, fitted.learner.by_position
    if by_position is None:  # several processes, validations on a part, or a run that was resumed after its end
        by_position, later, metrics = ByPosition(evaluation.reset_every, corpus.val), config.all_readings, {}
    with progress("evaluating", console) as work:
        metrics = metrics | measure(generator, corpus.val, later, evaluation, device, by_position, advance=work.advance)
    if "test" in corpus.splits:  # with the checkpoint that was chosen on the validation split
        # A run that was resumed after its end in a new folder has no validation, and its last model alone.
        file = folder / "checkpoints" / "best.ckpt"
        best = load_parts(file)[0] if file.exists() else generator
        with progress("testing", console) as work:
            metrics |= measure(
                best, corpus.line("test"), config.all_readings, config.evaluation, device, split="test", advance=work.advance
            )
    for split in ("val", "test"):
        if f"{split}/nll" in metrics:
            metrics |= by_text(metrics, corpus.line(split), corpus.codec, split)
    by_position.write(folder / "by_position.csv")
    unknown = {} if corpus.val.frames else {"val/unknown": corpus.unknown}
    record = _record(fitted, config, {**metrics, **unknown}, clock)
    pictures = [folder / "curve.png"]
    if isinstance(corpus.codec, Frames):
        passage = _frames(generator.cpu().eval(), corpus.codec, config, folder)
        pictures.append(folder / "samples.png")
    else:
        passage = _passage(generator.cpu().eval(), corpus, config)
        learned = next(part.rows for part in fitted.trainer.callbacks if isinstance(part, Passages))  # type: ignore[attr-defined]
        earlier = "".join(f"\n{tokens:,} tokens:\n{text}\n" for tokens, text in learned)
        text = f"{passage}\n" + (f"\n{AS_IT_LEARNED}\n{earlier}" if earlier else "")
        (folder / "samples.txt").write_text(text, encoding="utf-8")
    draw_curve(folder / "metrics.csv", folder / "curve.png", config.name, record.step)
    for logger in loggers:
        if isinstance(logger, WandbRows):
            log_ending(logger, record, passage, pictures, folder, config.logger.artifact)
    record = record.write(folder)
    lowest = next(part.best for part in fitted.trainer.checkpoint_callbacks if isinstance(part, Checkpoints))
    show(record, passage, lowest, folder, console)
    return Run(generator, corpus.codec, fitted.learner.data, record=record, folder=folder)


def _record(fitted: Fitted, config: Config, metrics: dict[str, float], clock: float) -> Record:
    corpus, spending, device = fitted.data.corpus, fitted.spending, fitted.trainer.strategy.root_device
    work = fitted.utilisation.whole(spending.seconds)
    return Record(
        name=config.name,
        regime=config.regime.name,
        label=config.regime.label,
        model=config.model.name,
        seed=config.seed,
        shape=config.regime.shape,
        limits=config.limits,
        epochs=spending.tokens / corpus.train.num_targets,
        tokens=spending.tokens,
        steps=spending.batches,
        updates=fitted.learner.updates,
        seconds=spending.seconds,
        wall_seconds=time.perf_counter() - clock,
        tokens_per_second=spending.tokens / spending.seconds,
        train_targets=corpus.train.num_targets,
        reset_every=config.evaluation.reset_every,
        positions=work.positions,
        flops=work.flops,
        matrix_rate=work.matrix_rate,
        peak_memory_bytes=peak_memory_bytes(device),
        parameters=sum(p.numel() for p in fitted.learner.generator.parameters()),
        precision=str(fitted.trainer.precision),
        device=str(device),
        devices=config.trainer.devices * config.trainer.num_nodes,
        data=corpus.fingerprint,
        versions={"python": platform.python_version(), "torch": torch.__version__},
        init_from=fitted.learner.init_from,
        changes=fitted.learner.changes,
        metrics={**work.metrics, **metrics},
    )


def _frames(generator: Generator, codec: Frames, config: Config, folder: Path) -> str:
    """Write what the generator plays by itself, `samples.npy` and `samples.png`, and return a line about them."""
    settings = config.sampling
    (frames,) = Trained(generator, codec).frames(
        1, None, settings.length, temperature=settings.temperature, seed=config.seed
    )
    array = io.BytesIO()
    np.save(array, frames)
    atomic.write(
        {folder / "samples.npy": array.getvalue(), folder / "samples.png": drawn(frames, codec, f"{config.name}, generated")}
    )
    return f"{len(frames):,} frames of {codec.width}: samples.npy, drawn in samples.png"


SHOWN = 20
"""The most sequences of a passage."""


def _passage(generator: Generator, corpus: Corpus, config: Config) -> str:
    """What the generator writes by itself, as `generate.py` does without a prompt: a few sequences with ends, one a line."""
    trained, settings = Trained(generator, corpus.codec), config.sampling
    if corpus.codec.end is None:
        passage: str = trained.generate(length=settings.length, temperature=settings.temperature, seed=config.seed)
        return passage
    lines: list[str] = []
    symbols = 0
    for sequence in trained.sequences(
        settings.length, max_length=settings.length, temperature=settings.temperature, seed=config.seed
    ):
        symbols += len(sequence.ids) + 1  # an end is counted as well, because a sequence may be empty
        if len(lines) == SHOWN or (lines and symbols > settings.length):
            break
        lines.append(sequence.text)
    return "\n".join(lines)
