"""What a person sees of a run: before, while it trains, and after."""

import math
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn
from rich.tree import Tree

from throughline.config import Config
from throughline.model.generator import Generator
from throughline.runs.record import Record
from throughline.training.datamodule import StreamDataModule, datamodule_of
from throughline.training.learner import Learner
from throughline.training.machine import precision
from throughline.training.metric_log import MetricLog
from throughline.training.spending import Spending


def introduce(config: Config, data: StreamDataModule, generator: Generator, console: Console) -> None:
    """Show a person what will be trained on what."""
    corpus = data.corpus
    fingerprint, parameters = corpus.fingerprint, sum(p.numel() for p in generator.parameters())
    size = f", {fingerprint['bytes']:,} bytes, sha256 {fingerprint['sha256'][:12]}" if "bytes" in fingerprint else ""
    console.print(_tree(config.to_plain(), config.name))
    console.print(
        f"data: {fingerprint['source']}{size}; "
        f"{corpus.train.num_targets:,} targets to train on, {corpus.val.num_targets:,} to validate on "
        f"({corpus.unknown:,} unknown), {corpus.codec.name}, vocabulary {corpus.codec.size}\n"
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


class Display(Callback):
    """Shows a person how far the run is: one live bar for all of it, and a line per validation that stays.

    Where there is no terminal only the lines are printed.
    """

    REFRESH_SECONDS = 0.25

    def __init__(self, console: Console, spending: Spending, metric_log: MetricLog) -> None:
        self.console = console
        self.spending = spending
        self.metric_log = metric_log
        self.bar = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %  {task.fields[figures]}"),
            console=console,
            transient=True,
            auto_refresh=False,
            disable=not console.is_terminal,
        )
        self._shown_at = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.start()
        self._task = self.bar.add_task("", total=1.0, epoch=1, figures="")

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        now = time.perf_counter()
        if self.bar.disable or now - self._shown_at < self.REFRESH_SECONDS:
            return
        self._shown_at = now
        spent, seconds, nll = self.spending.spent(trainer), self.spending.seconds, self.metric_log.nll
        parts = [] if nll is None else [f"nll {nll:.3f}"]
        parts.append(f"{self.spending.tokens / seconds:,.0f} tokens/s")
        if spent > 0:
            left = seconds / spent - seconds
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        self.bar.update(self._task, completed=spent, epoch=datamodule_of(trainer).epoch + 1, figures="  ".join(parts))
        self.bar.refresh()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        metrics = pl_module.metrics
        bits = f" ({metrics['val/bpc']:.3f} bpc)" if "val/bpc" in metrics else ""
        accuracy = f", accuracy {metrics['val/accuracy']:.1%}" if "val/accuracy" in metrics else ""
        self.console.print(
            f"epoch {math.ceil(datamodule_of(trainer).epochs)}: train nll {self.metric_log.nll or math.nan:.4f}, "
            f"val nll {metrics['val/nll']:.4f}{bits}, from zeros {metrics['val/nll_reset']:.4f}{accuracy}; "
            f"{self.spending.tokens:,} tokens in {self.spending.seconds:.1f} s, "
            f"{self.spending.tokens / self.spending.seconds:,.0f} tokens/s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()


def show(record: Record, passage: str, folder: Path, console: Console) -> None:
    """Show a person what came of it."""
    metrics = record.metrics
    units = {"bpc": "{:.4f} bits per symbol", "ppl": "perplexity {:.3f}", "accuracy": "accuracy {:.1%}"}
    carried = ", ".join(text.format(metrics[f"val/{key}"]) for key, text in units.items() if f"val/{key}" in metrics)
    others = {key: value for key, value in metrics.items() if key.startswith("val/nll_") and key != "val/nll_reset"}
    console.print(
        f"\nval nll {metrics['val/nll']:.4f} nats" + (f" ({carried})" if carried else "") + ", one carried pass; "
        f"from zeros every {record.reset_every}: {metrics['val/nll_reset']:.4f}"
        + "".join(f"; {key.removeprefix('val/nll_')}: {value:.4f}" for key, value in others.items())
        + f"\n{record.tokens:,} tokens in {record.steps:,} steps and {record.seconds:.1f} s of training "
        f"({record.tokens_per_second:,.0f} tokens/s); {record.wall_seconds:.1f} s in all, "
        f"{record.peak_memory_bytes / 2**20:,.0f} MiB at most",
        highlight=False,
        markup=False,
        soft_wrap=True,
    )
    console.rule("generated")
    console.print(passage, highlight=False, markup=False, soft_wrap=True)
    console.rule()
    console.print(f"everything lies in {folder}", highlight=False, markup=False, soft_wrap=True)
