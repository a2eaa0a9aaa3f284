"""An LSTM generator one step at a time, in NumPy. Skip this file at first reading.

For such small steps PyTorch's calls take longer than the arithmetic. Its products of a few rows are slow as well.
"""

import numpy as np
import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.heads.categorical import CategoricalHead
from throughline.model.steps import Stepper


class LSTMStepper(Stepper):
    """Steps in NumPy; the weights are read once, when the stepper is built.

    Args:
        core: the LSTM.
        embedding: (V, E); None if the first layer reads one-hot input.
        head: reads the last layer.
        state: of one row; all sequences continue from it.
        rows: B, the number of sequences.
    """

    def __init__(self, core: nn.LSTM, embedding: Tensor | None, head: CategoricalHead, state: State, rows: int) -> None:
        weights = {name: value.detach().numpy() for name, value in core.named_parameters()}
        h, c = (s.numpy().swapaxes(1, 2).repeat(rows, axis=2) for s in state)  # L, H, B
        layers = range(core.num_layers)
        self.layers = [Layer(_gates(weights[f"weight_hh_l{layer}"]), h[layer], c[layer]) for layer in layers]
        inputs = [_gates(weights[f"weight_ih_l{layer}"]) for layer in layers]
        biases = [_gates((weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"])[:, None]) for layer in layers]
        self.table = (inputs[0] if embedding is None else inputs[0] @ embedding.detach().numpy().T) + biases[0]  # 4H, V
        last = head.weight.detach().numpy(), head.bias.detach().numpy()[:, None]
        self.above = [*zip(inputs[1:], biases[1:], strict=True), last]  # the weight and the bias that read each layer
        self.table = _aligned(self.table)
        self._looked_up = _aligned(self.layers[0].gates)

    def step(self, tokens: np.ndarray) -> np.ndarray:
        x: np.ndarray = self.table.take(tokens, axis=1, out=self._looked_up, mode="clip")  # by default `out` is copied
        for layer, (weight, bias) in zip(self.layers, self.above, strict=True):
            x = weight @ layer.step(x)
            x += bias
        return x.T

    @property
    def state(self) -> State:
        pairs = ([layer.h.T for layer in self.layers], [layer.c.T for layer in self.layers])
        return tuple(torch.from_numpy(np.stack(layers)) for layers in pairs)

    def restart(self, rows: list[int]) -> None:
        for layer in self.layers:
            layer.h[:, rows], layer.c[:, rows] = layer.begin


class Layer:
    """One LSTM layer, a step at a time, in place; a sequence is a column, because this makes products fastest."""

    def __init__(self, weight: np.ndarray, h: np.ndarray, c: np.ndarray) -> None:
        self.weight = _aligned(weight)  # 4H, H
        self.h, self.c = _aligned(h), _aligned(c)  # H, B
        self.begin = h[:, :1], c[:, :1]  # H, 1
        self.gates = _aligned(np.zeros((len(weight), h.shape[1]), h.dtype))

    def step(self, x: np.ndarray) -> np.ndarray:
        """Take a step, given the input's share of the gates (4H, B); returns h (H, B)."""
        np.matmul(self.weight, self.h, out=self.gates)
        self.gates += x
        np.tanh(self.gates, out=self.gates)
        i, f, o, g = self.gates.reshape(4, *self.h.shape)
        sigmoids = self.gates[: -len(g)]
        sigmoids *= 0.5
        sigmoids += 0.5
        self.c *= f
        i *= g
        self.c += i
        np.tanh(self.c, out=self.h)
        self.h *= o
        return self.h


def _gates(weight: np.ndarray) -> np.ndarray:
    """Weights (4H, N) in the order i, f, o, g of the gates, from PyTorch's order i, f, g, o.

    The three sigmoids lie together, so that two calls serve all of them. sigmoid(x) is 0.5 + 0.5 tanh(x / 2), so the weights
    of these gates are halved.
    """
    i, f, g, o = np.split(weight, 4)
    return np.concatenate([i / 2, f / 2, o / 2, g])


def _aligned(array: np.ndarray) -> np.ndarray:
    """A copy that begins with a cache line. NumPy's own choice of address can make a step up to 4 % slower."""
    buffer = np.empty(array.nbytes + 64, np.uint8)
    begin = -buffer.ctypes.data % 64
    copy: np.ndarray = buffer[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
