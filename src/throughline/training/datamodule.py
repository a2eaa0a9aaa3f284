"""Feeds a regime's batches to the Trainer, in the regime's own order."""

from collections.abc import Iterable

import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from throughline.batches.batch import Batch, Batches
from throughline.data.corpus import Corpus
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.regimes import Regime


class StreamDataModule(LightningDataModule):
    """Batches of a regime for training, and those of the readings for validation.

    It knows its place, `epoch` and `batch`: how many batches of which epoch are done. That place is saved with a
    checkpoint, and a loader always begins there; Lightning's own counts are not used. It holds the corpus of a run: whatever
    needs to know the data asks for `corpus` here.

    The Trainer needs `reload_dataloaders_every_n_epochs=1`, because each epoch has its own plan, and
    `use_distributed_sampler=False`, because Lightning would otherwise shuffle batches whose order is the point.
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
        self.corpus = corpus
        self.regime = regime
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
        """How many epochs are done, the part of the present one included."""
        return self.epoch + self.batch / len(self._plan)

    def completes(self, batches: int) -> bool:
        """Whether the batch in progress is the last of so many in a row, or of the epoch."""
        return (self.batch + 1) % batches == 0 or self.batch + 1 == len(self._plan)

    def advance(self) -> None:
        """A batch is done: the place in the line moves on."""
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

    def train_dataloader(self) -> Batches | DataLoader[Batch]:
        assert self.trainer is not None
        ahead = range(self.batch, len(self._plan))  # from wherever training has come to
        batches = Batches(self._plan, self.corpus.train, ahead, self.trainer.global_rank, self.trainer.world_size)
        pinned = self.trainer.strategy.root_device.type == "cuda"
        if not (pinned or self.num_workers):
            return batches  # already whole and in order: a loader would only count them
        return DataLoader(batches, batch_size=None, num_workers=self.num_workers, pin_memory=pinned)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        # Lightning searches a batch for what can be moved. That takes longer than to see that nothing must be.
        return batch if batch.inputs.device == device else batch.to(device)

    def val_dataloader(self) -> list[Batches]:
        assert self.trainer is not None
        line, rank, world_size = self.corpus.val, self.trainer.global_rank, self.trainer.world_size
        plans = [reading.plan(line, self.evaluation, exact=False) for reading in self.readings]
        return [Batches(plan, line, rank=rank, world_size=world_size) for plan in plans]


def datamodule_of(trainer: Trainer) -> StreamDataModule:
    """The data module of a trainer, which knows how many batches of which epoch are done."""
    datamodule: StreamDataModule = trainer.datamodule  # type: ignore[attr-defined]  # lightning adds the property
    return datamodule
