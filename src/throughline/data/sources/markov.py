"""A Markov source of known entropy."""

from bisect import bisect_right
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.sources import Source, generated
from throughline.settings import STRICT, Positive


@dataclass(frozen=True, config=STRICT)
class Markov(Source):
    """A stream in which the last `context` symbols give the probabilities of the next one; a source of known entropy."""

    codecs: ClassVar = {"symbols": Symbols()}

    num_symbols: Annotated[int, Field(ge=1000, le=10**9)] = 500_000
    """Symbols to train on; the other splits have a tenth of it."""
    alphabet: Annotated[int, Field(ge=2, le=1000)] = 8
    """The number of symbols."""
    context: Annotated[int, Field(ge=0, le=8)] = 2
    """How many symbols before it a symbol depends on."""
    concentration: Positive = 0.3
    """Of the Dirichlet distribution from which the probabilities are drawn: small ones make the source predictable."""
    data_seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Draws the probabilities and the symbols."""

    def __post_init__(self) -> None:
        if self.alphabet ** (self.context + 1) > 10**7:
            raise ValueError(
                f"alphabet={self.alphabet} and context={self.context}: more than 10,000,000 probabilities; give less"
            )

    def probabilities(self) -> np.ndarray:
        """The probability of each symbol after each context, (alphabet ** context, alphabet)."""
        rng = np.random.default_rng((self.data_seed, 0))
        weights = rng.gamma(self.concentration, size=(self.alphabet**self.context, self.alphabet)) + 1e-12
        shares: np.ndarray = weights / weights.sum(axis=1, keepdims=True)
        return shares

    def entropy_rate(self) -> float:
        """The entropy of a symbol given all those before it, in nats: no model can have a lower nll."""
        table = self.probabilities()
        contexts = np.arange(len(table))
        after = (contexts[:, None] * self.alphabet + np.arange(self.alphabet)) % len(table)  # the context after each symbol
        share = np.full(len(table), 1 / len(table))
        for _ in range(10_000):
            following = np.bincount(after.ravel(), (share[:, None] * table).ravel(), len(table))
            following = (following + share) / 2  # a chain may go round in a circle
            if abs(following - share).sum() < 1e-15:
                break
            share = following
        return float(-(share[:, None] * table * np.log(table)).sum())

    def stream(self, num_symbols: int, rng: np.random.Generator) -> list[str]:
        """Symbols of the source, after enough steps to forget where it began."""
        bounds = self.probabilities().cumsum(axis=1)[:, :-1].tolist()
        context, symbols, contexts = 0, [], self.alphabet**self.context
        names = [str(symbol) for symbol in range(self.alphabet)]
        for draw in rng.random(num_symbols + 1000).tolist():
            symbol = bisect_right(bounds[context], draw)
            context = (context * self.alphabet + symbol) % contexts
            symbols.append(names[symbol])
        return symbols[1000:]

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)

        def draw(number: int, size: int) -> list[str]:
            return self.stream(size, np.random.default_rng((self.data_seed, number + 1)))  # 0 draws the probabilities

        name = f"Markov source of order {self.context} over {self.alphabet} symbols"
        return generated(codec, name, self.num_symbols, draw, self.entropy_rate())
