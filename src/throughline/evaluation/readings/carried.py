"""The state is carried through the whole split: the loss per token of a generator that keeps its state.

If sequences are not joined, it is carried through each of them, from zeros.
"""

from dataclasses import dataclass as plain_dataclass
from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import TOKENS_PER_BATCH, Evaluation
from throughline.evaluation.readings import First, Reading
from throughline.regimes import Cut, Plan
from throughline.regimes.segments import cut_every
from throughline.regimes.sequences import beside
from throughline.regimes.stateful import Chunks, Every
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Carried(Reading):
    """`val/nll`: one carried pass, in one row when exact, otherwise in several; each reads `warmup` unscored targets."""

    one_row: ClassVar[bool] = True
    apart: ClassVar[bool] = True

    @property
    def suffix(self) -> str:
        return ""

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        if not line.joined:
            return sequences_plan(line, evaluation, None if exact else evaluation.tokens)
        if exact:
            return carried_plan(line, 1, 0)
        return carried_plan(line, evaluation.streams, evaluation.warmup, evaluation.tokens)


def carried_plan(
    line: Line, streams: int, warmup: int, tokens: int | None = None, tokens_per_batch: int = TOKENS_PER_BATCH
) -> Plan:
    """One carried pass over the line, exact with one stream; with several, each reads `warmup` unscored targets first.

    With `tokens` the streams end early, so that about `tokens` targets are scored.
    """
    streams = max(1, min(streams, line.num_targets // (4 * warmup) if warmup else line.num_targets))
    edges = np.arange(streams + 1) * line.num_targets // streams
    unscored = np.minimum(edges[:-1], warmup)
    scored = np.diff(edges) if tokens is None else np.minimum(np.diff(edges), -(-tokens // streams))
    start, length = edges[:-1] - unscored, scored + unscored
    steps = max(1, tokens_per_batch // streams)
    bounds = Every(steps, steps, int(length.max()))
    return Chunks(line.num_targets, start, length, unscored, bounds)


def sequences_plan(line: Line, evaluation: Evaluation, tokens: int | None = None) -> Plan:
    """Every sequence of a line that is not joined, from zeros; with `tokens`, random ones with at least so many targets."""
    streams, bptt = evaluation.streams, max(1, TOKENS_PER_BATCH // evaluation.streams)
    if tokens is None:
        return beside(line, streams, bptt, None)
    plan = beside(line, streams, bptt, np.random.default_rng(0))
    begins = np.flatnonzero(plan.first == 0)
    targets = [int(plan.length[plan.group[k] : plan.group[k] + plan.size[k]].sum()) for k in begins.tolist()]
    groups = int(np.searchsorted(np.cumsum(targets), tokens)) + 1
    return First(plan, int(begins[groups]) if groups < len(begins) else len(plan))


@plain_dataclass(frozen=True)
class OneByOne(Plan):
    """Sequences in order, one at a time, in batches of one row.

    Attributes:
        edges: (K + 1,) of the batches.
        reset: (K,) whether a sequence begins with the batch.
    """

    edges: np.ndarray
    reset: np.ndarray

    def __len__(self) -> int:
        return len(self.reset)

    def __getitem__(self, k: int) -> Cut:
        length = np.diff(self.edges[k : k + 2])
        return Cut(self.edges[k : k + 1], length, length, self.reset[k : k + 1])


def one_by_one(line: Line, steps: int) -> OneByOne:
    """The sequences of a line that is not joined, one at a time, in batches of up to `steps` steps."""
    edges = cut_every(steps, line.edges)
    return OneByOne(edges, np.isin(edges[:-1], line.edges))
