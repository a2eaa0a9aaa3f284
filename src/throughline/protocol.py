"""The one protocol by which every regime is measured, whatever it was trained with.

`val/nll` carries the state through the whole split: what a generator that keeps its state pays per token.
`val/nll_reset` starts from zeros every `reset_every` targets. Both score every target of the split once.
"""

import numpy as np
from torch.utils.data import DataLoader

from throughline.batch import Batch, Batches
from throughline.config import Evaluation
from throughline.corpus import Line
from throughline.regimes import Plan
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Chunks

TOKENS_PER_BATCH = 4096


def carried_plan(line: Line, streams: int, warmup: int) -> Plan:
    """One carried pass over the line, exact with one stream; with more, each first reads `warmup` targets unscored."""
    streams = max(1, min(streams, line.targets // (4 * warmup))) if warmup else streams
    edges = np.arange(streams + 1) * line.targets // streams
    unscored = np.minimum(edges[:-1], warmup)
    start, length = edges[:-1] - unscored, np.diff(edges) + unscored
    bounds = np.unique([*range(0, length.max(), max(1, TOKENS_PER_BATCH // streams)), length.max()])
    return Chunks(line.targets, start, length, unscored, bounds)


def loaders(line: Line, settings: Evaluation, exact: bool, rank: int = 0, world_size: int = 1) -> list[DataLoader[Batch]]:
    """The batches of both figures, in the order of `STAGES`: this process's share of their rows."""
    carried = carried_plan(line, 1, 0) if exact else carried_plan(line, settings.streams, settings.warmup)
    rows = max(1, TOKENS_PER_BATCH // settings.reset_every)
    reset = Segments(steps=settings.reset_every, batch_size=rows).plan(line, seed=0, epoch=0)
    return [DataLoader(Batches(plan, line, rank, world_size), batch_size=None) for plan in (carried, reset)]
