"""`src/generate.py`: generates from a checkpoint, one sequence symbol by symbol, several one after the other."""

import secrets
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.data.codecs import Codec
from throughline.memory import of_generating, refuse_too_much
from throughline.model.settings import Head, Model
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import escaped
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, EscapedStr, PathStr, Positive, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Generate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    prompt: EscapedStr | None = None
    """None: a line break, or the first symbol of a vocabulary without one."""
    length: PositiveInt = 500
    """Symbols in addition to the prompt."""
    num_sequences: PositiveInt = 1
    """The number of texts. With several, a line `--- 1` stands before the first, and so on."""
    temperature: Positive = 0.8
    """Below 1, likelier symbols are preferred; 1 draws from the distribution as it is."""
    top_k: PositiveInt | None = None
    """Draw only among this number of the likeliest symbols."""
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    """Draw only among the fewest likeliest symbols whose probabilities add up to p (Holtzman 2020)."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] | None = None
    """None: another text each time. The drawn seed is printed on stderr. Give it to repeat the text."""
    output: PathStr | None = None
    """A file to write to instead of the terminal."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""


def generate(settings: Generate) -> None:
    """Generate from a checkpoint, and write the text.

    Raises:
        UserError: the prompt contains a symbol that the codec does not know, or the file cannot be written.
    """
    with large_imports():
        from throughline.model import generation
        from throughline.runs.checkpoint import load_parts

    generator, codec, _ = load_parts(settings.checkpoint, settings.model, settings.codec, settings.head)
    refuse_too_much(settings, lambda s: of_generating(generator.settings, codec.size, s.num_sequences, s.length))
    prompt = settings.prompt or codec.opening
    seed = secrets.randbits(32) if settings.seed is None else settings.seed
    steps = generation.generate(
        generator,
        codec.prompt(prompt),
        settings.length,
        num_sequences=settings.num_sequences,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=seed,
    )
    with _opened(settings.output) as out:
        if settings.seed is None:
            print(f"seed={seed}", file=sys.stderr, flush=True)
        if settings.num_sequences == 1:
            print(prompt, end="", flush=True, file=out)
            for piece in codec.stream(token for (token,) in steps):
                print(piece, end="", flush=True, file=out)
            print(file=out)
        else:
            for number, sequence in enumerate(zip(*steps, strict=True), start=1):
                print(f"--- {number}\n{prompt}{''.join(codec.stream(sequence))}", file=out)


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
