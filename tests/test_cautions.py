"""What a person surely did not mean gets a line, and the usual gets none."""

from typing import Any

import pytest

from helpers import SMALL, config, corpus_of, fox
from throughline import cautions
from throughline.config import Config
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.symbols import Symbols
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus

FEW = "34 updates in the whole run: give more epochs, or fewer streams"


def told(corpus: Corpus, *overrides: str) -> list[str]:
    settings: Any = config(*SMALL, *overrides, cls=Config)
    return list(cautions.about_training(settings, corpus))


def test_the_usual_gets_no_caution() -> None:
    assert told(fox(), "regime.streams=4", "regime.bptt=16", "trainer.max_epochs=9") == []
    assert told(fox(), "budget.seconds=9") == []
    assert told(fox(), "regime=onestep", "budget.tokens=200") == []


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (("trainer.max_epochs=2",), [FEW]),
        (("trainer.max_epochs=50", "budget.tokens=2098"), [FEW]),
        (("trainer.max_epochs=4", "trainer.accumulate_grad_batches=2"), [FEW]),
        (("regime=onestep", "budget.tokens=34"), [FEW]),
    ],
)
def test_few_updates(overrides: tuple[str, ...], lines: list[str]) -> None:
    shape = () if "regime=onestep" in overrides else ("regime.streams=4", "regime.bptt=16")  # 17 batches per epoch
    assert told(fox(), *shape, *overrides) == lines


def test_more_streams_than_targets() -> None:
    targets = fox().train.num_targets
    assert told(fox(), f"regime.streams={targets + 1}", "budget.seconds=9") == [
        f"regime.streams={targets + 1}: there are only {targets:,} targets to train on, so each row is one step long, and "
        "nothing that lies further back is learned; give fewer streams, such as 1"
    ]
    assert told(fox(), f"regime.streams={targets}", "budget.seconds=9") == []
    assert told(fox(), "regime=segments", f"regime.batch_size={targets + 1}", "budget.seconds=9") == []


def test_a_separator_that_does_not_occur_and_unknown_symbols() -> None:
    text = (
        "data=text",
        "data.path=x",
        "data.separator=XX",
        "trainer.max_epochs=9",
        "regime.streams=4",
        "regime.bptt=16",
    )
    assert told(corpus_of("the quick brown fox. " * 50, "abcdxyzxyz"), *text) == [
        "data.separator='XX' does not occur in the text, so nothing is cut there",
        "validation: 5 of 9 targets are symbols that do not occur in the training data",
    ]


def test_measurements_that_are_taken_for_classes() -> None:
    values = [f"{20 + i % 7}.{i % 10}" for i in range(400)]
    corpus = Corpus.of(Symbols(), [values], [values[:50]])
    few = ("trainer.max_epochs=9", "regime.streams=4", "regime.bptt=8")
    assert told(corpus, *few) == [
        "70 of 70 symbols are numbers such as 20.0; each is a class of its own, so they are not predicted as values"
    ]


def test_a_network_that_is_trained_on_the_validation_split() -> None:
    text = "the quick brown fox. " * 50
    few = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=9")
    assert told(corpus_of(text, text), *few) == [
        "the network is trained on the validation split, so val nll shows only what it has learned by heart"
    ]


def test_a_rotation_of_sequences_has_no_effect() -> None:
    names = [["a", "b"]] * 4000
    corpus = Corpus.of(Symbols(), names, names[:50], ended=True, joined=False)
    assert told(corpus, "regime.rotate=true", "trainer.max_epochs=99") == [
        "regime.rotate=true has no effect: sequences that are not joined are shuffled in every epoch"
    ]


def test_words_that_were_never_seen_and_words_that_hardly_come_again() -> None:
    few = ("regime.streams=4", "regime.bptt=8", "trainer.max_epochs=99")
    text = " ".join(f"the cat {number % 40} saw" for number in range(400))
    assert told(Corpus.of(Words(), [text], ["the dog saw"]), *few) == [
        "validation: 1 of 2 targets are words that do not occur in the training data, so none of them can be predicted; "
        "a larger codec.min_count trains <unk> in their place"
    ]
    assert told(Corpus.of(Words(min_count=50), [text], ["the dog saw saw saw"]), *few) == []
    assert told(Corpus.of(Words(min_count=50), [text], ["the dog dog dog"]), *few) == [
        "validation: 3 of 3 targets are the unknown word, <unk>"
    ]
    prose = " ".join(f"word{number} and" for number in range(300))
    assert told(Corpus.of(Words(), [prose], ["word1 and"]), *few) == [
        "301 different words among 599, so little can be learned about most of them; give codec.min_count=2 or more, or "
        "codec=characters"
    ]


def test_symbols_of_which_most_occur_once() -> None:
    texts = [f"text {i}" for i in range(300)]
    corpus = Corpus.of(Symbols(), [texts], [texts[:50]])
    few = ("trainer.max_epochs=99", "regime.streams=4", "regime.bptt=8")
    (line,) = told(corpus, *few)
    assert line.startswith(
        "299 of 300 symbols occur once, so little can be learned about them; texts are read by characters"
    )


def test_more_subwords_than_can_be_learned() -> None:
    text = "the quick brown fox. " * 50
    settings = ("trainer.max_epochs=9", "regime.streams=4", "regime.bptt=4")
    few = Corpus.of(Bpe(vocab_size=270), [text], [text[:100]])
    assert told(few, *settings)[:1] == [
        f"271 subwords and only {few.train.num_targets:,} targets, so little can be learned about each; "
        "give more text, or a smaller codec.vocab_size"
    ]
    assert told(Corpus.of(Bpe(vocab_size=256), [text * 9], [text[:100]]), *settings) == []
