"""Tests for every regime, present and future. The regimes are found by their files."""

from dataclasses import replace

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.regimes import Played, Regime
from throughline.regimes.onestep import Onestep
from throughline.regimes.overlapping import Overlapping
from throughline.regimes.padded import Padded
from throughline.regimes.passed import Passed
from throughline.regimes.random_bptt import RandomBptt
from throughline.regimes.segments import Segments
from throughline.regimes.shuffled_carry import ShuffledCarry
from throughline.regimes.stateful import Stateful
from throughline.regimes.windowed import Windowed
from throughline.settings import targets

sizes = st.integers(1, 9)
resets = st.sampled_from([0.0, 0.5])
REGIMES = {
    Stateful: st.builds(
        Stateful,
        streams=sizes,
        bptt=sizes,
        rotate=st.booleans(),
        reset_probability=resets,
        sequences=st.sampled_from(["auto", "beside", "behind"]),
    ),
    RandomBptt: st.builds(
        RandomBptt,
        streams=sizes,
        bptt=sizes,
        rotate=st.booleans(),
        reset_probability=resets,
        halved=resets,
        std=st.sampled_from([0.0, 2.0]),
    ),
    Overlapping: st.integers(1, 9).flatmap(
        lambda bptt: st.builds(
            Overlapping, streams=sizes, bptt=st.just(bptt), advance=st.integers(1, bptt), reset_probability=resets
        )
    ),
    Onestep: st.builds(Onestep, updates=sizes, rotate=st.booleans(), reset_probability=resets),
    Windowed: st.integers(1, 9).flatmap(
        lambda steps: st.builds(
            Windowed, steps=st.just(steps), stride=st.integers(1, steps), batch_size=sizes, loss=st.just("last")
        )
    ),
    Segments: st.builds(Segments, steps=sizes, batch_size=sizes, burn_in=st.sampled_from([0, 1, 5])),
    Passed: st.builds(Passed, steps=sizes, batch_size=sizes, first_state=st.sampled_from(["passed", "noise"]), zeros=resets),
    Padded: st.builds(Padded, batch_size=sizes, max_length=sizes, padding=st.sampled_from(["pre", "post"]), bucket=sizes),
    ShuffledCarry: st.builds(ShuffledCarry, streams=sizes, bptt=sizes, rotate=st.booleans(), reset_probability=resets),
}
regimes = st.one_of(*REGIMES.values())
in_order = st.one_of(*(strategy for regime, strategy in REGIMES.items() if regime not in (ShuffledCarry, Passed)))
apart = st.one_of(*(strategy for regime, strategy in REGIMES.items() if vars(regime).get("apart", False)))


@st.composite
def lines(draw: st.DrawFn) -> Line:
    """Lines of 2 to 80 tokens. Each token is its own position + 1, so a batch shows where it was read."""
    lengths = draw(st.lists(st.integers(1, 20), min_size=1, max_size=8).filter(lambda ls: 2 <= sum(ls) <= 80))
    tokens = np.arange(1, sum(lengths) + 1, dtype=np.uint8)
    return Line.of(np.split(tokens, np.cumsum(lengths)[:-1]))


not_joined = st.lists(st.integers(0, 30), min_size=1, max_size=12).map(lambda lengths: line_of_sequences(lengths))
"""Lines of sequences that are not joined: empty ones, of one symbol, and of very unlike lengths."""


def line_of_sequences(lengths: list[int]) -> Line:
    """A line whose tokens are their own positions + 1, end symbols as well."""
    ends = np.cumsum(np.array(lengths) + 1)
    return Line(np.arange(1, ends[-1] + 2, dtype=np.uint16), ends, joined=False, ended=True)


@given(apart, not_joined, st.booleans(), st.integers(0, 3))
def test_frames_are_cut_as_ids_are_and_a_sequence_begins_with_zeros(
    regime: Regime, ids: Line, joined: bool, epoch: int
) -> None:
    ids = replace(ids, joined=joined)
    frames = replace(ids, steps=np.stack([ids.steps, -ids.steps.astype(np.float32)], axis=1))
    assert frames.frames
    begins = torch.from_numpy(np.concatenate([[0], ids.ends[:-1]]) + 1)  # the ids that stand where sequences begin
    zeros = 0
    for one, other in zip(*(Batches(regime.plan(line, 0, epoch), line) for line in (ids, frames)), strict=True):
        begun = torch.isin(one.inputs, begins)
        zeros += int(begun.sum())
        for of_ids, of_frames in ((one.inputs.masked_fill(begun, 0), other.inputs), (one.targets, other.targets)):
            assert torch.equal(torch.stack([of_ids, -of_ids], dim=-1).float(), of_frames)
        for a, b in ((one.scored, other.scored), (one.reset, other.reset)):
            assert torch.equal(a, b)
        assert one.n_valid == other.n_valid
        assert (one.restart is None) == (other.restart is None)
        assert one.restart is None or torch.equal(one.restart, other.restart)
    assert zeros >= len(ids.ends)


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
        if isinstance(cut, Played):
            assert cut.reset.all()
            continue
        for row in np.flatnonzero(~cut.reset):
            if cut.length[row]:
                handed = before.length[row] if before.handed is None else before.handed
                assert cut.start[row] == before.start[row] + handed


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
    [
        *(Windowed(steps=4), Segments(steps=4), Padded(max_length=4), Stateful(rotate=True), Passed(steps=4)),
        *(ShuffledCarry(streams=4, bptt=9), RandomBptt(streams=4, bptt=9)),
    ],
)
def test_epochs_and_seeds_differ(regime: Regime) -> None:
    line = Line.of([np.arange(200, dtype=np.uint8)])

    def starts(seed: int, epoch: int) -> list[int]:
        plan = regime.plan(line, seed, epoch)
        return [start for k in range(len(plan)) for start in plan[k].start.tolist()]

    assert starts(1, 0) != starts(1, 1)
    assert starts(1, 0) != starts(2, 0)


