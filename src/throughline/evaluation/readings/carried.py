"""The state is carried through the whole split: the loss per token of a generator that keeps its state."""

from typing import ClassVar

import numpy as np
from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import TOKENS_PER_BATCH, Evaluation
from throughline.evaluation.readings import Reading
from throughline.regimes import Plan
from throughline.regimes.stateful import Chunks
from throughline.settings import STRICT


@dataclass(frozen=True, config=STRICT)
class Carried(Reading):
    """`val/nll`: one carried pass, in one row when exact, otherwise in several; each reads `warmup` unscored targets."""

    one_row: ClassVar[bool] = True

    @property
    def suffix(self) -> str:
        return ""

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
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
    bounds = np.unique([*range(0, length.max(), max(1, tokens_per_batch // streams)), length.max()])
    return Chunks(line.num_targets, start, length, unscored, bounds)
