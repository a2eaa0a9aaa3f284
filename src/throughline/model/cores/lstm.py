"""The LSTM, computed by PyTorch's fused kernels.

Three files beside this one take single steps of an LSTM: `lstm_stepper` (generation), `lstm_single_token` (training with an
update per token), and `lstm_onnx`. They are written by hand, because a step of a few rows is mostly calls in PyTorch. Each
is tested against this module. Skip them at first reading.
"""

from typing import Any, ClassVar, TypeGuard

import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import CLOSED, Core, OnnxStep, Operations, fused, layer_by_layer, with_feature
from throughline.model.dropout import dropped, dropped_weight
from throughline.model.heads import Head
from throughline.model.heads.categorical import CategoricalHead
from throughline.model.steps import SingleToken, Stepper


class LSTMCore(nn.LSTM, Core):
    """`nn.LSTM` as a core; its state is `(h, c)`, each (L, B, H).

    Args:
        input_size: E.
        hidden_size: H.
        num_layers: L.
        dropout: between layers.
        forget_bias: the initial bias of the forget gates.
    """

    state_names: ClassVar = ("h", "c")
    restarts: ClassVar = True
    by_hand: ClassVar = True
    """The code written by hand computes exactly this class. A subclass that changes nothing in a step sets it again."""

    weight_hh_l0: nn.Parameter
    weight_drop = 0.0
    """The probability that a recurrent weight is zero in the whole batch."""
    variational = False
    """Whether dropout between layers draws one mask for all steps."""

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0, forget_bias: float = 0.0
    ) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0)
        forget = slice(hidden_size, 2 * hidden_size)  # gates lie in the order i, f, g, o
        for layer in range(num_layers):
            nn.init.constant_(getattr(self, f"bias_ih_l{layer}").data[forget], forget_bias)
            nn.init.zeros_(getattr(self, f"bias_hh_l{layer}").data[forget])

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None, restart: Tensor | None = None
    ) -> tuple[Tensor, State]:
        if restart is None and not layer_by_layer(self, x):
            output, after = super().forward(x, state)  # type: ignore[arg-type]  # two tensors
            return output, after
        return self.by_layers(x if restart is None else with_feature(x, restart), state, restart)

    @property
    def closing(self) -> Tensor:
        """(4H, 1) the weights that close the gates i, f and o; the candidate g may be anything."""
        column = self.weight_hh_l0.new_full((4 * self.hidden_size, 1), CLOSED)
        column[2 * self.hidden_size : 3 * self.hidden_size] = 0.0
        return column

    def by_layers(
        self, x: Tensor, state: State | None, restart: Tensor | None, first_layer: int = 0
    ) -> tuple[Tensor, State]:
        """Read steps layer by layer. Some may close all gates, so that h and c are exactly zeros after them.

        PyTorch's kernels are kept, at the cost of one input feature: it is 1 at a restart, and its weight is -10,000 for the
        gates i, f and o, whose sigmoids are then 0 in every precision. Every layer needs it, because the layer below hands
        up zeros, which close nothing. The weight is no parameter: weight decay would shrink it.

        Args:
            x: (T, B, E) the input of the first layer, or (T, B, E + 1): with restarts, they are its last feature.
            state: that of the layers from `first_layer` on.
        """
        if state is None:
            zeros = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size, dtype=self.weight_hh_l0.dtype)
            state = zeros, zeros
        after, closing = [], self.closing
        for layer, own in enumerate(self.all_weights[first_layer:]):
            if layer:
                x = dropped(x, self.dropout, self.training, self.variational)
            weights: list[Tensor] = [*own]
            weights[1] = dropped_weight(weights[1], self.weight_drop, self.training)
            if restart is not None:
                x = with_feature(x, restart) if layer else x
                weights = [torch.cat([weights[0], closing], dim=1), *weights[1:]]
            before = [s[layer : layer + 1] for s in state]
            x, *last = fused(torch.lstm, x, before, weights, self.training)
            after.append(last)
        h, c = (torch.cat(layers) for layers in zip(*after, strict=True))
        return x, (h, c)

    def operations(self, input_size: int) -> Operations:
        H, L = self.hidden_size, self.num_layers  # noqa: N806
        weights = 4 * H * input_size + 4 * H * H * (2 * L - 1)
        return Operations(3 * 2 * weights, 2 * 4 * H * H * L)

    def stepper(self, reader: nn.Module, head: Head, state: State, rows: int) -> Stepper | None:
        from throughline.model.cores.lstm_stepper import LSTMStepper

        table = reader.weight if isinstance(reader, nn.Embedding) else None
        return LSTMStepper(self, table, head, state, rows) if self._is_by_hand(head) else None

    def single_token(self, reader: nn.Module, head: Head, dropout: float) -> SingleToken | None:
        from throughline.model.cores.lstm_single_token import LSTMToken

        table = reader.weight if isinstance(reader, nn.Embedding) else None
        return LSTMToken(self, table, head, dropout) if self._is_by_hand(head) else None

    def _is_by_hand(self, head: Head) -> "TypeGuard[CategoricalHead]":
        return "by_hand" in vars(type(self)) and type(head) is CategoricalHead

    def onnx_step(self, weights: dict[str, Any], x: str, state: tuple[str, ...]) -> OnnxStep | None:
        if "by_hand" not in vars(type(self)):
            return None
        from throughline.model.cores.lstm_onnx import onnx_step

        return onnx_step(weights, x, state, self.num_layers, self.hidden_size)
