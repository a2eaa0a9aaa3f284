"""What a person surely did not mean, though it can be done: a line for each."""

import math
import re
from collections.abc import Iterator

import numpy as np

from throughline.config import Config
from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus, in_pieces, num_of_each, num_unknown
from throughline.data.line import Line
from throughline.data.sources.text import Text

MANY_SYMBOLS = 50
"""The size of a vocabulary from which most symbols should come again."""
FEW_TIMES = 5
"""How often a word should occur, in the mean."""
FEW_EACH = 20
"""Targets per subword below which most subwords are hardly learned."""
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
    if alike(corpus.train.steps, corpus.val.steps):
        yield "the network is trained on the validation split, so val nll shows only what it has learned by heart"
    if not corpus.train.joined and getattr(config.regime, "rotate", False):
        yield "regime.rotate=true has no effect: sequences that are not joined are shuffled in every epoch"
    streams, targets = getattr(config.regime, "streams", 1), corpus.train.num_targets
    if corpus.train.joined and streams > targets:
        yield (
            f"regime.streams={streams}: there are only {targets:,} targets to train on, so each row is one step long, and "
            "nothing that lies further back is learned; give fewer streams, such as 1"
        )
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
    if isinstance(corpus.codec, Words) and corpus.train.num_targets < FEW_TIMES * corpus.codec.size:
        yield (
            f"{corpus.codec.size - 1:,} different words among {corpus.train.num_targets:,}, so little can be learned about "
            "most of them; give codec.min_count=2 or more, or codec=characters"
        )
    if isinstance(corpus.codec, Bpe):
        yield from _about_subwords(corpus.codec, corpus.train)
    yield from about_split("validation", corpus.val, corpus.codec)
    updates = _updates(config, corpus)
    if updates < FEW_UPDATES:
        yield f"{math.ceil(updates)} updates in the whole run: give more epochs, or fewer streams"


def alike(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether two splits have the same steps; the first unlike piece decides."""
    pairs = zip(in_pieces(first), in_pieces(second), strict=False)
    return len(first) == len(second) and all(np.array_equal(a, b) for a, b in pairs)


def about_split(name: str, line: Line, codec: Codec) -> Iterator[str]:
    """Cautions about a split that is scored."""
    unknown = num_unknown(line, codec)
    if 2 * unknown > line.num_targets:
        what = "symbols that do not occur in the training data" if codec.unknown == UNKNOWN else "the unknown word, <unk>"
        yield f"{name}: {unknown:,} of {line.num_targets:,} targets are {what}"
    elif unknown and isinstance(codec, Words) and codec.unknown == UNKNOWN:
        yield (
            f"{name}: {unknown:,} of {line.num_targets:,} targets are words that do not occur in the training data, so none "
            "of them can be predicted; a larger codec.min_count trains <unk> in their place"
        )


def _about_subwords(codec: Bpe, train: Line) -> Iterator[str]:
    if train.num_targets < FEW_EACH * codec.size:
        yield (
            f"{codec.size:,} subwords and only {train.num_targets:,} targets, so little can be learned about each; "
            "give more text, or a smaller codec.vocab_size"
        )
    if codec.normalizer is not None:
        yield f"the tokenizer changes the text before it is encoded ({codec.normalizer}), so generated text may differ"


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
