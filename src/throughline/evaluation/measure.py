"""Measures a generator on a line: readings score it, and the scores are summed over all targets."""

import csv
import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchmetrics import Metric

from throughline.batches.batch import Batch
from throughline.batches.batch import read as read_batch
from throughline.batches.carry import Carry
from throughline.data.codecs import UNKNOWN, Codec
from throughline.data.corpus import PIECE
from throughline.data.line import Line
from throughline.evaluation.handover import carried_totals
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading, Scores
from throughline.model.generator import Generator
from throughline.model.heads import Head
from throughline.regimes import Cut, Played


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
    """Adds up the nll by position, the number of tokens that the model has read since it started from zeros.

    Of a joined line, it is that of the pass with resets; otherwise positions count from the beginning of each sequence.

    Attributes:
        reading: the name of the reading whose scores are added.
        nll_sum, targets: (R,) sums for the first, second, ... target after a reset.
    """

    def __init__(self, reset_every: int, line: Line) -> None:
        self.reading = "reset" if line.joined else "carried"
        positions = min(reset_every, line.num_targets) if line.joined else int(np.diff(line.edges).max())
        self.nll_sum, self.targets = torch.zeros(2, positions, dtype=torch.float64)

    def add(self, nll: Tensor, scored: Tensor, first: Tensor) -> None:
        """Add scores (B, T) of rows that have read `first` (B,) tokens since their reset."""
        scored = scored.cpu()
        position = (first[:, None] + torch.arange(scored.shape[1]))[scored]
        self.nll_sum.index_add_(0, position, nll.cpu().double()[scored])
        self.targets.index_add_(0, position, torch.ones(len(position), dtype=torch.float64))

    def write(self, path: Path) -> None:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow(["position", "nll", "targets"])
            for position, (nll, targets) in enumerate(zip(self.nll_sum.tolist(), self.targets.tolist(), strict=True), 1):
                if targets:
                    rows.writerow([position, nll / targets, int(targets)])


class BySequence:
    """The scores of each sequence of a line that is not joined.

    Attributes:
        unknown: the id of symbols that the codec does not know.
        nll, correct: (S,) sums over the targets of each sequence; `correct` is None if the head has no likeliest step.
    """

    def __init__(self, line: Line, unknown: int = UNKNOWN) -> None:
        self.line = line
        self.unknown = unknown
        self.nll = np.zeros(len(line.ends))
        self.correct: np.ndarray | None = np.zeros(len(line.ends), np.int64)

    def add(self, scores: Scores, start: np.ndarray) -> None:
        """Add the scores of rows that begin at these targets of the line (B,)."""
        number = np.searchsorted(self.line.ends, start, side="right")
        self.nll[number] += scores.nll.double().sum(dim=1).cpu().numpy()
        if scores.correct is None:
            self.correct = None
        elif self.correct is not None:
            self.correct[number] += scores.correct.sum(dim=1).cpu().numpy()

    def rows(self) -> Iterator[list[Any]]:
        """The name of each sequence or its number, from 1 on, its nll, its targets, and how many of these were the likeliest
        step and how many are unknown."""
        targets = np.diff(self.line.edges).tolist()
        names = range(1, len(targets) + 1) if self.line.names is None else self.line.names
        correct = [""] * len(targets) if self.correct is None else self.correct.tolist()
        if self.line.frames:
            unknown = [0] * len(targets)
        else:
            unknown = np.add.reduceat(self.line.steps[1:] == self.unknown, self.line.edges[:-1], dtype=np.int64).tolist()
        yield from map(list, zip(names, self.nll.tolist(), targets, correct, unknown, strict=True))


