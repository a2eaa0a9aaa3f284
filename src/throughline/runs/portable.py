"""A model as two plain files: weights in `NAME.safetensors`, and beside it what they are, in `NAME.json`."""

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Literal

import safetensors.torch
import torch
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from torch import Tensor

from throughline import __version__
from throughline.config import Model
from throughline.data.vocab import Vocab
from throughline.model.generator import LSTMGenerator
from throughline.plumbing.errors import UserError
from throughline.settings import STRICT

DESCRIPTION_LIMIT = 64 * 2**20
"""Bytes that a description may have: some forty for each symbol of the largest vocabulary of characters."""


@dataclass(frozen=True, config=STRICT)
class Table:
    """The vocabulary: id 0 is the unknown symbol, the symbols follow in order."""

    symbols: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=1)]
    separator: Literal["", " "]

    def __post_init__(self) -> None:
        if len(set(self.symbols)) < len(self.symbols):
            raise ValueError("a symbol is there twice")
        if self.separator == "" and any(len(symbol) > 1 for symbol in self.symbols):
            raise ValueError("a symbol is longer than one character, which needs a separator")


@dataclass(frozen=True, config=STRICT)
class Description:
    """What weights are: its fields are those of the JSON file, and are checked when it is read."""

    format: Literal[1]
    throughline: str
    model: Model
    vocab: Table
    sha256: str
    """Of the weights file."""
    seal: str
    """The sha256 of all the other fields, so that damage here is found, too."""

    def sealed(self) -> "Description":
        plain = json.dumps(asdict(replace(self, seal="")), sort_keys=True)
        return replace(self, seal=hashlib.sha256(plain.encode()).hexdigest())


def pack(model: LSTMGenerator, vocab: Vocab) -> tuple[bytes, str]:
    """The contents of both files, weights and description; the same model always gives the same bytes."""
    # As parameters rather than as a state_dict, since a tied weight is one parameter under two names.
    tensors = {name: parameter.detach().contiguous() for name, parameter in model.named_parameters()}
    weights = safetensors.torch.save(tensors, metadata={"format": "pt"})  # which other readers of such files look for
    table = Table(**vocab.to_plain())
    description = Description(1, __version__, model.sizes, table, hashlib.sha256(weights).hexdigest(), seal="")
    return weights, json.dumps(asdict(description.sealed()), indent=1) + "\n"


def load(path: Path) -> tuple[LSTMGenerator, Vocab]:
    """The generator that `pack` was given, bit for bit, and its vocabulary.

    Raises:
        UserError: a file is missing, damaged, of another kind, or not the one that belongs to the other.
    """
    beside = path.with_suffix(".json")
    try:
        with path.open("rb") as file, beside.open("rb") as text:
            description = _description(text.read(DESCRIPTION_LIMIT + 1))
            if hashlib.file_digest(file, "sha256").hexdigest() != description.sha256:
                raise UserError(f"damaged, or not the file that {beside.name} tells of: its checksum is another")
            file.seek(0)
            weights = _weights(file.read())
        vocab = Vocab(description.vocab.symbols, description.vocab.separator)
        return _built(description.model, len(vocab), weights).eval(), vocab
    except OSError as error:
        raise UserError(
            f"checkpoint={path}: {error.filename}: {error.strerror}; give a .safetensors file of src/export.py, "
            "with the .json file that belongs to it beside it"
        ) from None
    except UserError as error:
        raise UserError(f"checkpoint={path}: {error}") from None


def _description(text: bytes) -> Description:
    if len(text) > DESCRIPTION_LIMIT:
        raise UserError(f"its .json file has more than the {DESCRIPTION_LIMIT:,} bytes that are allowed")
    try:
        description = TypeAdapter(Description).validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = f"{'.'.join(map(str, first['loc']))!r}: " if first["loc"] else ""
        raise UserError(f"its .json file is not of throughline: {where}{first['msg']}") from None
    if description != description.sealed():
        raise UserError("its .json file is damaged, or was changed by hand: its seal does not match")
    return description


def _weights(content: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # of several types, one for each way in which a file can be wrong
        raise UserError(f"not a safetensors file ({type(error).__name__})") from None


def _built(sizes: Model, vocab_size: int, weights: dict[str, Tensor]) -> LSTMGenerator:
    """A model of these sizes with these weights; whatever sizes are claimed, no memory is taken before the weights fit.

    Raises:
        UserError: they do not: a name, a shape, or a type that no weights of throughline have.
    """
    dtypes = {weight.dtype for weight in weights.values()}
    if dtypes not in ({torch.float32}, {torch.float64}):
        raise UserError(
            f"weights of {', '.join(sorted(map(str, dtypes))) or 'no type'}; allowed are all float32 or all float64"
        )
    if sizes.num_layers > len(weights):
        raise UserError(f"{len(weights)} tensors are too few for {sizes.num_layers} layers")
    try:
        with torch.device("meta"):
            parameters = dict(LSTMGenerator(sizes, vocab_size).named_parameters())
    except (RuntimeError, TypeError):
        raise UserError("its .json file tells of sizes that no tensor can have") from None
    expected = {name: tuple(parameter.shape) for name, parameter in parameters.items()}
    found = {name: tuple(weight.shape) for name, weight in weights.items()}
    for name in sorted({*expected, *found}):
        if expected.get(name) != found.get(name):
            raise UserError(
                "not the weights that its .json file tells of: "
                f"{name!r} has the shape {found.get(name)} instead of {expected.get(name)}"
            )
    model = LSTMGenerator(sizes, vocab_size).to(dtypes.pop())
    model.load_state_dict(weights, strict=False)  # a tied weight is there once
    return model
