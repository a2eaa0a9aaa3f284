"""Checkpoint files: written whole or not at all, and read back as plain data."""

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from throughline.data.codecs import Codec
from throughline.model.generator import Generator
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic, reading
from throughline.plumbing.errors import UserError
from throughline.runs import portable
from throughline.settings import defaults, plain

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
    _seal(content)
    try:
        atomic.write({path: content.getbuffer()}, keep={path: previous} if previous else {})
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; no checkpoint can be written, the older ones are unchanged") from None


def _seal(content: io.BytesIO) -> None:
    """Append the sha256 as the comment at the end of a zip file, in place; `torch.load` still reads it."""
    content.seek(-2, io.SEEK_END)
    content.write(_SEAL_LENGTH.to_bytes(2, "little"))
    content.write(_SEAL + hashlib.sha256(content.getbuffer()).hexdigest().encode())


def read(path: str | Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU: tensors and plain types, and no code.

    Raises:
        OtherVersionError: it is whole, but of another version.
        UserError: there is no such file, it is damaged, or it is not a checkpoint of throughline.
    """
    best = Path(path, "checkpoints", "best.ckpt")
    if best.is_file():
        raise UserError(f"checkpoint={path}: the folder of a run; give checkpoint={best}")
    try:
        content = reading.content(Path(path), portable.LARGEST_FILE)
    except UserError as error:
        raise UserError(f"checkpoint={error}; give a .ckpt file of a run") from None
    body, seal = content[:-_SEAL_LENGTH], content[-_SEAL_LENGTH:]
    if not seal.startswith(_SEAL):
        raise UserError(f"checkpoint={path}: not a whole checkpoint of throughline; give a .ckpt file of a run")
    if seal != _SEAL + hashlib.sha256(body).hexdigest().encode():
        raise UserError(f"checkpoint={path}: damaged, its checksum does not match; give another .ckpt file of the run")
    try:
        _check_zip(content)
        checkpoint = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        version = checkpoint["throughline"]["format"]
        if type(version) is not int or abs(version) >= 10**6:
            raise TypeError
    except Exception as error:  # torch.load raises a different type for every way in which a file can be wrong
        raise UserError(
            f"checkpoint={path}: not a checkpoint of throughline ({type(error).__name__}); give a .ckpt file of a run"
        ) from None
    if version != FORMAT:
        raise OtherVersionError(
            f"checkpoint={path}: written by another version of throughline, in format {version}; this one reads {FORMAT}"
        )
    try:
        Contents.model_validate(checkpoint)
        _check_size(checkpoint, 2 * len(content))  # a tied weight is stored once, under two names
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = reading.printable(".".join(map(str, first["loc"])))
        raise UserError(f"checkpoint={path}: not a checkpoint of throughline ({where}: {first['msg']})") from None
    except ValueError as error:
        raise UserError(f"checkpoint={path}: not a checkpoint of throughline ({error})") from None
    return dict(checkpoint)


def _check_zip(content: bytes) -> None:
    """Refuse a file that would be larger in memory: `torch.save` does not compress."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        items = archive.infolist()
    if any(item.compress_type != zipfile.ZIP_STORED for item in items) or sum(i.file_size for i in items) > len(content):
        raise zipfile.BadZipFile


def _check_size(checkpoint: dict[str, Any], most: int) -> None:
    """Refuse contents that are larger than the file, because many names in it can stand for one object.

    Raises:
        ValueError: they are, or the plain values are not plain.
    """
    if sum(tensor.nbytes for tensor in _tensors(checkpoint)) > most:
        raise ValueError("its tensors are larger than the file")
    for key in ("model", "head", "codec", "identity", "data"):
        size, waiting = 0, [(checkpoint["throughline"].get(key, {}), 0)]
        while waiting:
            value, depth = waiting.pop()
            size += 1 + (len(value) if isinstance(value, str | list | tuple | dict) else 0)
            if size > most or depth > reading.DEEPEST:
                raise ValueError(f"throughline.{key}: nested too deeply, or larger than the file")
            if isinstance(value, dict) and all(isinstance(name, str) for name in value):
                waiting += [(part, depth + 1) for item in value.items() for part in item]
            elif isinstance(value, list | tuple):
                waiting += [(part, depth + 1) for part in value]
            elif not isinstance(value, str | int | float | None) or (type(value) is int and abs(value) > reading.LARGEST):
                raise ValueError(f"throughline.{key}: not plain values")


def _tensors(checkpoint: dict[str, Any]) -> Iterator[Tensor]:
    yield from checkpoint.get("state_dict", {}).values()
    for state in checkpoint["throughline"].get("carry", {}).values():
        yield from state
    for optimizer in checkpoint.get("optimizer_states", []):
        for values in optimizer["state"].values():
            yield from (value for value in values.values() if isinstance(value, Tensor))


# The schema of a checkpoint. What belongs to callbacks of users is not in it.


class Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="ignore", arbitrary_types_allowed=True)


