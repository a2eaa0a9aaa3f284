"""What a person sees of a run while it trains."""

import math
import time
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from throughline.training.datamodule import datamodule_of
from throughline.training.learner import Learner
from throughline.training.metric_log import MetricLog
from throughline.training.spending import Spending


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
