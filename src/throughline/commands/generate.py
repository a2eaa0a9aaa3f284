"""`src/generate.py`: generates from a checkpoint: a text of a given length, or sequences that end by themselves."""

import csv
import io
import json
import secrets
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.data.codecs import UNKNOWN, Codec
from throughline.memory import of_generating, refuse_too_much
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import escaped
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, EscapedStr, NonNegative, PathStr, PositiveInt

if TYPE_CHECKING:
    from throughline.model.generator import Generator

FORMATS = {".csv": "csv", ".jsonl": "jsonl", ".npy": "npy"}
"""The format by the ending of the file; every other ending is text."""


@dataclass(frozen=True, config=STRICT)
class Generate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    prompt: EscapedStr | None = None
    """None: a line break, or the first symbol of a vocabulary without one; for sequences with ends, nothing."""
    length: PositiveInt | None = None
    """Symbols in addition to the prompt, for a model of joined data; None: 500."""
    max_length: PositiveInt | None = None
    """The largest number of symbols of a sequence, for a model of sequences with ends; None: 1000."""
    stop: Annotated[EscapedStr, Field(min_length=1)] | None = None
    """Text before which a text of joined data ends, if it comes within `length` symbols."""
    num_sequences: PositiveInt = 1
    """The number of texts. Sequences with ends stand one on a line. Before each of several other texts stands a line such as
    `--- 1`."""
    temperature: NonNegative = 0.8
    """Below 1, likelier symbols are preferred; 1 draws from the distribution as it is; 0 takes the likeliest symbol."""
    top_k: PositiveInt | None = None
    """Draw only among this number of the likeliest symbols."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw only among the fewest likeliest symbols whose probabilities add up to p (Holtzman 2020)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """None: another text each time. The drawn seed is printed on stderr. Give it to repeat the text."""
    output: PathStr | None = None
    """A file to write to instead of the terminal."""
    format: Literal["auto", "text", "csv", "jsonl", "npy"] = "auto"
    """The format of the output. `auto`: by the ending of `output`, otherwise text. `npy` holds ids (num_sequences, steps),
    with 0 after an end."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""

    def __post_init__(self) -> None:
        if self.format == "npy" and self.output is None:
            raise ValueError("format=npy: a terminal cannot show it; give output=FILE")

    @property
    def chosen_format(self) -> str:
        return FORMATS.get(Path(self.output or "").suffix.lower(), "text") if self.format == "auto" else self.format


def generate(settings: Generate) -> None:
    """Generate from a checkpoint, and write the result.

    Raises:
        UserError: the prompt contains a symbol that the codec does not know, a setting belongs to another kind of model, or
            the file cannot be written.
    """
    with large_imports():
        from throughline.runs.checkpoint import load_parts

    generator, codec, _ = load_parts(settings.checkpoint, settings.model, settings.codec, settings.head)
    for key, value, of_ended in (
        ("length", settings.length, False),
        ("stop", settings.stop, False),
        ("max_length", settings.max_length, True),
    ):
        if value is not None and of_ended != (codec.end is not None):
            instead = "its data are joined; give length" if of_ended else "its sequences end by themselves; give max_length"
            raise UserError(f"{key}={value}: does not suit this model, because {instead}")
    refuse_too_much(settings, lambda s: of_generating(generator.settings, codec.size, _rows(s, codec), s.length or 500))
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    opening = codec.prompt(settings.prompt or codec.opening)
    if settings.chosen_format == "text":
        with _opened(settings.output) as out:
            _tell(settings, seed)
            for piece in texts(settings, generator, codec, opening, seed):
                print(piece, end="", flush=True, file=out)
        return
    _tell(settings, seed)
    found = list(sequences(settings, generator, codec, opening, seed))
    content = {"csv": as_csv, "jsonl": as_jsonl, "npy": as_npy}[settings.chosen_format](found, codec)
    if settings.output is None:
        print(escaped(content.decode("utf-8", "replace")), end="")
        return
    try:
        atomic.write({Path(settings.output): content})
    except OSError as error:
        raise UserError(f"output={settings.output}: {error.strerror}; give a file that can be written") from None


def _tell(settings: Generate, seed: int) -> None:
    """Print the seed that was drawn, so that the text can be repeated."""
    if settings.seed is None:
        print(f"seed={seed}", file=sys.stderr, flush=True)


def _rows(settings: Generate, codec: Codec) -> int:
    """The sequences that are held in memory at once."""
    return settings.num_sequences if codec.end is None else min(settings.num_sequences, 64)


