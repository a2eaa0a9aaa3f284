"""Counts the spent part of the budget."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.batches.batch import Batch
from throughline.config import Budget, Schedule
from throughline.plumbing import stopping
from throughline.training.datamodule import datamodule_of
from throughline.training.internals import count_batches
from throughline.training.learner import between_updates
from throughline.training.processes import max_over_processes


def spending_of(trainer: Trainer) -> "Spending":
    """What the run of a trainer has spent."""
    return next(part for part in trainer.callbacks if isinstance(part, Spending))  # type: ignore[attr-defined]


class Spending(Callback):
    """Counts what training has spent, sets the learning rate by it, and stops the run when the budget is used up.

    Attributes:
        tokens: valid targets trained on.
        batches: batches trained on.
        seconds: training time; validation and checkpoints are not counted.
        resumed_at: `batches` of the checkpoint.
        clock: `seconds` at the end of the last batch, the same in all processes; all decisions use it.
    """

    def __init__(self, budget: Budget, max_epochs: int | None, schedule: Schedule) -> None:
        self.budget = budget
        self.max_epochs = max_epochs
        self.schedule = schedule
        self.tokens = 0
        self.batches = 0
        self.clock = 0.0
        self.resumed_at = 0
        self._seconds = 0.0
        self._running_since: float | None = None
        self._last_batch = 0.0
        self._times_continued = stopping.times_continued()

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

    def _leave_out_suspension(self) -> None:
        """If the process was suspended within this batch (SIGSTOP, Ctrl-Z), count the batch like the one before it."""
        took = self.seconds - self.clock
        if stopping.times_continued() != self._times_continued:
            self._times_continued = stopping.times_continued()
            self._seconds -= max(took - self._last_batch, 0.0)
        else:
            self._last_batch = took

    def spent(self, trainer: Trainer) -> float:
        """The spent share of the budget, in [0, 1]: that of the limit that is nearest."""
        shares = [0.0]
        if self.budget.tokens is not None:
            shares.append(self.tokens / self.budget.tokens)
        if self.budget.seconds is not None:
            shares.append(self.clock / self.budget.seconds)
        if self.max_epochs is not None:
            shares.append(datamodule_of(trainer).epochs / self.max_epochs)
        return min(max(shares), 1.0)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for group in trainer.optimizers[0].param_groups:
            group.setdefault("initial_lr", group["lr"])
        if self.spent(trainer) == 1.0:
            trainer.should_stop = True  # resumed after its end
        count_batches(trainer, self.batches)
        self.resume()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.pause()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.resume()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Batch, batch_idx: int) -> None:
        factor = self.schedule.factor(self.spent(trainer), datamodule_of(trainer).epochs)
        for group in trainer.optimizers[0].param_groups:
            group["lr"] = group["initial_lr"] * factor

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.tokens += batch.n_valid
        self.batches += 1
        self._leave_out_suspension()
        self.clock = max_over_processes(self.seconds, pl_module.device)
        if self.spent(trainer) == 1.0 and between_updates(trainer):
            trainer.should_stop = True  # Lightning then also makes a last validation

    def state_dict(self) -> dict[str, Any]:
        return {"tokens": self.tokens, "batches": self.batches, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens, self.batches, self._seconds = state_dict["tokens"], state_dict["batches"], state_dict["seconds"]
        self.clock, self.resumed_at = self._seconds, self.batches
