"""The continual embedded Reber grammar (Gers 2000): strings without a mark between them, whose ends need a memory.

A string is `B`, then `T` or `P`, then a string of the Reber grammar (`B ... E`), then the same `T` or `P`, then `E`. A
memory has to keep which one it was over the inner string. The next string follows at once.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.data.sources import Source, generated
from throughline.settings import STRICT

INNER = {
    "0": {"B": "1"},
    "1": {"T": "2", "P": "3"},
    "2": {"S": "2", "X": "4"},
    "3": {"T": "3", "V": "5"},
    "4": {"X": "3", "S": "6"},
    "5": {"P": "4", "V": "6"},
    "6": {"E": "end"},
}
"""The grammar of Reber 1967: from each state, the symbols that may come, each with the state after it. All are as likely."""


def embedded() -> dict[str, dict[str, str]]:
    """The continual embedded grammar in the same form: every state of the inner grammar, once for each of `T` and `P`."""
    states: dict[str, dict[str, str]] = {"begin": {"B": "choose"}, "choose": {"T": "T0", "P": "P0"}}
    for outer in "TP":
        for state, moves in INNER.items():
            states[outer + state] = {symbol: outer + after for symbol, after in moves.items()}
        states[f"{outer}end"] = {outer: f"{outer}last"}
        states[f"{outer}last"] = {"E": "begin"}
    return states


def stream(num_symbols: int, rng: np.random.Generator) -> Iterator[str]:
    """Symbols of the grammar from the beginning of a string."""
    states, state = embedded(), "begin"
    for choice in rng.random(num_symbols).tolist():
        moves = list(states[state].items())
        symbol, state = moves[int(choice * len(moves))]
        yield symbol


def legal(symbols: Sequence[str]) -> list[set[str]]:
    """The symbols that may come at each place of a stream that begins with a string, and after it.

    Raises:
        ValueError: a symbol is not legal at its place.
    """
    states, state, found = embedded(), "begin", []
    for place, symbol in enumerate(symbols):
        found.append(set(states[state]))
        if symbol not in states[state]:
            raise ValueError(f"symbol {place}, {symbol}, is not legal there")
        state = states[state][symbol]
    return [*found, set(states[state])]


def entropy_rate() -> float:
    """The entropy of a symbol given all those before it, in nats: no model can have a lower nll."""
    states = embedded()
    names = list(states)
    moves = np.zeros((len(names), len(names)))
    for name, after in states.items():
        for target in after.values():
            moves[names.index(name), names.index(target)] += 1 / len(after)
    # The share of each state solves share @ moves = share, and shares add up to 1.
    equations = np.vstack([moves.T - np.eye(len(names)), np.ones(len(names))])
    share = np.linalg.lstsq(equations, np.append(np.zeros(len(names)), 1.0), rcond=None)[0]
    return float(sum(share[i] * math.log(len(states[name])) for i, name in enumerate(names)))


@dataclass(frozen=True, config=STRICT)
class Reber(Source):
    """One joined stream of the continual embedded Reber grammar; validation and test have streams of their own."""

    codecs: ClassVar = {"symbols": Symbols()}

    num_symbols: Annotated[int, Field(ge=1000, le=10**9)] = 500_000
    """Symbols to train on; the other splits have a tenth of it."""
    data_seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """Draws the strings."""

    def read(self, codec: Codec | None = None) -> Corpus:
        codec = self.codec_or_default(codec)

        def draw(number: int, size: int) -> list[str]:
            return list(stream(size, np.random.default_rng((self.data_seed, number))))

        return generated(codec, "continual embedded Reber grammar", self.num_symbols, draw, entropy_rate())