def _dense(tensor: Tensor) -> Tensor:
    """A tensor in plain memory that holds each of its elements once: a view of one number can claim any size."""
    if not (
        type(tensor) is Tensor
        and tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_quantized or tensor.is_nested or tensor.is_conj() or tensor.is_neg() or tensor.requires_grad)
        # The dimensions may have any order in memory: large one-hot weights are stored by columns.
        and tensor.permute(sorted(range(tensor.dim()), key=tensor.stride, reverse=True)).is_contiguous()
    ):
        raise ValueError("not a dense tensor")
    return tensor


Dense = Annotated[Tensor, AfterValidator(_dense)]
DenseOrPlain = Annotated[Any, AfterValidator(lambda value: _dense(value) if isinstance(value, Tensor) else value)]
Count = Annotated[int, Field(ge=0, le=10**15)]
Amount = Annotated[float, Field(ge=0, le=1e15)]
Sum = Annotated[float, Field(ge=-1e15, le=1e15)]


class About(Part):
    """The part under "throughline"."""

    format: int
    model: dict[str, Any] = Field(default_factory=dict)
    head: dict[str, Any] = Field(default_factory=dict)
    codec: dict[str, Any] = Field(default_factory=dict)
    carry: dict[Literal["train"], Annotated[tuple[Dense, ...], Field(min_length=1)]] = Field(default_factory=dict)
    identity: dict[str, str | int | float | bool | list[Any] | None] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    updates: Count = 0
    run_id: Annotated[str, Field(pattern="^[0-9a-f]{0,64}$")] = ""
    changes: Annotated[list[dict[str, str | int | float | bool | None]], Field(max_length=1000)] = Field(
        default_factory=list
    )
    init_from: dict[Literal["file", "sha256"], Annotated[str, Field(max_length=5000)]] = Field(default_factory=dict)


class SpendingState(Part):
    tokens: Count
    batches: Count
    seconds: Amount


class PlaceState(Part):
    epoch: Annotated[int, Field(ge=0, lt=2**31)]
    batch: Count


class CheckpointsState(Part):
    best: float
    validating: bool = False


class MetricLogState(Part):
    nll_sum: Sum
    grad_norm_sum: Amount
    norms: Count
    tokens: Count
    since: Amount
    rows: Dense | None = None


class UtilisationState(Part):
    positions: Count
    flops: Annotated[int, Field(ge=0, le=10**30)]
    waited: Amount
    flops_before: Annotated[int, Field(ge=0, le=10**30)]
    waited_before: Amount


class BadBatchesState(Part):
    skipped: Count


class Callbacks(Part):
    """The states of our callbacks; a file that cannot be resumed has none."""

    Spending: SpendingState | None = None
    Checkpoints: CheckpointsState | None = None
    MetricLog: MetricLogState | None = None
    Utilisation: UtilisationState | None = None
    BadBatches: BadBatchesState | None = None


class Group(Part):
    """A group of parameters, as PyTorch's optimizers save it."""

    lr: Annotated[float, Field(ge=0, le=1e15)]
    params: list[int]


class OptimizerState(Part):
    state: dict[int, dict[str, DenseOrPlain]]
    param_groups: list[Group]


