"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch

from throughline.model.generator import Generator

ROWS = 64
"""The most sequences that are generated at once; more are no faster."""


def generate(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    *,
    num_sequences: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
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
        seed: the same seed gives the same sequences.
    """
    with torch.inference_mode():
        primed, state = generator(torch.from_numpy(prompt.astype(np.int64))[None])
    with np.errstate(over="ignore", invalid="ignore"):  # a wild learning rate may have made weights huge
        stepper = generator.stepper(state, num_sequences)
    draw = generator.head.sampler(np.random.default_rng(seed), num_sequences, temperature, top_k, top_p)
    predicted = primed[0, -1].numpy()[None].repeat(num_sequences, axis=0)  # B, P
    for _ in range(length):
        tokens = draw(predicted)
        yield tokens.tolist()
        with np.errstate(over="ignore", invalid="ignore"):
            predicted = stepper.step(tokens)


def sequences(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    num_sequences: int,
    *,
    end: int | None = None,
    seed: int = 0,
    **draws: Any,
) -> Iterator[list[int]]:
    """Yield the tokens of `num_sequences` sequences, one after the other, without the prompt.

    They are made in batches, each with a seed of its own. So any number fits into memory, and with an end symbol the first
    ones do not depend on how many follow.

    Args:
        length: the number of tokens, or with an end symbol the most tokens before it.
        end: the id of the end symbol. It is the last token of a sequence, unless that has been cut at `length`.
        draws: temperature, top_k and top_p as in `generate`.
    """
    for batch, first in enumerate(range(0, num_sequences, ROWS)):
        wanted = min(ROWS, num_sequences - first)
        rows = wanted if end is None else ROWS  # in a batch of another size the same seed draws other sequences
        steps = generate(generator, prompt, length + (end is not None), num_sequences=rows, seed=(seed, batch), **draws)
        drawn, running = [], [*range(wanted)]
        for tokens in steps:
            drawn.append(tokens[:wanted])
            if end is not None:
                running = [row for row in running if tokens[row] != end]
                if not running:
                    break
        for row in zip(*drawn, strict=True):
            yield [*row[: row.index(end) + 1 if end in row else length]]
