"""An LSTM over one-hot input. A large vocabulary is looked up: a one-hot row times a matrix is a row of the matrix."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import layer_by_layer, with_feature
from throughline.model.cores.lstm import LSTMCore
from throughline.model.dropout import dropped

DENSE_UP_TO = 256
"""The largest vocabulary for which the dense product is used. Up to here it is faster on a CPU, because it is part of
oneDNN's fused LSTM and costs as much as an embedding of that many features. The cost of the product grows with V.
The cost of looking rows up does not. Measured with LSTM(256), 32 x 64 tokens, 2 cores, in thousands of tokens per second:
dense in float32, dense in bfloat16, and rows.
V 66: 80, 108, 43; 256: 55, 94, 48; 512: 37, 56, 44; 1024: 23, 39, 48; 4096: 7, 8, 43; 16384: 2, 2, 27."""


class OnehotLSTMCore(LSTMCore):
    """`LSTMCore` with the weights for one-hot input (T, B, V); it takes token ids (T, B) instead."""

    by_hand: ClassVar = True

    weight_ih_l0: nn.Parameter
    weight_hh_l0: nn.Parameter
    bias_ih_l0: nn.Parameter
    bias_hh_l0: nn.Parameter

    def __init__(
        self, vocab_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0, forget_bias: float = 0.0
    ) -> None:
        super().__init__(vocab_size, hidden_size, num_layers, dropout, forget_bias)
        if vocab_size > DENSE_UP_TO:
            # The column of a token is contiguous in memory, and so is the gradient of the column.
            self.weight_ih_l0 = nn.Parameter(self.weight_ih_l0.detach().t().contiguous().t())

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None, restart: Tensor | None = None
    ) -> tuple[Tensor, State]:
        weight_hh = self.weight_hh_l0
        if self.input_size <= DENSE_UP_TO and restart is None:
            return super().forward(F.one_hot(x, self.input_size).to(weight_hh.dtype), state)
        if self.input_size <= DENSE_UP_TO and restart is not None:
            x = x.masked_fill(restart, self.input_size)  # one more symbol is the restart
            return self.by_layers(F.one_hot(x, self.input_size + 1).to(weight_hh.dtype), state, restart)
        if state is None:
            zeros = weight_hh.new_zeros(self.num_layers, x.shape[1], self.hidden_size)
            state = zeros, zeros
        h, c = (s.to(weight_hh.dtype) for s in state)
        with torch.autocast(x.device.type, enabled=False):
            gates = F.embedding(x, self.weight_ih_l0.t()) + (self.bias_ih_l0 + self.bias_hh_l0)  # T, B, 4H
            if restart is not None:
                gates = gates + restart[..., None] * self.closing[:, 0]
            output, h_first, c_first = recurrence(gates, h[0], c[0], weight_hh)
        h_first, c_first = h_first[None], c_first[None]
        if self.num_layers == 1:
            return output, (h_first, c_first)
        output = dropped(output, self.dropout, self.training)
        if restart is not None or layer_by_layer(self, output):
            above = output if restart is None else with_feature(output, restart)
            output, (h_rest, c_rest) = self.by_layers(above, (h[1:], c[1:]), restart, first_layer=1)
            return output, (torch.cat([h_first, h_rest]), torch.cat([c_first, c_rest]))
        weights: list[Tensor] = [weight for layer in self.all_weights[1:] for weight in layer]
        options = True, self.num_layers - 1, self.dropout, self.training, False, False
        output, h_rest, c_rest = torch.lstm(output, (h[1:], c[1:]), weights, *options)
        return output, (torch.cat([h_first, h_rest]), torch.cat([c_first, c_rest]))


class Recurrence(torch.autograd.Function):
    """An LSTM layer, given the input's share of the gates in PyTorch's order i, f, g, o (Hochreiter 1997, Gers 2000).

    Takes gates (T, B, 4H), h (B, H), c (B, H) and the recurrent weight (4H, H); returns all h (T, B, H), the last h and c.
    """

    @staticmethod
    def forward(ctx: Any, gates: Tensor, h: Tensor, c: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        T, B, H = len(gates), len(h), h.shape[1]  # noqa: N806
        active = torch.empty_like(gates)
        hs, cs = gates.new_empty(T + 1, B, H), gates.new_empty(T + 1, B, H)
        tanh_cs = gates.new_empty(T, B, H)
        hs[0], cs[0] = h, c
        for t in range(T):
            torch.addmm(gates[t], hs[t], weight.t(), out=active[t])
            active[t, :, : 2 * H].sigmoid_()
            active[t, :, 2 * H : 3 * H].tanh_()
            active[t, :, 3 * H :].sigmoid_()
            i, f, g, o = active[t].chunk(4, dim=1)
            torch.mul(f, cs[t], out=cs[t + 1]).addcmul_(i, g)
            torch.tanh(cs[t + 1], out=tanh_cs[t])
            torch.mul(o, tanh_cs[t], out=hs[t + 1])
        ctx.save_for_backward(active, hs, cs, tanh_cs, weight)
        return hs[1:], hs[-1].clone(), cs[-1].clone()

    @staticmethod
    def backward(ctx: Any, grad_hs: Tensor, grad_h: Tensor, grad_c: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        active, hs, cs, tanh_cs, weight = ctx.saved_tensors
        i, f, g, o = active.chunk(4, dim=2)
        # The derivatives of c (for o: of h) by the inputs of the gates need no loop. Only the chain through time needs one.
        by_c = torch.cat([g * i * (1 - i), cs[:-1] * f * (1 - f), i * (1 - g * g)], dim=2)  # T, B, 3H
        o_by_h, c_by_h = tanh_cs * o * (1 - o), o * (1 - tanh_cs * tanh_cs)
        H = hs.shape[2]  # noqa: N806
        grad_gates, grad_c = torch.empty_like(active), grad_c.clone()
        for t in reversed(range(len(active))):
            grad_h = grad_h + grad_hs[t]
            grad_c.addcmul_(grad_h, c_by_h[t])
            torch.mul(grad_c.repeat(1, 3), by_c[t], out=grad_gates[t, :, : 3 * H])
            torch.mul(grad_h, o_by_h[t], out=grad_gates[t, :, 3 * H :])
            grad_h = grad_gates[t] @ weight
            grad_c.mul_(f[t])
        grad_weight = grad_gates.flatten(0, 1).t() @ hs[:-1].flatten(0, 1)
        return grad_gates, grad_h, grad_c, grad_weight


recurrence: Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]] = Recurrence.apply
