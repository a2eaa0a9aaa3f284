import numpy as np
import pytest

from helpers import masked
from throughline.batches.batch import Batches, read
from throughline.data.line import Line
from throughline.regimes import Cut, Plan
from throughline.regimes.stateful import Stateful

LINE = Line.of([np.array([10, 20, 30, 40, 50, 60], dtype=np.uint8)])
X = None


def cut(pad_left: bool) -> Cut:
    return Cut(
        start=np.array([0, 3, 2]),
        length=np.array([3, 2, 0]),
        scored=np.array([1, 2, 0]),
        reset=np.array([True, False, False]),
        pad_left=pad_left,
    )


@pytest.mark.parametrize(
    ("pad_left", "inputs", "targets"),
    [
        (False, [[10, 20, 30], [40, 50, 0], [0, 0, 0]], [[X, X, 40], [50, 60, X], [X, X, X]]),
        (True, [[10, 20, 30], [0, 40, 50], [0, 0, 0]], [[X, X, 40], [X, 50, 60], [X, X, X]]),
    ],
)
def test_rows_are_read_padded_and_masked(pad_left: bool, inputs: list[list[int]], targets: list[list[int | None]]) -> None:
    batch = read(cut(pad_left), LINE)
    assert batch.targets[0].tolist() == [20, 30, 40]  # steps that are read but not scored also have a target
    assert batch.inputs.tolist() == inputs
    assert masked(batch) == targets
    assert batch.reset.tolist() == [True, False, False]
    assert batch.n_valid == 3


def test_batches_are_a_finite_sequence() -> None:
    batches = Batches(Stateful(streams=1, bptt=2, reset_probability=0.0).plan(LINE, 0, 0), LINE)
    assert len(batches) == 3
    assert batches[2].targets.tolist() == [[60]]
    assert [batch.targets.tolist() for batch in batches] == [[[20, 30]], [[40, 50]], [[60]]]
    with pytest.raises(IndexError):
        batches[3]


def test_a_range_of_batches_is_a_sequence_of_its_own() -> None:
    batches = Batches(Stateful(streams=1, bptt=2, reset_probability=0.0).plan(LINE, 0, 0), LINE, range(1, 3))
    assert len(batches) == 2
    assert batches[0].targets.tolist() == [[40, 50]]
    assert [batch.targets.tolist() for batch in batches] == [[[40, 50]], [[60]]]


def test_a_mistake_of_a_plan_is_not_taken_for_the_end_of_the_data() -> None:
    class Mistaken(Plan):
        def __len__(self) -> int:
            return 2

        def __getitem__(self, k: int) -> Cut:
            return [cut(pad_left=False)][k]

    with pytest.raises(IndexError):
        list(Batches(Mistaken(), LINE))
