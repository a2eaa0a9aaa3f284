"""An LSTM generator one step at a time, in NumPy. Skip this file at first reading.

For such small steps PyTorch's calls take longer than the arithmetic. Only the products of several rows are PyTorch's.
"""

from collections.abc import Callable

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
        layers = range(core.num_layers)
        inputs = [_gates(weights[f"weight_ih_l{layer}"]) for layer in layers]
        biases = [_gates(weights[f"bias_ih_l{layer}"] + weights[f"bias_hh_l{layer}"]) for layer in layers]
        table = inputs[0].T if embedding is None else embedding.detach().numpy() @ inputs[0].T
        self.table = _aligned(table + biases[0])  # V, 4H
        self._looked_up = _aligned(np.empty((rows, self.table.shape[1]), self.table.dtype))
        last = head.weight.detach().numpy(), head.bias.detach().numpy()
        h, c = (s.numpy().repeat(rows, axis=1) for s in state)  # L, B, H
        across = [_gates(weights[f"weight_hh_l{layer}"]) for layer in layers]
        above = [*zip(inputs[1:], biases[1:], strict=True), last]
        self.layers = [Layer(*each) for each in zip(across, above, h, c, strict=True)]

    def step(self, tokens: np.ndarray) -> np.ndarray:
        x = self.table.take(tokens, axis=0, out=self._looked_up, mode="clip")  # by default `out` is copied
        for layer in self.layers:
            x = layer.step(x)
        return x

    @property
    def state(self) -> State:
        pairs = ([layer.h for layer in self.layers], [layer.c for layer in self.layers])
        return tuple(torch.from_numpy(np.stack(layers)) for layers in pairs)

    def restart(self, rows: list[int]) -> None:
        for layer in self.layers:
            layer.h[rows], layer.c[rows], layer.read[rows] = layer.begin


class Layer:
    """One LSTM layer, a step at a time, in place.

    Attributes:
        h, c: (B, H), the state.
        read: (B, 4H + N), what is made of h: its share of the gates of the next step, and what the layer above reads. One
            product gives both.
        gates: (4, B, H), because passes over one gate are fastest if it lies together.
    """

    def __init__(self, across: np.ndarray, above: tuple[np.ndarray, np.ndarray], h: np.ndarray, c: np.ndarray) -> None:
        (weight, bias), (rows, size) = above, h.shape
        self.h, self.c = _aligned(h), _aligned(c)
        both, biases = np.concatenate([across, weight]), np.concatenate([np.zeros(4 * size, bias.dtype), bias])
        self.product = multiplier(both, biases, self.h)
        self.read = self.product()
        self.begin = h[0], c[0], self.read[0].copy()
        self.gates = _aligned(np.empty((4, rows, size), h.dtype))
        # Views are made once, because each takes as long as a pass over a row.
        self.by_row, self.sigmoids = self.gates.transpose(1, 0, 2), self.gates[:3]
        self.i, self.f, self.o, self.g = self.gates
        self.shape = rows, 4, size
        self.of_gates, self.of_above = np.s_[:, : 4 * size], np.s_[:, 4 * size :]

    def step(self, x: np.ndarray) -> np.ndarray:
        """Take a step, given the input's share of the gates (B, 4H); returns what the layer above reads (B, N)."""
        np.add(self.read[self.of_gates].reshape(self.shape), x.reshape(self.shape), out=self.by_row)
        np.tanh(self.gates, out=self.gates)
        self.sigmoids *= 0.5
        self.sigmoids += 0.5
        self.c *= self.f
        self.i *= self.g
        self.c += self.i
        np.tanh(self.c, out=self.h)
        self.h *= self.o
        self.read = self.product()
        return self.read[self.of_above]


def multiplier(weight: np.ndarray, bias: np.ndarray, x: np.ndarray) -> Callable[[], np.ndarray]:
    """A function that multiplies what is in `x` (B, N) with a weight (M, N), and adds a bias (M,).

    For 64 rows, oneDNN takes three fifths of NumPy's time, because it packs the weight once. For one row it takes twice the
    time. PyTorch has its two functions for `torch.compile`; `test_each_step_is_the_model` notices if it changes them.
    """
    packs = torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")  # type: ignore[no-untyped-call]
    if len(x) > 1 and x.dtype == np.float32 and packs:
        rows, packed = torch.from_numpy(x), torch.ops.mkldnn._reorder_linear_weight(torch.from_numpy(weight), len(x))
        added, linear = torch.from_numpy(bias), torch.ops.mkldnn._linear_pointwise.default
        return lambda: linear(rows, packed, added, "none", [], "").numpy()
    transposed = _aligned(weight).T

    def multiplied() -> np.ndarray:
        read: np.ndarray = x.dot(transposed)  # for one row 11 us; `x @ transposed` takes 11.7
        read += bias
        return read

    return multiplied


def _gates(weight: np.ndarray) -> np.ndarray:
    """Weights (4H, ...) in the order i, f, o, g of the gates, from PyTorch's order i, f, g, o.

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
