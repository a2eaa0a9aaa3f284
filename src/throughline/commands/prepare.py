"""`src/prepare.py`: shows what was read, before anybody trains. It does not import torch."""

import math
import shlex
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from pydantic.dataclasses import dataclass
from rich.console import Console

from throughline.commands.compose import launch, typed
from throughline.commands.train import command
from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.codecs.frames import Frames
from throughline.data.corpus import Corpus, num_of_each, num_unknown
from throughline.data.sources import Source
from throughline.data.sources.stdlib import StandardLibrary
from throughline.plumbing.progress import progress
from throughline.plumbing.reading import printable
from throughline.settings import STRICT, PathStr, PositiveInt

WIDTH = 100
"""The signs of a line."""
END = "⏎"
"""Shows the end of a sequence."""


@dataclass(frozen=True, config=STRICT)
class Prepare:
    data: Source = StandardLibrary()  # frozen
    """The data source."""
    codec: Codec | None = None
    """Turns the data into steps. None: the codec that suits the source."""
    examples: PositiveInt = 10
    """The number of sequences that are shown."""
    output_root: PathStr = "outputs"
    """The folder of all runs. Texts of 64 MB or more are encoded once, into its folder `prepared`, for all of them."""


def prepare(settings: Prepare) -> None:
    """Read the data, and print what was read."""
    console = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
    with progress("reading data", console):
        corpus = settings.data.under(settings.output_root).read(settings.codec)
    corpus.refuse_too_short()
    for line in report(corpus, settings.examples):
        print(line)
    kept = [argument for argument in typed if not argument.startswith("examples=")]
    print(f"\ntrain:   {command('train')} {shlex.join(kept)}".rstrip())


def report(corpus: Corpus, examples: int) -> Iterator[str]:
    """Lines about a corpus: its splits, its lengths, its symbols, and sequences as the network sees them."""
    origin = corpus.fingerprint
    yield f"{origin['source']}: {origin['bytes']:,} bytes" if "bytes" in origin else str(origin["source"])
    if "read" in origin:
        yield f"read as: {origin['read']}"
    if corpus.prepared is not None:
        folder, size, seconds = corpus.prepared
        rate = origin["bytes"] / 1e6 / max(seconds, 1e-3)
        yield f"prepared: {size:,} bytes in {folder}, {seconds:,.1f} s when they were made ({rate:,.0f} MB/s)"
    yield ""
    yield from splits(corpus)
    if len(corpus.train.ends) > 1:
        yield ""
        yield "lengths of the training sequences, with their ends:" if corpus.train.ended else "lengths of the sequences:"
        train = corpus.train
        ends = train.ends if train.ended else np.append(train.ends[:-1], len(train.steps))  # a last step is no input
        yield from histogram(np.diff(ends, prepend=0))
    yield ""
    yield from features(corpus) if corpus.train.frames else symbols(corpus)
    yield ""
    yield "as the network sees them:"
    yield from shown(corpus, examples)


def splits(corpus: Corpus) -> Iterator[str]:
    """A line per split: its sequences and targets, and how many of these are unknown."""
    how = "one after the other, the state carried" if corpus.train.joined else "each from zeros"
    for name, line in corpus.splits.items():
        unknown = num_unknown(line, corpus.codec)
        count = f"{len(line.ends):,} sequences, " if len(line.ends) > 1 or not line.joined else ""
        said = f", {unknown:,} of them unknown ({unknown / line.num_targets:.2%})" if unknown else ""
        yield f"{name + ':':6} {count}{line.num_targets:,} targets{said}"
    yield f"state: {how}"


