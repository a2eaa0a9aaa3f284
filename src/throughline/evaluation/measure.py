"""The exact figures of a model on a line, by the one protocol."""

import csv
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from throughline.batches.batch import IGNORE_INDEX, Batch
from throughline.config import EvaluateConfig, Evaluation
from throughline.data.corpus import Line
from throughline.data.vocab import Vocab
from throughline.evaluation.protocol import loaders
from throughline.model.generator import LSTMGenerator
from throughline.plumbing.startup import quieten
from throughline.runs.checkpoint import load_generator
from throughline.training.callbacks import Commit
from throughline.training.learner import STAGES, Learner


class ByPosition(Callback):
    """Adds up the nll of the pass with resets by position: how many tokens the model has read since it began from zeros.

    Attributes:
        nll_sum, targets: (R,) of the first, second, ... target after a reset.
    """

    def __init__(self, reset_every: int) -> None:
        self.nll_sum, self.targets = torch.zeros(2, reset_every, dtype=torch.float64)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Batch,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if STAGES[dataloader_idx] == "val_reset":
            steps = batch.targets.shape[1]
            self.nll_sum[:steps] += outputs.cpu().double().sum(dim=0)
            self.targets[:steps] += (batch.targets != IGNORE_INDEX).sum(dim=0).cpu()

    def write(self, path: Path) -> None:
        with path.open("w", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["position", "nll", "targets"])
            for position, (nll, targets) in enumerate(
                zip(self.nll_sum.tolist(), self.targets.tolist(), strict=True), start=1
            ):
                if targets:
                    rows.writerow([position, nll / targets, int(targets)])


def evaluate(
    model: LSTMGenerator,
    vocab: Vocab,
    line: Line,
    settings: Evaluation,
    accelerator: str = "auto",
    by_position: ByPosition | None = None,
) -> dict[str, float]:
    """The exact figures: one carried pass in one row, and one with resets, in the precision of the weights."""
    quieten()
    learner = Learner(model, vocab)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        precision="64-true" if model.head.weight.dtype.itemsize == 8 else "32-true",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Commit(), *([by_position] if by_position else [])],
    )
    trainer.validate(learner, loaders(line, settings, exact=True), verbose=False)
    return learner.figures


def report(config: EvaluateConfig) -> None:
    """Print both figures of a checkpoint on the validation split of the configured data."""
    model, vocab = load_generator(config.checkpoint)
    corpus = config.data.read(vocab)
    print(f"{corpus.fingerprint['source']}: {corpus.val.targets:,} targets, {corpus.unknown:,} of them unknown symbols")
    for key, value in evaluate(model, vocab, corpus.val, config.evaluation).items():
        print(f"{key} {value:.6f}")
