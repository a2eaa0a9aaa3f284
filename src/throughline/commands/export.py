"""`src/export.py`: a checkpoint as plain weights with their description, and as a graph for ONNX runtimes."""

from pathlib import Path
from typing import TYPE_CHECKING

from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, PathStr, Positive

if TYPE_CHECKING:
    from throughline.model.generator import Generator


@dataclass(frozen=True, config=STRICT)
class Export:
    checkpoint: PathStr
    """A `.ckpt` file of a run."""
    out: PathStr | None = None
    """None: the folder of the checkpoint."""
    onnx: bool = True
    """Whether to also write `model.onnx`, for runtimes without PyTorch."""
    html: bool = False
    """Whether to also write `model.html`, a page that needs no network and no other file: it writes, and colours a text by
    surprise. Its weights have 24 bits."""
    tolerance: Positive = 1e-4
    """The largest allowed difference between the graph's predictions and PyTorch's."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""


def export(settings: Export) -> None:
    """Write `model.safetensors`, `model.json` and, if configured, `model.onnx` and `model.html`; print a line about each.

    Raises:
        UserError: the graph and the model differ, or a file cannot be written; then none is written.
    """
    with large_imports():
        from throughline.runs import portable
        from throughline.runs.checkpoint import joined_of, load_parts

    generator, codec, data = load_parts(settings.checkpoint, settings.model, settings.codec, settings.head)
    joined = joined_of(data)
    weights, description = portable.pack(generator, codec, joined)
    size = sum(parameter.numel() for parameter in generator.parameters())
    dtype = str(generator.dtype).removeprefix("torch.")
    contents = {"model.safetensors": weights, "model.json": description.encode()}
    said = {
        "model.safetensors": f"{size:,} weights in {dtype}",
        "model.json": f"sizes, {_named(codec)}, checksum",
    }
    if settings.onnx:
        contents["model.onnx"], said["model.onnx"] = _graph(generator, description, settings.tolerance)
    if settings.html:
        from throughline.results.network import page

        contents["model.html"] = page(generator, codec, Path(settings.checkpoint).name, joined).encode()
        said["model.html"] = f"a page that writes, {len(contents['model.html']) / 1e6:.2f} MB, weights in 24 bits"
    folder = Path(settings.checkpoint).parent if settings.out is None else Path(settings.out)
    try:
        atomic.write({folder / name: content for name, content in contents.items()})
    except OSError as error:
        raise UserError(f"{folder}: {error.strerror}; nothing can be exported there, give out=FOLDER") from None
    for name, what in said.items():
        print(f"{folder / name}: {what}")


def _named(codec: Codec) -> str:
    return codec.width if isinstance(codec, Frames) else f"{codec.size - 1:,} symbols"


def _graph(generator: "Generator", description: str, tolerance: float) -> tuple[bytes, str]:
    """The ONNX graph, compared with the model, and a line about it."""
    try:
        from throughline.runs import onnx_step
    except ImportError as error:
        raise UserError(
            f"onnx=true needs {error.name}, which is not installed: pip install -e '.[export]', or give onnx=false"
        ) from None
    graph = onnx_step.build(generator, description)
    difference = onnx_step.largest_difference(generator, graph)
    measured = f"its predictions differ from PyTorch's by at most {difference:.1e} over {onnx_step.STEPS} carried steps"
    if not difference <= tolerance:  # nan also ends here
        raise UserError(f"onnx: {measured}, more than tolerance={tolerance}; no file was written")
    return graph, f"one step in float32, {measured}"


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("export", Export, export, root)
