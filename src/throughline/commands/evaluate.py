"""`src/evaluate.py`: the exact metrics of a checkpoint on the validation split of the configured data."""

from pydantic.dataclasses import dataclass

from throughline.config import all_readings
from throughline.data.codecs import Codec
from throughline.data.sources import Source
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.model.settings import Head, Model
from throughline.plumbing.startup import large_imports
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Evaluate:
    checkpoint: str
    data: Source
    evaluation: Evaluation
    readings: dict[str, Reading]
    """Besides `carried` and `reset`."""
    model: Model | None = None
    codec: Codec | None = None
    head: Head | None = None
    """These three are needed only where they are of a user's own module: the choices of the training, again."""


def evaluate(settings: Evaluate) -> None:
    with large_imports():
        from throughline.evaluation.measure import best_device, measure
        from throughline.runs.checkpoint import load_generator

    generator, codec = load_generator(settings.checkpoint, settings.model, settings.codec, settings.head)
    corpus = settings.data.read(codec)
    print(f"{corpus.fingerprint['source']}: {corpus.val.num_targets:,} targets, {corpus.unknown:,} of them unknown symbols")
    readings = all_readings(settings.readings)
    for key, value in measure(generator, corpus.val, readings, settings.evaluation, best_device()).items():
        print(f"{key} {value:.6f}")
