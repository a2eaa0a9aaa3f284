"""Gated recurrent units, computed by PyTorch's fused kernels."""

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import CLOSED, Core, OnnxStep, Operations, fused, layer_by_layer, with_feature
from throughline.model.dropout import dropped, dropped_weight


class GRUCore(nn.GRU, Core):
    """`nn.GRU` as a core; its state is `(h,)`, with h (L, B, H).

    Args:
        input_size: E.
        hidden_size: H.
        num_layers: L.
        dropout: between layers.
    """

    state_names: ClassVar = ("h",)
    restarts: ClassVar = True

    weight_hh_l0: nn.Parameter
    weight_drop = 0.0
    """The probability that a recurrent weight is zero in the whole batch."""
    variational = False
    """Whether dropout between layers draws one mask for all steps."""

    def __init__(self, input_size: int, hidden_size: int, num_layers: int = 1, dropout: float = 0.0) -> None:
        super().__init__(input_size, hidden_size, num_layers, dropout=dropout if num_layers > 1 else 0.0)

    def forward(  # type: ignore[override]
        self, x: Tensor, state: State | None = None, restart: Tensor | None = None
    ) -> tuple[Tensor, State]:
        before = None if state is None else state[0]
        if restart is None and not layer_by_layer(self, x):
            output, h = super().forward(x, before)
            return output, (h,)
        return self._by_layers(x, before, restart)

    def _by_layers(self, x: Tensor, h: Tensor | None, restart: Tensor | None) -> tuple[Tensor, State]:
        """As in `LSTMCore`: a further feature closes the gates r and z, so that h becomes the candidate n.

        That is tanh of its input bias alone where x is 0, so the feature's weight for n is minus this bias. The weight
        belongs to the graph; otherwise the bias would get a gradient from restarts.
        """
        if h is None:
            h = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size, dtype=self.weight_hh_l0.dtype)
        closing = self.weight_hh_l0.new_full((2 * self.hidden_size,), CLOSED)
        after = []
        for layer, own in enumerate(self.all_weights):
            if layer:
                x = dropped(x, self.dropout, self.training, self.variational)
            weights: list[Tensor] = [*own]
            weights[1] = dropped_weight(weights[1], self.weight_drop, self.training)
            if restart is not None:
                weight_ih, _, bias_ih, _ = weights
                column = torch.cat([closing, -bias_ih[2 * self.hidden_size :]])[:, None]
                weights = [torch.cat([weight_ih, column], dim=1), *weights[1:]]
                x = with_feature(x.masked_fill(restart[..., None], 0.0), restart)
            x, last = fused(torch.gru, x, h[layer : layer + 1], weights, self.training)
            after.append(last)
        return x, (torch.cat(after),)

    def operations(self, input_size: int) -> Operations:
        H, L = self.hidden_size, self.num_layers  # noqa: N806
        weights = 3 * H * input_size + 3 * H * H * (2 * L - 1)
        return Operations(3 * 2 * weights, 2 * 3 * H * H * L)

    def onnx_step(self, weights: dict[str, Any], x: str, state: tuple[str, ...]) -> OnnxStep | None:
        """One ONNX GRU per layer; its reset gate acts after the product, as in PyTorch."""
        from onnx import helper

        if type(self) is not GRUCore:
            return None
        L = self.num_layers  # noqa: N806
        constants: dict[str, Any] = {}
        nodes = [helper.make_node("Split", [*state], [f"h{layer}" for layer in range(L)], axis=0, num_outputs=L)]
        for layer in range(L):
            kinds = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
            ours = [_in_onnx_order(weights[f"{kind}_l{layer}"]) for kind in kinds]
            constants |= {
                f"W{layer}": ours[0][None],
                f"R{layer}": ours[1][None],
                f"B{layer}": np.concatenate(ours[2:])[None],
            }
            below = x if layer == 0 else f"h{layer - 1}_next"
            inputs = [below, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h{layer}"]
            sizes = {"hidden_size": self.hidden_size, "linear_before_reset": 1}
            nodes.append(helper.make_node("GRU", inputs, ["", f"h{layer}_next"], None, None, None, None, **sizes))
        nodes.append(helper.make_node("Concat", [f"h{layer}_next" for layer in range(L)], ["h_next"], axis=0))  # L, B, H
        return OnnxStep(nodes, constants, f"h{L - 1}_next", ("h_next",))


def _in_onnx_order(gates: np.ndarray) -> np.ndarray:
    """Rows (3H, ...) in ONNX's order z, r, n from PyTorch's r, z, n."""
    r, z, n = np.split(gates, 3)
    return np.concatenate([z, r, n])
