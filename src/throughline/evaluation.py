"""The exact figures of a model on a line, by the one protocol."""

from lightning.pytorch import Trainer

from throughline.callbacks import Commit
from throughline.checkpoint import load_generator
from throughline.config import EvaluateConfig, Evaluation
from throughline.corpus import Line
from throughline.learner import Learner
from throughline.model import LSTMGenerator
from throughline.protocol import loaders
from throughline.quiet import quieten
from throughline.vocab import Vocab


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
        callbacks=[Commit()],
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
