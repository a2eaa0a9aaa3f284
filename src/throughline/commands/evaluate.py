"""`src/evaluate.py`: the exact metrics of a checkpoint on a split of its own data, or of other data."""

import csv
import io
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic.dataclasses import dataclass
from rich.console import Console

from throughline.cautions import about_split
from throughline.commands.compose import launch
from throughline.config import all_readings
from throughline.data.codecs import Codec
from throughline.data.corpus import num_unknown
from throughline.data.sources import Source
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.model.settings import Head, Model
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.progress import progress
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, PathStr

if TYPE_CHECKING:
    from throughline.evaluation.measure import BySequence


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    split: Literal["train", "val", "test", "all"] = "val"
    """The part of the data that is scored; `all` is the whole file."""
    out: PathStr | None = None
    """A .csv file for the scores of each sequence: nll, targets, how many of these were the likeliest step, and its text.
    Only for sequences that are not joined."""
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

    trained = load_trained(settings.checkpoint, settings.model, settings.codec, settings.head)
    with progress("reading data", console):
        corpus = trained.corpus(settings.data)
        line = corpus.line(settings.split)
    if settings.out is not None and line.joined:
        raise UserError(f"out={settings.out}: this line is joined, so it has no sequences to score one by one")
    sequences = "" if line.joined else f"{len(line.ends):,} sequences, "
    print(
        f"{corpus.fingerprint['source']}: split {settings.split}, {sequences}{line.num_targets:,} targets, "
        f"{num_unknown(line):,} of them unknown symbols",
        flush=True,
    )
    for caution in about_split(f"split {settings.split}", line):
        print(f"caution: {caution}", flush=True)
    with progress("evaluating", console) as work:
        by_sequence = None if settings.out is None else BySequence(line)
        metrics = trained.evaluate(
            corpus, settings.split, list(settings.readings.values()), settings.evaluation, work.advance, by_sequence
        )
    for key, value in metrics.items():
        print(f"{key} {value:.6f}")
    if settings.out is not None and by_sequence is not None:
        write_scores(Path(settings.out), by_sequence, corpus.codec)
        print(f"{settings.out}: {len(line.ends):,} sequences")


def write_scores(path: Path, by_sequence: "BySequence", codec: Codec) -> None:
    """Write a row per sequence.

    Raises:
        UserError: the file cannot be written.
    """
    table = io.StringIO(newline="")
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["sequence", "nll", "targets", "correct", "text"])
    edges, steps = by_sequence.line.edges.tolist(), by_sequence.line.steps
    for row, first, last in zip(by_sequence.rows(), edges[:-1], edges[1:], strict=True):
        rows.writerow([*row, codec.decode(steps[first + 1 : last].tolist())])
    try:
        atomic.write({path: table.getvalue().encode("utf-8", "surrogateescape")})
    except OSError as error:
        raise UserError(f"out={path}: {error.strerror}; give a file that can be written") from None


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("evaluate", Evaluate, evaluate, root)
