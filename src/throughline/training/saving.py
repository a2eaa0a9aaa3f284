"""Writes checkpoints, and ends a run on a signal."""

import math
import signal
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from rich.console import Console

from throughline.runs import checkpoint as files
from throughline.training.learner import Learner, between_updates
from throughline.training.processes import max_over_processes
from throughline.training.signals import Signals
from throughline.training.spending import Spending


class CheckpointFiles(TorchCheckpointIO):
    """Lets Lightning read and write its checkpoints with `throughline.runs.checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        files.write(checkpoint, path, path.with_name("previous.ckpt") if path.name == "last.ckpt" else None)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return files.read(path)


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and the one before it, and `best.ckpt` by `val/nll`; saves and ends the run on a signal.

    `last.ckpt` is written between two batches, when the first of them and its validation are done: after each validation,
    every `every_n_seconds`, and at the end.
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
        received = int(max_over_processes(self.signals.received or 0, pl_module.device))
        if received or self._due or self.spending.clock - self._saved_at >= self.every_n_seconds:
            self._save(trainer, "last.ckpt")
        if received:
            number = signal.Signals(received)
            self.console.print(
                f"{number.name}: saved {self.folder / 'last.ckpt'}, resume=auto continues from there", soft_wrap=True
            )
            raise SystemExit(Signals.EXIT_STATUS[number])

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        if pl_module.metrics["val/nll"] < self.best:
            self.best = pl_module.metrics["val/nll"]
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
        if (self.folder / "best.ckpt").exists():  # not if the run resumes in a new folder
            self.best = state_dict["best"]
