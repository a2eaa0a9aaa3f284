"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from throughline.checkpoint import load_generator
from throughline.config import GenerateConfig
from throughline.model import LSTMGenerator
from throughline.vocab import UNKNOWN


@torch.inference_mode()
def generate(
    model: LSTMGenerator,
    prompt: np.ndarray,
    length: int,
    *,
    num_sequences: int = 1,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> Iterator[list[int]]:
    """Yield `length` times the next token id of each of `num_sequences` sequences.

    Args:
        model: in evaluation mode.
        prompt: (N,) ids, N >= 1, read from zeros through the same forward as in training.
        length: how many tokens to generate.
        num_sequences: B, sequences at once that share the prompt.
        temperature: divides the logits; near 0 the likeliest token is taken.
        top_k: sample among the k likeliest tokens.
        top_p: sample among the fewest likeliest tokens whose probabilities reach p (Holtzman 2020).
        seed: the same seed gives the same sequences.
    """
    rng = torch.Generator().manual_seed(seed)
    inputs = torch.from_numpy(prompt.astype(np.int64)).expand(num_sequences, -1)  # B, N
    state = None
    for _ in range(length):
        logits, state = model(inputs, state)
        inputs = sample(logits[:, -1], temperature, top_k, top_p, rng)  # B, 1
        yield inputs[:, 0].tolist()


def sample(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None, rng: torch.Generator) -> Tensor:
    """Draw one token (B, 1) from logits (B, V); the unknown symbol is never drawn."""
    logits = logits.clone()
    logits[:, UNKNOWN] = -torch.inf
    logits = (logits - logits.amax(dim=1, keepdim=True)) / temperature  # the largest is 0, whatever the temperature
    if top_k is not None and top_k < logits.shape[1]:
        smallest = logits.topk(top_k).values[:, -1:]
        logits = logits.masked_fill(logits < smallest, -torch.inf)
    probabilities = logits.softmax(-1)
    if top_p is not None:
        ordered, token = probabilities.sort(descending=True)
        beyond = ordered.cumsum(-1) - ordered >= top_p  # the likeliest token always stays
        probabilities = probabilities.scatter(1, token, ordered.masked_fill(beyond, 0.0))
    return torch.multinomial(probabilities, 1, generator=rng)


def stream(config: GenerateConfig) -> None:
    """Print what a checkpoint generates: one sequence symbol by symbol, several one after the other."""
    model, vocab = load_generator(config.checkpoint)
    prompt = config.prompt or ("\n" if "\n" in vocab.symbols else vocab.symbols[0])
    steps = generate(
        model,
        vocab.encode_prompt(prompt),
        config.length,
        num_sequences=config.num_sequences,
        temperature=config.temperature,
        top_k=config.top_k,
        top_p=config.top_p,
        seed=config.seed,
    )
    if config.num_sequences == 1:
        print(prompt, end="", flush=True)
        for (token,) in steps:
            print(vocab.separator + vocab.decode([token]), end="", flush=True)
        print()
    else:
        for number, sequence in enumerate(zip(*steps, strict=True), start=1):
            print(f"--- {number}\n{prompt}{vocab.separator}{vocab.decode(sequence)}")
