"""The composition root: settings and a corpus in, a trained generator and its figures out."""

import contextlib
import ctypes
import gc
import json
import platform
import resource
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
from filelock import FileLock, Timeout
from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch import Trainer, seed_everything
from lightning.pytorch.loggers import Logger, WandbLogger
from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from throughline.config import Config, Precision
from throughline.config import Trainer as TrainerSettings
from throughline.data.corpus import Corpus
from throughline.evaluation.measure import ByPosition, evaluate
from throughline.model.generation import generate
from throughline.model.generator import LSTMGenerator
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.startup import quieten
from throughline.runs.resume import check_identity, checkpoint_to_resume, finished_run
from throughline.runs.tracking import CSVLogger, draw_curve, log_ending, wandb_logger
from throughline.training.by_token import OneStepLearner
from throughline.training.callbacks import (
    CheckpointFiles,
    Checkpoints,
    Commit,
    Display,
    Figures,
    Numerics,
    Spending,
    ValidationTimes,
)
from throughline.training.datamodule import StreamDataModule
from throughline.training.learner import Learner
from throughline.training.processes import refuse_foreign_launcher, together
from throughline.training.utilisation import Utilisation


def train(config: Config, corpus: Corpus, output_dir: Path, console: Console | None = None) -> dict[str, Any]:
    """Train as configured, and leave figures, checkpoints, a passage and a curve in `output_dir`.

    Returns:
        What `summary.json` holds, which is written when all the rest is there.
    """
    began = time.perf_counter()
    console = console or Console()
    quieten()
    refuse_foreign_launcher()
    if config.regime.update_every_token:
        config = _for_single_tokens(config)
    _refuse_absent_device(config.trainer)
    _refuse_idle_processes(config, corpus)
    with _alone_in(output_dir):
        resumed, saved, said = checkpoint_to_resume(config.resume, output_dir / "checkpoints")
        if said:
            console.print(said, highlight=False, markup=False, soft_wrap=True)
        if resumed is not None:
            check_identity(saved["throughline"]["identity"], config.identity(corpus), resumed)
            finished = finished_run(output_dir, resumed, config.limits)
            if finished is not None:
                console.print("finished already", highlight=False)
                return finished
        else:
            (output_dir / "summary.json").unlink(missing_ok=True)  # of a run that had this folder before
        steps_before = saved["callbacks"]["Spending"]["steps"] if saved else 0
        _begin_peak_memory()
        with together(config.trainer.devices, _follow, config, corpus, output_dir, resumed):
            _introduce(config, corpus, console)
            loggers: list[Logger] = [CSVLogger(output_dir / "metrics.csv", steps_before)]
            if config.logger.name == "wandb":
                rows = wandb_logger(config, output_dir, corpus.fingerprint, console)
                rows.replay(output_dir / "metrics.csv")
                loggers.append(rows)
            trainer, model, spending, utilisation = _fit(config, corpus, output_dir, resumed, console, loggers)

        by_position = ByPosition(config.evaluation.reset_every)
        exact = evaluate(model, corpus.vocab, corpus.val, config.evaluation, config.trainer.accelerator, by_position)
        summary = {
            "name": config.name,
            "regime": config.regime.name,
            "model": config.model.name,
            "seed": config.seed,
            "limits": config.limits,
            "epochs": spending.tokens / corpus.train.targets,
            "tokens": spending.tokens,
            "steps": spending.steps,
            "seconds": spending.seconds,
            "wall_seconds": time.perf_counter() - began,
            "tokens_per_second": spending.tokens / spending.seconds,
            **utilisation.whole(spending.seconds),
            **exact,
            "reset_every": config.evaluation.reset_every,
            "val/unknown": corpus.unknown,
            "peak_memory_bytes": peak_memory_bytes(trainer),
            "parameters": sum(p.numel() for p in model.parameters()),
            "precision": str(trainer.precision),
            "device": str(trainer.strategy.root_device),
            "devices": config.trainer.devices,
            "data": corpus.fingerprint,
            "versions": {"python": platform.python_version(), "torch": torch.__version__},
        }
        by_position.write(output_dir / "by_position.csv")
        passage = _passage(model, corpus, config)
        (output_dir / "samples.txt").write_text(passage + "\n")
        draw_curve(output_dir / "metrics.csv", output_dir / "curve.png", config.name)
        for logger in loggers:
            if isinstance(logger, WandbLogger):
                log_ending(logger, summary, passage, output_dir / "curve.png")
        atomic.write({output_dir / "summary.json": (json.dumps(summary, indent=2) + "\n").encode()})
    _conclude(summary, passage, output_dir, console)
    return summary


