"""Overlapping chunks and random lengths, written out."""

import numpy as np

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.overlapping import Overlapping
from throughline.regimes.passed import Passed
from throughline.regimes.random_bptt import RandomBptt

LINE = Line.of([np.arange(1, 18, dtype=np.uint8)])  # 16 targets


def test_each_batch_reads_again_what_the_gradient_needs() -> None:
    plan = Overlapping(streams=2, bptt=5, advance=3, reset_probability=0.0).plan(LINE, 0, 0)
    batches = list(Batches(plan, LINE))
    assert [batch.inputs.tolist() for batch in batches] == [
        [[1, 2, 3], [9, 10, 11]],
        [[2, 3, 4, 5, 6], [10, 11, 12, 13, 14]],
        [[5, 6, 7, 8], [13, 14, 15, 16]],
    ]
    assert [batch.scored[0].tolist() for batch in batches] == [
        [True, True, True],
        [False, False, True, True, True],
        [False, False, True, True],
    ]
    assert [batch.handed for batch in batches] == [1, 3, None]  # the state after 1 and after 4
    assert [batch.reset.tolist() for batch in batches] == [[True, True], [False, False], [False, False]]


def test_an_overlap_that_is_longer_than_what_came_before_begins_with_the_stream() -> None:
    plan = Overlapping(streams=1, bptt=9, advance=2, reset_probability=0.0).plan(LINE, 0, 0)
    batches = list(Batches(plan, LINE))
    assert [batch.inputs.shape[1] for batch in batches] == [2, 4, 6, 8, 9, 9, 9, 9]
    assert [batch.handed for batch in batches] == [0, 0, 0, 1, 2, 2, 2, None]
    assert [bool(batch.reset[0]) for batch in batches] == [True] * 4 + [False] * 4
    assert [int(batch.inputs[0, 0]) for batch in batches] == [1, 1, 1, 1, 2, 4, 6, 8]


def test_lengths_are_drawn_around_bptt_and_sometimes_around_its_half() -> None:
    line = Line.of([np.zeros(400_001, np.uint8)])
    plan = RandomBptt(streams=1, bptt=60, halved=0.25, std=5.0).plan(line, 3, 1)
    lengths = np.array([plan[k].length[0] for k in range(len(plan) - 1)])  # type: ignore[union-attr]
    half = lengths < 46
    assert half.mean() == np.clip(half.mean(), 0.23, 0.27)
    for some, mean in ((lengths[half], 29.5), (lengths[~half], 59.5)):  # lengths are rounded down
        assert abs(some.mean() - mean) < 0.3
        assert abs(some.std() - 5) < 0.3
    assert lengths.max() <= RandomBptt(bptt=60).longest == 75
    assert lengths.min() >= 5


def test_a_piece_starts_from_the_state_of_another_one_or_from_zeros() -> None:
    line = Line.of([np.zeros(40_001, np.uint8)])
    plan = Passed(steps=4, batch_size=10, zeros=0.3, first_state="noise").plan(line, 0, 0)
    first, *others = (plan[k] for k in range(len(plan)))
    assert first.reset.all()
    assert 0.27 < np.mean([cut.reset.mean() for cut in others]) < 0.33
    assert all(cut.from_noise for cut in (first, *others))  # type: ignore[union-attr]
