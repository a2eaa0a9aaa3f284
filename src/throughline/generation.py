"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from throughline.checkpoint import load_generator
from throughline.config import GenerateConfig
from throughline.model import LSTMGenerator, State
from throughline.vocab import UNKNOWN


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
    with torch.inference_mode():
        primed, state = model(torch.from_numpy(prompt.astype(np.int64))[None])
    stepper = Stepper(model, state, num_sequences)
    logits = primed[0, -1].numpy()[None].repeat(num_sequences, axis=0)  # B, V
    for noise in islice(gumbel_noise(np.random.default_rng(seed), logits.shape, temperature), length):
        tokens = sample(logits, noise, temperature, top_k, top_p)
        yield tokens.tolist()
        logits = stepper.step(tokens)


class Stepper:
    """The generator one token at a time, for B sequences, each of which is a column.

    In NumPy, since at this size PyTorch's calls take longer than the arithmetic: LSTM(256) over 66 symbols takes 28 us
    a token here and 50 us in PyTorch calls without autograd.

    Args:
        model: whose weights are read once, here.
        state: of one row, from which all sequences go on.
        num_sequences: B.
    """

    def __init__(self, model: LSTMGenerator, state: State, num_sequences: int) -> None:
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        H, L, B = model.sizes.hidden_size, model.sizes.num_layers, num_sequences  # noqa: N806
        h, c = (s.numpy().swapaxes(1, 2).repeat(B, axis=2) for s in state)  # L, H, B
        self.layers = [Layer(_gates(weights[f"lstm.weight_hh_l{layer}"]), h[layer], c[layer]) for layer in range(L)]
        inputs = [_gates(weights[f"lstm.weight_ih_l{layer}"]) for layer in range(L)]
        biases = [_gates(weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"])[:, None] for layer in range(L)]
        embedding = weights.get("embedding.weight")
        self.table = (inputs[0] if embedding is None else inputs[0] @ embedding.T) + biases[0]  # 4H, V
        self.above = [*zip(inputs[1:], biases[1:], strict=True), (weights["head.weight"], weights["head.bias"][:, None])]
        self._looked_up = np.empty((4 * H, B), self.table.dtype)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Feed tokens (B,) and return the logits (B, V) of the next ones."""
        x = self.table.take(tokens, axis=1, out=self._looked_up, mode="clip")  # the default mode would copy `out`
        for layer, (weight, bias) in zip(self.layers, self.above, strict=True):
            x = weight @ layer.step(x)
            x += bias
        return x.T


class Layer:
    """One LSTM layer, a step at a time, in place."""

    def __init__(self, weight: np.ndarray, h: np.ndarray, c: np.ndarray) -> None:
        self.weight = weight  # 4H, H
        self.h, self.c = h, c  # H, B
        self.gates = np.empty((len(weight), h.shape[1]), weight.dtype)  # 4H, B
        self.sigmoids = self.gates[: 3 * len(h)]
        self.write, self.keep, self.show, self.new = np.split(self.gates, 4)

    def step(self, x: np.ndarray) -> np.ndarray:
        """Go on by the input's share of the gates, (4H, B), and return h (H, B)."""
        np.dot(self.weight, self.h, out=self.gates)
        self.gates += x
        np.tanh(self.gates, out=self.gates)
        self.sigmoids *= 0.5
        self.sigmoids += 0.5
        self.c *= self.keep
        self.write *= self.new
        self.c += self.write
        np.tanh(self.c, out=self.h)
        self.h *= self.show
        return self.h


def _gates(weight: np.ndarray) -> np.ndarray:
    """Gates (4H, ...) in the order i, f, o, g, with half of the first three: sigmoid(x) is 0.5 + 0.5 tanh(x / 2)."""
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i / 2, f / 2, o / 2, g])


def gumbel_noise(rng: np.random.Generator, shape: tuple[int, ...], temperature: float) -> Iterator[np.ndarray]:
    """Without end, what a step's logits (B, V) need added for the largest to be a draw: T times Gumbel noise.

    The unknown symbol gets -inf, so that it is never drawn.
    """
    steps = max(1, 2**16 // math.prod(shape))  # at a time, since calls cost more than numbers
    while True:
        noise = np.log(rng.standard_exponential((steps, *shape)))
        noise *= -temperature
        noise[..., UNKNOWN] = -np.inf
        yield from noise


def sample(
    logits: np.ndarray, noise: np.ndarray, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Draw a token (B,) from each row of logits (B, V), given a step of `gumbel_noise` at the same temperature.

    The largest of logits / T + Gumbel noise is a draw from softmax(logits / T) (Maddison 2014); multiplied by T, so that the
    smallest temperature does not overflow.
    """
    if top_k is not None or top_p is not None:
        logits = _likeliest(logits, temperature, top_k, top_p)
    return (logits + noise).argmax(axis=1)


def _likeliest(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """Logits (B, V) with -inf for the unknown symbol and for whatever `top_k` and `top_p` leave out."""
    logits = logits.copy()
    logits[:, UNKNOWN] = -np.inf
    if top_k is not None and top_k < logits.shape[1]:
        smallest = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits[logits < smallest] = -np.inf
    if top_p is not None:
        order = logits.argsort(axis=1)[:, ::-1]
        ordered = np.take_along_axis(logits, order, axis=1)
        with np.errstate(over="ignore"):  # the smallest temperature
            probabilities = np.exp((ordered - ordered[:, :1]) / temperature)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        beyond = probabilities.cumsum(axis=1) - probabilities >= top_p  # the likeliest token always stays
        np.put_along_axis(logits, order, np.where(beyond, -np.inf, ordered), axis=1)
    return logits


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
