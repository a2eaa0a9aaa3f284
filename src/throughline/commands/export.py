"""Writes a checkpoint as files for elsewhere: plain weights with their description, and a graph for ONNX runtimes."""

from pathlib import Path

from throughline.config import ExportConfig
from throughline.model.generator import LSTMGenerator
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs import portable
from throughline.runs.checkpoint import load_generator


def export(config: ExportConfig) -> None:
    """Write `model.safetensors`, `model.json` and, if asked for, `model.onnx`, and print what they are.

    Raises:
        UserError: the graph does not compute what the model does, or a file cannot be written; none is.
    """
    model, vocab = load_generator(config.checkpoint)
    weights, description = portable.pack(model, vocab)
    size = sum(parameter.numel() for parameter in model.parameters())
    dtype = str(model.head.weight.dtype).removeprefix("torch.")
    contents = {"model.safetensors": weights, "model.json": description.encode()}
    told = {
        "model.safetensors": f"{size:,} weights in {dtype}",
        "model.json": f"sizes, {len(vocab.symbols):,} symbols, checksum",
    }
    if config.onnx:
        contents["model.onnx"], told["model.onnx"] = _graph(model, description, config.tolerance)
    folder = Path(config.checkpoint).parent if config.output is None else Path(config.output)
    try:
        atomic.write({folder / name: content for name, content in contents.items()})
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; nothing can be exported there, give output=FOLDER") from None
    for name, what in told.items():
        print(f"{folder / name}: {what}")


def _graph(model: LSTMGenerator, description: str, tolerance: float) -> tuple[bytes, str]:
    """The ONNX graph, compared with the model, and a line about it."""
    try:
        from throughline.runs import onnx_step
    except ImportError as error:
        raise UserError(
            f"onnx=true needs {error.name}, which is not installed: pip install -e '.[export]', or give onnx=false"
        ) from None
    graph = onnx_step.build(model, description)
    difference = onnx_step.largest_difference(model, graph)
    measured = f"its logits differ from PyTorch's by at most {difference:.1e} over {onnx_step.STEPS} carried steps"
    if not difference <= tolerance:  # nor when it is nan
        raise UserError(f"onnx: {measured}, more than tolerance={tolerance}; no file was written")
    return graph, f"one step in float32, {measured}"