class Contents(Part):
    """A checkpoint; some keys are Lightning's, which would read loops and convert the files of its version 1."""

    lightning: Annotated[str, Field(alias="pytorch-lightning_version", pattern=r"^([2-9]|[1-9]\d)\.\d+\.\d+")] = "2.0.0"
    lr_schedulers: Annotated[list[Any], Field(max_length=0)] = Field(default_factory=list)
    loops: None = None

    throughline: About
    state_dict: dict[str, Dense] = Field(default_factory=dict)
    callbacks: Callbacks = Field(default_factory=Callbacks)
    optimizer_states: Annotated[list[OptimizerState], Field(max_length=1)] = Field(default_factory=list)
    StreamDataModule: PlaceState | None = None


def can_be_resumed(checkpoint: Mapping[str, Any]) -> bool:
    """Whether all parts are there that a run resumes from, not only weights."""
    callbacks, identity = checkpoint.get("callbacks", {}), checkpoint["throughline"].get("identity")
    states = all(callbacks.get(name) is not None for name in Callbacks.model_fields)
    return bool(states and identity and checkpoint.get("StreamDataModule") and checkpoint.get("optimizer_states"))


def describe(generator: Generator, codec: Codec) -> dict[str, Any]:
    """The plain values from which `load_parts` builds the same generator."""
    return {"format": FORMAT, **portable.parts_as_plain(generator, codec)}


def load_parts(
    path: str | Path, model: Model | None = None, codec: Codec | None = None, head: Head | None = None
) -> tuple[Generator, Codec, dict[str, Any]]:
    """The generator in a checkpoint or an exported `.safetensors` file, its codec, and the description of its data.

    Of an exported file, the description says `joined` alone.

    Args:
        path: the file.
        model, codec, head: the choices of a command line, if there are any; they must match the file.

    Raises:
        UserError: the file is damaged, of another kind, or does not match the choices.
    """
    generator, own, data = _exported(path) if Path(path).suffix == ".safetensors" else _load(path)
    for name, chosen, there in (("model", model, generator.settings), ("head", head, generator.head_settings)):
        if chosen is not None and chosen != there:
            raise UserError(
                f"{name}={plain(chosen)}: the checkpoint holds {plain(there)}; leave {name}= out, or give the same"
            )
    if codec is not None and type(codec) is not type(own):
        raise UserError(f"codec={codec.name}: the checkpoint holds {own.name}; leave codec= out, or give the same")
    if codec is not None:
        refuse_other_settings(codec, own, "the checkpoint")
    return generator, own, data


def joined_of(data: dict[str, Any]) -> bool:
    """Whether the state was carried from a sequence to the next in training, by the description of the data."""
    source = data.get("source", {})  # where checkpoints of before say it
    return bool(data.get("joined", source.get("joined", False) if isinstance(source, dict) else False))


def refuse_other_settings(chosen: Codec, own: Codec, holder: str) -> None:
    """Refuse a chosen codec with other settings than those of one of the same class that was fitted before.

    Args:
        chosen: as the command line gives it.
        own: the fitted one.
        holder: what holds it, in words.

    Raises:
        UserError: it names the setting.
    """
    if not chosen.fitted:
        usual = defaults(type(chosen))
        for key, value in plain(chosen).items():
            there = getattr(own, key)
            if value != usual.get(key) and value != there:
                raise UserError(f"codec.{key}={value}: the codec of {holder} was fitted with {there}; leave codec= out")
        return
    given = chosen.fit([])
    ended = getattr(own, "ended", False) and not getattr(given, "ended", False)  # a source sets it, no user
    if (given.with_end() if ended else given) != own:
        raise UserError(f"codec={chosen.name}: its table is not that of {holder}; leave codec= out")


def _load(path: str | Path) -> tuple[Generator, Codec, dict[str, Any]]:
    return parts_of(read(path), path)


def _exported(path: str | Path) -> tuple[Generator, Codec, dict[str, Any]]:
    generator, codec, joined = portable.load(Path(path))
    return generator, codec, {"joined": joined}


def parts_of(checkpoint: dict[str, Any], path: str | Path) -> tuple[Generator, Codec, dict[str, Any]]:
    """The generator in the contents of a checkpoint, its codec, and the description of its data.

    Raises:
        UserError: they do not fit together.
    """
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
