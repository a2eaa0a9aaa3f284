"""One step of an LSTM as nodes of an ONNX graph. Skip this file at first reading."""

from typing import Any

import numpy as np
from onnx import helper

from throughline.model.cores import OnnxStep


def onnx_step(weights: dict[str, Any], x: str, state: tuple[str, ...], num_layers: int, hidden_size: int) -> OnnxStep:
    """One ONNX LSTM per layer; for the arguments see `Core.onnx_step`."""
    constants: dict[str, Any] = {}
    layers = range(num_layers)
    nodes = [
        helper.make_node("Split", [name], [f"{name}{layer}" for layer in layers], axis=0, num_outputs=num_layers)  # 1, B, H
        for name in state
    ]
    for layer in layers:
        ours = [_in_onnx_order(weights[f"{kind}_l{layer}"]) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")]
        constants |= {f"W{layer}": ours[0][None], f"R{layer}": ours[1][None], f"B{layer}": np.concatenate(ours[2:])[None]}
        # With one step, the last h (1, B, H) is the layer's whole output. The next layer reads it.
        below = x if layer == 0 else f"h{layer - 1}_next"
        inputs = [below, f"W{layer}", f"R{layer}", f"B{layer}", "", f"h{layer}", f"c{layer}"]
        nodes.append(helper.make_node("LSTM", inputs, ["", f"h{layer}_next", f"c{layer}_next"], hidden_size=hidden_size))
    after = tuple(f"{name}_next" for name in state)
    nodes += [
        helper.make_node("Concat", [f"{name}{layer}_next" for layer in layers], [f"{name}_next"], axis=0)  # L, B, H
        for name in state
    ]
    return OnnxStep(nodes, constants, f"h{num_layers - 1}_next", after)


def _in_onnx_order(gates: np.ndarray) -> np.ndarray:
    """Rows (4H, ...) in ONNX's order i, o, f, g from PyTorch's i, f, g, o."""
    i, f, g, o = np.split(gates, 4)
    return np.concatenate([i, o, f, g])
