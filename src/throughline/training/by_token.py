"""Training with an update after every token, its arithmetic written out.

A step of one row and one token is so little that autograd's bookkeeping and PyTorch's calls would take most of the time.
Here it is NumPy, whose calls are shorter, on the memory where PyTorch keeps weights and gradients; its optimizer updates.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.adam import adam

from throughline.batches.batch import Batch
from throughline.model.generator import LSTMGenerator, State
from throughline.training.datamodule import place
from throughline.training.learner import Learner


class OneStepLearner(Learner):
    """Makes an update after every token of a batch of one row, as a `Learner` does after a batch of one token."""

    def on_train_start(self) -> None:
        self.network = Network(self.model)

    def chains(self, batch: Batch) -> int:
        return batch.inputs.numel()

    def on_validation_model_zero_grad(self) -> None:
        """Nothing: Lightning would take the gradients away, into which the network writes."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forward, backward and update for each token; one that is not finite is left out, as from a batch of its own."""
        here, network, optimizer = place(self.trainer), self.network, self.trainer.optimizers[0]
        network.go_on(self.carry.begin("train", batch.reset), np.random.default_rng([self.seed, here.epoch, here.batch]))
        nlls, norm_sum, self.bad_batch, update = [], 0.0, False, updates(optimizer)
        # Whatever is not finite shows in the nll or in the norm.
        with one_thread(), torch.no_grad(), np.errstate(all="ignore"):
            for token, target in zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), strict=True):
                nll = network.forward(token, target)
                norm = network.backward(self.gradient_clip_val)
                nlls.append(nll)
                norm_sum += norm
                if math.isfinite(nll + norm):
                    update()
                else:
                    self.bad_batch = True
                    network.forget_what_is_not_finite()
        self.carry.offer("train", network.state)
        self.nll, self.grad_norm = torch.tensor([nlls]), torch.tensor(norm_sum / batch.n_valid)
        return {"nll_sum": self.nll.sum()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch work in one thread: what these updates touch fits one core's caches, and moving it between two costs.

    LSTM(256) on two cores: 2,700 updates a second with one thread; with two 3,400, or 1,000 where the system has put the
    cores far apart.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def updates(optimizer: torch.optim.Optimizer) -> Callable[[], object]:
    """What makes an update each time that it is called, as long as settings and gradients stay where they are.

    Of Adam and AdamW it is the function to which `optimizer.step` comes in the end: to look all the tensors up before, at
    each call, takes it a tenth of the time of such an update.
    """
    (group,), state = optimizer.param_groups, optimizer.state
    parameters: list[Tensor] = group["params"]
    if not isinstance(optimizer, torch.optim.Adam) or not all(parameter in state for parameter in parameters):
        return optimizer.step
    gradients = [parameter.grad for parameter in parameters]
    averages, squares, steps = ([state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq", "step"))
    names = ("lr", "weight_decay", "eps", "maximize", "amsgrad", "fused", "decoupled_weight_decay")
    settings = {"beta1": group["betas"][0], "beta2": group["betas"][1], **{k: group[k] for k in names if k in group}}
    return lambda: adam(parameters, gradients, averages, squares, [], steps, **settings)  # type: ignore[arg-type]


class Network:
    """A generator that reads a token at a time, and the gradients of that token's nll, which reach no step further back.

    Args:
        model: whose weights and gradients are used where PyTorch keeps them.
    """

    def __init__(self, model: LSTMGenerator) -> None:
        weights = dict(model.named_parameters())
        for weight in weights.values():
            weight.grad = torch.zeros_like(weight)
        self.tied, self.dropout = model.sizes.tie_weights, model.sizes.dropout
        table = weights.get("embedding.weight")
        self.embedding = None if table is None else Matrix(table, transposed=True, adds=self.tied)
        self.layers = [Layer(weights, number) for number in range(model.sizes.num_layers)]
        self.head = Matrix(weights["embedding.weight" if self.tied else "head.weight"])
        self.bias = Bias(weights["head.bias"])
        self.parts: list[Matrix | Bias] = [self.head, self.bias]
        for layer in self.layers:
            self.parts += [layer.inward, layer.across, *layer.biases]
        if self.embedding is not None:
            self.parts.append(self.embedding)  # after the head, to whose gradient it may add

    def go_on(self, state: State | None, rng: np.random.Generator) -> None:
        """From the state of one row, or from zeros; `rng` draws what dropout leaves out."""
        self.rng = rng
        for number, layer in enumerate(self.layers):
            layer.h, layer.c = (layer.zeros, layer.zeros) if state is None else (s[number, 0].numpy() for s in state)

    @property
    def state(self) -> State:
        h, c = np.stack([layer.h for layer in self.layers]), np.stack([layer.c for layer in self.layers])
        return torch.from_numpy(h)[:, None], torch.from_numpy(c)[:, None]  # L, 1, H

    def forget_what_is_not_finite(self) -> None:
        if not all(s.isfinite().all() for s in self.state):
            self.go_on(None, self.rng)

    def forward(self, token: int, target: int) -> float:
        """Read a token, and return the nll of the one after it."""
        x = token if self.embedding is None else self.embedding.times(token)
        for layer in self.layers:
            x = layer.forward(x, self._kept(layer.zeros))
        logits = self.head.times(x) + self.bias.weight
        logits -= logits.max()
        self.error = np.exp(logits)
        total = self.error.sum()
        self.error /= total  # the probabilities, and then what is wrong with them
        self.error[target] -= 1
        return float(np.log(total) - logits[target])

    def _kept(self, like: np.ndarray) -> np.ndarray | float:
        """Zeros where dropout leaves out, and elsewhere the factor that makes up for it."""
        if not self.dropout:
            return 1.0
        return (self.rng.random(len(like)) >= self.dropout).astype(like.dtype) / (1 - self.dropout)

    def backward(self, limit: float) -> float:
        """Write the gradients, clipped to a norm of `limit`, and return the norm that they had."""
        self.bias.error = self.error
        error = self.head.back(self.error)
        for layer in reversed(self.layers):
            error = layer.backward(error)
        square = 0.0
        if self.embedding is not None:
            self.embedding.back(error)
            if self.tied:  # two gradients of one matrix, which meet in the row of the token
                square = 2 * float(self.error[self.embedding.x] * (self.head.x @ error))
        norm = math.sqrt(sum((part.square for part in self.parts), square))
        scale = min(1.0, limit / (norm + 1e-6))  # as in torch.nn.utils.clip_grad_norm_
        for part in self.parts:
            part.write(scale)
        return norm


class Layer:
    """One LSTM layer; its gates i, f, g, o lie one after the other (4H,), as PyTorch has them."""

    h: np.ndarray
    c: np.ndarray

    def __init__(self, weights: dict[str, nn.Parameter], number: int) -> None:
        self.inward, self.across = (Matrix(weights[f"lstm.{kind}_l{number}"]) for kind in ("weight_ih", "weight_hh"))
        self.biases = [Bias(weights[f"lstm.{kind}_l{number}"]) for kind in ("bias_ih", "bias_hh")]
        self.zeros = np.zeros_like(self.across.weight[0])
        # A sigmoid is 0.5 + 0.5 tanh(x / 2), so that one call does for all gates.
        self.half = np.repeat(np.array([0.5, 0.5, 1, 0.5], self.zeros.dtype), len(self.zeros))
        self.shift, self.least = 1 - self.half, 1 - 2 * self.half  # the least that a gate can be: 0, of g -1

    def forward(self, x: np.ndarray | int, kept: np.ndarray | float) -> np.ndarray:
        """Go on by what comes from below, a vector or a token, and return what goes on from here: h (H,) times `kept`."""
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
        """What comes back to the input, if `error` (H,) comes back to what went on from here."""
        i, _, g, o = self.gates.reshape(4, -1)
        by_h = error * self.kept
        by_c = by_h * o * (1 - self.tanh_c * self.tanh_c)
        by_gates = (1 - self.gates) * (self.gates - self.least)  # the slopes: of a sigmoid s (1 - s), of g 1 - g^2
        for by_gate, by in zip(by_gates.reshape(4, -1), (by_c * g, by_c * self.c_before, by_c * i, by_h * self.tanh_c)):  # noqa: B905
            by_gate *= by
        self.across.error = by_gates
        for bias in self.biases:
            bias.error = by_gates
        return self.inward.back(by_gates)


class Matrix:
    """A weight (M, N), times a vector or a token, and its gradient: the outer product of what comes back and what went in.

    So its norm is known before it is written, and clipping takes no pass over it.

    Args:
        parameter: as it is, or `transposed`.
        adds: whether the gradient is added to the one that is there.
    """

    x: np.ndarray | int
    error: np.ndarray

    def __init__(self, parameter: nn.Parameter, transposed: bool = False, adds: bool = False) -> None:
        assert parameter.grad is not None
        weight, gradient = parameter.detach(), parameter.grad
        if transposed:
            weight, gradient = weight.t(), gradient.t()
        self.weight: np.ndarray = weight.numpy()
        self.gradient, self.columns = gradient, gradient.numpy()
        self.adds = adds
        self._written = 0

    def times(self, x: np.ndarray | int) -> np.ndarray:
        """The product with a vector (N,), or with the one-hot vector of a token, which is a column."""
        self.x = x
        product: np.ndarray = self.weight[:, x] if isinstance(x, int) else self.weight @ x
        return product

    def back(self, error: np.ndarray) -> np.ndarray:
        """What comes back to a vector that went in, if `error` (M,) comes back to the product; to a token, nothing does."""
        self.error = error
        by_x: np.ndarray = error[:0] if isinstance(self.x, int) else error @ self.weight
        return by_x

    @property
    def square(self) -> float:
        """Of the gradient's norm."""
        return float(self.error @ self.error) * (1.0 if isinstance(self.x, int) else float(self.x @ self.x))

    def write(self, scale: float) -> None:
        """The gradient, `scale` times as large."""
        error = self.error * scale
        if not isinstance(self.x, int):
            torch.outer(torch.from_numpy(error), torch.from_numpy(self.x), out=self.gradient)
        elif self.adds:
            self.columns[:, self.x] += error
        else:
            self.columns[:, self._written] = 0
            self.columns[:, self.x] = error
            self._written = self.x


class Bias:
    """A weight (M,) that is added, and its gradient: what comes back to the sum."""

    error: np.ndarray

    def __init__(self, parameter: nn.Parameter) -> None:
        assert parameter.grad is not None
        self.weight, self.gradient = parameter.detach().numpy(), parameter.grad.numpy()

    @property
    def square(self) -> float:
        return float(self.error @ self.error)

    def write(self, scale: float) -> None:
        np.multiply(self.error, scale, out=self.gradient)
