"""`src/generate.py`: what a checkpoint generates, one sequence symbol by symbol, several one after the other."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.data.codecs import Codec
from throughline.model.settings import Head, Model
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, Positive, PositiveInt


@dataclass(frozen=True, config=STRICT)
class Generate:
    checkpoint: str
    prompt: Annotated[str, Field(min_length=1)] | None
    """None: a sequence begins after a line break, or the first symbol."""
    length: PositiveInt
    num_sequences: PositiveInt
    temperature: Positive
    top_k: PositiveInt | None
    top_p: Annotated[float, Field(gt=0, le=1)] | None
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    model: Model | None = None
    codec: Codec | None = None
    head: Head | None = None
    """These three are needed only where they are of a user's own module: the choices of the training, again."""


def generate(settings: Generate) -> None:
    with large_imports():
        from throughline.model import generation
        from throughline.runs.checkpoint import load_generator

    generator, codec = load_generator(settings.checkpoint, settings.model, settings.codec, settings.head)
    prompt = settings.prompt or codec.opening
    steps = generation.generate(
        generator,
        codec.prompt(prompt),
        settings.length,
        num_sequences=settings.num_sequences,
        temperature=settings.temperature,
        top_k=settings.top_k,
        top_p=settings.top_p,
        seed=settings.seed,
    )
    if settings.num_sequences == 1:
        print(prompt, end="", flush=True)
        for piece in codec.stream(token for (token,) in steps):
            print(piece, end="", flush=True)
        print()
    else:
        for number, sequence in enumerate(zip(*steps, strict=True), start=1):
            print(f"--- {number}\n{prompt}{''.join(codec.stream(sequence))}")
