"""The output of a run on the screen: before, during and after training."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from throughline.cautions import about_training
from throughline.config import Config
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.frames import Frames
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.model.generator import Generator
from throughline.plumbing.progress import QUIET_SECONDS
from throughline.plumbing.reading import escaped
from throughline.runs.folders import shown
from throughline.runs.record import Record
from throughline.training.datamodule import StreamDataModule, datamodule_of
from throughline.training.learner import Learner
from throughline.training.metric_log import MetricLog
from throughline.training.spending import Spending

LONG_VALIDATION, TIMES_TRAINING = 10.0, 2.0
"""A validation that takes more seconds than this, and more times the training before it, deserves a word."""
OVERFITTED = 0.01
"""The share by which the last nll may be above the lowest one without a word."""


def introduce(config: Config, data: StreamDataModule, generator: Generator, precision: str, console: Console) -> None:
    """Print the settings, the data and the model of a run; the precision and the threads are those that `auto` became."""
    corpus, threads = data.corpus, torch.get_num_threads()
    fingerprint, parameters = corpus.fingerprint, sum(p.numel() for p in generator.parameters())
    size = f", {fingerprint['bytes']:,} bytes, sha256 {fingerprint['sha256'][:12]}" if "bytes" in fingerprint else ""
    read = f"; {fingerprint['read']}" if "read" in fingerprint else ""
    different = " ".join(f"{key}={value}" for key, value in config.differences().items())
    limits = ", ".join(f"{value:,g} {key.removeprefix('max_')}" for key, value in config.limits.items() if value is not None)
    console.print(
        f"settings: {different or 'all'} {'and all others ' if different else ''}by default (`--cfg job` prints all); "
        f"ends after {limits}\n"
        f"data: {fingerprint['source']}{size}{read}; "
        f"{amount(corpus.train)} to train on, {amount(corpus.val)} to validate on{_steps(corpus)}\n"
        f"model: {config.model.name}, {parameters:,} parameters; regime: {config.regime.label}; "
        f"precision {precision}, {threads} thread{'s' * (threads > 1)}",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    for caution in about_training(config, corpus):
        console.print(f"caution: {caution}", highlight=False, markup=False, soft_wrap=True)


def _steps(corpus: Corpus) -> str:
    """What a step is, after the amounts."""
    codec = corpus.codec
    if not isinstance(codec, Frames):
        return f" ({corpus.unknown:,} unknown), {codec.name}, vocabulary {codec.size}"
    kind = "multi-hot" if codec.steps == "multi_hot" else "real, standardised on the training split"
    return f", frames of {codec.width}, {kind}"


def amount(line: Line) -> str:
    """How much a line holds."""
    sequences = "" if line.joined else f" of {len(line.ends):,} sequences"
    return f"{line.num_targets:,} targets{sequences}"


class Display(Callback):
    """Shows the progress of a run: one live bar for all of it, and one permanent line per validation.

    Without a terminal, only the lines are printed.
    """

    REFRESH_SECONDS = 0.25
    LINES, LINE_SECONDS = 10, 1.0
    """After so many lines, at most one comes in so many seconds: epochs of small data take a hundredth of one."""

    def __init__(self, console: Console, spending: Spending, metric_log: MetricLog) -> None:
        self.console = console
        self.spending = spending
        self.metric_log = metric_log
        self.bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[figures]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._shown_at = 0.0
        self._lines, self._line_at, self._held_back = 0, 0.0, ""
        self._trained, self._trained_before, self._cautioned = 0.0, 0.0, False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._trained_before = self.spending.seconds
        self.bar.start()
        self._training = self.bar.add_task("epoch 1", total=1.0, figures="")
        self._validation = self.bar.add_task("validation", total=1.0, figures="", visible=False)
        assert isinstance(pl_module, Learner)
        pl_module.advance = self._advance

    def _due(self) -> bool:
        """Whether it is time to draw the bar again."""
        now = time.perf_counter()
        if self.bar.disable or now - self._shown_at < self.REFRESH_SECONDS:
            return False
        self._shown_at = now
        return True

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not self._due():
            return
        spent, seconds, nll = self.spending.spent(trainer), self.spending.seconds, self.metric_log.nll
        parts = [] if nll is None else [f"nll {nll:.3f}"]
        parts.append(f"{self.spending.tokens / seconds:,.0f} tokens/s")
        if spent > 0:
            left = seconds / spent - seconds
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        epoch = f"epoch {datamodule_of(trainer).epoch + 1}"
        self.bar.update(self._training, completed=spent, description=epoch, figures="  ".join(parts))
        self.bar.refresh()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated, self._to_validate, self._validating_since = 0, 0, time.perf_counter()
        self._trained, self._trained_before = self.spending.seconds - self._trained_before, self.spending.seconds

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        if not pl_module.ends:  # an exact validation reports its own progress
            batches = sum(int(number) for number in trainer.num_val_batches)
            self._advance(1, batches - self._to_validate)

    def _advance(self, done: int, more: int) -> None:
        """Add finished work to the bar of a validation, and further work that was found."""
        self._validated += done
        self._to_validate += more
        if time.perf_counter() - self._validating_since > QUIET_SECONDS and self._due():
            self.bar.update(self._validation, completed=self._validated / self._to_validate, visible=True)
            self.bar.refresh()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self.bar.update(self._validation, visible=False)
        metrics = pl_module.metrics
        corpus = datamodule_of(trainer).corpus
        unit = "bpc" if corpus.codec.reads in ("text", "bytes") else "bits per symbol"
        bits = f" ({metrics['val/bpc']:.3f} {unit})" if "val/bpc" in metrics else ""
        if isinstance(corpus.codec, Words | Bpe | Ids):  # their steps are no characters
            bits = f" (perplexity {metrics['val/ppl']:.1f})"
        joined = corpus.val.joined
        resets = f", with resets {metrics['val/nll_reset']:.4f}" if joined else ""
        accuracy = f", accuracy {metrics['val/accuracy']:.1%}" if "val/accuracy" in metrics else ""
        # After a resume, the first validation may come before any training.
        trained = "" if self.metric_log.nll is None else f"train nll {self.metric_log.nll:.4f}, "
        line = (
            f"epoch {math.ceil(datamodule_of(trainer).epochs)}: {trained}"
            f"val nll {metrics['val/nll']:.4f}{bits}{resets}{accuracy}; "
            f"{self.spending.tokens:,} tokens in {self.spending.seconds:.1f} s, "
            f"{self.spending.tokens / self.spending.seconds:,.0f} tokens/s"
        )
        if self._lines < self.LINES or time.perf_counter() - self._line_at >= self.LINE_SECONDS:
            self._print(line)
        else:
            self._held_back = line
        took = time.perf_counter() - self._validating_since
        if took > max(LONG_VALIDATION, TIMES_TRAINING * self._trained) and not self._cautioned:
            self._cautioned = True
            self._print(
                f"caution: this validation took {took:.0f} s, and the training before it {self._trained:.0f} s; "
                "evaluation.tokens=100_000 reads a part of the split, trainer.val_checks=4 makes fewer of them"
                + (", and codec.max_vocab=10_000 makes each step cheaper" if isinstance(corpus.codec, Words) else "")
            )

    def _print(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)
        self._lines, self._line_at, self._held_back = self._lines + 1, time.perf_counter(), ""

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()
        if self._held_back:
            self._print(self._held_back)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()


def show(record: Record, passage: str, lowest: float, folder: Path, console: Console) -> None:
    """Print the results of a run; `lowest` is the nll of `best.ckpt`."""
    metrics = record.metrics
    units = {
        "bpc": "{:.4f} bits per symbol",
        "ppl": "perplexity {:.3f}",
        "accuracy": "accuracy {:.1%}",
        "bpb": "{:.4f} bits per byte",
        "word_ppl": "perplexity {:.3f} per word",
    }
    carried, tested = (
        ", ".join(
            text.format(value) if value < 1e9 else text.replace(".3f", ".3g").format(value)  # not ninety digits
            for key, text in units.items()
            if (value := metrics.get(f"{split}/{key}")) is not None
        )
        for split in ("val", "test")
    )
    each = f" ({metrics['val/sequence_nll']:.4f} per sequence)" if "val/sequence_nll" in metrics else ""
    more = f", and {record.positions / record.tokens - 1:.1%} more read as padding or restarts"
    joined = record.data.get("joined", True)
    beside = "" if joined else more
    resets = f", with carried state; with resets every {record.reset_every}: {metrics['val/nll_reset']:.4f}"
    how = resets if joined else ", each sequence from zeros"
    limit = f"; no model can be below {record.data['entropy']:.4f}" if "entropy" in record.data else ""
    named = ("val/nll_reset", "val/nll_after_first")
    others = {key: value for key, value in metrics.items() if key.startswith("val/nll_") and key not in named}
    per_frame, tested_on = (
        "" if record.step == "token" else " per frame" + _after_first(metrics.get(f"{split}/nll_after_first"))
        for split in ("val", "test")
    )
    tested = f" ({tested})" if tested else ""
    done = f"{record.updates:,} updates" if record.updates > record.steps else f"{record.steps:,} steps"
    console.print(
        f"\nval nll {metrics['val/nll']:.4f} nats{per_frame}{each}"
        + (f" ({carried})" if carried else "")
        + how
        + "".join(f"; {key.removeprefix('val/nll_')}: {value:.4f}" for key, value in others.items())
        + limit
        + (f"\ntest nll {metrics['test/nll']:.4f} nats{tested_on}{tested}, by best.ckpt" if "test/nll" in metrics else "")
        + f"\n{record.tokens:,} tokens in {done} and {record.seconds:.1f} s of training "
        f"({record.tokens_per_second:,.0f} tokens/s{beside}); this process took {record.wall_seconds:.1f} s, "
        f"{record.peak_memory_bytes / 2**20:,.0f} MiB of memory at most",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    if metrics["val/nll"] - lowest > OVERFITTED * abs(lowest):
        console.print(
            f"caution: val nll was lower before, {lowest:.4f} in best.ckpt; give a smaller budget, or model.dropout",
            highlight=False,
            soft_wrap=True,
        )
    console.rule("generated")
    console.print(escaped(passage), highlight=False, markup=False, soft_wrap=True)
    console.rule()
    console.print(f"all files are in {shown(folder)}", highlight=False, markup=False, soft_wrap=True)


def _after_first(nll: float | None) -> str:
    return "" if nll is None else f", {nll:.4f} without the first frame of each sequence"
