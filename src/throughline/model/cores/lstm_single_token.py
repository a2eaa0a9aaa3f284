"""An LSTM generator one token at a time with the gradients of that token, in NumPy. Skip this file at first reading.

A step of one row and one token is so small that autograd's bookkeeping and PyTorch's calls would take most of the time.
NumPy's calls are shorter. They work directly on the memory where PyTorch keeps weights and gradients.
"""

import math

import numpy as np
import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.heads.categorical import CategoricalHead
from throughline.model.steps import SingleToken


class LSTMToken(SingleToken):
    """The forward and backward pass of one token, written out.

    Args:
        core: the LSTM.
        embedding: (V, E); None if the first layer reads one-hot input.
        head: reads the last layer; it may share its matrix with the embedding.
        dropout: between layers and after the last.
    """

    def __init__(self, core: nn.LSTM, embedding: Tensor | None, head: CategoricalHead, dropout: float) -> None:
        tied = head.weight is embedding
        for weight in (*core.parameters(), *head.parameters(), *([] if embedding is None else [embedding])):
            weight.grad = torch.zeros_like(weight)
        self.tied, self.dropout = tied, dropout
        self.embedding = None if embedding is None else Matrix(embedding, transposed=True, adds=tied)
        self.layers = [Layer(core, number) for number in range(core.num_layers)]
        self.head, self.bias = Matrix(head.weight), Bias(head.bias)
        self.parts: list[Matrix | Bias] = [self.head, self.bias]
        for layer in self.layers:
            self.parts += [layer.inward, layer.across, *layer.biases]
        if self.embedding is not None:
            self.parts.append(self.embedding)  # after the head, because it may add to the head's gradient

    def begin(self, state: State | None, rng: np.random.Generator) -> None:
        self.rng = rng
        for number, layer in enumerate(self.layers):
            layer.h, layer.c = (layer.zeros, layer.zeros) if state is None else (s[number, 0].numpy() for s in state)

    @property
    def state(self) -> State:
        h, c = np.stack([layer.h for layer in self.layers]), np.stack([layer.c for layer in self.layers])
        return torch.from_numpy(h)[:, None], torch.from_numpy(c)[:, None]  # L, 1, H

    def reset_if_not_finite(self) -> None:
        if not all(s.isfinite().all() for s in self.state):
            self.begin(None, self.rng)

    def forward(self, token: int, target: int) -> float:
        """Read a token, and return the nll of `target`, the token after it."""
        x = token if self.embedding is None else self.embedding.times(token)
        for layer in self.layers:
            x = layer.forward(x, self._kept(layer.zeros))
        logits = self.head.times(x) + self.bias.weight
        logits -= logits.max()
        self.error = np.exp(logits)
        total = self.error.sum()
        self.error /= total  # the probabilities; below they become the gradient of the logits
        self.error[target] -= 1
        return float(np.log(total) - logits[target])

    def _kept(self, like: np.ndarray) -> np.ndarray | float:
        """A dropout mask: zeros, and elsewhere the factor that compensates for them."""
        if not self.dropout:
            return 1.0
        return (self.rng.random(len(like)) >= self.dropout).astype(like.dtype) / (1 - self.dropout)

    def backward(self, limit: float) -> float:
        """Write the gradients, clipped to a norm of `limit`, and return their norm before clipping."""
        self.bias.error = self.error
        error = self.head.back(self.error)
        errors, square = [self.error], float(self.error @ self.error) * (self.head.square_of_input + 1)
        for layer in reversed(self.layers):
            error = layer.backward(error)
            errors.append(layer.error)
            square += layer.square
        if self.embedding is not None:
            self.embedding.back(error)
            errors.append(error)
            square += float(error @ error)
            if self.tied:  # two gradients of one matrix; both change the row of the token
                square += 2 * float(self.error[self.embedding.x] * (self.head.x @ error))
        norm = math.sqrt(square)
        scale = limit / (norm + 1e-6)  # as in torch.nn.utils.clip_grad_norm_
        if not scale >= 1:  # it may also be not a number
            for error in errors:  # the parts share these arrays
                error *= scale
        for part in self.parts:
            part.write()
        return norm


