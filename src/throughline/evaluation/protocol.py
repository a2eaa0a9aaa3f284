"""The one protocol by which every regime is measured, whatever it was trained with.

`val/nll` carries the state through the whole split: what a generator that keeps its state pays per token.
`val/nll_reset` starts from zeros every `reset_every` targets. Both score every target of the split once.
"""

import numpy as np

from throughline.batches.batch import Batches
from throughline.config import Evaluation
from throughline.data.corpus import Line
from throughline.regimes import Plan
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Chunks

TOKENS_PER_BATCH = 4096


def carried_plan(line: Line, streams: int, warmup: int, tokens: int | None = None) -> Plan:
    """One carried pass over the line, exact with one stream; with more, each first reads `warmup` targets unscored.

    With `tokens` the streams end early, so that about so many targets are scored.
    """
    streams = max(1, min(streams, line.targets // (4 * warmup))) if warmup else streams
    edges = np.arange(streams + 1) * line.targets // streams
    unscored = np.minimum(edges[:-1], warmup)
    scored = np.diff(edges) if tokens is None else np.minimum(np.diff(edges), -(-tokens // streams))
    start, length = edges[:-1] - unscored, scored + unscored
    bounds = np.unique([*range(0, length.max(), max(1, TOKENS_PER_BATCH // streams)), length.max()])
    return Chunks(line.targets, start, length, unscored, bounds)


def loaders(line: Line, settings: Evaluation, exact: bool, rank: int = 0, world_size: int = 1) -> list[Batches]:
    """The batches of both figures, in the order of `STAGES`: this process's share of their rows."""
    tokens = None if exact else settings.tokens
    carried = carried_plan(line, 1, 0) if exact else carried_plan(line, settings.streams, settings.warmup, tokens)
    rows = max(1, TOKENS_PER_BATCH // settings.reset_every)
    reset = Segments(steps=settings.reset_every, batch_size=rows).plan(line, seed=0, epoch=0)
    most = len(reset) if tokens is None else min(len(reset), -(-tokens // (rows * settings.reset_every)))
    return [
        Batches(plan, line, range(batches), rank, world_size)
        for plan, batches in ((carried, len(carried)), (reset, most))  # those of `reset` are in a random order, so spread
    ]
