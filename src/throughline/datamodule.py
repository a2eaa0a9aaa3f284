"""Feeds a regime's batches to the Trainer, in the regime's own order."""

from lightning.pytorch import LightningDataModule
from torch.utils.data import DataLoader

from throughline.batch import Batch, Batches
from throughline.config import Evaluation
from throughline.corpus import Corpus
from throughline.evaluation import loaders
from throughline.regimes import Regime


class StreamDataModule(LightningDataModule):
    """Batches of a regime for training, and the passes of the one protocol for validation.

    The Trainer needs `reload_dataloaders_every_n_epochs=1`, since each epoch has a plan of its own, and
    `use_distributed_sampler=False`, since Lightning would otherwise shuffle batches whose order is the point.
    """

    def __init__(self, corpus: Corpus, regime: Regime, evaluation: Evaluation, seed: int, num_workers: int = 0) -> None:
        super().__init__()
        self.corpus = corpus
        self.regime = regime
        self.evaluation = evaluation
        self.seed = seed
        self.num_workers = num_workers

    def train_dataloader(self) -> DataLoader[Batch]:
        assert self.trainer is not None
        plan = self.regime.plan(self.corpus.train, self.seed, self.trainer.current_epoch)
        # An item is a whole batch, already in order: the loader neither batches nor samples.
        return DataLoader(
            Batches(plan, self.corpus.train),
            batch_size=None,
            num_workers=self.num_workers,
            pin_memory=self.trainer.strategy.root_device.type == "cuda",
        )

    def val_dataloader(self) -> list[DataLoader[Batch]]:
        return loaders(self.corpus.val, self.evaluation, exact=False)
