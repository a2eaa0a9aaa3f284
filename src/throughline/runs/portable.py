"""A model in one plain file: the weights in `NAME.safetensors`, and in its header their description.

One file is written by one rename, so an export over an export leaves the old one or the new one. `NAME.json` beside it is a
copy of the description, for readers of other programs.
"""

import hashlib
import json
from collections.abc import Mapping
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
from throughline.plumbing import reading
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT, from_plain, plain

FORMAT: Literal[3] = 3
"""The format of the description."""
DESCRIPTION_LIMIT = 128 * 2**20
"""The most bytes of a description: some forty per symbol of the largest vocabulary of characters, or the largest tokenizer,
whose text grows to four to eight times its size in the header."""
LARGEST_FILE = 2**36
"""The most bytes of a model file."""
KEY = "throughline"
METADATA = {"format": "pt"}  # other readers of such files look for it


@dataclass(frozen=True, config=STRICT)
class Description:
    """The description of weights; its fields are those of a JSON object, and are checked when the file is read."""

    format: Literal[3]
    throughline: str
    model: dict[str, Any]
    head: dict[str, Any]
    codec: dict[str, Any]
    sha256: str
    """The sha256 of the file as it is without the description."""
    seal: str
    """The sha256 of all the other fields, so that damage to them is also found."""
    joined: bool = False
    """Whether the state was carried from a sequence to the next in training."""

    def to_plain(self) -> dict[str, Any]:
        """The description as JSON has it; `joined` only if it is true, as in files of before."""
        values = asdict(self)
        return values if self.joined else {key: value for key, value in values.items() if key != "joined"}

    def sealed(self) -> "Description":
        plain = json.dumps(replace(self, seal="").to_plain(), sort_keys=True)
        return replace(self, seal=hashlib.sha256(plain.encode()).hexdigest())


def pack(generator: Generator, codec: Codec, joined: bool = False) -> tuple[bytes, str]:
    """The contents of both files, weights and description; the same model always gives the same bytes.

    Args:
        generator, codec: the model.
        joined: whether the state was carried from a sequence to the next in training.
    """
    tensors = {name: weight.contiguous() for name, weight in tensors_of(generator).items()}
    weights = safetensors.torch.save(tensors, metadata=METADATA)
    description = Description(
        format=FORMAT,
        throughline=__version__,
        **parts_as_plain(generator, codec),
        sha256=hashlib.sha256(weights).hexdigest(),
        seal="",
        joined=joined,
    )
    text = json.dumps(description.sealed().to_plain(), indent=1) + "\n"
    return with_description(weights, text), text


def with_description(weights: bytes, text: str) -> bytes:
    """A safetensors file with a description in its header."""
    header, tensors = _parts(weights)
    header["__metadata__"] = {**METADATA, KEY: text}
    content = json.dumps(header, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content + tensors


def _parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """The header of a safetensors file, and its tensors."""
    size = int.from_bytes(content[:8], "little")
    if size > DESCRIPTION_LIMIT:
        raise UserError(f"its header has more than the allowed {DESCRIPTION_LIMIT:,} bytes")
    try:
        header = json.loads(content[8 : 8 + size])
        metadata = header.get("__metadata__", {})
        if len(content) < 8 + size or not isinstance(metadata, dict):
            raise ValueError
    except (ValueError, AttributeError, RecursionError):
        raise UserError("not a safetensors file, or damaged") from None
    return header, content[8 + size :]


def load(path: Path) -> tuple[Generator, Codec, bool]:
    """The generator, the codec and `joined` as they were packed, bit for bit.

    Raises:
        UserError: the file is missing, damaged, of another kind, or of another version.
    """
    try:
        content = reading.content(path, LARGEST_FILE)
    except UserError as error:
        raise UserError(f"checkpoint={error}; give a .safetensors file of src/export.py") from None
    try:
        header, _ = _parts(content)
        text = header.get("__metadata__", {}).get(KEY)
        if not isinstance(text, str):
            former = path.with_suffix(".json").exists()  # before format 3, the description was a file of its own
            again = "written by an earlier version of throughline; export it again from its checkpoint"
            raise UserError(again if former else "not an export of throughline, or damaged")
        description = _description(text.encode("utf-8", "replace"))
        weights = _weights(content)
        plain = safetensors.torch.save({name: weight.contiguous() for name, weight in weights.items()}, metadata=METADATA)
        if hashlib.sha256(plain).hexdigest() != description.sha256 or with_description(plain, text) != content:
            raise UserError("damaged: its checksum differs")
        try:
            codec, model, head = parts_from_plain(description.codec, description.model, description.head)
        except UserError as error:
            raise UserError(f"its description is not of throughline: {str(error).splitlines()[0]}") from None
        return built(model, head, codec.size, weights).eval(), codec, description.joined
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
        raise UserError(f"its description has more than the allowed {DESCRIPTION_LIMIT:,} bytes")
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
        raise UserError(f"its description is not of throughline: {where}{first['msg']}") from None
    if description != description.sealed():
        raise UserError("its description is damaged, or was changed by hand: its seal does not match")
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
    check_tensors(weights)
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
    except (RuntimeError, TypeError, ValueError, ArithmeticError):
        raise UserError("its description lists sizes that no tensor can have") from None
    expected = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise UserError(
                "not the weights that its description lists: "
                f"{name!r} has the shape {found.get(name)} instead of {expected.get(name)}"
            )
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            raise UserError(f"{name!r} holds values that are not finite")
    generator = Generator(settings, vocab_size, head).to(dtypes.pop())
    generator.load_state_dict(weights, strict=False)  # a tied weight is stored once
    return generator


def check_tensors(tensors: Mapping[Any, Any]) -> None:
    """Refuse all but plain tensors, whose size the file has paid for: a view may repeat one element a billion times.

    Raises:
        UserError: one of them is something else.
    """
    for name, tensor in tensors.items():
        plain = isinstance(name, str) and type(tensor) is Tensor and tensor.layout == torch.strided
        plain = plain and tensor.device.type == "cpu" and not tensor.is_quantized
        plain = plain and (tensor.is_contiguous() or (tensor.dim() == 2 and tensor.t().is_contiguous()))
        if not plain or tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
            raise UserError(f"{name!r} is not a plain tensor")
