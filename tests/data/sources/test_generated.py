"""Streams of known entropy: the continual embedded Reber grammar, and Markov sources."""

import math
import re

import numpy as np
import pytest

from throughline.data.sources.markov import Markov
from throughline.data.sources.reber import Reber, embedded, entropy_rate, legal, stream

STRING = re.compile(r"B([TP])(B(?:TS*X(?:XT*V(?:PXT*V)*(?:V|PS)|S)|PT*V(?:PXT*V)*(?:V|PS))E)\1E")
"""An embedded Reber string, written independently of the grammar's table."""


def test_every_string_of_the_stream_is_one_of_the_embedded_grammar() -> None:
    text = "".join(stream(200_000, np.random.default_rng(0)))
    strings = re.findall(r"B[TP]B.*?E[TP]E", text)
    assert len("".join(strings)) > len(text) - 100
    assert all(STRING.fullmatch(string) for string in strings)
    assert len({string for string in strings if len(string) < 12}) > 10


def test_legal_symbols_written_out() -> None:
    assert legal(list("BTBTXSETEB")) == [
        *({"B"}, {"T", "P"}, {"B"}, {"T", "P"}, {"S", "X"}, {"X", "S"}, {"E"}, {"T"}, {"E"}, {"B"}, {"T", "P"})
    ]
    assert legal(list("BPBTXSE"))[-1] == {"P"}
    with pytest.raises(ValueError, match="symbol 7, T, is not legal there"):
        legal(list("BPBTXSETE"))


def test_the_entropy_rate_of_the_grammar_is_that_of_its_stream() -> None:
    symbols = list(stream(300_000, np.random.default_rng(1)))
    choices = [math.log(len(allowed)) for allowed in legal(symbols)[:-1]]
    assert np.mean(choices) == pytest.approx(entropy_rate(), abs=0.003)
    assert 0.3 < entropy_rate() < 0.5
    assert all(len(moves) in (1, 2) for moves in embedded().values())


@pytest.mark.parametrize(
    "settings", [{}, {"context": 0}, {"alphabet": 2, "context": 5}, {"concentration": 10.0, "context": 1}]
)
def test_the_entropy_rate_of_a_markov_source_is_that_of_its_stream(settings: dict[str, int]) -> None:
    source = Markov(**settings)  # type: ignore[arg-type]
    symbols = np.array(source.stream(300_000, np.random.default_rng(0))).astype(int)
    table, A = source.probabilities(), source.alphabet  # noqa: N806
    context = np.zeros(len(symbols) - source.context, int)
    for back in range(source.context, 0, -1):
        context = context * A + symbols[source.context - back : len(symbols) - back]
    nll = -np.log(table[context, symbols[source.context :]])
    assert nll.mean() == pytest.approx(source.entropy_rate(), rel=0.01)


def test_uniform_draws_have_the_entropy_of_their_number() -> None:
    assert Markov(context=0, alphabet=4, concentration=1e7).entropy_rate() == pytest.approx(math.log(4), abs=1e-4)


@pytest.mark.parametrize("source", [Reber(num_symbols=2000), Markov(num_symbols=2000)])
def test_the_splits_are_streams_of_their_own(source: Reber | Markov) -> None:
    corpus = source.read()
    assert {name: len(line.steps) for name, line in corpus.splits.items()} == {"train": 2000, "val": 200, "test": 200}
    assert corpus.train.joined
    assert corpus.val.steps.tolist() != corpus.line("test").steps.tolist()
    assert corpus.fingerprint["entropy"] > 0
    assert source.read().fingerprint == corpus.fingerprint
