"""Training with an update after every token, its arithmetic written out.

A step of one row and one token is so little that autograd's bookkeeping and PyTorch's calls would take most of the time. Here
it is NumPy, whose calls are shorter, on the memory where PyTorch keeps weights and gradients; its optimizer does the rest.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from throughline.batch import Batch
from throughline.datamodule import place
from throughline.learner import Learner
from throughline.model import LSTMGenerator, State


class OneStepLearner(Learner):
    """Makes an update after every token of a batch of one row, as a `Learner` does after a batch of one token."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False

    def on_train_start(self) -> None:
        self.network = Network(self.model)

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        here, network, optimizer = place(self.trainer), self.network, self.trainer.optimizers[0]
        network.go_on(self.carry.begin("train", batch.reset), np.random.default_rng([self.seed, here.epoch, here.batch]))
        nll_sum, self.bad_batch = 0.0, False
        with np.errstate(all="ignore"):  # whatever is not finite shows in the nll or in the norm
            for token, target in zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), strict=True):
                nll = network.forward(token, target)
                norm = network.backward(self.clip)
                nll_sum += nll
                if math.isfinite(nll + norm):
                    optimizer.step()
                else:
                    self.bad_batch = True
                    network.forget_what_is_not_finite()
        self.carry.offer("train", network.state)
        self.row_nll = torch.tensor([nll_sum])
        return {"nll_sum": self.row_nll[0]}


class Network:
    """A generator that reads a token at a time, and the gradients of that token's nll, which reach no step further back.

    Args:
        model: whose weights and gradients are used where PyTorch keeps them.
    """

    def __init__(self, model: LSTMGenerator) -> None:
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.tied, self.dropout = model.sizes.tie_weights, model.sizes.dropout
        self.layers = [Layer(model.lstm, number) for number in range(model.sizes.num_layers)]
        self.head, self.bias = Matrix(model.head.weight), Bias(model.head.bias)
        self.weights = [self.head, self.bias, *(weight for layer in self.layers for weight in layer.weights)]
        self.embedding: Matrix | None = None
        if model.embedding is not None:
            self.embedding = Matrix(model.embedding.weight, transposed=True, adds=self.tied)
            self.weights.append(self.embedding)

    def go_on(self, state: State | None, rng: np.random.Generator) -> None:
        """From the state of one row, or from zeros; `rng` draws what dropout leaves out."""
        self.rng = rng
        for number, layer in enumerate(self.layers):
            layer.h, layer.c = (layer.zeros, layer.zeros) if state is None else (s[number, 0].numpy() for s in state)

    @property
    def state(self) -> State:
        h, c = (np.stack(s)[:, None] for s in zip(*((layer.h, layer.c) for layer in self.layers), strict=True))
        return torch.from_numpy(h), torch.from_numpy(c)  # L, 1, H

    def forget_what_is_not_finite(self) -> None:
        if not all(np.isfinite(layer.h).all() and np.isfinite(layer.c).all() for layer in self.layers):
            self.go_on(None, self.rng)

    def forward(self, token: int, target: int) -> float:
        """Read a token, and return the nll of the one after it."""
        x = token if self.embedding is None else self.embedding.times(token)
        for layer in self.layers:
            layer.kept = self._kept(layer)
            x = layer.forward(x) * layer.kept
        logits = self.bias.plus(self.head.times(x))
        logits -= logits.max()
        self.error = np.exp(logits)
        total = self.error.sum()
        self.error /= total  # the probabilities, less the truth
        self.error[target] -= 1
        return float(np.log(total) - logits[target])

    def _kept(self, layer: "Layer") -> np.ndarray | float:
        """Zeros where dropout leaves out, elsewhere the factor that makes up for it."""
        if not self.dropout:
            return 1.0
        return (self.rng.random(len(layer.h)) >= self.dropout).astype(layer.h.dtype) / (1 - self.dropout)

    def backward(self, clip: float) -> float:
        """Write the gradients, clipped to the norm `clip`, and return the norm that they had."""
        error = self.head.back(self.bias.back(self.error))
        for layer in reversed(self.layers):
            error = layer.backward(error * layer.kept)
        if self.embedding is not None:
            self.embedding.back(error)
        square = sum(weight.square for weight in self.weights)
        if self.tied:  # two gradients of one matrix, that meet in the row of the token
            assert self.embedding is not None
            square += 2 * self.head.error[self.embedding.x] * (self.head.x @ self.embedding.error)
        norm = math.sqrt(square)
        scale = min(1.0, clip / (norm + 1e-6))  # as torch.nn.utils.clip_grad_norm_ has it
        for weight in self.weights:
            weight.write(scale)
        return norm


