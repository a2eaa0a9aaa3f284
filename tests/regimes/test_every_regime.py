"""Tests for every regime, present and future. The regimes are found by their files."""

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes import Regime
from throughline.regimes.onestep import Onestep
from throughline.regimes.padded import Padded
from throughline.regimes.segments import Segments
from throughline.regimes.shuffled_carry import ShuffledCarry
from throughline.regimes.stateful import Stateful
from throughline.regimes.windowed import Windowed
from throughline.settings import targets

sizes = st.integers(1, 9)
resets = st.sampled_from([0.0, 0.5])
REGIMES = {
    Stateful: st.builds(Stateful, streams=sizes, bptt=sizes, rotate=st.booleans(), reset_probability=resets),
    Onestep: st.builds(Onestep, updates=sizes, rotate=st.booleans(), reset_probability=resets),
    Windowed: st.integers(1, 9).flatmap(
        lambda steps: st.builds(
            Windowed, steps=st.just(steps), stride=st.integers(1, steps), batch_size=sizes, loss=st.just("last")
        )
    ),
    Segments: st.builds(Segments, steps=sizes, batch_size=sizes),
    Padded: st.builds(Padded, batch_size=sizes, max_length=sizes, padding=st.sampled_from(["pre", "post"]), bucket=sizes),
    ShuffledCarry: st.builds(ShuffledCarry, streams=sizes, bptt=sizes, rotate=st.booleans(), reset_probability=resets),
}
regimes = st.one_of(*REGIMES.values())
in_order = st.one_of(*(strategy for regime, strategy in REGIMES.items() if regime is not ShuffledCarry))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Lines of 2 to 80 tokens. Each token is its own position + 1, so a batch shows where it was read."""
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=8).filter(lambda ls: 2 <= sum(ls) <= 80))
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint8)
    return Line.of(np.split(tokens, np.cumsum(lengths)[:-1]))


def test_every_regime_is_tested_here() -> None:
    assert set(targets(Regime).values()) == set(REGIMES)


@given(regimes, lines(), st.integers(0, 3), st.integers(0, 3))
def test_every_target_is_predicted_once(regime: Regime, line: Line, seed: int, epoch: int) -> None:
    batches = Batches(regime.plan(line, seed, epoch), line)
    seen = []
    for k in range(len(batches)):
        batch = batches[k]
        scored = batch.scored
        assert (batch.targets[scored] == batch.inputs[scored] + 1).all()  # the next token, also across a wrap
        assert batch.n_valid == scored.sum() > 0
        assert batch.inputs.shape == batch.targets.shape
        assert batch.reset.shape == batch.inputs.shape[:1]
        seen += batch.targets[scored].tolist()
    assert sorted(seen) == list(range(2, len(line.steps) + 1))


@given(in_order, lines(), st.integers(0, 3))
def test_a_row_that_is_not_reset_continues_the_row_of_the_batch_before(regime: Regime, line: Line, epoch: int) -> None:
    plan = regime.plan(line, 0, epoch)
    assert plan[0].reset.all()
    for k in range(1, len(plan)):
        before, cut = plan[k - 1], plan[k]
        for row in np.flatnonzero(~cut.reset):
            if cut.length[row]:
                assert cut.start[row] == before.start[row] + before.length[row]


@given(regimes, lines(), st.integers(0, 3), st.data())
def test_a_batch_is_a_pure_function_of_seed_epoch_and_number(
    regime: Regime, line: Line, epoch: int, data: st.DataObject
) -> None:
    once, again = regime.plan(line, 7, epoch), regime.plan(line, 7, epoch)
    assert len(once) == len(again)
    for k in data.draw(st.permutations(range(len(once)))):
        for first, second in zip(once[k], again[k], strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "regime",
    [Windowed(steps=4), Segments(steps=4), Padded(max_length=4), Stateful(rotate=True), ShuffledCarry(streams=4, bptt=9)],
)
def test_epochs_and_seeds_differ(regime: Regime) -> None:
    line = Line.of([np.arange(200, dtype=np.uint8)])

    def starts(seed: int, epoch: int) -> list[int]:
        plan = regime.plan(line, seed, epoch)
        return [start for k in range(len(plan)) for start in plan[k].start.tolist()]

    assert starts(1, 0) != starts(1, 1)
    assert starts(1, 0) != starts(2, 0)
