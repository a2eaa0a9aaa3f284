"""What happens around the training step: the budget, the figures, the files, the display."""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from throughline import checkpoint
from throughline.batch import Batch
from throughline.config import Budget, Schedule
from throughline.learner import Learner


class Spending(Callback):
    """Counts what training has spent, sets the learning rate by it, and stops the run when the budget is gone.

    Attributes:
        tokens: valid targets trained on.
        steps: batches trained on.
        seconds: training time; validation and checkpoints are not counted.
    """

    def __init__(self, budget: Budget, max_epochs: int | None, schedule: Schedule) -> None:
        self.budget = budget
        self.max_epochs = max_epochs
        self.schedule = schedule
        self.tokens = 0
        self.steps = 0
        self._seconds = 0.0
        self._running_since: float | None = None

    @property
    def seconds(self) -> float:
        running = 0.0 if self._running_since is None else time.perf_counter() - self._running_since
        return self._seconds + running

    def pause(self) -> None:
        self._seconds, self._running_since = self.seconds, None

    def resume(self) -> None:
        self._running_since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        was_running = self._running_since is not None
        self.pause()
        yield
        if was_running:
            self.resume()

    def spent(self, trainer: Trainer) -> float:
        """The share of the budget that is gone, in [0, 1]: of whichever limit is nearest."""
        shares = [0.0]
        if self.budget.tokens is not None:
            shares.append(self.tokens / self.budget.tokens)
        if self.budget.seconds is not None:
            shares.append(self.seconds / self.budget.seconds)
        if self.max_epochs is not None:
            progress: Any = trainer.fit_loop.epoch_loop.batch_progress.current
            done = progress.processed / trainer.num_training_batches
            shares.append((trainer.current_epoch + done) / self.max_epochs)
        return min(max(shares), 1.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group.setdefault("initial_lr", group["lr"])
        self.resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.resume()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        factor = self.schedule.factor(self.spent(trainer))
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.tokens += batch.n_valid
        self.steps += 1
        if self.spent(trainer) == 1.0:
            trainer.should_stop = True  # which also brings a last validation

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "steps": self.steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.steps, self._seconds = state_dict["tokens"], state_dict["steps"], state_dict["seconds"]


class Figures(Callback):
    """Sends figures to the loggers, every row with its place on the three axes: step, tokens and seconds.

    Sums stay on the device and are read only when a row is due, so that no step waits for one.
    """

    def __init__(self, spending: Spending, every_n_steps: int) -> None:
        self.spending = spending
        self.every_n_steps = every_n_steps
        self.nll: float | None = None
        """Mean over the valid tokens of the newest row."""
        self._begin_row()

    def _begin_row(self) -> None:
        self._nll_sum: torch.Tensor | float = 0.0
        self._tokens = 0
        self._since = self.spending.seconds

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._nll_sum += outputs["nll_sum"]
        self._tokens += batch.n_valid
        if self.spending.steps % self.every_n_steps == 0 or trainer.should_stop:
            self._log_training(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tokens:
            self._log_training(trainer)
        assert isinstance(pl_module, Learner)
        self._log(trainer, pl_module.figures)
        self._since = self.spending.seconds

    def _log_training(self, trainer: Trainer) -> None:
        self.nll = float(self._nll_sum) / self._tokens
        seconds = self.spending.seconds - self._since
        self._log(
            trainer,
            {
                "train/nll": self.nll,
                "train/bpc": self.nll / math.log(2),
                "train/tokens_per_second": self._tokens / seconds if seconds else math.nan,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
            },
        )
        self._begin_row()

    def _log(self, trainer: Trainer, figures: dict[str, float]) -> None:
        axes = {"epoch": trainer.current_epoch, "tokens": self.spending.tokens, "seconds": self.spending.seconds}
        for logger in trainer.loggers:
            logger.log_metrics({**figures, **axes}, step=self.spending.steps)


class CheckpointFiles(TorchCheckpointIO):
    """Lets Lightning read and write its checkpoints by `throughline.checkpoint`."""

    def save_checkpoint(self, checkpoint_: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        checkpoint.write(checkpoint_, Path(path))


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt`, and `best.ckpt` by `val/nll`: at every validation, and `last.ckpt` also every so many seconds."""

    def __init__(self, folder: Path, spending: Spending, every_n_seconds: float) -> None:
        self.folder = folder
        self.spending = spending
        self.every_n_seconds = every_n_seconds
        self.best = math.inf
        self._saved_at = 0.0
        self._saved_step = -1

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if self.spending.seconds - self._saved_at >= self.every_n_seconds:
            self._save_last(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        nll = pl_module.figures["val/nll"]
        if nll < self.best:
            self.best = nll
            with self.spending.paused():
                trainer.save_checkpoint(self.folder / "best.ckpt")
        self._save_last(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._saved_step != self.spending.steps:
            self._save_last(trainer)

    def _save_last(self, trainer: Trainer) -> None:
        with self.spending.paused():
            trainer.save_checkpoint(self.folder / "last.ckpt")
        self._saved_at, self._saved_step = self.spending.seconds, self.spending.steps

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best = state_dict["best"]


class Display(Callback):
    """Shows a person how far the run is: one live bar for all of it, and a line each epoch that stays.

    Where there is no terminal only the lines are printed.
    """

    REFRESH_SECONDS = 0.25

    def __init__(self, console: Console, spending: Spending, figures: Figures) -> None:
        self.console = console
        self.spending = spending
        self.figures = figures
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
        if not self.console.is_terminal or now - self._shown_at < self.REFRESH_SECONDS:
            return
        self._shown_at = now
        spent, seconds, nll = self.spending.spent(trainer), self.spending.seconds, self.figures.nll
        parts = [] if nll is None else [f"nll {nll:.3f}", f"bpc {nll / math.log(2):.3f}"]
        parts.append(f"{self.spending.tokens / seconds:,.0f} tokens/s")
        if spent > 0:
            left = seconds / spent - seconds
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        self.bar.update(self._task, completed=spent, epoch=trainer.current_epoch + 1, figures="  ".join(parts))
        self.bar.refresh()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        figures = pl_module.figures
        self.console.print(
            f"epoch {trainer.current_epoch + 1}: train nll {self.figures.nll or math.nan:.4f}, "
            f"val nll {figures['val/nll']:.4f} ({figures['val/bpc']:.3f} bpc), "
            f"from zeros {figures['val/nll_reset']:.4f}, accuracy {figures['val/accuracy']:.1%}; "
            f"{self.spending.tokens:,} tokens in {self.spending.seconds:.1f} s, "
            f"{self.spending.tokens / self.spending.seconds:,.0f} tokens/s",
            highlight=False,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()
