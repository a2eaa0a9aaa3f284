"""Checkpoint files: written whole or not at all, and read back as plain data."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from throughline.config import Model, checked
from throughline.data.vocab import Vocab
from throughline.model.generator import LSTMGenerator
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs import portable

FORMAT = 1
"""Of what a checkpoint holds under the key "throughline"."""


_SEAL = b"sha256:"
_SEAL_LENGTH = len(_SEAL) + 64


def write(checkpoint: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint so that `path` holds the old file or the new one, whole, whenever the machine stops.

    Args:
        checkpoint: tensors and plain types.
        path: the file.
        previous: where the file that `path` held is kept.

    Raises:
        UserError: the folder cannot be written, or is full; the files that were there are as before.
    """
    content = io.BytesIO()
    torch.save(checkpoint, content)
    try:
        atomic.write({path: _sealed(content.getvalue())}, keep={path: previous} if previous else {})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; no checkpoint can be written, the older ones are as they were") from None


def _sealed(content: bytes) -> bytes:
    """The content with its sha256 as the comment with which a zip file may end: still a file that `torch.load` reads."""
    content = content[:-2] + _SEAL_LENGTH.to_bytes(2, "little")
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: tensors and plain types, nothing that can run.

    Raises:
        UserError: there is no such file, it is damaged, or it is no checkpoint of throughline.
    """
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"checkpoint={path}: {error.strerror}; give a .ckpt file of a run") from None
    body, seal = content[:-_SEAL_LENGTH], content[-_SEAL_LENGTH:]
    if not seal.startswith(_SEAL):
        raise UserError(f"checkpoint={path}: not a whole checkpoint of throughline; give a .ckpt file of a run")
    if seal != _SEAL + hashlib.sha256(body).hexdigest().encode():
        raise UserError(f"checkpoint={path}: damaged, its checksum does not match; give another .ckpt file of the run")
    try:
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        version = checkpoint["throughline"]["format"]
    except Exception as error:  # torch.load raises a different type for every way in which a file can be wrong
        raise UserError(
            f"checkpoint={path}: not a checkpoint of throughline ({type(error).__name__}); give a .ckpt file of a run"
        ) from None
    if version != FORMAT:
        raise UserError(f"checkpoint={path}: format {version}; allowed is {FORMAT}")
    return dict(checkpoint)


def load_generator(path: str | Path) -> tuple[LSTMGenerator, Vocab]:
    """The generator that a checkpoint or an exported `.safetensors` file holds, with its vocabulary."""
    if Path(path).suffix == ".safetensors":
        return portable.load(Path(path))
    checkpoint = read(path)
    about = checkpoint["throughline"]
    vocab = Vocab.from_plain(about["vocab"])
    model = LSTMGenerator(checked(Model, about["model"]), len(vocab))
    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    model.to(weights["head.weight"].dtype).load_state_dict(weights)
    return model.eval(), vocab
