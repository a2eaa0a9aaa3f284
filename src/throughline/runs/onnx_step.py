"""One step of a generator as an ONNX graph: a token or a frame and a state in, a prediction and the next state out.

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
from throughline.model.heads import LinearHead
from throughline.plumbing.errors import UserError

OPSET, IR = 18, 8
"""The versions of ONNX 1.13 (2022), so that older runtimes can also read the file."""
STEPS, ROWS = 32, (1, 3)
"""The steps and the numbers of rows for which the graph is compared with PyTorch."""


def build(generator: Generator, description: str) -> bytes:
    """The graph, in float32: `token` (B, 1) int64 and the state, for example `h` and `c` (L, B, H), to `logits` (B, V) and
    the next state, `h_next` and `c_next`. Of frames, `frame` (B, 1, F), standardised if they are real, to `predicted`
    (B, P), which `throughline.model.heads` explains.

    Args:
        generator: the generator to export.
        description: kept in the file under the key "throughline".

    Raises:
        UserError: there is no graph for this core or head, or it is too large for a file.
    """
    if not isinstance(generator.head, LinearHead) or type(generator.head).forward is not LinearHead.forward:
        raise UserError(f"onnx: there is no graph for the head {generator.head_settings.name}; give onnx=false")
    V, settings, core = generator.vocab_size, generator.settings, generator.core  # noqa: N806
    weights = {name: parameter.detach().float().numpy() for name, parameter in generator.named_parameters()}
    constants: dict[str, Any] = {}
    step_in, predicted = _names(generator)
    if generator.reads_frames:
        read = helper.make_node("Identity", ["step"], ["x"])  # 1, B, F
    elif settings.input == "onehot":
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
        helper.make_node("Transpose", [step_in], ["step"], perm=[1, 0, 2] if generator.reads_frames else [1, 0]),  # 1, B
        read,
        *step.nodes,
        helper.make_node("Squeeze", [step.output, "first"], ["output"]),  # B, H
        helper.make_node("Gemm", ["output", head, "head.bias"], [predicted], transB=1),  # B, P
    ]
    shape: list[int | str] = [settings.num_layers, "B", settings.hidden_size]
    graph = helper.make_graph(
        nodes,
        "throughline",
        inputs=[
            helper.make_tensor_value_info(step_in, TensorProto.FLOAT, ["B", 1, V])
            if generator.reads_frames
            else helper.make_tensor_value_info(step_in, TensorProto.INT64, ["B", 1]),
            *(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in core.state_names),
        ],
        outputs=[
            helper.make_tensor_value_info(predicted, TensorProto.FLOAT, ["B", generator.head.out_features]),
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


def _names(generator: Generator) -> tuple[str, str]:
    """The names of the step that goes in and of the prediction that comes out."""
    return ("frame", "predicted") if generator.reads_frames else ("token", "logits")


@torch.inference_mode()
def largest_difference(generator: Generator, graph: bytes) -> float:
    """The largest difference between the predictions of the graph, in onnxruntime, and the generator's, over carried steps.

    The state is not compared. A wrong one would show in the next prediction. An LSTM's c has no bound, so its rounding error
    has no bound either.
    """
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    rng, (step_in, _) = np.random.default_rng(0), _names(generator)
    steps: Any = rng.integers(generator.vocab_size, size=(STEPS, max(ROWS), 1))
    if generator.reads_frames:
        steps = rng.standard_normal((STEPS, max(ROWS), 1, generator.vocab_size), np.float32)
    L, H, names = generator.settings.num_layers, generator.settings.hidden_size, generator.core.state_names  # noqa: N806
    differences = []
    for B in ROWS:  # noqa: N806
        state = None
        graphs_state = [np.zeros((L, B, H), dtype=np.float32) for _ in names]
        for step in steps[:, :B]:
            ours, state = generator(torch.from_numpy(step), state)
            theirs, *graphs_state = session.run(None, {step_in: step, **dict(zip(names, graphs_state, strict=True))})
            differences.append(np.abs(ours[:, 0].numpy() - theirs).max())
    return float(np.max(differences))  # nan if any difference is nan