def _fit(
    config: Config, corpus: Corpus, output_dir: Path, resumed: Path | None, console: Console, loggers: list[Logger]
) -> tuple[Trainer, LSTMGenerator, Spending, Utilisation]:
    """Train in this process, one of `config.trainer.devices`."""
    quieten()
    _keep_freed_memory()
    torch.set_flush_denormal(True)  # to which the moments of a seldom symbol's weights fall
    seed_everything(config.seed, verbose=False)
    numbers = precision(config.trainer.precision, config.trainer.accelerator)
    model = LSTMGenerator(config.model, len(corpus.vocab))
    if numbers == "64-true":
        model.double()  # here, since Lightning does it only after it has read a checkpoint into the model
    learner = (OneStepLearner if config.regime.update_every_token else Learner)(
        *(model, corpus.vocab, config.optimizer, config.seed, config.identity(corpus)),
        *(config.trainer.gradient_clip_val, config.trainer.accumulate_grad_batches),
    )
    datamodule = StreamDataModule(corpus, config.regime, config.evaluation, config.seed, config.trainer.num_workers)
    spending = Spending(config.budget, config.max_epochs, config.schedule)
    utilisation = Utilisation(output_dir / "device.json")
    figures = Figures(spending, utilisation, config.trainer.log_every_n_steps)
    trainer = Trainer(
        max_epochs=-1,  # the callback `spending` ends the run
        accelerator=config.trainer.accelerator,
        devices=config.trainer.devices,
        strategy="ddp" if config.trainer.devices > 1 else "auto",
        precision=numbers,
        val_check_interval=sys.maxsize if config.trainer.val_checks else config.trainer.val_check_interval,
        check_val_every_n_epoch=None if config.trainer.val_checks or config.trainer.val_check_interval else 1,
        reload_dataloaders_every_n_epochs=1,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,  # the callback `figures` does it
        logger=loggers,
        callbacks=[
            Commit(),
            Numerics(config.numerics, output_dir / "checkpoints", console),
            spending,
            *([ValidationTimes(spending, config.trainer.val_checks)] if config.trainer.val_checks else []),
            utilisation,
            figures,
            Display(console, spending, figures),
            Checkpoints(output_dir / "checkpoints", spending, config.trainer.checkpoint_seconds, console),
        ],
        # Named, since Lightning would take the processes of a Slurm job for its own, and its signals, too.
        plugins=[CheckpointFiles(), LightningEnvironment()],
        profiler=utilisation.data_wait,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=output_dir,
    )
    trainer.fit(learner, datamodule, ckpt_path=resumed)
    return trainer, model, spending, utilisation


def _follow(config: Config, corpus: Corpus, output_dir: Path, resumed: Path | None) -> None:
    """Train as one of the other processes, in silence."""
    _fit(config, corpus, output_dir, resumed, Console(quiet=True), [])


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; the system lets go of it when the process ends, however it does."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise UserError(f"{folder}: another process trains here; resume=none starts a new run") from None


def precision(wanted: Precision | Literal["auto"], accelerator: str) -> Precision:
    """The precision to train in: with "auto" bfloat16 on a CPU that multiplies it faster, else float32."""
    if wanted != "auto":
        return wanted
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "32-true"  # cuDNN's LSTM has run in float16 under bfloat16 autocast, which would want a gradient scaler
    return "bf16-mixed" if accelerator in ("auto", "cpu") and _cpu_multiplies_bfloat16() else "32-true"


def _cpu_multiplies_bfloat16() -> bool:
    # Elsewhere PyTorch emulates it, several times slower than float32.
    cpuinfo = Path("/proc/cpuinfo")
    return cpuinfo.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(cpuinfo.read_text().split())


def peak_memory_bytes(trainer: Trainer) -> int:
    """The most memory that the run held: on the GPU where it trained on one, else of this process."""
    device = trainer.strategy.root_device
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, since the process began


