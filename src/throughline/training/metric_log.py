"""Sends the metrics of training and validation to the loggers."""

import math
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.batches.batch import Batch
from throughline.runs.csv_log import CSVLogger
from throughline.training.datamodule import datamodule_of
from throughline.training.learner import Learner
from throughline.training.spending import Spending
from throughline.training.utilisation import Utilisation


class MetricLog(Callback):
    """Sends metrics to the loggers, every row with its place on the axes: step, epoch, tokens, updates and seconds.

    Sums stay on the device and are read only when a row is due, so no step waits for the device.
    """

    def __init__(
        self, spending: Spending, utilisation: Utilisation, every_n_steps: int, table: CSVLogger | None = None
    ) -> None:
        self.spending = spending
        self.utilisation = utilisation
        self.every_n_steps = every_n_steps
        self.table = table
        """Its rows are saved with every checkpoint."""
        self.nll: float | None = None
        """The mean nll over the valid tokens of the last row."""
        self._begin_row()

    def _begin_row(self) -> None:
        self._nll_sum: torch.Tensor | float = 0.0
        self._grad_norm_sum: torch.Tensor | float = 0.0
        self._norms = 0
        self._tokens = 0
        self._since = self.spending.seconds

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert isinstance(pl_module, Learner)
        self._updates_seen = pl_module.updates

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, Learner)
        if not pl_module.bad_batch:
            self._nll_sum += outputs["nll_sum"]
            if pl_module.updates > self._updates_seen:  # several batches may share an update
                self._grad_norm_sum += pl_module.grad_norm
                self._norms += 1
            self._tokens += batch.n_valid
        self._updates_seen = pl_module.updates
        if self._tokens and (self.spending.batches % self.every_n_steps == 0 or trainer.should_stop):
            self._log_training(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._tokens:
            self._log_training(trainer)
        assert isinstance(pl_module, Learner)
        self._log(trainer, pl_module.metrics)
        self._since = self.spending.seconds

    def _log_training(self, trainer: Trainer) -> None:
        assert isinstance(trainer.lightning_module, Learner)
        head = trainer.lightning_module.generator.head
        self.nll = float(self._nll_sum) / self._tokens
        seconds = self.spending.seconds - self._since
        self._log(
            trainer,
            {
                "train/nll": self.nll,
                **{f"train/{name}": value for name, value in head.metrics(self.nll).items() if name == "bpc"},
                "train/grad_norm": float(self._grad_norm_sum) / self._norms if self._norms else math.nan,
                "train/tokens_per_second": self._tokens / seconds if seconds else math.nan,
                "train/lr": trainer.optimizers[0].param_groups[0]["lr"],
                **self.utilisation.row(seconds),
            },
        )
        self._begin_row()

    def _log(self, trainer: Trainer, metrics: dict[str, float]) -> None:
        assert isinstance(trainer.lightning_module, Learner)
        axes = {
            "epoch": datamodule_of(trainer).epochs,
            "tokens": self.spending.tokens,
            "updates": trainer.lightning_module.updates,
            "seconds": self.spending.seconds,
        }
        for logger in trainer.loggers:
            logger.log_metrics({**metrics, **axes}, step=self.spending.batches)

    def state_dict(self) -> dict[str, Any]:
        return {
            "nll_sum": float(self._nll_sum),
            "grad_norm_sum": float(self._grad_norm_sum),
            "norms": self._norms,
            "tokens": self._tokens,
            "since": self._since,
            **({"rows": self.table.packed()} if self.table else {}),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._nll_sum, self._tokens = state_dict["nll_sum"], state_dict["tokens"]
        self._grad_norm_sum, self._norms = state_dict["grad_norm_sum"], state_dict["norms"]
        self._since = state_dict["since"]
