"""The score of every step of a line, with what the network expected instead, and what its state was meanwhile."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from throughline.batches.batch import Batch
from throughline.batches.batch import read as read_batch
from throughline.batches.carry import State
from throughline.data.line import Line
from throughline.evaluation.readings.carried import carried_plan, one_by_one
from throughline.model.generator import Generator

STEPS = 1024
"""Targets that are read at once; the scores do not depend on it."""
BINS = 10
"""Classes of confidence of a calibration."""


@dataclass(frozen=True)
class Scores:
    """The scores of targets of a line.

    Attributes:
        place: (N,) where they stand in the line.
        nll: (N,) in nats.
        rank: (N,) how many symbols were likelier, plus 1; 0 for frames.
        likeliest: (N, K) the ids that were expected most, the likeliest first; empty for frames.
        probability: (N, K) of these ids.
    """

    place: np.ndarray
    nll: np.ndarray
    rank: np.ndarray
    likeliest: np.ndarray
    probability: np.ndarray

    @classmethod
    def joined(cls, parts: "list[Scores]") -> "Scores":
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in cls.__dataclass_fields__))

    def __len__(self) -> int:
        return len(self.place)

    def at(self, places: np.ndarray) -> "Scores":
        """The scores with these numbers, in this order."""
        return Scores(*(getattr(self, name)[places] for name in self.__dataclass_fields__))


@torch.inference_mode()
def scored(
    generator: Generator, line: Line, count: int = 5, advance: Callable[[int, int], None] = lambda done, more: None
) -> Iterator[Scores]:
    """Read a line once, with the state carried, and yield the scores of its targets in order.

    A sequence of a line that is not joined is read from zeros.

    Args:
        generator: in evaluation mode, on the CPU.
        line: the line.
        count: K, how many expected symbols to name.
        advance: called with the number of targets just read, and the number of all at first.
    """
    advance(0, line.num_targets)
    plan = carried_plan(line, 1, 0, tokens_per_batch=STEPS) if line.joined else one_by_one(line, STEPS)
    count, state = min(count, generator.vocab_size - 1), None
    for number in range(len(plan)):
        cut = plan[number]
        batch = read_batch(cut, line)
        if batch.reset[0]:
            state = None
        scores, state = _read(generator, batch, state, count)
        place = int(cut.start[0]) + 1 + np.arange(len(scores[0]))  # type: ignore[union-attr]
        advance(len(place), 0)
        yield Scores(place, *scores)


def _read(
    generator: Generator, batch: Batch, state: State | None, count: int
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray], State]:
    """The nll, ranks, likeliest ids and their probabilities of the targets of one row, and the state after them."""
    output, state = generator.output(batch.inputs, state)
    predicted, targets = generator.head(output), batch.targets.transpose(0, 1)
    nll = generator.head.nll(predicted, targets)[:, 0].double().numpy()
    if generator.reads_frames:
        nothing = np.zeros((len(nll), 0))
        return (nll, np.zeros(len(nll), np.int64), nothing.astype(np.int64), nothing), state
    logs = predicted[:, 0].double().log_softmax(dim=1)
    rank = (logs > logs.gather(1, targets)).sum(dim=1) + 1
    best = logs.topk(count, dim=1)
    return (nll, rank.numpy(), best.indices.numpy(), best.values.exp().numpy()), state


@torch.inference_mode()
def traced(generator: Generator, line: Line, places: np.ndarray) -> dict[str, np.ndarray]:
    """The state after each of the targets at rising `places` (N,): for each tensor of a state (N, L, H), between -1 and 1.

    Cells that are not bounded are shown as their tanh, as Karpathy does (2015, arXiv 1506.02078). The end symbol of a
    sequence that is not joined is never read, so its state is that after the step before it.
    """
    _, zeros = generator(generator.empty_inputs(1, 1))
    stepper = generator.stepper(tuple(torch.zeros_like(s) for s in zeros), 1)
    wanted, found = set(places.tolist()), []
    for first, last, end in _stretches(line, places):
        stepper.restart([0])
        for place in range(first, last + 1):
            if place < end:
                with np.errstate(over="ignore", invalid="ignore"):
                    stepper.step(np.asarray(line.steps[place : place + 1]).astype(np.int64))
            if place in wanted and place > first:
                found.append([s[:, 0].numpy().copy() for s in stepper.state])
    each = zip(*found, strict=True)
    stacked = {name: np.stack(states) for name, states in zip(generator.core.state_names, each, strict=True)}
    return {name: values if name == "h" else np.tanh(values) for name, values in stacked.items()}


def _stretches(line: Line, places: np.ndarray) -> Iterator[tuple[int, int, int]]:
    """What must be read for the states at places: where it begins and ends, and where the state is cut off after it."""
    if line.joined:
        yield 0, int(places.max()), len(line.steps)
        return
    number = np.searchsorted(line.ends, places)
    for one in np.unique(number).tolist():
        yield int(line.edges[one]), int(places[number == one].max()), int(line.ends[one])


@dataclass(frozen=True)
class Calibration:
    """How far the confidence of a network can be trusted: its probability for the likeliest symbol, and how often that came.

    Attributes:
        count: (BINS,) targets by confidence, in classes of equal width.
        confidence, correct: (BINS,) the means of a class; nan for an empty one.
    """

    count: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray

    @classmethod
    def of(cls, scores: Scores) -> "Calibration":
        """Of scores with at least one named symbol each."""
        confidence = scores.probability[:, 0]
        number = np.minimum((confidence * BINS).astype(int), BINS - 1)
        count = np.bincount(number, minlength=BINS)
        with np.errstate(invalid="ignore"):
            sums = (np.bincount(number, weights, BINS) / count for weights in (confidence, scores.rank == 1))
            return cls(count, *sums)

    @property
    def error(self) -> float:
        """The expected calibration error (Guo 2017, arXiv 1706.04599)."""
        there = self.count > 0
        return float(np.average(np.abs(self.confidence - self.correct)[there], weights=self.count[there]))
