"""Tests for every reading, present and future. The readings are found by their files."""

import hypothesis.strategies as st
import numpy as np
import pytest
import torch
from hypothesis import given

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.evaluation.measure import measure
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading, cache
from throughline.evaluation.readings.cache import Cache
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.evaluation.readings.reset import Reset
from throughline.model.generator import Generator
from throughline.settings import targets, word

sizes = st.integers(1, 9)
READINGS = {
    Carried: st.just(Carried()),
    Reset: st.just(Reset()),
    Dynamic: st.builds(Dynamic, bptt=sizes),
    Cache: st.builds(Cache, window=sizes),
}
readings = st.one_of(*READINGS.values())
evaluations = st.builds(Evaluation, reset_every=sizes, streams=sizes, warmup=st.integers(0, 9))


def test_every_reading_is_tested_here() -> None:
    assert set(targets(Reading).values()) == set(READINGS)  # type: ignore[type-abstract]


@given(readings, evaluations, st.integers(1, 120), st.booleans())
def test_every_target_is_scored_once(reading: Reading, evaluation: Evaluation, targets: int, exact: bool) -> None:
    line = Line.of([np.arange(targets + 1, dtype=np.uint8)])
    batches = Batches(reading.plan(line, evaluation, exact), line)
    seen = [target for batch in batches for target in batch.targets[batch.scored].tolist()]
    assert sorted(seen) == list(range(1, targets + 1))


sequences = st.lists(st.integers(0, 30), min_size=1, max_size=12)


def line_of_sequences(lengths: list[int]) -> Line:
    """A line whose tokens are their own positions + 1, end symbols as well."""
    ends = np.cumsum(np.array(lengths) + 1)
    return Line(np.arange(1, ends[-1] + 2, dtype=np.uint16), ends, joined=False, ended=True)


@given(readings, evaluations, sequences, st.booleans())
def test_every_target_of_sequences_is_scored_once_and_from_zeros(
    reading: Reading, evaluation: Evaluation, lengths: list[int], exact: bool
) -> None:
    line = line_of_sequences(lengths)
    begins = set(line.edges[:-1].tolist())
    seen: list[int] = []
    last: list[int | None] = []
    for batch in Batches(reading.plan(line, evaluation, exact), line):
        last = [None if reset else last[row] for row, reset in enumerate(batch.reset.tolist())]
        for row, tokens in enumerate(batch.inputs.tolist()):
            read = [token - 1 for token, scored in zip(tokens, batch.scored[row].tolist(), strict=True) if scored]
            assert read == list(range(read[0], read[0] + len(read)))
            assert read[0] in begins if last[row] is None and not isinstance(reading, Reset) else True
            assert last[row] is None or (read[0] - 1 == last[row] and read[0] not in begins)
            assert not begins.intersection(read[1:])
            last[row] = read[-1]
            seen += read
        last = last[: len(batch.reset)]
    assert sorted(seen) == list(range(line.num_targets))


@given(st.sampled_from([Carried(), Reset()]), sequences, st.integers(1, 100))
def test_a_part_of_the_sequences_has_as_many_targets_as_asked_for(reading: Reading, lengths: list[int], tokens: int) -> None:
    line, evaluation = line_of_sequences(lengths), Evaluation(streams=3, reset_every=7, tokens=tokens)
    batches = list(Batches(reading.plan(line, evaluation, exact=False), line))
    assert sum(batch.n_valid for batch in batches) >= min(tokens, line.num_targets)


def random_line(n: int) -> Line:
    return Line.of([np.random.default_rng(0).integers(1, 9, n).astype(np.uint8)])


@pytest.mark.parametrize("cls", READINGS)
def test_measuring_leaves_the_generator_as_it_was(cls: type[Reading], model: Generator) -> None:
    before = [weight.detach().clone() for weight in model.parameters()]
    model.train()
    metrics = measure(model, random_line(100), [cls()])
    assert set(metrics) == {f"val/{name}{cls().suffix}" for name in ("nll", "bpc", "ppl", "accuracy")}
    assert cls().name == word(cls)
    assert model.training
    assert all(map(torch.equal, before, model.parameters()))
    assert all(weight.grad is None for weight in model.parameters())


