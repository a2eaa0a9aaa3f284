"""What happens around the training step: the budget, the figures, the files, the display."""

import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from throughline import config
from throughline.batches.batch import Batch
from throughline.config import Budget, Schedule
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint as files
from throughline.training.datamodule import place
from throughline.training.learner import STAGES, Learner
from throughline.training.processes import agreed, gathered
from throughline.training.utilisation import Utilisation


class Commit(Callback):
    """The one point at which a batch counts as done: its state is carried on, and the place in the data moves.

    A callback, and the first, since Lightning calls those before the module's own hooks and checkpoint callbacks last of
    all: committed in a module's hook, what a checkpoint holds would be one batch old.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        pl_module.carry.commit("train", pl_module.bad_batch)
        place(trainer).advance()

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        assert isinstance(pl_module, Learner)
        pl_module.carry.commit(STAGES[dataloader_idx])


def between_updates(trainer: Trainer) -> bool:
    """Whether no gradient waits for those of further batches to be added."""
    assert isinstance(trainer.lightning_module, Learner)
    return place(trainer).batch % trainer.lightning_module.accumulate_grad_batches == 0


class Spending(Callback):
    """Counts what training has spent, sets the learning rate by it, and stops the run when the budget is gone.

    Attributes:
        tokens: valid targets trained on.
        steps: batches trained on.
        seconds: training time; validation and checkpoints are not counted.
        clock: that time when the newest batch was done, the same in all processes: what is decided goes by it.
    """

    def __init__(self, budget: Budget, max_epochs: int | None, schedule: Schedule) -> None:
        self.budget = budget
        self.max_epochs = max_epochs
        self.schedule = schedule
        self.tokens = 0
        self.steps = 0
        self.clock = 0.0
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
            shares.append(self.clock / self.budget.seconds)
        if self.max_epochs is not None:
            shares.append(place(trainer).epochs / self.max_epochs)
        return min(max(shares), 1.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group.setdefault("initial_lr", group["lr"])
        if self.spent(trainer) == 1.0:
            trainer.should_stop = True  # resumed when all was done
        # Lightning counts validation intervals in batches that it has seen; a resumed run has seen those before, too.
        trainer.fit_loop.epoch_loop.batch_progress.total.ready = self.steps
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
        self.clock = agreed(self.seconds, pl_module.device)
        if self.spent(trainer) == 1.0 and between_updates(trainer):
            trainer.should_stop = True  # which also brings a last validation

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "steps": self.steps, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.steps, self._seconds = state_dict["tokens"], state_dict["steps"], state_dict["seconds"]
        self.clock = self._seconds


class ValidationTimes(Callback):
    """Validates `checks` times over the budget, more often at its beginning, where the loss falls fastest."""

    def __init__(self, spending: Spending, checks: int) -> None:
        self.spending = spending
        self.checks = checks

    def _behind(self, trainer: Trainer) -> int:
        return int(self.checks * math.sqrt(self.spending.spent(trainer)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = self._behind(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        behind = self._behind(trainer) if between_updates(trainer) else self.done
        trainer.val_check_batch = 1 if behind > self.done else sys.maxsize  # what Lightning looks at next
        self.done = behind


class Figures(Callback):
    """Sends figures to the loggers, every row with its place on the three axes: step, tokens and seconds.

    Sums stay on the device and are read only when a row is due, so that no step waits for one.
    """

    def __init__(self, spending: Spending, utilisation: Utilisation, every_n_steps: int) -> None:
        self.spending = spending
        self.utilisation = utilisation
        self.every_n_steps = every_n_steps
        self.nll: float | None = None
        """Mean over the valid tokens of the newest row."""
        self._begin_row()

    def _begin_row(self) -> None:
        self._nll_sum: torch.Tensor | float = 0.0
        self._grad_norm_sum: torch.Tensor | float = 0.0
        self._updates = 0
        self._tokens = 0
        self._since = self.spending.seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._grad_norm = pl_module.grad_norm

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not pl_module.bad_batch:
            self._nll_sum += outputs["nll_sum"]
            if pl_module.grad_norm is not self._grad_norm:  # several batches may share an update
                self._grad_norm = pl_module.grad_norm
                self._grad_norm_sum += self._grad_norm
                self._updates += 1
            self._tokens += batch.n_valid
        if self._tokens and (self.spending.steps % self.every_n_steps == 0 or trainer.should_stop):
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
                "train/grad_norm": float(self._grad_norm_sum) / self._updates if self._updates else math.nan,
                "train/tokens_per_second": self._tokens / seconds if seconds else math.nan,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
                **self.utilisation.row(seconds),
            },
        )
        self._begin_row()

    def _log(self, trainer: Trainer, figures: dict[str, float]) -> None:
        axes = {"epoch": place(trainer).epochs, "tokens": self.spending.tokens, "seconds": self.spending.seconds}
        for logger in trainer.loggers:
            logger.log_metrics({**figures, **axes}, step=self.spending.steps)

    def state_dict(self) -> dict[str, Any]:
        return {
            "nll_sum": float(self._nll_sum),
            "grad_norm_sum": float(self._grad_norm_sum),
            "updates": self._updates,
            "tokens": self._tokens,
            "since": self._since,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._nll_sum, self._tokens = state_dict["nll_sum"], state_dict["tokens"]
        self._grad_norm_sum, self._updates = state_dict["grad_norm_sum"], state_dict["updates"]
        self._since = state_dict["since"]


class Numerics(Callback):
    """Says what becomes of a batch whose loss or gradient is not finite: the learner has already left out its update."""

    def __init__(self, settings: config.Numerics, checkpoints: Path, console: Console) -> None:
        self.settings = settings
        self.checkpoints = checkpoints
        self.console = console
        self.skipped = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not pl_module.bad_batch:
            return
        rows = [row for row, nll in enumerate(gathered(pl_module.nll.sum(dim=1)).tolist()) if not math.isfinite(nll)]
        what = f"the loss of row {', '.join(map(str, rows))}" if rows else "the gradient"
        where = "epoch {}, batch {}".format(*place(trainer).newest)
        last = self.checkpoints / "last.ckpt"
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        self.skipped += 1
        if self.settings.on_bad_batch == "stop":
            raise UserError(
                f"{where}: {what} is not finite; {good}; numerics.on_bad_batch=skip would pass over such batches"
            )
        if self.skipped > self.settings.max_skipped:
            limit = f"numerics.max_skipped={self.settings.max_skipped}"
            raise UserError(f"{where}: {what} is not finite, and {limit} such batches were skipped before; {good}")
        self.console.print(f"{where}: {what} is not finite; skipped", highlight=False)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]


class CheckpointFiles(TorchCheckpointIO):
    """Lets Lightning read and write its checkpoints by `throughline.runs.checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        files.write(checkpoint, path, path.with_name("previous.ckpt") if path.name == "last.ckpt" else None)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return files.read(path)


class Signals:
    """Notes that the run is asked to stop, so that it can do so between two batches; a second SIGINT stops it at once."""

    EXIT_STATUS: ClassVar = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGUSR1: 75}
    """By signal; 75 is EX_TEMPFAIL of sysexits.h: start the same command again."""

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._before: dict[signal.Signals, Any] = {}

    def watch(self) -> None:
        if threading.current_thread() is threading.main_thread():  # Python allows it nowhere else
            self._before = {number: signal.signal(number, self._note) for number in self.EXIT_STATUS}

    def unwatch(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: Any) -> None:
        if number == signal.SIGINT and self.received == signal.SIGINT:
            os._exit(self.EXIT_STATUS[signal.SIGINT])
        self.received = signal.Signals(number)


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and the one before it, and `best.ckpt` by `val/nll`; saves and ends the run on a signal.

    `last.ckpt` is written between two batches, when everything about the one before is done, its validation included:
    after each validation, every so many seconds, and at the end.
    """

    def __init__(self, folder: Path, spending: Spending, every_n_seconds: float, console: Console) -> None:
        self.folder = folder
        self.spending = spending
        self.every_n_seconds = every_n_seconds
        self.console = console
        self.signals = Signals()
        self.best = math.inf
        self._saved_at = 0.0
        self._due = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = self.spending.clock
        self.signals.watch()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not between_updates(trainer):
            return
        received = int(agreed(self.signals.received or 0, pl_module.device))
        if received or self._due or self.spending.clock - self._saved_at >= self.every_n_seconds:
            self._save(trainer, "last.ckpt")
        if received:
            number = signal.Signals(received)
            self.console.print(
                f"{number.name}: saved {self.folder / 'last.ckpt'}, resume=auto goes on from there", soft_wrap=True
            )
            raise SystemExit(Signals.EXIT_STATUS[number])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if pl_module.figures["val/nll"] < self.best:
            self.best = pl_module.figures["val/nll"]
            self._save(trainer, "best.ckpt")
        self._due = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "last.ckpt")
        self.signals.unwatch()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.signals.unwatch()

    def _save(self, trainer: Trainer, name: str) -> None:
        with self.spending.paused():
            trainer.save_checkpoint(self.folder / name)
        if name == "last.ckpt":
            self._saved_at, self._due = self.spending.clock, False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if (self.folder / "best.ckpt").exists():  # not where a run goes on in a new folder
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
        if self.bar.disable or now - self._shown_at < self.REFRESH_SECONDS:
            return
        self._shown_at = now
        spent, seconds, nll = self.spending.spent(trainer), self.spending.seconds, self.figures.nll
        parts = [] if nll is None else [f"nll {nll:.3f}", f"bpc {nll / math.log(2):.3f}"]
        parts.append(f"{self.spending.tokens / seconds:,.0f} tokens/s")
        if spent > 0:
            left = seconds / spent - seconds
            parts.append(f"{int(left) // 60}:{int(left) % 60:02d} left")
        self.bar.update(self._task, completed=spent, epoch=place(trainer).epoch + 1, figures="  ".join(parts))
        self.bar.refresh()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        figures = pl_module.figures
        self.console.print(
            f"epoch {math.ceil(place(trainer).epochs)}: train nll {self.figures.nll or math.nan:.4f}, "
            f"val nll {figures['val/nll']:.4f} ({figures['val/bpc']:.3f} bpc), "
            f"from zeros {figures['val/nll_reset']:.4f}, accuracy {figures['val/accuracy']:.1%}; "
            f"{self.spending.tokens:,} tokens in {self.spending.seconds:.1f} s, "
            f"{self.spending.tokens / self.spending.seconds:,.0f} tokens/s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.bar.stop()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.bar.stop()
