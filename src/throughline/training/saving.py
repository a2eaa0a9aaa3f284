"""Writes checkpoints, and ends a run on a signal."""

import math
from pathlib import Path
from typing import Any

from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint

from throughline.plumbing import stopping
from throughline.runs import checkpoint as files
from throughline.training.internals import validate_now
from throughline.training.learner import Learner, between_updates
from throughline.training.processes import max_over_processes
from throughline.training.spending import Spending


class CheckpointFiles(TorchCheckpointIO):
    """Lets Lightning read and write its checkpoints with `throughline.runs.checkpoint`."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        path = Path(path)
        files.write(checkpoint, path, path.with_name("previous.ckpt") if path.name == "last.ckpt" else None)

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        return files.read(path)


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt` and the one before it, and `best.ckpt` by `val/nll`; a signal ends the run after a save.

    `last.ckpt` is written between two batches: every `every_n_seconds`, before and after each validation, and at the end. So
    nothing that happens during a validation, or after the training, loses training. A run that resumes from a file written
    before a validation makes that validation first.

    Signals wait while the network is trained. In a validation, and after the last save, they end the program at once.
    """

    def __init__(self, folder: Path, spending: Spending, every_n_seconds: float) -> None:
        self.folder = folder
        self.spending = spending
        self.every_n_seconds = every_n_seconds
        self.best = math.inf
        self._saved_at = 0.0
        self._due = False
        self._validating = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._saved_at = self.spending.clock
        stopping.wait(True)
        if self._validating:
            validate_now(trainer)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        if not between_updates(trainer):
            return
        received = int(max_over_processes(stopping.received(), pl_module.device))
        if received or self._due or self.spending.clock - self._saved_at >= self.every_n_seconds:
            self._save(trainer, "last.ckpt")
        if received:
            stopping.stop(received)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._validating:
            self._validating = True
            self._save(trainer, "last.ckpt")
        stopping.wait(False)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        stopping.wait(True)
        self._validating = False
        if pl_module.metrics["val/nll"] < self.best:
            self.best = pl_module.metrics["val/nll"]
            self._save(trainer, "best.ckpt")
        self._due = True

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._save(trainer, "last.ckpt")
        stopping.wait(False)

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        stopping.no_longer_wait()

    def _save(self, trainer: Trainer, name: str) -> None:
        with self.spending.paused():
            trainer.save_checkpoint(self.folder / name)
        if name == "last.ckpt":
            self._saved_at, self._due = self.spending.clock, False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "validating": self._validating}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._validating = state_dict.get("validating", False)
        if (self.folder / "best.ckpt").exists():  # not if the run resumes in a new folder
            self.best = state_dict["best"]
