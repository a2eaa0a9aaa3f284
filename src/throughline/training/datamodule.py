"""Feeds a regime's batches to the Trainer, in the regime's own order."""

from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from throughline.batches.batch import Batch, Batches
from throughline.data.corpus import Corpus
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.plumbing import stopping
from throughline.regimes import Cut, Played, Regime


class Workers(DataLoader[Batch]):
    """Loader workers that hear no signals: the first process decides, and ends them."""

    def __iter__(self) -> Any:
        with stopping.not_inherited():
            return super().__iter__()


class StreamDataModule(LightningDataModule):
    """Batches of a regime for training, and those of the readings for validation.

    Its place is `epoch` and `batch`: the number of batches done in that epoch. A checkpoint saves this place, and a loader
    always begins there; Lightning's own counts are not used. It also holds the `corpus` of a run for everything that needs
    the data.

    The Trainer needs `reload_dataloaders_every_n_epochs=1`, because each epoch has its own plan, and
    `use_distributed_sampler=False`, because Lightning would otherwise shuffle the batches, and their order matters.
    """

    def __init__(
        self,
        corpus: Corpus,
        regime: Regime,
        readings: Iterable[Reading],
        evaluation: Evaluation,
        seed: int = 0,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        corpus.refuse_too_short()
        corpus.train.refuse_to_join(regime, f"regime={regime.name}")
        self.corpus = corpus
        self.regime = regime
        for reading in (readings := [*readings]):
            reading.refuse(corpus.val)
        self.readings = [reading for reading in readings if reading.while_training]
        self.evaluation = evaluation
        self.seed = seed
        self.num_workers = num_workers
        self.epoch, self.batch = 0, 0
        self.last_done = 0, 0
        """Epoch and batch of the last one done, counted from 1."""
        self._plan = regime.plan(corpus.train, seed, epoch=0)

    @property
    def epochs(self) -> float:
        """The number of epochs done, including the part of the current one."""
        return self.epoch + self.batch / len(self._plan)

    @property
    def following(self) -> Cut | Played:
        """The next batch."""
        return self._plan[self.batch]

    def completes(self, batches: int) -> bool:
        """Whether the batch in progress is the last of `batches` in a row, or the last of the epoch."""
        return (self.batch + 1) % batches == 0 or self.batch + 1 == len(self._plan)

    def advance(self) -> None:
        """Count a batch as done: move to the next place in the line."""
        self.last_done = self.epoch + 1, self.batch + 1
        self.batch += 1
        if self.batch == len(self._plan):
            self._go_to(self.epoch + 1, 0)

    def _go_to(self, epoch: int, batch: int) -> None:
        self.epoch, self.batch = epoch, batch
        self._plan = self.regime.plan(self.corpus.train, self.seed, epoch)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._go_to(state_dict["epoch"], state_dict["batch"])
        if self.batch >= len(self._plan):
            raise ValueError(f"the place is batch {self.batch} of an epoch of {len(self._plan)} batches")

    def train_dataloader(self) -> Batches | DataLoader[Batch]:
        assert self.trainer is not None
        ahead = range(self.batch, len(self._plan))  # from the current place on
        batches = Batches(self._plan, self.corpus.train, ahead, self.trainer.global_rank, self.trainer.world_size)
        pinned = self.trainer.strategy.root_device.type == "cuda"
        if not (pinned or self.num_workers):
            return batches  # they are whole and in order; a loader would only count them
        return Workers(batches, batch_size=None, num_workers=self.num_workers, pin_memory=pinned)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning searches a batch for tensors to move. Checking that nothing must be moved is faster.
        return batch if batch.inputs.device == device else batch.to(device)

    def val_dataloader(self) -> list[Batches]:
        assert self.trainer is not None
        line, rank, world_size = self.corpus.val, self.trainer.global_rank, self.trainer.world_size
        plans = [reading.plan(line, self.evaluation, exact=False) for reading in self.readings]
        return [Batches(plan, line, rank=rank, world_size=world_size) for plan in plans]


def datamodule_of(trainer: Trainer) -> StreamDataModule:
    """The data module of a trainer; its `epoch` and `batch` are the place of training."""
    datamodule: StreamDataModule = trainer.datamodule  # type: ignore[attr-defined]  # lightning adds the property
    return datamodule
