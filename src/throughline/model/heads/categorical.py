"""A softmax over the vocabulary: logits, cross entropy, and draws by temperature, top-k and top-p."""

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from throughline.data.codecs import UNKNOWN
from throughline.model.heads import LinearHead

LARGE = 2048
"""The vocabulary from which the logits of a batch on a CPU are computed in parts. They are larger than the caches then, and
each pass over them costs as much as a product."""

PART = 2**24
"""The bytes of logits in a part."""


class CategoricalHead(LinearHead):
    """Predicts logits (..., V) of the next token.

    Args:
        input_size: H.
        vocab_size: V.
    """

    def __init__(self, input_size: int, vocab_size: int) -> None:
        super().__init__(input_size, vocab_size)

    def nll(self, predicted: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(predicted.flatten(0, 1), targets.flatten(), reduction="none").view(targets.shape)

    def nll_of(self, output: Tensor, targets: Tensor) -> Tensor:
        if not self._in_parts(output):
            return super().nll_of(output, targets)
        nll: Tensor = SoftmaxNLL.apply(output.flatten(0, -2), self.weight, self.bias, targets.flatten())  # type: ignore[no-untyped-call]
        return nll.view(targets.shape)

    def score(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        if not self._in_parts(output) or torch.is_grad_enabled():
            return super().score(output, targets)
        flat, wanted = output.flatten(0, -2), targets.flatten()
        nll, correct = [], []
        for rows in parts(len(flat), self.out_features):
            predicted = self(flat[rows]).to(torch.promote_types(flat.dtype, torch.float32))
            nll.append(F.cross_entropy(predicted, wanted[rows], reduction="none"))
            correct.append(self.correct(predicted, wanted[rows]))
        return torch.cat(nll).view(targets.shape), torch.cat(correct).view(targets.shape)

    def _in_parts(self, output: Tensor) -> bool:
        return self.out_features >= LARGE and output.device.type == "cpu"

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
        min_p: float | None = None,
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Draws from softmax(logits / T), among the k likeliest tokens, the fewest whose probabilities reach top_p, or those
        with at least min_p times the probability of the likeliest one.

        The unknown symbol is never drawn. At temperature 0 the likeliest token is taken, of equal ones the first.
        """
        if temperature == 0:
            return lambda logits: np.asarray(logits[:, UNKNOWN + 1 :].argmax(axis=1) + UNKNOWN + 1)
        noise = gumbel_noise(rng, (rows, self.out_features), temperature)
        if top_k is None and top_p is None and min_p is None:
            return lambda logits: (logits + next(noise)).argmax(axis=1)  # saves one of the few calls of a step
        return lambda logits: sample(logits, next(noise), temperature, top_k, top_p, min_p)


def parts(rows: int, vocab_size: int) -> Iterator[slice]:
    """Slices of rows whose logits take `PART` bytes in float32."""
    step = max(1, PART // (4 * vocab_size))
    return (slice(first, first + step) for first in range(0, rows, step))


class SoftmaxNLL(torch.autograd.Function):
    """The nll (N,) of targets (N,) from outputs (N, H), with the logits of a part of the rows at a time.

    PyTorch's own layers make seven passes over memory of N x V numbers: logits, log-probabilities, and their gradients. Here
    there is one such memory. It holds the probabilities, and then in their place the gradients of the logits.
    """

    memory: ClassVar = threading.local()
    """Kept from batch to batch, because the first use of new memory costs as much as two passes over it. Each thread has its
    own."""

    @staticmethod
    def forward(ctx: Any, output: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        kind = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else output.dtype
        exact = torch.promote_types(kind, torch.float32)
        ctx.kinds = output.dtype, weight.dtype, bias.dtype
        output, weight, bias = output.to(kind), weight.to(kind), bias.to(kind)
        shape, kept = (len(output), len(weight)), vars(SoftmaxNLL.memory).pop("last", None)
        fits = kept is not None and kept.dtype == kind and kept.shape == shape
        probabilities = kept if kept is not None and fits else torch.empty(shape, dtype=kind)
        nll = torch.empty(len(output), dtype=exact)
        for rows in parts(*probabilities.shape):
            logits = F.linear(output[rows], weight, bias)
            (largest, likeliest), wanted = logits.max(1, keepdim=True), logits.gather(1, targets[rows, None])
            part = logits.softmax(1, dtype=exact)
            nll[rows] = (largest.to(exact) - part.gather(1, likeliest).log() - wanted)[:, 0]
            probabilities[rows] = part
        ctx.probabilities = probabilities
        ctx.save_for_backward(output, weight, targets)
        return nll

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        output, weight, targets = ctx.saved_tensors
        by_logits, ctx.probabilities = ctx.probabilities, None
        if by_logits is None:
            raise RuntimeError("backward only once: the probabilities have become gradients")
        grad = grad.to(by_logits.dtype)
        by_output, by_bias = torch.empty_like(output), grad.new_zeros(len(weight), dtype=ctx.kinds[2])
        for rows in parts(*by_logits.shape):
            part = by_logits[rows].mul_(grad[rows, None])
            part.scatter_add_(1, targets[rows, None], -grad[rows, None])
            torch.mm(part, weight, out=by_output[rows])
            by_bias += part.sum(0, dtype=by_bias.dtype)
        by_weight = by_logits.t() @ output
        SoftmaxNLL.memory.last = by_logits
        return by_output.to(ctx.kinds[0]), by_weight.to(ctx.kinds[1]), by_bias, None


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
    logits: np.ndarray,
    noise: np.ndarray,
    temperature: float,
    top_k: int | None = None,
    top_p: float | None = None,
    min_p: float | None = None,
) -> np.ndarray:
    """Draw a token (B,) from each row of logits (B, V), given a step of `gumbel_noise` at the same temperature.

    The largest of logits / T + Gumbel noise is a draw from softmax(logits / T) (Maddison 2014). Both terms are multiplied
    by T, so that the smallest temperature does not overflow. `top_p` follows Holtzman 2020, `min_p` Nguyen 2024.
    """
    if top_k is not None or top_p is not None or min_p is not None:
        logits = _likeliest(logits, temperature, top_k, top_p, min_p)
    tokens: np.ndarray = (logits + noise).argmax(axis=1)
    return tokens


def _likeliest(
    logits: np.ndarray, temperature: float, top_k: int | None, top_p: float | None, min_p: float | None
) -> np.ndarray:
    """Logits (B, V) with -inf for the unknown symbol and for all symbols that `top_k`, `top_p` and `min_p` leave out."""
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
    if min_p is not None:
        logits[logits < logits.max(axis=1, keepdims=True) + temperature * np.log(min_p)] = -np.inf
    return logits