def texts(settings: Generate, generator: "Generator", codec: Codec, opening: np.ndarray, seed: int) -> Iterator[str]:
    """The output as text, piece by piece; a single text comes symbol by symbol."""
    if codec.end is None and settings.num_sequences == 1:
        yield settings.prompt or codec.opening
        yield from until(settings.stop, codec.stream(token for (token,) in _steps(settings, generator, opening, seed)))
        yield "\n"
        return
    for number, ids in enumerate(sequences(settings, generator, codec, opening, seed), start=1):
        heading = f"--- {number}\n" if codec.end is None else ""
        yield f"{heading}{codec.decode(ids)}\n"


def sequences(
    settings: Generate, generator: "Generator", codec: Codec, opening: np.ndarray, seed: int
) -> Iterator[list[int]]:
    """The ids of each sequence with its prompt, without the end symbol."""
    from throughline.model.generation import generate_sequences

    if codec.end is None:
        for ids in zip(*_steps(settings, generator, opening, seed), strict=True):
            yield _stopped(settings.stop, codec, [*opening.tolist(), *ids], len(opening))
        return
    most, cut = settings.max_length or 1000, 0
    for found in generate_sequences(
        generator, opening, codec.end, most, num_sequences=settings.num_sequences, seed=seed, **_options(settings)
    ):
        cut += found[-1] != codec.end
        yield [*opening[1:].tolist(), *(id for id in found if id != codec.end)]
    if cut:
        print(f"{cut} of {settings.num_sequences} sequences had not ended after max_length={most}", file=sys.stderr)


def _options(settings: Generate) -> dict[str, Any]:
    return {"temperature": settings.temperature, "top_k": settings.top_k, "top_p": settings.top_p}


def _steps(settings: Generate, generator: "Generator", opening: np.ndarray, seed: int) -> Iterator[list[int]]:
    from throughline.model import generation

    options = {**_options(settings), "num_sequences": settings.num_sequences, "seed": seed}
    return generation.generate(generator, opening, settings.length or 500, **options)


def until(stop: str | None, pieces: Iterator[str]) -> Iterator[str]:
    """The pieces of a text up to the first `stop` in it, which may begin in one piece and end in another."""
    if stop is None:
        yield from pieces
        return
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        safe = len(held) - len(stop) + 1  # from there on, `stop` may have begun
        if safe > 0:
            yield held[:safe]
            held = held[safe:]
    yield held


def _stopped(stop: str | None, codec: Codec, ids: list[int], prompt: int) -> list[int]:
    """The ids up to the one with which `stop` is complete after the prompt, without those that belong to it alone."""
    if stop is None:
        return ids
    kept = len("".join(until(stop, codec.stream(ids[prompt:]))))
    length = 0
    for place, piece in enumerate(codec.stream(ids[prompt:])):
        length += len(piece)
        if length > kept:
            return ids[: prompt + place]
    return ids


def as_csv(found: list[list[int]], codec: Codec) -> bytes:
    """A row per sequence: its number and its text."""
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["sequence", "text"])
    rows.writerows([number, codec.decode(ids)] for number, ids in enumerate(found, start=1))
    return table.getvalue().encode("utf-8", "replace")


def as_jsonl(found: list[list[int]], codec: Codec) -> bytes:
    """A record per sequence: its number, its text, and its symbols one by one."""
    records = (
        {"sequence": number, "text": codec.decode(ids), "symbols": [codec.decode([id]) for id in ids]}
        for number, ids in enumerate(found, start=1)
    )
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode("utf-8", "replace")


def as_npy(found: list[list[int]], codec: Codec) -> bytes:
    """The ids as an array, with the unknown symbol after the end of a sequence."""
    ids = np.full((len(found), max(map(len, found))), UNKNOWN, codec.dtype)
    for row, sequence in zip(ids, found, strict=True):
        row[: len(sequence)] = sequence
    file = io.BytesIO()
    np.save(file, ids, allow_pickle=False)
    return file.getvalue()


class Terminal:
    """The terminal, on which signs that it might take for commands are shown as escapes."""

    def write(self, text: str) -> int:
        return sys.stdout.write(escaped(text))

    def flush(self) -> None:
        sys.stdout.flush()


def _opened(output: str | None) -> AbstractContextManager[Any]:
    if output is None:
        return nullcontext(Terminal())
    try:
        return Path(output).open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"output={output}: {error.strerror}; give a file that can be written") from None


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("generate", Generate, generate, root)
