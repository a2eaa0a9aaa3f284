"""One step of a generator as an ONNX graph: a token and a state in, logits and the next state out.

The graph is written node by node, and each core adds its own nodes. PyTorch's exporters cannot follow one-hot input by rows.
The exporter for an LSTM of any number of rows is deprecated. The other one cuts up the weights at every step. The graph here
is as small as the network: one node per layer.
"""

from typing import Any

import numpy as np
import onnx
import onnxruntime  # type: ignore[import-untyped]
import torch
from onnx import TensorProto, helper, numpy_helper

from throughline.model.generator import Generator
from throughline.model.heads.categorical import CategoricalHead
from throughline.plumbing.errors import UserError

OPSET, IR = 18, 8
"""The versions of ONNX 1.13 (2022), so that older runtimes can also read the file."""
STEPS, ROWS = 32, (1, 3)
"""The steps and the numbers of rows for which the graph is compared with PyTorch."""


def build(generator: Generator, description: str) -> bytes:
    """The graph, in float32: `token` (B, 1) int64 and the state, for example `h` and `c` (L, B, H), to `logits` (B, V) and
    the next state, `h_next` and `c_next`.

    Args:
        generator: the generator to export.
        description: kept in the file under the key "throughline".

    Raises:
        UserError: there is no graph for this core or head, or it is too large for a file.
    """
    if type(generator.head) is not CategoricalHead:
        raise UserError(f"onnx: there is no graph for the head {generator.head_settings.name}; give onnx=false")
    V, settings, core = generator.vocab_size, generator.settings, generator.core  # noqa: N806
    weights = {name: parameter.detach().float().numpy() for name, parameter in generator.named_parameters()}
    constants: dict[str, Any]
    if settings.input == "onehot":
        constants = {"V": np.array(V), "off_on": np.array([0, 1], dtype=np.float32)}
        read = helper.make_node("OneHot", ["step", "V", "off_on"], ["x"])  # 1, B, V
    else:
        constants = {"reader.weight": weights["reader.weight"]}
        read = helper.make_node("Gather", ["reader.weight", "step"], ["x"])  # 1, B, E
    of_core = {name.removeprefix("core."): weight for name, weight in weights.items() if name.startswith("core.")}
    step = core.onnx_step(of_core, "x", core.state_names)
    if step is None:
        raise UserError(f"onnx: there is no graph for the core {core.name}; give onnx=false")
    head = "reader.weight" if settings.tie_weights else "head.weight"
    constants |= {**step.constants, head: weights[head], "head.bias": weights["head.bias"], "first": np.array([0])}
    nodes = [
        helper.make_node("Transpose", ["token"], ["step"], perm=[1, 0]),  # 1, B
        read,
        *step.nodes,
        helper.make_node("Squeeze", [step.output, "first"], ["output"]),  # B, H
        helper.make_node("Gemm", ["output", head, "head.bias"], ["logits"], transB=1),  # B, V
    ]
    shape: list[int | str] = [settings.num_layers, "B", settings.hidden_size]
    graph = helper.make_graph(
        nodes,
        "throughline",
        inputs=[
            helper.make_tensor_value_info("token", TensorProto.INT64, ["B", 1]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in core.state_names),
        ],
        outputs=[
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", V]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in step.state),
        ],
        initializer=[numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in constants.items()],
    )
    whole = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    helper.set_model_props(whole, {"throughline": description})
    size = whole.ByteSize()
    if size >= onnx.checker.MAXIMUM_PROTOBUF:
        raise UserError(f"onnx: the graph has {size:,} bytes, but an ONNX file has at most 2 GiB; give onnx=false")
    onnx.checker.check_model(whole, full_check=True)
    return bytes(whole.SerializeToString())


@torch.inference_mode()
def largest_difference(generator: Generator, graph: bytes) -> float:
    """The largest difference between the logits of the graph, in onnxruntime, and the generator's, over carried steps.

    Only logits are compared. A wrong state would show in the logits of the next step. An LSTM's c has no bound, so its
    rounding error has no bound either.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    tokens = np.random.default_rng(0).integers(generator.vocab_size, size=(STEPS, max(ROWS), 1))
    L, H, names = generator.settings.num_layers, generator.settings.hidden_size, generator.core.state_names  # noqa: N806
    differences = []
    for B in ROWS:  # noqa: N806
        state = None
        graphs_state = [np.zeros((L, B, H), dtype=np.float32) for _ in names]
        for token in tokens[:, :B]:
            ours, state = generator(torch.from_numpy(token), state)
            theirs, *graphs_state = session.run(None, {"token": token, **dict(zip(names, graphs_state, strict=True))})
            differences.append(np.abs(ours[:, 0].numpy() - theirs).max())
    return float(np.max(differences))  # nan if any difference is nan