def measure(
    generator: Generator,
    line: Line,
    readings: Iterable[Reading],
    evaluation: Evaluation = Evaluation(),  # noqa: B008  # frozen
    device: torch.device | None = None,
    by_position: ByPosition | None = None,
    by_sequence: BySequence | None = None,
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
        by_position: receives the scores of the reading that it names.
        by_sequence: receives the scores of the reading `carried`, of a line that is not joined.
        split: the name of the split; the names of the metrics begin with it.
        advance: is called with the number of targets just read, and the number still to be read in addition to those of
            earlier calls.
    """
    device, readings = device or next(generator.parameters()).device, list(readings)
    for reading in readings:
        reading.refuse(line)
    advance(0, len(readings) * line.num_targets)
    metrics: dict[str, float] = {}
    was_training, tf32 = generator.training, torch.backends.cudnn.allow_tf32
    matmul = torch.get_float32_matmul_precision()
    generator.to(device).eval()
    if device.type == "cuda":
        torch.backends.cudnn.allow_tf32 = False  # it rounds to 10 bits, so hardly any two states would be alike
        torch.set_float32_matmul_precision("highest")
    try:
        for reading in readings:
            meter = Meter(generator.head, reading.suffix, split)
            meter.begin(device)
            of_first = 0.0  # the sum of the nll of the first targets of sequences
            with torch.inference_mode(not reading.learns):
                read = reading.begin(generator)
                one_row = "one_row" in vars(type(reading)) and reading.one_row and not reading.learns
                if one_row and line.joined:
                    totals = carried_totals(partial(reading.score, read), line, evaluation, device, advance)
                    meter.update(totals.nll, line.num_targets, totals.correct)
                else:
                    for scores, batch, cut, first in _in_order(reading, read, line, evaluation, device):
                        meter.update(*scores.sums(batch))
                        advance(batch.n_valid, 0)
                        of_first += scores.nll[batch.reset, 0].sum().item() if line.frames else 0.0
                        if by_position is not None and reading.name == by_position.reading:
                            by_position.add(scores.nll, batch.scored, first)
                        if by_sequence is not None and reading.name == "carried":
                            assert isinstance(cut, Cut)
                            by_sequence.add(scores, cut.start)
            metrics |= meter.compute()
            if one_row and not line.joined:
                metrics[f"{split}/sequence_nll"] = metrics[f"{split}/nll"] * line.num_targets / len(line.ends)
                others = line.num_targets - len(line.ends)
                if line.frames and others:  # much published work on frames does not predict the first one
                    metrics[f"{split}/nll_after_first"] = (float(meter.nll) - of_first) / others
    finally:
        generator.train(was_training)
        if device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = tf32
            torch.set_float32_matmul_precision(matmul)
    return metrics


def _in_order(
    reading: Reading, read: Any, line: Line, evaluation: Evaluation, device: torch.device
) -> Iterator[tuple[Scores, Batch, Cut | Played, Tensor]]:
    """The batches of a reading's plan with their scores, the state carried from batch to batch.

    With each come its place in the line, and the number of tokens that each row has read since its reset (B,).
    """
    carry, plan, since = Carry(), reading.plan(line, evaluation, exact=True), torch.zeros(0, dtype=torch.int64)
    for k in range(len(plan)):
        cut = plan[k]
        batch = read_batch(cut, line)
        first = torch.zeros(len(batch.reset), dtype=torch.int64)
        if not batch.reset.all():
            first = torch.where(batch.reset, 0, since[: len(first)])
        since = first + batch.inputs.shape[1]
        batch = batch.to(device)
        scores, state = reading.score(read, batch, carry.begin(reading.name, batch.reset))
        carry.offer(reading.name, state)
        carry.commit(reading.name)
        yield scores, batch, cut, first


def by_text(metrics: dict[str, float], line: Line, codec: Codec, split: str = "val") -> dict[str, float]:
    """The carried nll by the words and the bytes of the text, so that codecs whose steps are parts of words can be compared.

    Words are what stands between white space, and each line break, as word-level benchmarks count. Empty if a step of the
    codec is a whole word or character, because the nll per step then says it.
    """
    pieces = (line.steps[start : start + PIECE + 1] for start in range(0, line.num_targets, PIECE))
    counted = [extent for steps in pieces if (extent := codec.extent(steps)) is not None]
    words, size = (sum(amounts) for amounts in zip(*counted, strict=True)) if counted else (0, 0)
    nll = metrics[f"{split}/nll"] * line.num_targets
    found = {"bpb": nll / size / math.log(2)} if size else {}
    if words:
        found |= {"word_nll": nll / words, "word_ppl": math.exp(nll / words) if nll / words < 700 else math.inf}
    return {f"{split}/{name}": value for name, value in found.items()}


def best_device() -> torch.device:
    """A GPU if PyTorch can use one, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
