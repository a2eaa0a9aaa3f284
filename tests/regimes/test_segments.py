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
    for joined, most in ((True, 12), (False, 4)):  # of the pieces of 13 targets, and of 7
        line = Line.with_ends([np.arange(6), np.arange(5)], end=9, joined=joined)
        few, many = (
            [*Batches(Segments(steps=4, batch_size=2, burn_in=burn_in).plan(line, seed=0, epoch=0), line)]
            for burn_in in (most, 10**7)
        )
        assert max(batch.inputs.shape[1] for batch in few) == most + 4
        for one, other in zip(few, many, strict=True):
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.scored, other.scored)
