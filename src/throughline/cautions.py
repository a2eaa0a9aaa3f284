"""What a person surely did not mean, though it can be done: a line for each."""

import math
import re
from collections.abc import Iterator

import numpy as np

from throughline.config import Config
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus, num_of_each, num_unknown
from throughline.data.line import Line
from throughline.data.sources.text import Text

MANY_SYMBOLS = 50
"""The size of a vocabulary from which most symbols should come again."""
FEW_UPDATES = 100
"""Updates after which hardly any network has learned anything."""


def about_training(config: Config, corpus: Corpus) -> Iterator[str]:
    """Cautions about a run, before it begins."""
    if (
        isinstance(config.data, Text)
        and config.data.separator is not None
        and len(corpus.train.ends) <= corpus.fingerprint.get("files", 1)
    ):
        yield f"data.separator={config.data.separator!r} does not occur in the text, so nothing is cut there"
    if np.array_equal(corpus.train.steps, corpus.val.steps):
        yield "the network is trained on the validation split, so val nll shows only what it has learned by heart"
    if not corpus.train.joined and getattr(config.regime, "rotate", False):
        yield "regime.rotate=true has no effect: sequences that are not joined are shuffled in every epoch"
    symbols = corpus.codec.symbols or [] if isinstance(corpus.codec, Symbols) else []
    numbers = [symbol for symbol in symbols if re.fullmatch(r"-?\d+[.]\d+", symbol)]
    if 2 * len(numbers) > len(symbols):
        yield (
            f"{len(numbers)} of {len(symbols)} symbols are numbers such as {numbers[0]}; each is a class of its own, "
            "so they are not predicted as values"
        )
    once = 0
    if len(symbols) > MANY_SYMBOLS:
        once = int(np.count_nonzero(num_of_each(corpus.train, corpus.codec.size) == 1))
    if 2 * once > len(symbols):
        yield (
            f"{once:,} of {len(symbols):,} symbols occur once, so little can be learned about them; "
            "texts are read by characters with data.by=characters, and numbers need another column"
        )
    yield from about_split("validation", corpus.val)
    updates = _updates(config, corpus)
    if updates < FEW_UPDATES:
        yield f"{math.ceil(updates)} updates in the whole run: give more epochs, or fewer streams"


def about_split(name: str, line: Line) -> Iterator[str]:
    """Cautions about a split that is scored."""
    unknown = num_unknown(line)
    if 2 * unknown > line.num_targets:
        yield f"{name}: {unknown:,} of {line.num_targets:,} targets are symbols that do not occur in the training data"


def _updates(config: Config, corpus: Corpus) -> float:
    """The updates that the limits allow; infinite with a limit in seconds alone."""
    targets, epochs = corpus.train.num_targets, math.inf
    if config.budget.tokens is not None:
        epochs = config.budget.tokens / targets
    if config.max_epochs is not None:
        epochs = min(epochs, config.max_epochs)
    if config.regime.update_every_token:
        return epochs * targets
    return epochs * len(config.regime.plan(corpus.train, config.seed, epoch=0)) / config.trainer.accumulate_grad_batches
