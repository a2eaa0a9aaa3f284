"""Orders that are computed: each number comes once, and anywhere."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from throughline.regimes import permutation as module
from throughline.regimes.permutation import ROUNDS, Feistel, permutation


def feistel(count: int, seed: int) -> Feistel:
    return Feistel(count, np.random.default_rng(seed).integers(2**64, size=ROUNDS, dtype=np.uint64))


@given(st.integers(1, 5000), st.integers(0, 2**32))
def test_every_number_comes_once(count: int, seed: int) -> None:
    numbers = feistel(count, seed).at(np.arange(count))
    assert sorted(numbers.tolist()) == list(range(count))


@given(st.integers(1, 300), st.integers(1, 40), st.integers(0, 9), st.data())
def test_any_part_can_be_asked_for(count: int, block: int, seed: int, data: st.DataObject) -> None:
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, count + 5)] * 2)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "BLOCK", block)
        order = feistel(count, seed)
        assert order[first:last].tolist() == order.at(np.arange(count))[first:last].tolist()


def test_every_place_gets_every_number_alike() -> None:
    orders = np.array([feistel(50, seed).at(np.arange(50)) for seed in range(2000)])
    counts = np.array([np.bincount(column, minlength=50) for column in orders.T])
    chi_square = ((counts - 40) ** 2 / 40).sum()  # 49 x 49 degrees of freedom
    assert abs(chi_square - 49 * 49) < 4 * np.sqrt(2 * 49 * 49)


def test_neighbours_go_far_apart() -> None:
    count = 10**10
    numbers = feistel(count, 0)[10**9 : 10**9 + 10_000] / count
    assert abs(numbers.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(numbers[:-1], numbers[1:])[0, 1]) < 0.05
    assert np.bincount((numbers * 10).astype(int)).min() > 900


def test_few_things_are_shuffled_as_by_numpy() -> None:
    order = permutation(1000, np.random.default_rng((1, 2)))
    assert order[:1000].tolist() == np.random.default_rng((1, 2)).permutation(1000).tolist()
    assert isinstance(permutation(module.MOST + 1, np.random.default_rng(0)), Feistel)
