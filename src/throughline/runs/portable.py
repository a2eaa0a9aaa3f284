"""A model as two plain files: the weights in `NAME.safetensors`, and beside it their description in `NAME.json`."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from throughline import __version__
from throughline.data.codecs import Codec
from throughline.model.generator import Generator
from throughline.model.settings import Head, Model
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, from_plain, plain

FORMAT: Literal[2] = 2
"""The format of the description."""
DESCRIPTION_LIMIT = 64 * 2**20
"""The most bytes of a description: some forty per symbol of the largest vocabulary of characters."""


@dataclass(frozen=True, config=STRICT)
class Description:
    """The description of weights; its fields are those of the JSON file, and are checked when the file is read."""

    format: Literal[2]
    throughline: str
    model: dict[str, Any]
    head: dict[str, Any]
    codec: dict[str, Any]
    sha256: str
    """The sha256 of the weights file."""
    seal: str
    """The sha256 of all the other fields, so that damage to them is also found."""

    def sealed(self) -> "Description":
        plain = json.dumps(asdict(replace(self, seal="")), sort_keys=True)
        return replace(self, seal=hashlib.sha256(plain.encode()).hexdigest())


def pack(generator: Generator, codec: Codec) -> tuple[bytes, str]:
    """The contents of both files, weights and description; the same model always gives the same bytes."""
    tensors = {name: weight.contiguous() for name, weight in tensors_of(generator).items()}
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})  # other readers of such files look for it
    description = Description(
        format=FORMAT,
        throughline=__version__,
        **parts_as_plain(generator, codec),
        sha256=hashlib.sha256(weights).hexdigest(),
        seal="",
    )
    return weights, json.dumps(asdict(description.sealed()), indent=1) + "\n"


def load(path: Path) -> tuple[Generator, Codec]:
    """The generator and the codec that were packed, bit for bit.

    Raises:
        UserError: a file is missing, damaged, of another kind, or does not belong to the other file.
    """
    beside = path.with_suffix(".json")
    try:
        with path.open("rb") as file, beside.open("rb") as text:
            description = _description(text.read(DESCRIPTION_LIMIT + 1))
            if hashlib.file_digest(file, "sha256").hexdigest() != description.sha256:
                raise UserError(f"damaged, or not the file that {beside.name} describes: its checksum differs")
            file.seek(0)
            weights = _weights(file.read())
        try:
            codec, model, head = parts_from_plain(description.codec, description.model, description.head)
        except UserError as error:
            raise UserError(f"its .json file is not of throughline: {str(error).splitlines()[0]}") from None
        return built(model, head, codec.size, weights).eval(), codec
    except OSError as error:
        raise UserError(
            f"checkpoint={path}: {error.filename}: {error.strerror}; give a .safetensors file of src/export.py, "
            "with its .json file beside it"
        ) from None
    except UserError as error:
        raise UserError(f"checkpoint={path}: {error}") from None


def parts_as_plain(generator: Generator, codec: Codec) -> dict[str, dict[str, Any]]:
    """The settings of a model and its codec as plain values, for any kind of file."""
    return {
        "model": plain(generator.settings, "core"),
        "head": plain(generator.head_settings),
        "codec": codec.to_plain(),
    }


def parts_from_plain(codec: dict[str, Any], model: dict[str, Any], head: dict[str, Any]) -> tuple[Codec, Model, Head]:
    """The settings and the codec from the plain values of `parts_as_plain`.

    Raises:
        UserError: one of the names belongs to no known class, or a value is not allowed.
    """
    return (
        from_plain(Codec, codec, where="codec."),  # type: ignore[type-abstract]
        from_plain(Model, model, "core", "model."),  # type: ignore[type-abstract]
        from_plain(Head, head, where="head."),  # type: ignore[type-abstract]
    )


def _description(text: bytes) -> Description:
    if len(text) > DESCRIPTION_LIMIT:
        raise UserError(f"its .json file has more than the allowed {DESCRIPTION_LIMIT:,} bytes")
    try:
        description = TypeAdapter(Description).validate_json(text)
    except ValidationError as error:
        formats = [e["input"] for e in error.errors() if e["loc"] == ("format",) and e["type"] == "literal_error"]
        if formats:
            raise UserError(
                f"written by another version of throughline, in format {formats[0]!r}; this one reads {FORMAT}"
            ) from None
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))!r}: " if first["loc"] else ""
        raise UserError(f"its .json file is not of throughline: {where}{first['msg']}") from None
    if description != description.sealed():
        raise UserError("its .json file is damaged, or was changed by hand: its seal does not match")
    return description


def _weights(content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # its type depends on what is wrong with the file
        raise UserError(f"not a safetensors file ({type(error).__name__})") from None


def tensors_of(generator: Generator) -> dict[str, Tensor]:
    """The weights by name; a tied weight has two names, and is listed under the first."""
    tensors: dict[str, Tensor] = generator.state_dict()
    return {
        name: tensor for name, tensor in tensors.items() if not (generator.settings.tie_weights and name == "head.weight")
    }


def built(settings: Model, head: Head, vocab_size: int, weights: dict[str, Tensor]) -> Generator:
    """A model of these sizes with these weights; no memory is taken before the weights are known to fit the claimed sizes.

    Raises:
        UserError: they do not fit: a name, a shape or a type is wrong.
    """
    dtypes = {weight.dtype for weight in weights.values()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        raise UserError(
            f"weights of {', '.join(sorted(map(str, dtypes))) or 'no type'}; allowed are all float32 or all float64"
        )
    if settings.num_layers > len(weights):
        raise UserError(f"{len(weights)} tensors are too few for {settings.num_layers} layers")
    try:
        with torch.device("meta"):
            tensors = tensors_of(Generator(settings, vocab_size, head))
    except (RuntimeError, TypeError):
        raise UserError("its description lists sizes that no tensor can have") from None
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise UserError(
                "not the weights that its description lists: "
                f"{name!r} has the shape {found.get(name)} instead of {expected.get(name)}"
            )
    generator = Generator(settings, vocab_size, head).to(dtypes.pop())
    generator.load_state_dict(weights, strict=False)  # a tied weight is stored once
    return generator
