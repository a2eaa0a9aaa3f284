"""`src/evaluate.py`: the exact metrics of a checkpoint on a split of its own data, or of other data."""

from dataclasses import field
from pathlib import Path
from typing import Literal

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
from throughline.plumbing.progress import progress
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT, PathStr


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    checkpoint: PathStr
    """A `.ckpt` file of a run, or a `.safetensors` file of an export."""
    split: Literal["train", "val", "test", "all"] = "val"
    """The part of the data that is scored; `all` is the whole file."""
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
        from throughline.runs.trained import load as load_trained

    trained = load_trained(settings.checkpoint, settings.model, settings.codec, settings.head)
    with progress("reading data", console):
        corpus = trained.corpus(settings.data)
        line = corpus.line(settings.split)
    print(
        f"{corpus.fingerprint['source']}: split {settings.split}, {line.num_targets:,} targets, "
        f"{num_unknown(line):,} of them unknown symbols",
        flush=True,
    )
    for caution in about_split(f"split {settings.split}", line):
        print(f"caution: {caution}", flush=True)
    with progress("evaluating", console) as work:
        metrics = trained.evaluate(
            corpus, settings.split, list(settings.readings.values()), settings.evaluation, work.advance
        )
    for key, value in metrics.items():
        print(f"{key} {value:.6f}")


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("evaluate", Evaluate, evaluate, root)