class Layer:
    """One LSTM layer; its gates i, f, g, o follow one another (4H,), as in PyTorch."""

    h: np.ndarray
    c: np.ndarray
    error: np.ndarray
    """(4H,) the gradient of the gates before their sigmoids and tanh."""

    def __init__(self, core: nn.LSTM, number: int) -> None:
        self.inward, self.across = (Matrix(getattr(core, f"{kind}_l{number}")) for kind in ("weight_ih", "weight_hh"))
        self.biases = [Bias(getattr(core, f"{kind}_l{number}")) for kind in ("bias_ih", "bias_hh")]
        self.zeros = np.zeros_like(self.across.weight[0])
        # A sigmoid is 0.5 + 0.5 tanh(x / 2), so one call of tanh serves all gates.
        self.half = np.repeat(np.array([0.5, 0.5, 1, 0.5], self.zeros.dtype), len(self.zeros))
        self.shift, self.least = 1 - self.half, 1 - 2 * self.half  # the smallest value of a gate: 0, and of g -1

    def forward(self, x: np.ndarray | int, kept: np.ndarray | float) -> np.ndarray:
        """Take a step, given the output of the layer below or a token; returns h (H,) times `kept`."""
        gates = self.across.times(self.h)
        gates += self.inward.times(x)
        for bias in self.biases:
            gates += bias.weight
        gates *= self.half
        np.tanh(gates, out=gates)
        gates *= self.half
        gates += self.shift
        self.gates, self.c_before, self.kept = gates, self.c, kept
        i, f, g, o = gates.reshape(4, -1)
        self.c = f * self.c + i * g
        self.tanh_c = np.tanh(self.c)
        self.h = o * self.tanh_c
        return self.h * kept

    def backward(self, error: np.ndarray) -> np.ndarray:
        """The gradient of the input, given `error` (H,), the gradient of the result of `forward`."""
        i, _, g, o = self.gates.reshape(4, -1)
        by_h = error * self.kept
        by_c = by_h * o * (1 - self.tanh_c * self.tanh_c)
        by_gates = (1 - self.gates) * (self.gates - self.least)  # the slopes: of a sigmoid s (1 - s), of g 1 - g^2
        for by_gate, by in zip(by_gates.reshape(4, -1), (by_c * g, by_c * self.c_before, by_c * i, by_h * self.tanh_c)):  # noqa: B905
            by_gate *= by
        self.error = self.across.error = by_gates
        for bias in self.biases:
            bias.error = by_gates
        return self.inward.back(by_gates)

    @property
    def square(self) -> float:
        """The squared norm of the gradient of all weights."""
        inputs = self.across.square_of_input + self.inward.square_of_input + len(self.biases)
        return float(self.error @ self.error) * inputs


class Matrix:
    """A weight (M, N) for products with a vector or a token; its gradient is the outer product of `error` and the input.

    The norm of an outer product is the product of the norms. So clipping needs no gradient, and takes no pass over one.

    Args:
        parameter: the weight in PyTorch.
        transposed: whether the weight (M, N) is the transpose of the parameter.
        adds: whether the gradient is added to the existing one.
    """

    x: np.ndarray | int
    error: np.ndarray

    def __init__(self, parameter: Tensor, transposed: bool = False, adds: bool = False) -> None:
        assert parameter.grad is not None
        weight, gradient = parameter.detach(), parameter.grad
        if transposed:
            weight, gradient = weight.t(), gradient.t()
        self.weight: np.ndarray = weight.numpy()
        self.gradient, self.columns = gradient, gradient.numpy()
        self.adds = adds
        self._written = 0

    def times(self, x: np.ndarray | int) -> np.ndarray:
        """The product with a vector (N,), or with the one-hot vector of a token: a column of the weight."""
        self.x = x
        product: np.ndarray = self.weight[:, x] if isinstance(x, int) else self.weight @ x
        return product

    def back(self, error: np.ndarray) -> np.ndarray:
        """The gradient of the input vector, given `error` (M,), the gradient of the product; a token has none."""
        self.error = error
        by_x: np.ndarray = error[:0] if isinstance(self.x, int) else error @ self.weight
        return by_x

    @property
    def square_of_input(self) -> float:
        """The squared norm of the input."""
        return 1.0 if isinstance(self.x, int) else float(self.x @ self.x)

    def write(self) -> None:
        """Write the gradient."""
        if not isinstance(self.x, int):
            torch.outer(torch.from_numpy(self.error), torch.from_numpy(self.x), out=self.gradient)
        elif self.adds:
            self.columns[:, self.x] += self.error
        else:
            self.columns[:, self._written] = 0
            self.columns[:, self.x] = self.error
            self._written = self.x


class Bias:
    """A weight (M,) that is added; its gradient is the gradient of the sum."""

    error: np.ndarray

    def __init__(self, parameter: Tensor) -> None:
        assert parameter.grad is not None
        self.weight, self.gradient = parameter.detach().numpy(), parameter.grad.numpy()

    def write(self) -> None:
        self.gradient[:] = self.error