@given(apart, not_joined, st.integers(0, 3), st.integers(0, 3), st.integers(1, 3))
def test_every_target_of_sequences_is_predicted_once_and_nothing_crosses_an_end(
    regime: Regime, line: Line, seed: int, epoch: int, processes: int
) -> None:
    plan, begins = regime.plan(line, seed, epoch), set(line.edges[:-1].tolist())
    seen: list[int] = []
    for rank in range(processes):
        last: list[int | str | None] = []  # of each row: the position read last; None at zeros; "padding" after padding
        for k, batch in enumerate(Batches(plan, line, rank=rank, world_size=processes)):
            rows, steps = batch.inputs.shape
            if len(plan[k].reset) <= rank:  # no row of this batch belongs to this process
                assert not batch.scored.any()
                assert batch.reset.all()
                continue
            assert rows <= len(last) or batch.reset.all()
            last = [None if reset else last[row] for row, reset in enumerate(batch.reset.tolist())]
            restart = batch.scored & False if batch.restart is None else batch.restart
            for row in range(rows):
                for t in range(steps):
                    token, scored = int(batch.inputs[row, t]), bool(batch.scored[row, t])
                    if restart[row, t]:
                        assert not scored
                        last[row] = None
                    elif token == 0:
                        assert not scored
                        last[row] = None if last[row] is None and isinstance(regime, Padded) else "padding"
                    else:
                        position = token - 1
                        if last[row] is None:
                            assert position in begins or not isinstance(regime, Stateful)
                        else:
                            assert position - 1 == last[row]
                            assert position not in begins
                        if scored:
                            assert batch.targets[row, t] == token + 1
                            seen.append(token)
                        last[row] = position
            assert batch.n_valid == Batches(plan, line)[k].scored.sum() > 0
    assert sorted(seen) == list(range(1, len(line.steps)))


@given(apart, not_joined, st.integers(0, 3))
def test_batches_of_sequences_are_pure(regime: Regime, line: Line, epoch: int) -> None:
    once, again = regime.plan(line, 7, epoch), regime.plan(line, 7, epoch)
    assert len(once) == len(again)
    for k in reversed(range(len(once))):
        for first, second in zip(once[k], again[k], strict=True):
            np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(
    "regime", [Stateful(sequences="beside"), Stateful(sequences="behind"), Onestep(), Windowed(), Segments(), Padded()]
)
def test_sequences_come_in_another_order_in_every_epoch_and_with_every_seed(regime: Regime) -> None:
    line = line_of_sequences([3, 5, 2, 8] * 100)

    def first(seed: int, epoch: int) -> list[int]:
        return Batches(regime.plan(line, seed, epoch), line)[0].inputs.flatten().tolist()

    assert first(1, 0) == first(1, 0)
    assert first(1, 0) != first(1, 1)
    assert first(1, 0) != first(2, 0)


def test_every_regime_but_the_ablation_keeps_sequences_apart() -> None:
    line = line_of_sequences([3, 4])
    for regime in (Stateful(), Onestep(), Windowed(), Segments(), Padded(), Segments(burn_in=3)):
        line.refuse_to_join(regime, "regime")
    with pytest.raises(
        UserError, match=r"^regime: may carry the state from a sequence to the next; give data.joined=true, or another one"
    ):
        line.refuse_to_join(ShuffledCarry(), "regime")
    for regime in (Passed(), RandomBptt(), Overlapping()):
        with pytest.raises(UserError, match="may carry the state"):
            line.refuse_to_join(regime, "regime")

    class Own(Stateful):
        """It may plan otherwise."""

    with pytest.raises(UserError, match="may carry the state"):
        line.refuse_to_join(Own(), "regime")
    replace(line, joined=True).refuse_to_join(Own(), "regime")
