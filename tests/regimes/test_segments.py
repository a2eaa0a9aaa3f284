import numpy as np
import torch

from helpers import masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.segments import Segments

LINE = Line.of([np.arange(11, dtype=np.uint8)])


def test_pieces_do_not_overlap_and_start_from_zeros() -> None:
    batches = Batches(Segments(steps=4, batch_size=2).plan(LINE, seed=0, epoch=0), LINE)
    assert len(batches) == 2
    assert all(batches[k].reset.all() for k in range(2))
    rows = [row for k in range(2) for row in masked(batches[k])]
    assert sorted([t for t in row if t is not None] for row in rows) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10]]


def test_no_burn_in_is_longer_than_what_lies_before_a_piece() -> None:
    plans = [Segments(steps=4, batch_size=2, burn_in=burn_in).plan(LINE, seed=0, epoch=0) for burn_in in (10, 10**7)]
    for k in range(2):
        few, many = (Batches(plan, LINE)[k] for plan in plans)
        assert few.inputs.shape[1] == 14  # and all of it is the line before the piece, or zeros
        assert all(torch.equal(a, b) for a, b in zip((few.inputs, few.scored), (many.inputs, many.scored), strict=True))