def _begin_peak_memory() -> None:
    """Forget the peaks of earlier runs in this process, as in a sweep, and let go of what they left."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # Linux alone can forget
        Path("/proc/self/clear_refs").write_text("5")


def _refuse_absent_device(settings: TrainerSettings) -> None:
    accelerator = settings.accelerator
    available: dict[str, Callable[[], bool]] = {"gpu": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if accelerator in available and not available[accelerator]():
        raise UserError(
            f"trainer.accelerator={accelerator}: there is none here that torch can use; allowed are auto and cpu"
        )
    gpus = torch.cuda.device_count()
    if accelerator in ("auto", "gpu") and 0 < gpus < settings.devices:
        raise UserError(f"trainer.devices={settings.devices}: allowed are up to {gpus}, the GPUs that are here")


def _for_single_tokens(config: Config) -> Config:
    """The same on the CPU in full precision, where updates after single tokens are fastest."""
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
    numbers: Precision = "32-true" if settings.precision == "auto" else settings.precision
    return replace(config, trainer=replace(settings, accelerator="cpu", precision=numbers))


def _refuse_idle_processes(settings: Config, corpus: Corpus) -> None:
    rows = settings.regime.plan(corpus.train, settings.seed, epoch=0).rows
    if rows < settings.trainer.devices:
        raise UserError(
            f"trainer.devices={settings.trainer.devices}: regime {settings.regime.name} has batches of {rows} rows here, "
            f"which as many processes cannot share; allowed are up to {rows}"
        )


def _keep_freed_memory() -> None:
    """Keep freed blocks in the process: glibc hands them back each step, and faulting them in again costs up to a third."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # as malloc.h numbers them
    for option, value in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        mallopt(option, value)


def _introduce(config: Config, corpus: Corpus, console: Console) -> None:
    model = LSTMGenerator(config.model, len(corpus.vocab))
    fingerprint, parameters = corpus.fingerprint, sum(p.numel() for p in model.parameters())
    console.print(_tree(config.to_plain(), config.name))
    console.print(
        f"data: {fingerprint['source']}, {fingerprint['bytes']:,} bytes, sha256 {fingerprint['sha256'][:12]}; "
        f"{corpus.train.targets:,} targets to train on, {corpus.val.targets:,} to validate on "
        f"({corpus.unknown:,} unknown), vocabulary {len(corpus.vocab)}\n"
        f"model: {config.model.name}, {parameters:,} parameters; regime: {config.regime.name}; "
        f"precision {precision(config.trainer.precision, config.trainer.accelerator)}, {torch.get_num_threads()} threads",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )


def _tree(node: dict[str, Any], label: str) -> Tree:
    tree = Tree(label)
    for key, value in node.items():
        if isinstance(value, dict):
            tree.children.append(_tree(value, key))
        else:
            tree.add(escape(f"{key}: {value!r}" if isinstance(value, str) else f"{key}: {value}"))
    return tree


def _passage(model: LSTMGenerator, corpus: Corpus, config: Config) -> str:
    """What the model generates from the first symbol of the training line."""
    start, settings = corpus.train.tokens[:1], config.sampling
    tokens = generate(model.cpu().eval(), start, settings.length, temperature=settings.temperature, seed=config.seed)
    return corpus.vocab.decode([int(start[0]), *(row[0] for row in tokens)])


def _conclude(summary: dict[str, Any], passage: str, output_dir: Path, console: Console) -> None:
    console.print(
        f"\nval nll {summary['val/nll']:.4f} nats ({summary['val/bpc']:.4f} bits per symbol, "
        f"perplexity {summary['val/ppl']:.3f}, accuracy {summary['val/accuracy']:.1%}), one carried pass; "
        f"from zeros every {summary['reset_every']}: {summary['val/nll_reset']:.4f}\n"
        f"{summary['tokens']:,} tokens in {summary['steps']:,} steps and {summary['seconds']:.1f} s of training "
        f"({summary['tokens_per_second']:,.0f} tokens/s); {summary['wall_seconds']:.1f} s in all, "
        f"{summary['peak_memory_bytes'] / 2**20:,.0f} MiB at most",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.rule("generated")
    console.print(passage, highlight=False, markup=False, soft_wrap=True)
    console.rule()
    console.print(f"everything lies in {output_dir}", highlight=False, markup=False, soft_wrap=True)
