"""The one protocol by which every regime is measured, whatever it was trained with.

`val/nll` carries the state through the whole split: what a generator that keeps its state pays per token.
`val/nll_reset` starts from zeros every `reset_every` targets. Both score every target of the split once.
"""

import numpy as np
from lightning.pytorch import Trainer
from torch.utils.data import DataLoader

from throughline.batch import Batch, Batches
from throughline.checkpoint import load_generator
from throughline.config import EvaluateConfig, Evaluation
from throughline.corpus import Line
from throughline.learner import Learner
from throughline.model import LSTMGenerator
from throughline.quiet import quieten
from throughline.regimes import Plan
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Chunks
from throughline.vocab import Vocab

TOKENS_PER_BATCH = 4096


def carried_plan(line: Line, streams: int, warmup: int) -> Plan:
    """One carried pass over the line, exact with one stream; with more, each first reads `warmup` targets unscored."""
    streams = max(1, min(streams, line.targets // (4 * warmup))) if warmup else streams
    edges = np.arange(streams + 1) * line.targets // streams
    unscored = np.minimum(edges[:-1], warmup)
    start, length = edges[:-1] - unscored, np.diff(edges) + unscored
    bounds = np.unique([*range(0, length.max(), max(1, TOKENS_PER_BATCH // streams)), length.max()])
    return Chunks(line.targets, start, length, unscored, bounds)


def loaders(line: Line, settings: Evaluation, exact: bool) -> list[DataLoader[Batch]]:
    """The batches of both figures, in the order of `STAGES`."""
    carried = carried_plan(line, 1, 0) if exact else carried_plan(line, settings.streams, settings.warmup)
    rows = max(1, TOKENS_PER_BATCH // settings.reset_every)
    reset = Segments(steps=settings.reset_every, batch_size=rows).plan(line, seed=0, epoch=0)
    return [DataLoader(Batches(plan, line), batch_size=None) for plan in (carried, reset)]


def evaluate(
    model: LSTMGenerator, vocab: Vocab, line: Line, settings: Evaluation, accelerator: str = "auto"
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
