"""`src/evaluate.py`: the exact metrics of a checkpoint on a split of its own data, or of other data."""

import contextlib
import csv
import itertools
from collections.abc import Iterator
from dataclasses import asdict, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass
from rich.console import Console

from throughline.cautions import about_split
from throughline.commands.compose import launch
from throughline.commands.generate import opened, refuse_no_folder
from throughline.config import all_readings
from throughline.data.codecs import Codec
from throughline.data.codecs.frames import Frames
from throughline.data.corpus import Corpus, num_unknown
from throughline.data.sources import Source
from throughline.data.sources.text import Text
from throughline.data.splits import SplitsOfSequences
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.model.settings import Head, Model
from throughline.plumbing.errors import UserError
from throughline.plumbing.progress import progress
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, NonNegative, PathStr, PositiveInt, defaults

if TYPE_CHECKING:
    from throughline.data.line import Line
    from throughline.evaluation.measure import BySequence
    from throughline.runs.live import Live
    from throughline.runs.trained import Trained


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    split: Literal["auto", "train", "val", "test", "all"] = "auto"
    """The part of the data that is scored; `all` is the whole of it. `auto`: `val`, or `all` with `path`."""
    path: PathStr | None = None
    """Another file, which is read with the settings of the run's own data, and is scored as a whole."""
    out: PathStr | None = None
    """A CSV file for the scores of each sequence: its name in the data or its number, nll, targets, how many of these were
    the likeliest step and how many unknown, and its text. Only for sequences that are not joined."""
    generated: PositiveInt | None = None
    """Also write so many symbols, or sequences with ends, and measure how varied they are, and what of them stands in the
    training data of the run. As much of the validation split shows what is usual; all of it if it is shorter."""
    temperature: NonNegative = 1.0
    """That of `generated`; no other setting draws."""
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 1
    """That of `generated`."""
    state: PathStr | None = None
    """A file of `state_out`: the line goes on there. Every step is read and scored in order, one by one; `path` is a natural
    choice. Only for data that are joined."""
    state_out: PathStr | None = None
    """Where the state after the last step is written."""
    data: Source | None = None
    """None: the data of the run."""
    evaluation: Evaluation = Evaluation()  # frozen
    readings: dict[str, Reading] = field(default_factory=dict)
    """Ways to measure, in addition to `carried` and `reset`."""
    model: Model | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    codec: Codec | None = None
    """Needed only for a user's own class. Give the same choice as in training."""
    head: Head | None = None
    """Needed only for a user's own class. Give the same choice as in training."""


def evaluate(settings: Evaluate) -> None:
    all_readings(settings.readings)  # refused before anything is read
    console = Console(highlight=False, markup=False, soft_wrap=True, stderr=True)
    print(f"checkpoint: {settings.checkpoint}", flush=True)
    with large_imports():
        from throughline.evaluation.measure import BySequence
        from throughline.runs.trained import load as load_trained

    refuse_without_effect(settings)
    trained = load_trained(settings.checkpoint, settings.model, settings.codec, settings.head)
    with progress("reading data", console):
        learned = None if settings.generated is None else learned_by(trained, settings.generated)  # before all measuring
        corpus, line, split = line_of(trained, settings.data, settings.path, settings.split, "path")
    if settings.out is not None and line.joined:
        raise UserError(f"out={settings.out}: this line is joined, so it has no sequences to score one by one")
    sequences = "" if line.joined else f"{len(line.ends):,} sequences, "
    print(
        f"{corpus.fingerprint['source']}: split {split}, {sequences}{line.num_targets:,} targets"
        + ("" if line.frames else f", {num_unknown(line, corpus.codec):,} of them unknown symbols"),
        flush=True,
    )
    for caution in about_split(f"split {split}", line, corpus.codec):
        print(f"caution: {caution}", flush=True)
    if settings.state or settings.state_out:
        evaluate_live(settings, trained, line, split)
        return
    by_sequence = None if settings.out is None else BySequence(line, corpus.codec.unknown)
    with contextlib.nullcontext() if settings.out is None else opened(settings.out, "csv") as out:
        with progress("evaluating", console) as work:
            metrics = trained.evaluate(
                corpus, split, list(settings.readings.values()), settings.evaluation, work.advance, by_sequence
            )
        if by_sequence is not None:
            write_scores(out, by_sequence, corpus.codec)
    if learned is not None:
        with progress("generating", console):
            metrics |= novelty(settings, trained, learned)
    for key, value in metrics.items():
        print(f"{key} {value:.6f}" if abs(value) < 1e9 else f"{key} {value:.6g}")
    if settings.out is not None:
        print(f"{settings.out}: {len(line.ends):,} sequences")


def refuse_without_effect(settings: Evaluate) -> None:
    """Refuse settings that would change nothing beside the others.

    Raises:
        UserError: one of them is given.
    """
    usual = defaults(Evaluate)
    for key in ("temperature", "seed"):
        value = getattr(settings, key)
        if settings.generated is None and value != usual[key]:
            raise UserError(f"{key}={value}: is for generated=N, which is not given; leave it out")
    live = "state" if settings.state else "state_out" if settings.state_out else None
    if live is None:
        return
    for key in ("generated", "out"):
        if (value := getattr(settings, key)) is not None:
            raise UserError(f"{key}={value}: has no effect with {live}; leave one of them out")
    others = [name for name, reading in settings.readings.items() if reading not in (Carried(), Reset())]
    changed = {key: value for key, value in asdict(settings.evaluation).items() if value != defaults(Evaluation)[key]}
    for key in (*(f"readings={name}" for name in others), *(f"evaluation.{key}={value}" for key, value in changed.items())):
        raise UserError(f"{key}: with {live} the line is read in order, with the state carried; leave it out")


