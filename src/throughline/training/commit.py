"""The only point at which a batch counts as done."""

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.batches.batch import Batch
from throughline.training.datamodule import datamodule_of
from throughline.training.learner import Learner


class Commit(Callback):
    """The only point at which a batch counts as done: its state is kept for the next batch, and the place in the data moves.

    It must be the first callback. Lightning runs callbacks before the module's hooks and checkpoint callbacks last;
    committing in a module hook would leave checkpoints one batch behind.
    """

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        pl_module.carry.commit("train", pl_module.bad_batch)
        datamodule_of(trainer).advance()

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
        if not pl_module.ends:
            pl_module.carry.commit(pl_module.readings[dataloader_idx].name)
