import numpy as np
import pytest

from helpers import masked
from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.stateful import Stateful

LETTERS = "abcdefghijklm"


def letters(rows: list[list[int | None]]) -> list[str]:
    return ["".join("." if id is None else LETTERS[id] for id in row) for row in rows]


def line(n: int) -> Line:
    return Line.of([np.arange(n, dtype=np.uint8)])


def test_the_picture_in_the_docstring() -> None:
    batches = Batches(Stateful(streams=3, bptt=2, reset_probability=0.0).plan(line(13), seed=0, epoch=0), line(13))
    assert len(batches) == 2
    assert letters(batches[0].inputs.tolist()) == ["ab", "ef", "ij"]
    assert letters(masked(batches[0])) == ["bc", "fg", "jk"]
    assert letters(batches[1].inputs.tolist()) == ["cd", "gh", "kl"]
    assert letters(masked(batches[1])) == ["de", "hi", "lm"]
    assert batches[0].reset.tolist() == [True, True, True]
    assert batches[1].reset.tolist() == [False, False, False]


def test_strips_of_unequal_length_are_padded_and_masked() -> None:
    batches = Batches(
        Stateful(streams=3, bptt=3, reset_probability=0.0).plan(line(12), seed=0, epoch=0), line(12)
    )  # 11 targets: 3, 4, 4
    assert [letters(masked(batches[k])) for k in range(2)] == [["bcd", "efg", "ijk"], [".", "h", "l"]]
    assert [batches[k].n_valid for k in range(2)] == [9, 2]


def test_more_streams_than_targets() -> None:
    batches = Batches(Stateful(streams=5, bptt=4, reset_probability=0.0).plan(line(4), seed=0, epoch=0), line(4))
    assert len(batches) == 1
    assert letters(masked(batches[0])) == ["b", "c", "d"]


def test_rotation_starts_from_zeros_where_the_line_ends() -> None:
    regime, data = Stateful(streams=2, bptt=4, rotate=True, reset_probability=0.0), line(13)
    shifts = set()
    for epoch in range(40):
        plan = regime.plan(data, seed=0, epoch=epoch)
        shift = int(plan[0].start[0])
        shifts.add(shift)
        batches = [letters(Batches(plan, data)[k].inputs.tolist()) for k in range(len(plan))]
        rows = ["".join(batch[row] for batch in batches) for row in range(2)]
        circle = LETTERS[:12] * 2
        assert rows == [circle[shift : shift + 6], circle[shift + 6 : shift + 12]]
        for k in range(1, len(plan)):
            for row in range(2):
                assert plan[k].reset[row] == (batches[k][row][0] == "a")
    assert shifts == set(range(12))


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_without_rotation_every_epoch_is_the_same(epoch: int) -> None:
    plan, first = (Stateful(streams=2, bptt=3, reset_probability=0.0).plan(line(13), 0, e) for e in (epoch, 0))
    assert [plan[k].start.tolist() for k in range(2)] == [first[k].start.tolist() for k in range(2)] == [[0, 6], [3, 9]]


def test_a_row_starts_from_zeros_with_the_probability_given_and_nothing_else_changes() -> None:
    data, epochs = line(12_001), range(2)
    carried = [Stateful(streams=4, bptt=3, reset_probability=0.0).plan(data, 5, epoch) for epoch in epochs]
    dropped = [Stateful(streams=4, bptt=3, reset_probability=0.1).plan(data, 5, epoch) for epoch in epochs]
    resets = []
    for before, after in zip(carried, dropped, strict=True):
        assert len(before) == len(after) == 1000
        resets.append(np.array([after[k].reset for k in range(1000)]))
        for k in range(1000):
            np.testing.assert_array_equal(before[k].start, after[k].start)
            np.testing.assert_array_equal(before[k].scored, after[k].scored)
            assert (after[k].reset >= before[k].reset).all()
    assert resets[0][0].all()
    # The share in 3,996 draws of probability 0.1 has a deviation of 0.0047. Five times that is one case in two million.
    assert all(abs(reset[1:].mean() - 0.1) < 0.024 for reset in resets)
    assert all(abs(reset[1:, row].mean() - 0.1) < 0.048 for reset in resets for row in range(4))
    assert (resets[0] != resets[1]).any()  # each epoch draws again
