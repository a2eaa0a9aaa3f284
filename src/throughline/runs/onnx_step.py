"""One step of a generator as an ONNX graph: a token and a state in, logits and the next state out.

Written out node by node. PyTorch's exporters trace what they are given, and so cannot follow one-hot input by rows
(`onehot.py`); the one for an LSTM of any number of rows is deprecated, the other cuts the weights up anew at every step. The
graph here is as small as the network: an ONNX LSTM is one node a layer.
"""

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from onnx import TensorProto, helper, numpy_helper

from throughline.model.generator import LSTMGenerator
from throughline.plumbing.errors import UserError

OPSET, IR = 18, 8
"""Of ONNX 1.13 (2022), so that older runtimes read the file, too."""
STEPS, ROWS = 32, (1, 3)
"""How the graph is compared with PyTorch."""


def build(model: LSTMGenerator, description: str) -> bytes:
    """The graph, in float32: `token` (B, 1) int64, `h` and `c` (L, B, H) to `logits` (B, V), `h_next` and `c_next`.

    Args:
        model: the generator.
        description: kept in the file under the key "throughline".
    """
    V, H, L = model.vocab_size, model.sizes.hidden_size, model.sizes.num_layers  # noqa: N806
    weights = {name: parameter.detach().float().numpy() for name, parameter in model.named_parameters()}
    if model.embedding is None:
        constants = {"V": np.array(V), "off_on": np.array([0, 1], dtype=np.float32)}
        read = helper.make_node("OneHot", ["step", "V", "off_on"], ["x0"])  # 1, B, V
    else:
        constants = {"embedding.weight": weights["embedding.weight"]}
        read = helper.make_node("Gather", ["embedding.weight", "step"], ["x0"])  # 1, B, E
    layers = range(L)
    nodes = [
        helper.make_node("Transpose", ["token"], ["step"], perm=[1, 0]),  # 1, B
        read,
        helper.make_node("Split", ["h"], [f"h{layer}" for layer in layers], axis=0, num_outputs=L),  # 1, B, H each
        helper.make_node("Split", ["c"], [f"c{layer}" for layer in layers], axis=0, num_outputs=L),
    ]
    for layer in layers:
        ours = [
            _in_onnx_order(weights[f"lstm.{kind}_l{layer}"]) for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        ]
        constants |= {f"W{layer}": ours[0][None], f"R{layer}": ours[1][None], f"B{layer}": np.concatenate(ours[2:])[None]}
        # Of one step, the last h (1, B, H) is the layer's whole output, and so what the next layer reads.
        inputs = [f"x{layer}", f"W{layer}", f"R{layer}", f"B{layer}", "", f"h{layer}", f"c{layer}"]
        nodes.append(helper.make_node("LSTM", inputs, ["", f"x{layer + 1}", f"c{layer}_next"], hidden_size=H))
    head = "embedding.weight" if model.sizes.tie_weights else "head.weight"
    constants |= {head: weights[head], "head.bias": weights["head.bias"], "first": np.array([0])}
    nodes += [
        helper.make_node("Concat", [f"x{layer + 1}" for layer in layers], ["h_next"], axis=0),  # L, B, H
        helper.make_node("Concat", [f"c{layer}_next" for layer in layers], ["c_next"], axis=0),
        helper.make_node("Squeeze", [f"x{L}", "first"], ["output"]),  # B, H
        helper.make_node("Gemm", ["output", head, "head.bias"], ["logits"], transB=1),  # B, V
    ]
    state: list[int | str] = [L, "B", H]
    graph = helper.make_graph(
        nodes,
        "throughline",
        inputs=[
            helper.make_tensor_value_info("token", TensorProto.INT64, ["B", 1]),
            helper.make_tensor_value_info("h", TensorProto.FLOAT, state),
            helper.make_tensor_value_info("c", TensorProto.FLOAT, state),
        ],
        outputs=[
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", V]),
            helper.make_tensor_value_info("h_next", TensorProto.FLOAT, state),
            helper.make_tensor_value_info("c_next", TensorProto.FLOAT, state),
        ],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    helper.set_model_props(whole, {"throughline": description})
    size = whole.ByteSize()
    if size >= onnx.checker.MAXIMUM_PROTOBUF:
        raise UserError(f"onnx: the graph has {size:,} bytes, and one ONNX file at most 2 GiB; give onnx=false")
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString())


def _in_onnx_order(gates: np.ndarray) -> np.ndarray:
    """Rows (4H, ...) in ONNX's order i, o, f, g from PyTorch's i, f, g, o."""
    i, f, g, o = np.split(gates, 4)
    return np.concatenate([i, o, f, g])


@torch.inference_mode()
def largest_difference(model: LSTMGenerator, graph: bytes) -> float:
    """By how much any logit of the graph, in onnxruntime, differs from the model's over carried steps.

    Of the logits alone: a wrong state would show in those of the next step, and c has no bound, so nor has its rounding.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(0).integers(model.vocab_size, size=(STEPS, max(ROWS), 1))
    differences = []
    for B in ROWS:  # noqa: N806
        state = None
        h = c = np.zeros((model.sizes.num_layers, B, model.sizes.hidden_size), dtype=np.float32)
        for token in tokens[:, :B]:
            ours, state = model(torch.from_numpy(token), state)
            theirs, h, c = session.run(None, {"token": token, "h": h, "c": c})
            differences.append(np.abs(ours[:, 0].numpy() - theirs).max())
    return float(np.max(differences))  # nan, if there is one
