"""Measures a generator on a line: readings score it, and the scores are summed over all targets."""

import csv
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric

from throughline.batches.batch import Batch, Batches
from throughline.batches.carry import Carry
from throughline.data.line import Line
from throughline.evaluation.handover import carried_totals
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading, Scores
from throughline.model.generator import Generator
from throughline.model.heads import Head


class Meter(Metric):
    """Adds up the scores of one reading, over all processes; means are over scored targets.

    This uses sums, not torchmetrics' MeanMetric: that one drops nan, or with `nan_strategy="disable"` ignores the weights.

    Args:
        head: gives the mean nll in other units.
        suffix: the end of the names of the metrics.
        split: the beginning of these names.
    """

    nll: Tensor
    targets: Tensor
    correct: Tensor

    def __init__(self, head: Head, suffix: str, split: str = "val") -> None:
        super().__init__()
        self.units, self.suffix, self.split = head.metrics, suffix, split
        for name in ("nll", "targets", "correct"):
            self.add_state(name, torch.zeros(()), dist_reduce_fx="sum")

    def begin(self, device: torch.device) -> None:
        """Reset the sums, and count in float64 if the device supports it; moving a module undoes this."""
        self.to(device)
        self.set_dtype(torch.float32 if device.type == "mps" else torch.float64)
        self.reset()
        self.knows_correct = True

    def update(self, nll: Tensor | float, targets: Tensor | int, correct: Tensor | int | None) -> None:
        """Add sums over targets; `correct` is None if the head has no likeliest step."""
        self.nll += nll
        self.targets += targets
        if correct is None:
            self.knows_correct = False
        else:
            self.correct += correct

    def compute(self) -> dict[str, float]:
        """The metrics by name, `val/nll` first."""
        targets, nll = float(self.targets), float(self.nll) / float(self.targets)
        metrics = {"nll": nll, **self.units(nll)}
        if self.knows_correct:
            metrics["accuracy"] = float(self.correct) / targets
        return {f"{self.split}/{name}{self.suffix}": value for name, value in metrics.items()}


class ByPosition:
    """Adds up the nll of the pass with resets by position, the number of tokens that the model has read since the reset.

    Attributes:
        nll_sum, targets: (R,) sums for the first, second, ... target after a reset.
    """

    def __init__(self, reset_every: int, num_targets: int) -> None:
        positions = min(reset_every, num_targets)
        self.nll_sum, self.targets = torch.zeros(2, positions, dtype=torch.float64)

    def add(self, nll: Tensor, scored: Tensor) -> None:
        steps = scored.shape[1]
        self.nll_sum[:steps] += nll.cpu().double().sum(dim=0)
        self.targets[:steps] += scored.sum(dim=0).cpu()

    def write(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["position", "nll", "targets"])
            for position, (nll, targets) in enumerate(zip(self.nll_sum.tolist(), self.targets.tolist(), strict=True), 1):
                if targets:
                    rows.writerow([position, nll / targets, int(targets)])


def measure(
    generator: Generator,
    line: Line,
    readings: Iterable[Reading],
    evaluation: Evaluation = Evaluation(),  # noqa: B008  # frozen
    device: torch.device | None = None,
    by_position: ByPosition | None = None,
    *,
    split: str = "val",
    advance: Callable[[int, int], None] = lambda done, more: None,
) -> dict[str, float]:
    """The exact metrics of a generator on a line, in the precision of its weights.

    Args:
        generator: is moved to the device, and is otherwise unchanged.
        line: the split.
        readings: the ways to read the line.
        evaluation: settings that the readings have in common.
        device: the device to measure on; None is the device of the generator.
        by_position: receives the scores of the reading `reset`.
        split: the name of the split; the names of the metrics begin with it.
        advance: is called with the number of targets just read, and the number still to be read in addition to those of
            earlier calls.
    """
    device, readings = device or next(generator.parameters()).device, list(readings)
    advance(0, len(readings) * line.num_targets)
    metrics: dict[str, float] = {}
    was_training, tf32 = generator.training, torch.backends.cudnn.allow_tf32
    generator.to(device).eval()
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # it rounds to 10 bits, so hardly any two states would be alike
    try:
        for reading in readings:
            meter = Meter(generator.head, reading.suffix, split)
            meter.begin(device)
            with torch.inference_mode(not reading.learns):
                read = reading.begin(generator)
                if "one_row" in vars(type(reading)) and reading.one_row and not reading.learns:
                    totals = carried_totals(partial(reading.score, read), line, evaluation, device, advance)
                    meter.update(totals.nll, line.num_targets, totals.correct)
                else:
                    for scores, batch in _in_order(reading, read, line, evaluation, device):
                        meter.update(*scores.sums(batch))
                        advance(batch.n_valid, 0)
                        if by_position is not None and reading.name == "reset":
                            by_position.add(scores.nll, batch.scored)
            metrics |= meter.compute()
    finally:
        generator.train(was_training)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = tf32
    return metrics


def _in_order(
    reading: Reading, read: Any, line: Line, evaluation: Evaluation, device: torch.device
) -> Iterator[tuple[Scores, Batch]]:
    """The batches of a reading's plan with their scores, the state carried from batch to batch."""
    carry = Carry()
    for batch in Batches(reading.plan(line, evaluation, exact=True), line):
        batch = batch.to(device)
        scores, state = reading.score(read, batch, carry.begin(reading.name, batch.reset))
        carry.offer(reading.name, state)
        carry.commit(reading.name)
        yield scores, batch


def best_device() -> torch.device:
    """A GPU if PyTorch can use one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
