"""The graph for ONNX runtimes computes the same steps as the model."""

import contextlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from helpers import KINDS, LETTERS, PROJECT, asked, saved
from throughline.commands.export import export
from throughline.model.generation import generate
from throughline.model.optimizers import SGD
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint
from throughline.training.learner import Learner


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("B", [1, 3])
def test_the_graph_steps_as_the_model_reads(tmp_path: Path, kind: str, dtype: torch.dtype, B: int) -> None:  # noqa: N803
    settings, codec = KINDS[kind]
    model = saved(tmp_path / "last.ckpt", settings, codec, dtype)
    export(asked(tmp_path / "last.ckpt"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    tokens = torch.randint(codec.size, (B, 40), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        whole, state = model(tokens)
    zeros = np.zeros((settings.num_layers, B, 6), dtype=np.float32)
    names = model.core.state_names
    carried = [zeros] * len(names)
    logits, fresh = [], []
    for token in tokens.split(1, dim=1):
        fresh.append(session.run(None, {"token": token.numpy(), **dict.fromkeys(names, zeros)})[0])
        step, *carried = session.run(None, {"token": token.numpy(), **dict(zip(names, carried, strict=True))})
        logits.append(step)
    np.testing.assert_allclose(np.stack(logits, axis=1), whole, rtol=0, atol=1e-5)
    for ours, theirs in zip(carried, state, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)  # an LSTM's c can be as large as 30
    assert np.abs(np.stack(fresh, axis=1) - whole.numpy()).max() > 0.1  # the state matters


@pytest.mark.parametrize("kind", KINDS)
def test_the_graph_is_one_node_per_layer_and_little_besides(tmp_path: Path, kind: str) -> None:
    model = saved(tmp_path / "last.ckpt", *KINDS[kind])
    export(asked(tmp_path / "last.ckpt"))
    graph = onnx.load(tmp_path / "model.onnx").graph
    read = "OneHot" if model.settings.input == "onehot" else "Gather"
    layers = [model.core.name.upper().removeprefix("ONEHOT")] * model.settings.num_layers
    tensors = len(model.core.state_names)
    expected = ["Transpose", read, *["Split"] * tensors, *layers, *["Concat"] * tensors, "Squeeze", "Gemm"]
    assert [node.op_type for node in graph.node] == expected
    floats = [tensor for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    numbers = sum(int(np.prod(tensor.dims)) for tensor in floats) - 2 * (read == "OneHot")
    assert numbers == sum(parameter.numel() for parameter in model.parameters())  # no weight is there twice


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.setattr(
        "throughline.model.cores.lstm_onnx._in_onnx_order", lambda gates: gates
    )  # PyTorch's order of the gates
    with pytest.raises(
        UserError, match=r"^onnx: its predictions differ .* more than tolerance=0.0001; no file was written$"
    ):
        export(asked(tmp_path / "last.ckpt", out=str(tmp_path / "out")))
    monkeypatch.undo()
    assert not (tmp_path / "out").exists()
    export(asked(tmp_path / "last.ckpt", out=str(tmp_path / "out")))
    assert len(list((tmp_path / "out").iterdir())) == 3


def test_a_model_that_says_nan_is_not_written(tmp_path: Path) -> None:
    model = saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    model.head.bias.data[3] = torch.nan
    content: dict[str, Any] = {"state_dict": Learner(model, LETTERS, SGD(), []).state_dict()}
    Learner(model, LETTERS, SGD(), []).on_save_checkpoint(content)
    checkpoint.write(content, tmp_path / "nan.ckpt")
    with pytest.raises(UserError, match=r"'head.bias' holds values that are not finite"):
        export(asked(tmp_path / "nan.ckpt"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.ckpt", "nan.ckpt"]


def test_a_graph_beyond_what_one_file_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    monkeypatch.setattr("onnx.checker.MAXIMUM_PROTOBUF", 1000)
    with pytest.raises(
        UserError, match=r"^onnx: the graph has [\d,]+ bytes, but an ONNX file has at most 2 GiB; give onnx=false$"
    ):
        export(asked(tmp_path / "last.ckpt"))


def test_the_example_in_the_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"((?:    .*\n|\n)*?    import onnxruntime\n(?:    .*\n|\n)+)", (PROJECT / "README.md").read_text())
    assert block
    model = saved(tmp_path / "last.ckpt", *KINDS["embedding"])
    export(asked(tmp_path / "last.ckpt"))
    monkeypatch.chdir(tmp_path)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(re.sub(r"^    ", "", block[1], flags=re.MULTILINE), {})
    first = np.array([1])
    expected = LETTERS.decode(row[0] for row in generate(model, first, len(printed.getvalue()), temperature=1e-6))
    assert printed.getvalue() == expected
    assert len(set(expected)) > 1
