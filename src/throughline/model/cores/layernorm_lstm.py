"""An LSTM with layer normalisation (Ba 2016, arXiv 1607.06450), step by step."""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import Core, Operations
from throughline.model.dropout import dropped


class LayernormLSTMCore(Core):
    """Both products of the gates are normalised over all gates together, and the cell where it is read.

    Its state is `(h, c)`, each (L, B, H). Weights have PyTorch's names and its order of gates i, f, g, o.

    Args:
        input_size: E.
        hidden_size: H.
        num_layers: L.
        dropout: between layers.
        variational: whether it draws one mask for all steps.
        forget_bias: the initial bias of the forget gates.
    """

    state_names: ClassVar = ("h", "c")
    restarts: ClassVar = True

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        dropout: float = 0.0,
        variational: bool = False,
        forget_bias: float = 0.0,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.dropout, self.variational = dropout, variational
        sizes = [input_size, *[hidden_size] * (num_layers - 1)]
        self.layers = nn.ModuleList(NormalisedLayer(size, hidden_size, forget_bias) for size in sizes)

    def forward(self, x: Tensor, state: State | None = None, restart: Tensor | None = None) -> tuple[Tensor, State]:
        if state is None:
            zeros = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size)
            state = zeros, zeros
        after = []
        for number, layer in enumerate(self.layers):
            x = dropped(x, self.dropout if number else 0.0, self.training, self.variational)
            x, h, c = layer(x, state[0][number], state[1][number], restart)
            after.append((h, c))
        h, c = (torch.stack(layers) for layers in zip(*after, strict=True))
        return x, (h, c)

    def operations(self, input_size: int) -> Operations:
        H, L = self.hidden_size, self.num_layers  # noqa: N806
        return Operations(3 * 2 * (4 * H * input_size + 4 * H * H * (2 * L - 1)), 2 * 4 * H * H * L)


class NormalisedLayer(nn.Module):
    """One layer: reads (T, B, E) from h and c (B, H), and returns all h (T, B, H), the last h and c."""

    def __init__(self, input_size: int, hidden_size: int, forget_bias: float) -> None:
        super().__init__()
        bound = hidden_size**-0.5
        self.weight_ih = nn.Parameter(torch.empty(4 * hidden_size, input_size).uniform_(-bound, bound))
        self.weight_hh = nn.Parameter(torch.empty(4 * hidden_size, hidden_size).uniform_(-bound, bound))
        self.norm_ih, self.norm_hh = nn.LayerNorm(4 * hidden_size), nn.LayerNorm(4 * hidden_size)
        self.norm_c = nn.LayerNorm(hidden_size)
        nn.init.constant_(self.norm_ih.bias.data[hidden_size : 2 * hidden_size], forget_bias)

    def forward(self, x: Tensor, h: Tensor, c: Tensor, restart: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        inputs, outputs = self.norm_ih(F.linear(x, self.weight_ih)), []
        for t, own in enumerate(inputs):
            i, f, g, o = (own + self.norm_hh(F.linear(h, self.weight_hh))).chunk(4, dim=1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * self.norm_c(c).tanh()
            if restart is not None:
                h, c = (s.masked_fill(restart[t, :, None], 0.0) for s in (h, c))
            outputs.append(h)
        return torch.stack(outputs), h, c
