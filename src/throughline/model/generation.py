"""Generates sequences from a trained model: the prompt primes the state, then each token is fed back."""

import math
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch

from throughline.config import GenerateConfig
from throughline.data.vocab import UNKNOWN
from throughline.model.generator import LSTMGenerator, State
from throughline.runs.checkpoint import load_generator


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
    """The generator one token at a time.

    In NumPy, since at this size PyTorch's calls take longer than the arithmetic, and its products of a few rows, too.

    Args:
        model: whose weights are read once, here.
        state: of one row, from which all sequences go on.
        num_sequences: B.
    """

    def __init__(self, model: LSTMGenerator, state: State, num_sequences: int) -> None:
        weights = {name: value.numpy() for name, value in model.state_dict().items()}
        L = model.sizes.num_layers  # noqa: N806
        h, c = (s.numpy().swapaxes(1, 2).repeat(num_sequences, axis=2) for s in state)  # L, H, B
        self.layers = [Layer(_gates(weights[f"lstm.weight_hh_l{layer}"]), h[layer], c[layer]) for layer in range(L)]
        inputs = [_gates(weights[f"lstm.weight_ih_l{layer}"]) for layer in range(L)]
        biases = [
            _gates((weights[f"lstm.bias_ih_l{layer}"] + weights[f"lstm.bias_hh_l{layer}"])[:, None]) for layer in range(L)
        ]
        embedding = weights.get("embedding.weight")
        self.table = (inputs[0] if embedding is None else inputs[0] @ embedding.T) + biases[0]  # 4H, V
        head = weights["head.weight"], weights["head.bias"][:, None]
        self.above = [*zip(inputs[1:], biases[1:], strict=True), head]  # what reads each layer
        self._looked_up = np.empty_like(self.layers[0].gates)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Feed tokens (B,) and return the logits (B, V) of the next ones."""
        x: np.ndarray = self.table.take(tokens, axis=1, out=self._looked_up, mode="clip")  # the default would copy `out`
        for layer, (weight, bias) in zip(self.layers, self.above, strict=True):
            x = weight @ layer.step(x)
            x += bias
        return x.T


class Layer:
    """One LSTM layer, a step at a time, in place; a sequence is a column, since products are fastest so."""

    def __init__(self, weight: np.ndarray, h: np.ndarray, c: np.ndarray) -> None:
        self.weight = weight  # 4H, H
        self.h, self.c = h, c  # H, B
        self.gates = np.empty((len(weight), h.shape[1]), h.dtype)

    def step(self, x: np.ndarray) -> np.ndarray:
        """Go on by the input's share of the gates, (4H, B), and return h (H, B)."""
        np.matmul(self.weight, self.h, out=self.gates)
        self.gates += x
        np.tanh(self.gates, out=self.gates)
        write, keep, show, new = self.gates.reshape(4, *self.h.shape)
        sigmoids = self.gates[: -len(new)]
        sigmoids *= 0.5
        sigmoids += 0.5
        self.c *= keep
        write *= new
        self.c += write
        np.tanh(self.c, out=self.h)
        self.h *= show
        return self.h


def _gates(weight: np.ndarray) -> np.ndarray:
    """Weights of the gates i, f, o, g from PyTorch's (4H, N), which are i, f, g, o.

    Those of the first three are halved: sigmoid(x) is 0.5 + 0.5 tanh(x / 2).
    """
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i / 2, f / 2, o / 2, g])


def gumbel_noise(rng: np.random.Generator, shape: tuple[int, ...], temperature: float) -> Iterator[np.ndarray]:
    """Without end, what a step's logits (B, V) need added for the largest to be a draw: T times Gumbel noise.

    The unknown symbol gets -inf, so that it is never drawn.
    """
    block = np.empty((max(1, 2**14 // math.prod(shape)), *shape))  # of steps, since calls cost more than numbers
    while True:
        noise = np.log(rng.standard_exponential(out=block), out=block)
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
    tokens: np.ndarray = (logits + noise).argmax(axis=1)
    return tokens


def _likeliest(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """Logits (B, V) with -inf for the unknown symbol and for whatever `top_k` and `top_p` leave out."""
    logits = logits.astype(np.float64)  # in which the smallest temperature is not 0
    logits[:, UNKNOWN] = -np.inf
    if top_k is not None and top_k < logits.shape[1]:
        smallest = np.partition(logits, -top_k, axis=1)[:, -top_k, None]
        logits[logits < smallest] = -np.inf
    if top_p is not None:
        ordered = np.sort(logits, axis=1)[:, ::-1]
        with np.errstate(over="ignore"):
            probabilities = np.exp((ordered - ordered[:, :1]) / temperature)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        beyond = probabilities.cumsum(axis=1) - probabilities >= top_p  # the likeliest token always stays
        logits[logits < np.where(beyond, np.inf, ordered).min(axis=1, keepdims=True)] = -np.inf
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
