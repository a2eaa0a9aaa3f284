"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch

from throughline.data.codecs import UNKNOWN, Codec
from throughline.model.generator import Generator
from throughline.model.steps import Stepper
from throughline.plumbing.errors import UserError

ROWS = 64
"""The most sequences that are generated at once; twice as many are hardly faster."""
AHEAD = 16
"""The most steps that are taken before they are given to the caller: 16 at a time are 4 % faster for one sequence."""
PIECE = 2**20
"""The steps of training data whose pairs are found at once."""


class Allowed:
    """Which symbols may follow which; memory is that of the pairs, not of a table of all symbols.

    Args:
        pairs: (N, 2) ids, the symbol before and the one after; the unknown symbol after another one is left out.
        vocab_size: V.
    """

    def __init__(self, pairs: np.ndarray, vocab_size: int) -> None:
        pairs = pairs[pairs[:, 1] != UNKNOWN]
        self.vocab_size = vocab_size
        self.pairs = np.unique(pairs[:, 0] * np.int64(vocab_size) + pairs[:, 1])  # sorted
        self._begin = np.searchsorted(self.pairs, np.arange(vocab_size + 1, dtype=np.int64) * vocab_size)

    @classmethod
    def seen(cls, steps: Any, vocab_size: int) -> "Allowed":
        """The pairs that stand side by side in a line (N,)."""
        found = np.zeros(0, np.int64)
        for first in range(0, len(steps) - 1, PIECE):
            part = np.asarray(steps[first : first + PIECE + 1]).astype(np.int64)
            found = np.union1d(found, part[:-1] * vocab_size + part[1:])
        return cls(np.stack(np.divmod(found, vocab_size), axis=1), vocab_size)

    @property
    def empty(self) -> bool:
        return not len(self.pairs)

    def after(self, symbol: int) -> np.ndarray:
        """The symbols that may follow one."""
        return self.pairs[self._begin[symbol] : self._begin[symbol + 1]] - symbol * self.vocab_size

    def dead_ends(self, end: int | None = None) -> np.ndarray:
        """The symbols that may come, after which nothing may; the end symbol always comes, because a sequence begins."""
        come = np.unique(self.pairs % self.vocab_size)
        come = come if end is None else np.union1d(come, [end])
        dead: np.ndarray = come[self._begin[come] == self._begin[come + 1]]
        return dead

    def without_dead_ends(self) -> "Allowed":
        """The pairs after which it can go on for ever."""
        before, after = np.divmod(self.pairs, self.vocab_size)
        order = np.argsort(after, kind="stable")
        leading = np.searchsorted(after[order], np.arange(self.vocab_size + 1))  # the pairs that lead to a symbol
        going, kept = np.diff(self._begin), np.ones(len(self.pairs), bool)
        waiting = self.dead_ends().tolist()
        while waiting:
            dead = waiting.pop()
            pairs = order[leading[dead] : leading[dead + 1]]
            kept[pairs] = False
            for symbol in before[pairs].tolist():
                going[symbol] -= 1
                waiting += [symbol] if not going[symbol] else []
        return Allowed(np.stack([before[kept], after[kept]], axis=1), self.vocab_size)

    def lets_follow(self, symbol: int) -> bool:
        """Whether anything may follow it."""
        return bool(self._begin[symbol] < self._begin[symbol + 1])

    def refuse_dead_end(self, symbol: int, codec: Codec) -> None:
        """Refuse a prompt that ends with a symbol after which nothing may come.

        Raises:
            UserError: it does.
        """
        if not self.lets_follow(symbol):
            raise UserError(f"allowed: nothing may follow {codec.decode([symbol])!r}, with which the prompt ends")

    def among(self, predicted: np.ndarray, before: np.ndarray) -> np.ndarray:
        """Logits (B, V) with -inf for what may not follow the symbols before (B,)."""
        allowed: np.ndarray = np.full_like(predicted, -np.inf)
        for row, symbol in enumerate(before.tolist()):
            after = self.after(symbol)
            allowed[row, after] = predicted[row, after]
        return allowed


def likeliest(
    generator: Generator, prompt: np.ndarray, length: int, count: int, end: int | None = None
) -> list[tuple[float, list[int]]]:
    """The likeliest continuations by beam search, each with its probability; those with an end may be shorter.

    A beam wider than `count` is searched, but what begins unlikely may be missed.

    Args:
        prompt: (N,) ids, read from zeros.
        length: the most symbols after the prompt.
        count: how many continuations.
        end: the id of the end symbol, after which a continuation is whole.
    """
    width = max(4 * count, 32)
    with torch.inference_mode():
        predicted, state = generator(torch.from_numpy(prompt.astype(np.int64))[None])
        beams, logs = [list[int]()], torch.zeros(1, dtype=torch.float64)
        whole: list[tuple[float, list[int]]] = []
        for _ in range(length):
            steps = predicted[:, -1].double()
            steps[:, UNKNOWN] = -torch.inf
            all_logs = (logs[:, None] + steps.log_softmax(dim=1)).flatten()
            best = all_logs.topk(min(width, int(all_logs.isfinite().sum())))
            rows, ids = best.indices // generator.vocab_size, best.indices % generator.vocab_size
            grown = [[*beams[row], id] for row, id in zip(rows.tolist(), ids.tolist(), strict=True)]
            ended = ids == (-1 if end is None else end)
            whole += [(float(best.values[k]), grown[k]) for k in ended.nonzero()[:, 0].tolist()]
            on = (~ended).nonzero()[:, 0]
            beams, logs = [grown[k] for k in on.tolist()], best.values[on]
            whole = sorted(whole, reverse=True)[:count]
            if not len(on) or (len(whole) == count and whole[-1][0] >= float(logs[0])):
                break  # what goes on can only become less likely
            predicted, state = generator(ids[on][:, None], tuple(s[:, rows[on]] for s in state))
        found = whole + [
            (float(log), beam) for log, beam in zip(logs, beams, strict=True) if end is None or len(beam) == length
        ]
    return [(math.exp(log), ids) for log, ids in sorted(found, reverse=True)[:count]]


