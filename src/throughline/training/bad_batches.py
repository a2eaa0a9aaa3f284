"""Batches whose loss or gradient is not finite."""

import math
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console

from throughline.batches.batch import Batch
from throughline.config import Numerics
from throughline.plumbing.errors import UserError
from throughline.training.datamodule import datamodule_of
from throughline.training.learner import Learner
from throughline.training.processes import gathered


class BadBatches(Callback):
    """Stops the run, or skips the batch, if a loss or gradient is not finite; the learner already left out the update."""

    def __init__(self, settings: Numerics, checkpoints: Path, console: Console) -> None:
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
        where = "epoch {}, batch {}".format(*datamodule_of(trainer).last_done)
        last = self.checkpoints / "last.ckpt"
        good = f"the last good checkpoint is {last}" if last.exists() else "there is no checkpoint yet"
        self.skipped += 1
        if self.settings.on_bad_batch == "stop":
            raise UserError(f"{where}: {what} is not finite; {good}; numerics.on_bad_batch=skip would skip such batches")
        if self.skipped > self.settings.max_skipped:
            limit = f"numerics.max_skipped={self.settings.max_skipped}"
            raise UserError(f"{where}: {what} is not finite, and {limit} such batches were skipped before; {good}")
        self.console.print(f"{where}: {what} is not finite; skipped", highlight=False)

    def state_dict(self) -> dict[str, Any]:
        return {"skipped": self.skipped}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]