def histogram(lengths: np.ndarray) -> Iterator[str]:
    """A bar per range of lengths; the ranges grow if the lengths are far apart."""
    low, high = int(lengths.min()), int(lengths.max())
    if high - low < 12:
        edges = np.arange(low, high + 2)
    elif high > 20 * max(low, 1):
        edges = np.unique(np.round(np.geomspace(max(low, 1), high + 1, 13)).astype(int))
        edges[0] = low
    else:
        edges = np.unique(np.linspace(low, high + 1, 13).round().astype(int))
    counts, _ = np.histogram(lengths, edges)
    for first, last, count in zip(edges[:-1], edges[1:] - 1, counts.tolist(), strict=True):
        name = f"{first:,}" if first == last else f"{first:,} to {last:,}"
        yield f"  {name:>17}  {'█' * math.ceil(40 * count / counts.max())} {count:,}".rstrip()
    yield f"  mean {lengths.mean():.1f}, median {np.median(lengths):g}"


def symbols(corpus: Corpus) -> Iterator[str]:
    """Lines about the vocabulary: its size, the most frequent symbols with their share, and those that occur once."""
    codec, counts = corpus.codec, num_of_each(corpus.train, corpus.codec.size)
    own = counts[1 : codec.end]  # without the unknown symbol and the end
    known, once = int(np.count_nonzero(own)), int(np.count_nonzero(own == 1))
    yield f"symbols: {known:,} in the training split ({codec.name}), {once:,} of them occur once"
    order = np.argsort(-counts, kind="stable")[:12].tolist()
    most = [f"{symbol(codec, id)} {counts[id] / corpus.train.num_targets:.1%}" for id in order if counts[id]]
    yield f"  most frequent: {', '.join(most)}"
    if once and codec.reads == "symbols":
        names = [symbol(codec, id) for id in (np.flatnonzero(own == 1)[:12] + 1).tolist()]
        yield f"  once: {', '.join(names)}" + (", ..." if once > len(names) else "")


def features(corpus: Corpus) -> Iterator[str]:
    """Lines about frames: their kind, and how many features are set or what values they have."""
    codec, steps = corpus.codec, corpus.train.steps[1:]
    assert isinstance(codec, Frames)
    if codec.steps == "multi_hot":
        often = np.flatnonzero(steps.any(axis=0))
        yield f"frames: {codec.width}, multi-hot, {steps.sum(axis=1).mean():.1f} set on average"
        yield f"  {len(often):,} features are ever set: {_cut(', '.join(map(codec.named, often.tolist())))}"
        return
    yield f"frames: {codec.width}, real, standardised on the training split"
    for place, (mean, std) in enumerate(zip(codec.mean or [], codec.std or [], strict=True)):
        yield f"  {codec.named(place)}: mean {mean:.6g}, std {std:.6g}"


def symbol(codec: Codec, id: int) -> str:
    """A symbol as it is shown: an end as a sign, and a space visible."""
    if id in (codec.end, UNKNOWN):
        return "unknown" if id == UNKNOWN else END
    text = codec.decode([id])
    return "␣" if text == " " else printable(repr(text)[1:-1], 40)


def shown(corpus: Corpus, examples: int) -> Iterator[str]:
    """Sequences of the training split, at equal distances; of a single one, its beginning."""
    line, codec = corpus.train, corpus.codec
    if len(line.ends) == 1:
        yield f"  {_cut(_text(codec, line.steps[: 4 * WIDTH]))}"
        return
    begins = np.concatenate([[0], line.ends[:-1]])
    for number in np.unique(np.linspace(0, len(line.ends) - 1, examples).astype(int)).tolist():
        first = begins[number] + line.ended
        last = line.ends[number] + (line.frames or not line.ended)  # the end symbol is not shown as a step
        steps = line.steps[first : min(last, first + 4 * WIDTH)]
        yield f"  {_cut(_text(codec, steps))}{END if line.ended and not line.frames else ''}"


def _text(codec: Codec, steps: np.ndarray) -> str:
    return printable(codec.decode(steps.tolist()).replace("\n", "↵"))


def _cut(text: str) -> str:
    return text if len(text) <= WIDTH else f"{text[: WIDTH - 4]} ..."


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("prepare", Prepare, prepare, root)
