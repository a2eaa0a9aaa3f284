"""A softmax over the vocabulary: logits, cross entropy, and draws by temperature, top-k and top-p."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch.nn.functional as F
from torch import Tensor, nn

from throughline.data.codecs import UNKNOWN
from throughline.model.heads import Head


class CategoricalHead(nn.Linear, Head):
    """Predicts logits (..., V) of the next token.

    Args:
        input_size: H.
        vocab_size: V.
    """

    def __init__(self, input_size: int, vocab_size: int) -> None:
        super().__init__(input_size, vocab_size)

    def nll(self, predicted: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predicted.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    def correct(self, predicted: Tensor, targets: Tensor) -> Tensor:
        likeliest: Tensor = predicted.max(-1).indices  # same as argmax; in bfloat16 on a CPU 2.5 times as fast
        return likeliest == targets

    def metrics(self, nll: float) -> dict[str, float]:
        """Bits per symbol, and perplexity."""
        return {"bpc": nll / math.log(2), "ppl": math.exp(nll) if nll < 700 else math.inf}

    def sampler(
        self,
        rng: np.random.Generator,
        rows: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Draws from softmax(logits / T), among the k likeliest tokens or the fewest whose probabilities reach p.

        The unknown symbol is never drawn. At temperature 0 the likeliest token is taken, of equal ones the first.
        """
        if temperature == 0:
            return lambda logits: np.asarray(logits[:, UNKNOWN + 1 :].argmax(axis=1) + UNKNOWN + 1)
        noise = gumbel_noise(rng, (rows, self.out_features), temperature)
        if top_k is None and top_p is None:
            return lambda logits: (logits + next(noise)).argmax(axis=1)  # saves one of the few calls of a step
        return lambda logits: sample(logits, next(noise), temperature, top_k, top_p)

    def operations(self) -> int:
        return 3 * 2 * self.in_features * self.out_features


def gumbel_noise(rng: np.random.Generator, shape: tuple[int, ...], temperature: float) -> Iterator[np.ndarray]:
    """Yield T times Gumbel noise (B, V) for each step, without end: the largest of logits + noise is a draw.

    The unknown symbol gets -inf, so that it is never drawn.
    """
    block = np.empty((max(1, 2**14 // math.prod(shape)), *shape))  # many steps at once, because calls cost more than numbers
    while True:
        noise = np.log(rng.standard_exponential(out=block), out=block)
        noise *= -temperature
        noise[..., UNKNOWN] = -np.inf
        yield from noise


def sample(
    logits: np.ndarray, noise: np.ndarray, temperature: float, top_k: int | None = None, top_p: float | None = None
) -> np.ndarray:
    """Draw a token (B,) from each row of logits (B, V), given a step of `gumbel_noise` at the same temperature.

    The largest of logits / T + Gumbel noise is a draw from softmax(logits / T) (Maddison 2014). Both terms are multiplied
    by T, so that the smallest temperature does not overflow. `top_p` follows Holtzman 2020.
    """
    if top_k is not None or top_p is not None:
        logits = _likeliest(logits, temperature, top_k, top_p)
    tokens: np.ndarray = (logits + noise).argmax(axis=1)
    return tokens


def _likeliest(logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """Logits (B, V) with -inf for the unknown symbol and for all symbols that `top_k` and `top_p` leave out."""
    logits = logits.astype(np.float64)  # in float64 the smallest temperature is not 0
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
