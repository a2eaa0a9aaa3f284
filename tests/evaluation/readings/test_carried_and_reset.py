from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from helpers import masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings.carried import Carried, carried_plan
from throughline.evaluation.readings.reset import Reset


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 40))
def test_every_target_is_scored_once_after_its_warmup(targets: int, streams: int, warmup: int) -> None:
    line = Line.of([np.arange(targets + 1, dtype=np.uint16)])
    plan = carried_plan(line, streams, warmup)
    batches = Batches(plan, line)
    seen: list[int] = []
    read = np.zeros(len(plan[0].start), dtype=int)
    for k in range(len(batches)):
        seen += batches[k].targets[batches[k].scored].tolist()
        assert plan[k].reset.all() == (k == 0)
        for row, cut in enumerate(zip(plan[k].start, plan[k].length, plan[k].scored, strict=True)):
            start, length, scored = cut
            if scored:
                first = start + length - scored
                assert read[row] + length - scored >= min(warmup, first)
            read[row] += length
    assert sorted(seen) == list(range(1, targets + 1))


@given(st.integers(1, 5000), st.integers(1, 600))
def test_a_part_of_the_split_is_spread_over_it_and_never_larger(targets: int, tokens: int) -> None:
    line = Line.of([np.arange(targets + 1, dtype=np.uint16)])
    settings = Evaluation(reset_every=50, streams=4, warmup=10, tokens=tokens)
    carried, reset = (Batches(reading.plan(line, settings, exact=False), line) for reading in (Carried(), Reset()))
    seen = [target for batch in carried for row in masked(batch) for target in row if target is not None]
    rows = max(1, min(4, targets // 40))
    edges = np.arange(rows + 1) * targets // rows
    per_row = -(-tokens // rows)
    assert sorted(seen) == [t + 1 for a, b in pairwise(edges) for t in range(a, min(b, a + per_row))]
    n_reset = sum(batch.n_valid for batch in reset)  # a batch has 81 pieces of 50 targets
    assert n_reset == targets if targets <= 4050 else tokens <= n_reset <= 4050
    exactly = [Batches(reading.plan(line, settings, exact=True), line) for reading in (Carried(), Reset())]
    assert [sum(batch.n_valid for batch in loader) for loader in exactly] == [targets, targets]
