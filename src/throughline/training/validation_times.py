"""Validations over a whole budget."""

import math
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.training.internals import validate_next
from throughline.training.learner import between_updates
from throughline.training.spending import Spending


class ValidationTimes(Callback):
    """Validates `checks` times over the budget, more often at its beginning, where the loss falls fastest."""

    def __init__(self, spending: Spending, checks: int) -> None:
        self.spending = spending
        self.checks = checks

    def _due(self, trainer: Trainer) -> int:
        return int(self.checks * math.sqrt(self.spending.spent(trainer)))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.done = self._due(trainer)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        due = self._due(trainer) if between_updates(trainer) else self.done
        validate_next(trainer, due > self.done)
        self.done = due