def test_dynamic_evaluation_that_does_not_learn_is_the_carried_pass(model: Generator) -> None:
    line = random_line(500)
    metrics = measure(model, line, [Carried(), Dynamic(lr=0.0, decay=0.5, bptt=7)])
    for name in ("nll", "bpc", "ppl", "accuracy"):
        assert metrics[f"val/{name}_dynamic"] == pytest.approx(metrics[f"val/{name}"], abs=1e-12)
    learned = measure(model, line, [Dynamic(lr=0.1, bptt=7)])
    assert abs(learned["val/nll_dynamic"] - metrics["val/nll"]) > 1e-3


def test_dynamic_evaluation_by_hand(model: Generator) -> None:
    """Three chunks. Each is scored by the current weights; then the weights take a step."""
    import torch.nn.functional as F

    line, settings = random_line(11), Dynamic(lr=0.7, decay=0.25, bptt=4, gradient_clip_val=0.3)
    measured = measure(model, line, [settings])["val/nll_dynamic"]
    tokens = torch.from_numpy(line.steps.astype(np.int64))
    trained = [weight.detach().clone() for weight in model.parameters()]
    state, total, norms = None, 0.0, []
    for inputs, after_them in zip(tokens[:-1].split(4), tokens[1:].split(4), strict=True):
        predicted, after = model(inputs[None], state)
        loss = F.cross_entropy(predicted[0], after_them)
        total += loss.item() * len(after_them)
        model.zero_grad()
        loss.backward()
        norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), 0.3)))
        with torch.no_grad():
            for weight, at_first in zip(model.parameters(), trained, strict=True):
                weight -= 0.7 * weight.grad  # type: ignore[operator]
                weight += 0.25 * (at_first - weight)
        state = tuple(s.detach() for s in after)
    assert measured == pytest.approx(total / 10, abs=1e-12)
    assert max(norms) > 0.3  # the clipping had an effect


def test_dynamic_evaluation_learns_what_repeats(model: Generator) -> None:
    line = Line.of([np.tile(np.array([1, 5, 2, 7, 3, 3, 8], dtype=np.uint8), 100)])
    metrics = measure(model, line, [Carried(), Dynamic(lr=0.5, decay=0.0, bptt=16)])
    assert metrics["val/nll_dynamic"] < 0.9 * metrics["val/nll"]


def test_a_cache_without_strength_is_the_carried_pass(model: Generator) -> None:
    line = random_line(500)
    metrics = measure(model, line, [Carried(), Cache(strength=0.0, window=9)])
    for name in ("nll", "bpc", "ppl", "accuracy"):
        assert metrics[f"val/{name}_cache"] == pytest.approx(metrics[f"val/{name}"], abs=1e-12)
    used = measure(model, line, [Cache(strength=0.3, window=9)])
    assert abs(used["val/nll_cache"] - metrics["val/nll"]) > 1e-3


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_a_cache_by_hand(model: Generator, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each target by a loop over the steps that are remembered; how many are read at once changes nothing."""
    monkeypatch.setattr(cache, "STEPS", steps)
    line, settings = random_line(40), Cache(strength=0.4, theta=0.7, window=5)
    measured = measure(model, line, [settings])
    tokens = torch.from_numpy(line.steps.astype(np.int64))
    with torch.inference_mode():
        outputs = model.output(tokens[None, :-1], None)[0][:, 0]
        shares = model.head(outputs).softmax(-1)
    total, correct = 0.0, 0
    for place in range(39):
        mixed = shares[place].clone()
        remembered = range(max(0, place - 5), place)
        if remembered:
            weights = torch.stack([(0.7 * outputs[place] @ outputs[k]).exp() for k in remembered])
            mixed *= 1 - 0.4
            for weight, k in zip(weights / weights.sum(), remembered, strict=True):
                mixed[tokens[k + 1]] += 0.4 * weight
        assert mixed.sum().item() == pytest.approx(1.0, abs=1e-12)
        total -= mixed[tokens[place + 1]].log().item()
        correct += int(mixed.argmax() == tokens[place + 1])
    assert measured["val/nll_cache"] == pytest.approx(total / 39, abs=1e-12)
    assert measured["val/accuracy_cache"] == pytest.approx(correct / 39, abs=1e-12)


def test_a_cache_finds_what_is_rare_and_comes_again(model: Generator) -> None:
    line = Line.of([np.tile(np.array([1, 5, 2, 7, 3, 3, 8], dtype=np.uint8), 100)])
    metrics = measure(model, line, [Carried(), Cache(strength=0.5, theta=1.0, window=100)])
    assert metrics["val/nll_cache"] < 0.9 * metrics["val/nll"]


def test_which_readings_validate_on_the_way() -> None:
    assert [cls for cls in READINGS if cls.while_training] == [Carried, Reset]