def learned_by(trained: "Trained", number: int) -> Corpus:
    """The data of the run, with which `number` generated symbols are compared.

    Raises:
        UserError: the network generates frames, or the data are not there.
    """
    if isinstance(trained.codec, Frames):
        raise UserError(f"generated={number}: is for symbols, and this checkpoint generates frames; leave it out")
    return trained.corpus(hint=f"leave out generated={number}")


def novelty(settings: Evaluate, trained: "Trained", corpus: Corpus) -> dict[str, float]:
    """How varied and how new generated symbols or sequences are, and the same of the validation split, by name."""
    from throughline.evaluation.novelty import of_sequences, of_text

    codec, number = trained.codec, settings.generated or 0
    drawn: dict[str, Any] = {"temperature": settings.temperature, "seed": settings.seed}
    if codec.end is None:
        (written,) = trained.sequences(1, length=number, **drawn)
        ids, val = np.array(written.ids, np.int64), np.asarray(corpus.val.steps[:number]).astype(np.int64)
        pairs = {"generated": of_text(ids, corpus.train), "validation": of_text(val, corpus.train)}
    else:
        sequences = [each.ids if each.whole else None for each in trained.sequences(number, **drawn)]
        edges = [0, *corpus.val.ends[:number].tolist()]
        val_sequences = [
            np.asarray(corpus.val.steps[first + 1 : last]).tolist() for first, last in itertools.pairwise(edges)
        ]
        pairs = {
            "generated": of_sequences(sequences, corpus.train),
            "validation": of_sequences(val_sequences, corpus.train),
        }
    return {f"{of}/{name}": value for of, figures in pairs.items() for name, value in figures.items()}


def evaluate_live(settings: Evaluate, trained: "Trained", line: "Line", split: str) -> None:
    """Score a line step by step from a state, and keep the state after it.

    Raises:
        UserError: the line is not joined, or a file does not fit.
    """
    key = "state" if settings.state else "state_out"
    if not line.joined:
        raise UserError(
            f"{key}={getattr(settings, key)}: these sequences are not joined, each starts from zeros; leave it out"
        )
    refuse_no_folder(settings.state_out)
    live = trained.live(settings.state, joined=True)
    nll, count = 0.0, 0
    for one in read_live(live, line):
        nll, count = nll + one, count + 1
    print(f"{split}/nll {nll / max(1, count):.6f}" if count else "nothing was scored: a first step has no prediction")
    print(f"{count:,} steps scored, {live.steps:,} read since the sequence began")
    if settings.state_out is not None:
        live.save(settings.state_out)
        print(f"{settings.state_out}: the state")


def read_live(live: "Live", line: "Line") -> Iterator[float]:
    """Read a joined line, and yield the nll of each step that has a prediction."""
    if not line.ended:
        yield from live.read(line.steps)
        return
    # The line begins with an end symbol, or a frame of zeros, where its first sequence begins.
    if live.at_beginning:
        pass
    elif line.frames:
        live.begin()
    else:
        yield from live.read(line.steps[:1])  # the sequence of before ends
    if not line.frames:
        yield from live.read(line.steps[1:])
        return
    for first, last in itertools.pairwise([0, *line.ends.tolist()]):
        yield from live.read(line.steps[first + 1 : last])
        yield live.close(line.steps[last])


def line_of(trained: "Trained", data: Source | None, path: str | None, split: str, key: str) -> "tuple[Corpus, Line, str]":
    """The line to measure, its corpus and the name of its split.

    Args:
        data: None is the data of the run.
        path: another file, read with the settings of the run's own data; the argument `key` gave it.
        split: `auto` is `val`, or `all` of another file.

    Raises:
        UserError: both are given, or the data cannot be read.
    """
    if path is not None:
        if data is not None:
            raise UserError(f"{key}={path}: is read as the run's own data were; with data=... give data.path")
        data = trained.source(path)
    if split == "auto":
        split = "val" if path is None else "all"
    whole = split == "all"
    corpus = trained.corpus(in_order(data) if whole and data is not None else data)
    if whole and data is None and in_order(trained.source()) != trained.source():
        corpus = trained.corpus(in_order(trained.source()))  # only now: it is checked as the run has read it
    return corpus, corpus.line(split), split


def in_order(data: Source) -> Source:
    """The source with its sequences in the order of the file, where all splits are one."""
    return replace(data, split="end") if isinstance(data, SplitsOfSequences | Text) else data


def write_scores(out: Any, by_sequence: "BySequence", codec: Codec) -> None:
    """Write a row per sequence; names and texts are quoted, because they may hold line breaks of any kind."""
    rows = csv.writer(out, quoting=csv.QUOTE_NONNUMERIC, lineterminator="\n")
    out.write("sequence,nll,targets,correct,unknown,text\n")
    edges, steps = by_sequence.line.edges.tolist(), by_sequence.line.steps
    for row, first, last in zip(by_sequence.rows(), edges[:-1], edges[1:], strict=True):
        text = "" if by_sequence.line.frames else codec.decode(steps[first + 1 : last].tolist())
        rows.writerow([*row, text])


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("evaluate", Evaluate, evaluate, root)
