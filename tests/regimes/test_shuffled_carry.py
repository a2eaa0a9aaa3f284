import numpy as np

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.shuffled_carry import ShuffledCarry
from throughline.regimes.stateful import Stateful

LINE = Line.of([np.arange(14, dtype=np.uint8)])


def test_the_chunks_of_stateful_in_another_order_and_only_the_first_resets() -> None:
    shuffled = Batches(ShuffledCarry(streams=2, bptt=2, reset_probability=0.0).plan(LINE, seed=0, epoch=0), LINE)
    assert [batch.inputs.tolist() for batch in map(shuffled.__getitem__, range(4))] == [
        [[4, 5], [10, 11]],
        [[0, 1], [6, 7]],
        [[2, 3], [8, 9]],
        [[0], [12]],  # the first stream has ended
    ]
    assert [batch.n_valid for batch in map(shuffled.__getitem__, range(4))] == [4, 4, 4, 1]
    assert [batch.reset.tolist() for batch in map(shuffled.__getitem__, range(4))] == [
        [True, True],
        *([[False, False]] * 3),
    ]
    in_order = Batches(Stateful(streams=2, bptt=2, reset_probability=0.0).plan(LINE, seed=0, epoch=0), LINE)
    assert sorted(shuffled[k].targets.tolist() for k in range(4)) == sorted(in_order[k].targets.tolist() for k in range(4))
