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
        temperature: divides the logits; near 0 the likeliest token is always drawn.
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
