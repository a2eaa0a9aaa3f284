import numpy as np

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.onestep import Onestep


def test_one_row_in_order_with_the_state_kept() -> None:
    line = Line.of([np.array([3, 1, 4, 1, 5, 9], dtype=np.uint8)])
    batches = Batches(Onestep(updates=2).plan(line, seed=0, epoch=0), line)
    assert [batches[k].inputs.tolist() for k in range(3)] == [[[3, 1]], [[4, 1]], [[5]]]
    assert [batches[k].targets.tolist() for k in range(3)] == [[[1, 4]], [[1, 5]], [[9]]]
    assert [batches[k].reset.tolist() for k in range(3)] == [[True], [False], [False]]