def generate(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    *,
    num_sequences: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int | Sequence[int] = 0,
) -> Iterator[list[int]]:
    """Yield the next token id of each of `num_sequences` sequences, `length` times.

    Args:
        generator: in evaluation mode.
        prompt: (N,) ids, N >= 1, read from zeros through the same forward as in training.
        length: how many tokens to generate.
        num_sequences: B, the number of sequences at once; all share the prompt.
        temperature: divides the logits; at 0 the likeliest token is taken.
        top_k: sample among the k likeliest tokens.
        top_p: sample among the fewest likeliest tokens whose probabilities reach p (Holtzman 2020).
        min_p: sample among the tokens with at least so many times the probability of the likeliest one (Nguyen 2024).
        seed: the same seed gives the same sequences.
    """
    predicted, stepper, draw = _primed(generator, prompt, num_sequences, seed, temperature, top_k, top_p, min_p)
    ahead = 1  # and twice as many each time, because the caller may want only a few
    while length > 0:
        drawn = []
        with np.errstate(over="ignore", invalid="ignore"):
            for _ in range(min(ahead, length)):
                tokens = draw(predicted)
                drawn.append(tokens.tolist())
                predicted = stepper.step(tokens)
        yield from drawn
        length, ahead = length - len(drawn), min(2 * ahead, AHEAD)


def _primed(
    generator: Generator, prompt: np.ndarray, rows: int, seed: int | Sequence[int], *draws: Any
) -> tuple[np.ndarray, Stepper, Callable[[np.ndarray], np.ndarray]]:
    """The predictions (B, P) after the prompt, the stepper that continues from there, and the draw of a token per row."""
    with torch.inference_mode():
        primed, state = generator(torch.from_numpy(prompt.astype(np.int64 if prompt.ndim == 1 else np.float32))[None])
    with np.errstate(over="ignore", invalid="ignore"):  # a wild learning rate may have made weights huge
        stepper = generator.stepper(state, rows)
    draw = generator.head.sampler(np.random.default_rng(seed), rows, *draws)
    return primed[0, -1].numpy()[None].repeat(rows, axis=0), stepper, draw


def frames(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    num_sequences: int = 1,
    *,
    temperature: float = 1.0,
    seed: int = 0,
) -> np.ndarray:
    """Frames (S, T, F) of `num_sequences` sequences without the prompt (N, F), as the head draws them.

    Args:
        prompt: N >= 1, all sequences share it; where a sequence begins, it is a frame of zeros.
        length: T.
        temperature, seed: as in `generate`.
    """
    drawn = np.empty((num_sequences, length, prompt.shape[1]), np.float32)
    for batch, first in enumerate(range(0, num_sequences, ROWS)):
        rows = slice(first, min(first + ROWS, num_sequences))
        settings = (seed, batch), temperature, None, None
        predicted, stepper, draw = _primed(generator, prompt, rows.stop - rows.start, *settings)
        for step in range(length):
            drawn[rows, step] = draw(predicted)
            predicted = stepper.step(drawn[rows, step])
    return drawn


def sequences(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    num_sequences: int,
    *,
    end: int | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield the tokens of `num_sequences` sequences, one after the other, without the prompt.

    Only `ROWS` of them are in memory. With an end symbol, the first ones do not depend on how many follow.

    Args:
        length: the number of tokens, or with an end symbol the most tokens before it.
        end: the id of the end symbol. It is the last token of a sequence, unless that has been cut at `length`.
        temperature, top_k, top_p, min_p, seed: as in `generate`.
    """
    if end is not None:
        yield from islice(_with_ends(generator, prompt, length, end, seed, temperature, top_k, top_p, min_p), num_sequences)
        return
    for batch, first in enumerate(range(0, num_sequences, ROWS)):
        steps = generate(
            generator,
            prompt,
            length,
            num_sequences=min(ROWS, num_sequences - first),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=(seed, batch),
        )
        yield from map(list, zip(*steps, strict=True))


def _with_ends(
    generator: Generator, prompt: np.ndarray, length: int, end: int, seed: int, *draws: Any
) -> Iterator[list[int]]:
    """Yield sequences without limit, in the order in which they were begun: where one has ended, the next one begins."""
    predicted, stepper, draw = _primed(generator, prompt, ROWS, seed, *draws)
    begin = predicted[0].copy()
    written: list[list[int]] = [[] for _ in range(ROWS)]
    waiting = dict(enumerate(written))  # by number; those that have ended wait for those that were begun before them
    given = 0
    while True:
        tokens = draw(predicted)
        for ids, token in zip(written, tokens.tolist(), strict=True):
            ids.append(token)
        over = [row for row, ids in enumerate(written) if ids[-1] == end or len(ids) > length]
        for row in over:
            written[row] = waiting[given + len(waiting)] = []
        while (first := waiting[given]) and (first[-1] == end or len(first) > length):
            yield first if first[-1] == end else first[:length]
            del waiting[given]
            given += 1
        with np.errstate(over="ignore", invalid="ignore"):
            predicted = stepper.step(tokens)
        if over:
            stepper.restart(over)
            predicted[over] = begin
