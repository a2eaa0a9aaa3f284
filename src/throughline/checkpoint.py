"""Checkpoint files: written whole or not at all, and read back as plain data."""

import os
from pathlib import Path
from typing import Any

import torch

from throughline.config import Model, checked
from throughline.errors import UserError
from throughline.model import LSTMGenerator
from throughline.vocab import Vocab

FORMAT = 1
"""Of what a checkpoint holds under the key "throughline"."""


def write(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint so that `path` holds the old file or the new one, whenever the machine stops.

    The temporary file lies in the same folder, since only a rename within one file system is atomic.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.tmp")
    with temporary.open("wb") as file:
        torch.save(checkpoint, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105, Path.replace says less plainly what is atomic here
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: tensors and plain types, nothing that can run.

    Raises:
        UserError: there is no such file, or it is no checkpoint of throughline.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"checkpoint={path}: {error.strerror}; give a .ckpt file of a run") from None
    except Exception as error:  # torch.load raises a different type for every way in which a file can be wrong
        raise UserError(
            f"checkpoint={path}: not a checkpoint ({type(error).__name__}); give a .ckpt file of a run"
        ) from None
    if not isinstance(checkpoint, dict) or "throughline" not in checkpoint:
        raise UserError(f"checkpoint={path}: not a checkpoint of throughline; give a .ckpt file of a run")
    if checkpoint["throughline"]["format"] != FORMAT:
        raise UserError(f"checkpoint={path}: format {checkpoint['throughline']['format']}; allowed is {FORMAT}")
    return checkpoint


def load_generator(path: str | Path) -> tuple[LSTMGenerator, Vocab]:
    """The generator that a checkpoint holds, with its vocabulary."""
    checkpoint = read(path)
    about = checkpoint["throughline"]
    vocab = Vocab.from_plain(about["vocab"])
    model = LSTMGenerator(checked(Model, about["model"]), len(vocab))
    prefix = "model."
    weights = {k.removeprefix(prefix): v for k, v in checkpoint["state_dict"].items() if k.startswith(prefix)}
    model.load_state_dict(weights)
    return model.eval(), vocab
