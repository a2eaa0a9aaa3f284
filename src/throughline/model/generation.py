"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

from collections.abc import Iterator

import numpy as np
import torch

from throughline.model.generator import Generator


def generate(
    generator: Generator,
    prompt: np.ndarray,
    length: int,
    *,
    num_sequences: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield the next token id of each of `num_sequences` sequences, `length` times.

    Args:
        generator: in evaluation mode.
        prompt: (N,) ids, N >= 1, read from zeros through the same forward as in training.
        length: how many tokens to generate.
        num_sequences: B, the number of sequences at once; all share the prompt.
        temperature: divides the logits; at 0 the likeliest token is always taken.
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


AT_ONCE = 64
"""Sequences that are generated side by side; together they end when the longest has ended."""


def generate_sequences(
    generator: Generator,
    prompt: np.ndarray,
    end: int,
    max_length: int,
    *,
    num_sequences: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield sequences that end by themselves: the token ids after the prompt, and last the end symbol.

    A sequence that has not ended after `max_length` tokens has no end symbol. For the other arguments see `generate`.

    Args:
        prompt: (N,) ids; the first is the end symbol, at which a sequence begins.
        end: the id of the end symbol.
    """
    for first in range(0, num_sequences, AT_ONCE):
        rows = min(AT_ONCE, num_sequences - first)
        sequences: list[list[int]] = [[] for _ in range(rows)]
        going = set(range(rows))
        for tokens in generate(
            generator,
            prompt,
            max_length,
            num_sequences=rows,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            seed=seed + first,
        ):
            for row in tuple(going):
                sequences[row].append(tokens[row])
                if tokens[row] == end:
                    going.discard(row)
            if not going:
                break
        yield from sequences
