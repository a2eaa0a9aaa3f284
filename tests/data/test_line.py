"""The line: where sequences lie in it, and where state must not be carried."""

import numpy as np
import pytest

from throughline.data.line import Line


def test_ends_written_out() -> None:
    line = Line.with_ends([np.array([1, 2, 3]), np.array([], int), np.array([4])], end=9)
    assert line.steps.tolist() == [9, 1, 2, 3, 9, 9, 4, 9]
    assert line.ends.tolist() == [4, 5, 7]
    assert line.num_targets == 4 + 1 + 2
    assert line.edges.tolist() == [0, 4, 5, 7]
    assert not line.joined


def test_a_joined_line_with_ends_has_no_inner_edge() -> None:
    line = Line.with_ends([np.array([1, 2]), np.array([3])], end=9, joined=True)
    assert line.steps.tolist() == [9, 1, 2, 9, 3, 9]
    assert line.edges.tolist() == [0, 5]
    assert line.ends.tolist() == [3, 5]


@pytest.mark.parametrize("joined", [False, True])
def test_lines_with_ends_laid_end_to_end_share_the_end_between_them(joined: bool) -> None:
    first = Line.with_ends([np.array([1, 2])], end=9, joined=joined)
    second = Line.with_ends([np.array([3]), np.array([4])], end=9, joined=joined)
    both = Line.end_to_end([first, second])
    assert both.steps.tolist() == [9, 1, 2, 9, 3, 9, 4, 9]
    assert both.ends.tolist() == [3, 5, 7]
    assert both.joined is joined


def test_lines_without_ends_laid_end_to_end() -> None:
    both = Line.end_to_end([Line.of([np.array([1, 2])]), Line.of([np.array([3, 4]), np.array([5])])])
    assert both.steps.tolist() == [1, 2, 3, 4, 5]
    assert both.ends.tolist() == [2, 4]


def test_a_line_may_have_nothing_to_predict() -> None:
    for sequences in ([], [np.array([], np.uint8)], [np.array([5], np.uint8)], [np.array([], int), np.array([5])]):
        line = Line.of(sequences)
        assert (line.num_targets < 1, line.ends.tolist()) == (True, [])
    empty, one, two = Line.of([]), Line.of([np.array([7])]), Line.of([np.array([1, 2])])
    for lines, ends in (([two, empty], [1]), ([two, one], [2]), ([one, empty, two], [1, 2]), ([one, one], [1])):
        whole = Line.end_to_end(lines)
        assert whole.steps.tolist() == [step for line in lines for step in line.steps.tolist()]
        assert whole.ends.tolist() == ends
    assert Line.with_ends([], end=9).num_targets == 0


def test_lines_laid_end_to_end_keep_the_names_of_their_sequences() -> None:
    first = Line.with_ends([np.array([1, 2])], end=9, names=["x"])
    second = Line.with_ends([np.array([3]), np.array([4])], end=9, names=["y", "z"])
    assert Line.end_to_end([first, second]).names == ["x", "y", "z"]
    assert Line.end_to_end([first]).names == ["x"]
