"""Checkpoint files: written whole or not at all, and read back as plain data."""

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from throughline.data.codecs import Codec
from throughline.model.generator import Generator
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs import portable
from throughline.settings import plain

FORMAT = 2
"""Of what a checkpoint holds under the key "throughline"."""


PREFIX = "generator."
"""Of the names of the weights among those of a learner."""
_SEAL = b"sha256:"
_SEAL_LENGTH = len(_SEAL) + 64


class OtherVersionError(UserError):
    """A checkpoint is whole, but of another version of throughline."""


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
        OtherVersionError: it is whole, but of another version.
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
        raise OtherVersionError(
            f"checkpoint={path}: written by another version of throughline, in format {version}; this one reads {FORMAT}"
        )
    return dict(checkpoint)


def describe(generator: Generator, codec: Codec) -> dict[str, Any]:
    """The plain values from which `load_parts` builds the same generator."""
    return {"format": FORMAT, **portable.parts_as_plain(generator, codec)}


def load_parts(
    path: str | Path, model: Model | None = None, codec: Codec | None = None, head: Head | None = None
) -> tuple[Generator, Codec, dict[str, Any]]:
    """The generator that a checkpoint or an exported `.safetensors` file holds, its codec, and what it says of its data.

    An exported file says nothing of them.

    Args:
        path: the file.
        model, codec, head: what a command line has chosen, if it has; they must be those of the file.

    Raises:
        UserError: the file is damaged, of another kind, or holds something else than was chosen.
    """
    generator, own, data = (*portable.load(Path(path)), {}) if Path(path).suffix == ".safetensors" else _load(path)
    for name, chosen, there in (("model", model, generator.settings), ("head", head, generator.head_settings)):
        if chosen is not None and chosen != there:
            raise UserError(
                f"{name}={plain(chosen)}: the checkpoint holds {plain(there)}; leave {name}= out, or give the same"
            )
    if codec is not None and type(codec) is not type(own):
        raise UserError(f"codec={codec.name}: the checkpoint holds {own.name}; leave codec= out, or give the same")
    return generator, own, data


def _load(path: str | Path) -> tuple[Generator, Codec, dict[str, Any]]:
    checkpoint = read(path)
    try:
        about, state = checkpoint["throughline"], checkpoint["state_dict"]
        codec, model, head = portable.parts_from_plain(about["codec"], about["model"], about["head"])
        weights = {name.removeprefix(PREFIX): weight for name, weight in state.items() if name.startswith(PREFIX)}
        if model.tie_weights:
            weights.pop("head.weight", None)  # there under another name, too
        return portable.built(model, head, codec.size, weights).eval(), codec, dict(about.get("data") or {})
    except UserError as error:
        raise UserError(f"checkpoint={path}: {str(error).splitlines()[0]}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"checkpoint={path}: not a checkpoint of throughline ({type(error).__name__}); give a .ckpt file of a run"
        ) from None
