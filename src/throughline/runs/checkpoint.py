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
"""The format of the values under the key "throughline" of a checkpoint."""


PREFIX = "generator."
"""The prefix of the generator's weights among those of a learner."""
_SEAL = b"sha256:"
_SEAL_LENGTH = len(_SEAL) + 64


class OtherVersionError(UserError):
    """A checkpoint is whole, but of another version of throughline."""


def write(checkpoint: dict[str, Any], path: Path, previous: Path | None = None) -> None:
    """Write a checkpoint so that `path` holds the whole old file or the whole new one, whenever the machine stops.

    Args:
        checkpoint: tensors and plain types.
        path: the file.
        previous: the path at which the old file of `path` is kept.

    Raises:
        UserError: the folder cannot be written, or is full; the old files are unchanged.
    """
    content = io.BytesIO()
    torch.save(checkpoint, content)
    try:
        atomic.write({path: _sealed(content.getvalue())}, keep={path: previous} if previous else {})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; no checkpoint can be written, the older ones are unchanged") from None


def _sealed(content: bytes) -> bytes:
    """The content with its sha256 as the comment at the end of the zip file; `torch.load` still reads it."""
    content = content[:-2] + _SEAL_LENGTH.to_bytes(2, "little")
    return content + _SEAL + hashlib.sha256(content).hexdigest().encode()


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: tensors and plain types, and no code.

    Raises:
        OtherVersionError: it is whole, but of another version.
        UserError: there is no such file, it is damaged, or it is not a checkpoint of throughline.
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
    """The generator in a checkpoint or an exported `.safetensors` file, its codec, and the description of its data.

    An exported file has no description of its data; an empty one is returned.

    Args:
        path: the file.
        model, codec, head: the choices of a command line, if there are any; they must match the file.

    Raises:
        UserError: the file is damaged, of another kind, or does not match the choices.
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
            weights.pop("head.weight", None)  # stored under another name as well
        return portable.built(model, head, codec.size, weights).eval(), codec, dict(about.get("data") or {})
    except UserError as error:
        raise UserError(f"checkpoint={path}: {str(error).splitlines()[0]}") from None
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(
            f"checkpoint={path}: not a checkpoint of throughline ({type(error).__name__}); give a .ckpt file of a run"
        ) from None
