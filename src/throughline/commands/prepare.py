"""`src/prepare.py`: shows what is read from some data, before anybody trains on them."""

import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from throughline.cautions import about_split
from throughline.commands.compose import launch, typed
from throughline.commands.train import command
from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.data.sources import Source
from throughline.data.sources.stdlib import StandardLibrary
from throughline.plumbing.progress import progress
from throughline.plumbing.reading import printable
from throughline.settings import STRICT

WIDTH = 100
"""The most signs of an example."""
BAR = 30
"""The length of the longest bar."""
END = "\N{RETURN SYMBOL}"
"""How the end symbol is shown."""
PIECE = 2**20
"""The steps that are counted at once."""


@dataclass(frozen=True, config=STRICT)
class Prepare:
    data: Source = StandardLibrary()  # frozen
    """The data source, as for `train.py`."""
    codec: Codec | None = None
    """Turns the data into steps. None: the codec that suits the source."""
    examples: Annotated[int, Field(ge=0, le=1000)] = 10
    """The number of training sequences that are shown; of a text in one piece, the number of lines."""


def prepare(settings: Prepare) -> None:
    """Read the data, and show what a network would learn from.

    Raises:
        UserError: the data cannot be used.
    """
    with progress("reading data", Console(stderr=True)):
        corpus = settings.data.read(settings.codec)
    for line in (*about(corpus), *lengths(corpus.train), *symbols(corpus), *examples(corpus, settings.examples)):
        print(line)
    same = [argument for argument in typed if not argument.startswith("examples=")]
    print(f"train:      {command('train')} {shlex.join(same)}".rstrip())


def about(corpus: Corpus) -> Iterator[str]:
    """Where the data come from, what was understood, and what each split has."""
    origin, train = corpus.fingerprint, corpus.train
    size = f", {origin['bytes']:,} bytes, sha256 {origin['sha256'][:12]}" if "bytes" in origin else ""
    yield f"data: {printable(origin['source'])}{size}" + (f"; {origin['read']}" if "read" in origin else "")
    if not train.ended:
        yield "sequences: joined, without ends"
    else:
        carried = "joined: the state is carried from one to the next" if train.joined else "each starts from zeros"
        yield f"sequences: {carried}; the end symbol, here {END}, stands before the first and after each"
    yield "split    sequences       symbols       unknown"
    for name, line in corpus.splits.items():
        begins, ends = spans(line)
        steps, unknown = int((ends - begins).sum()), int(counts(line, corpus.codec)[UNKNOWN])
        share = f" ({unknown / steps:.2%})" if unknown else ""
        yield f"  {name:<5} {len(begins):>11,} {steps:>13,} {unknown:>13,}{share}"
    for caution in about_split("validation", corpus.val):
        yield f"caution: {caution}"


def spans(line: Line) -> tuple[np.ndarray, np.ndarray]:
    """(S,) where each sequence begins in the steps of a line, and (S,) where it ends; end symbols lie between."""
    if line.ended:
        return np.append(0, line.ends[:-1]) + 1, line.ends
    return np.append(0, line.ends[:-1]), np.append(line.ends[:-1], len(line.steps))


def counts(line: Line, codec: Codec) -> np.ndarray:
    """(V,) how often each symbol occurs in a line; the end symbol is not counted."""
    found = np.zeros(codec.size, np.int64)
    for start in range(0, len(line.steps), PIECE):  # because `bincount` copies what it counts to eight times the size
        found += np.bincount(line.steps[start : start + PIECE], minlength=codec.size)
    if codec.end is not None:
        found[codec.end] = 0
    return found


def lengths(line: Line) -> Iterator[str]:
    """A bar per length of the sequences, or per range between powers of two; nothing for a single sequence."""
    begins, ends = spans(line)
    sizes = ends - begins
    if len(sizes) == 1:
        return
    low, high = int(sizes.min()), int(sizes.max())
    yield f"lengths of the training sequences: {low:,} to {high:,} symbols, the median is {np.median(sizes):,g}"
    first = np.arange(low, high + 1) if high - low < 20 else np.append(0, 2 ** np.arange(high.bit_length()))
    last = np.append(first[1:] - 1, high)
    numbers = np.diff(np.append(0, np.searchsorted(np.sort(sizes), last, side="right")))
    shown = [(f"{a:,}" if a == b else f"{a:,}-{b:,}", int(n)) for a, b, n in zip(first, last, numbers, strict=True)]
    while not shown[0][1]:
        del shown[0]
    width = max(len(label) for label, _ in shown)
    for label, number in shown:
        bar = "\N{FULL BLOCK}" * (BAR * number // max(numbers)) or "\N{LEFT ONE EIGHTH BLOCK}" * (number > 0)
        yield f"  {label:>{width}} {bar:<{BAR}} {number:,}".rstrip()


def symbols(corpus: Corpus) -> Iterator[str]:
    """The size of the vocabulary, and the symbols that occur most and least in the training split."""
    codec, found = corpus.codec, counts(corpus.train, corpus.codec)
    order = [int(id) for id in np.argsort(-found, kind="stable") if found[id] and id != UNKNOWN]
    least = [id for id in order if found[id] == found[order[-1]]]
    others = "the unknown one" if codec.end is None else "the unknown one and the end"
    yield f"symbols: {len(order):,} occur in the training split; {codec.name}, vocabulary {codec.size:,} with {others}"
    yield "  most: " + ", ".join(f"{shown(codec, id)} {found[id] / found.sum():.1%}" for id in order[:10])
    times = "once" if found[least[0]] == 1 else f"{found[least[0]]:,} times"
    few = ", ".join(shown(codec, id) for id in least[:10]) + (", ..." if len(least) > 10 else "")
    yield f"  least: {times}: {few}" + (f" ({len(least):,} symbols)" if len(least) > 1 else "")


def shown(codec: Codec, id: int) -> str:
    """A symbol in quotes, at most as long as a word or two; a byte is no text."""
    return printable(repr(bytes([id - 1]) if codec.reads == "bytes" else codec.decode([id])), most=40)


def examples(corpus: Corpus, most: int) -> Iterator[str]:
    """Training sequences at equal distances, as the network reads them; of a single one, the first lines."""
    line, codec = corpus.train, corpus.codec
    begins, ends = spans(line)
    if most == 0:
        return
    if len(begins) == 1 and not line.ended:
        yield "the training split begins:"
        text = codec.decode(line.steps[: WIDTH * most].tolist())
        yield from (f"  {printable(row, most=WIDTH)}".rstrip() for row in text.split("\n")[:most])
        return
    yield "some training sequences:"
    end = END if line.ended else ""
    for number in np.unique(np.linspace(0, len(begins) - 1, most).astype(int)):
        steps = line.steps[begins[number] : min(ends[number], begins[number] + WIDTH + 1)]
        yield f"  {printable(end + codec.decode(steps.tolist()) + end, most=WIDTH)}"


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("prepare", Prepare, prepare, root)