class Matrix:
    """A weight (M, N) and its gradient, the outer product of what comes back to it and what went in.

    So the square of its norm is known before it is written, and it is clipped by writing it smaller.

    Args:
        parameter: kept as it is, or `transposed`.
        adds: whether the gradient is added to one that is there.
    """

    def __init__(self, parameter: nn.Parameter, transposed: bool = False, adds: bool = False) -> None:
        assert parameter.grad is not None
        weight, self.gradient = parameter.detach(), parameter.grad
        if transposed:
            weight, self.gradient = weight.t(), self.gradient.t()
        self.weight, self.columns, self.adds = weight.numpy(), self.gradient.numpy(), adds
        self.written = 0

    def times(self, x: np.ndarray | int) -> np.ndarray:
        """The product with a vector (N,), or with the one-hot vector of a token: its column."""
        self.x = x
        return self.weight[:, x] if isinstance(x, int) else self.weight @ x

    def back(self, error: np.ndarray) -> np.ndarray | None:
        """What comes back to `x` where that is a vector, if `error` (M,) comes back to the product."""
        self.error = error
        return None if isinstance(self.x, int) else error @ self.weight

    @property
    def square(self) -> float:
        return self.error @ self.error * (1.0 if isinstance(self.x, int) else self.x @ self.x)

    def write(self, scale: float) -> None:
        error = self.error * scale
        if not isinstance(self.x, int):
            torch.outer(torch.from_numpy(error), torch.from_numpy(self.x), out=self.gradient)
        elif self.adds:
            self.columns[:, self.x] += error
        else:
            self.columns[:, self.written] = 0
            self.columns[:, self.x] = error
            self.written = self.x


class Bias:
    """A weight (M,) that is added."""

    def __init__(self, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        self.weight, self.gradient = parameter.detach().numpy(), parameter.grad.numpy()

    def plus(self, x: np.ndarray) -> np.ndarray:
        return x + self.weight

    def back(self, error: np.ndarray) -> np.ndarray:
        self.error = error
        return error

    @property
    def square(self) -> float:
        return self.error @ self.error

    def write(self, scale: float) -> None:
        np.multiply(self.error, scale, out=self.gradient)


class Layer:
    """One LSTM layer; its four gates i, f, g, o lie behind each other (4H,), as PyTorch has them."""

    def __init__(self, lstm: nn.LSTM, number: int) -> None:
        def named(kind: str) -> nn.Parameter:
            return getattr(lstm, f"{kind}_l{number}")

        self.inward, self.across = Matrix(named("weight_ih")), Matrix(named("weight_hh"))
        self.biases = Bias(named("bias_ih")), Bias(named("bias_hh"))
        self.weights = self.inward, self.across, *self.biases
        self.zeros = np.zeros_like(self.across.weight[0])
        # sigmoid(x) is 0.5 + 0.5 tanh(x / 2), so that one call of tanh does for all gates.
        self.half = np.repeat(np.array([0.5, 0.5, 1.0, 0.5], self.zeros.dtype), len(self.zeros))

    def forward(self, x: np.ndarray | int) -> np.ndarray:
        """Go on by what comes from below, a vector or a token, and return h (H,)."""
        gates = self.across.times(self.h)
        gates += self.inward.times(x)
        for bias in self.biases:
            gates += bias.weight
        gates *= self.half
        np.tanh(gates, out=gates)
        gates *= self.half
        gates += 1 - self.half
        i, f, g, o = gates.reshape(4, -1)
        self.gates, self.c_before = gates, self.c
        self.c = f * self.c + i * g
        self.tanh_c = np.tanh(self.c)
        self.h = o * self.tanh_c
        return self.h

    def backward(self, error: np.ndarray) -> np.ndarray | None:
        """What comes back to the layer below, if `error` (H,) comes back to h."""
        i, f, g, o = self.gates.reshape(4, -1)
        by_c = error * o * (1 - self.tanh_c * self.tanh_c)
        by_gate = (1 - self.gates) * (self.gates + (2 * self.half - 1))  # s (1 - s), and 1 - g^2
        for gate, by in zip(by_gate.reshape(4, -1), (by_c * g, by_c * self.c_before, by_c * i, error * self.tanh_c), strict=True):
            gate *= by
        for weight in (self.across, *self.biases):
            weight.error = by_gate
        return self.inward.back(by_gate)
