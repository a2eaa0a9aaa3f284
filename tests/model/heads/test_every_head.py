"""Tests for every head, present and future. The heads are found by their settings."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from throughline.data.codecs.frames import Frames
from throughline.model.heads import Head
from throughline.model.settings import Bernoulli, Categorical, Mixture
from throughline.model.settings import Head as HeadSettings
from throughline.settings import targets

H, V, F = 4, 6, 3
SYMBOLS = torch.arange(V)
ROLLS = torch.tensor([*itertools.product([0.0, 1.0], repeat=F)])  # all 2^F frames
HEADS: dict[type[HeadSettings], Tensor | None] = {Categorical: SYMBOLS, Bernoulli: ROLLS, Mixture: None}
"""Each with all possible steps; None if they are not countable."""
COUNTABLE = [cls for cls, steps in HEADS.items() if steps is not None]


def built(cls: type[HeadSettings]) -> Head:
    torch.manual_seed(0)
    return cls().build(H, V if cls is Categorical else F).double().requires_grad_(False)


OUTPUT = torch.randn(5, 3, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # T, B, H


def of_all_steps(cls: type[HeadSettings], score: Callable[[Tensor], Tensor | None]) -> Tensor:
    """A score (T, B) of each possible step, stacked."""
    steps = HEADS[cls]
    assert steps is not None
    scores = [score(step.expand(5, 3, *step.shape)) for step in steps]
    return torch.stack([s for s in scores if s is not None])


def test_every_head_is_tested_here() -> None:
    assert set(targets(HeadSettings).values()) == set(HEADS)  # type: ignore[type-abstract]


@pytest.mark.parametrize("cls", COUNTABLE)
def test_the_probabilities_of_all_steps_sum_to_1(cls: type[HeadSettings]) -> None:
    head = built(cls)
    predicted = head(OUTPUT)
    nll = of_all_steps(cls, lambda step: head.nll(predicted, step))
    torch.testing.assert_close((-nll).exp().sum(0), torch.ones(5, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert nll.min() > 0
    assert nll.std() > 1e-2


@pytest.mark.parametrize("features", [1, 2])
def test_the_density_of_a_mixture_integrates_to_1_in_the_units_of_the_data(features: int) -> None:
    torch.manual_seed(0)
    head = Mixture(num_components=3).build(H, features).double().requires_grad_(False)
    raw = np.random.default_rng(0).normal(5, [0.1, 30.0], (1000, 2))[:, :features]
    codec = Frames(kind="real").fit([raw])
    head.in_units_of(codec)
    axes = [np.linspace(m - 16 * s, m + 16 * s, 600) for m, s in zip(codec.mean or [], codec.std or [], strict=True)]
    grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
    standardised = torch.from_numpy((grid.reshape(-1, features) - codec.mean) / codec.std)
    predicted = head(3 * OUTPUT[:1, :1])
    density = (-head.nll(predicted, standardised[:, None])).exp().numpy().reshape(grid.shape[:-1])
    for axis in reversed(axes):
        density = np.trapezoid(density, axis, axis=-1)
    assert density == pytest.approx(1.0, abs=1e-6)
    assert float(head.nll(predicted, standardised[:1, None])) > 10  # the grid ends where nothing is left


@pytest.mark.parametrize("cls", COUNTABLE)
def test_the_likeliest_step_is_correct_and_no_other(cls: type[HeadSettings]) -> None:
    head = built(cls)
    predicted = head(OUTPUT)
    if not head.has_likeliest:
        assert head.correct(predicted, predicted) is None
        return
    assert cls is Categorical
    nll = of_all_steps(cls, lambda step: head.nll(predicted, step))
    correct = of_all_steps(cls, lambda step: head.correct(predicted, step))
    assert torch.equal(correct, nll == nll.min(0).values)
    assert (correct.sum(0) == 1).all()


@pytest.mark.parametrize("cls", COUNTABLE)
def test_draws_have_the_probabilities_of_the_nll(cls: type[HeadSettings]) -> None:
    head, rows = built(cls), 20_000
    predicted = head(OUTPUT[:1, :1])  # 1, 1, P
    draw = head.sampler(np.random.default_rng(0), rows, 1.0, None, None)
    drawn = torch.from_numpy(draw(predicted[0].numpy().repeat(rows, axis=0)))
    steps = HEADS[cls]
    assert steps is not None
    shares = np.array([float((drawn == step).reshape(rows, -1).all(dim=1).double().mean()) for step in steps])
    expected = np.array([math.exp(-float(head.nll(predicted, step.expand(1, 1, *step.shape)))) for step in steps])
    if cls is Categorical:
        expected[0] = 0  # the unknown symbol is never drawn
        assert shares[0] == 0
    np.testing.assert_allclose(shares, expected / expected.sum(), atol=0.02)
    assert np.count_nonzero(shares > 0.01) >= len(steps) - 1


@pytest.mark.parametrize(("temperature", "spread"), [(1.0, 1.0), (0.5, math.exp(-1)), (0.0, 0.0)])
def test_draws_of_a_mixture_have_its_mean_and_its_variance(temperature: float, spread: float) -> None:
    head, rows = built(Mixture), 40_000
    predicted = head(3 * OUTPUT[:1, :1])
    draw = head.sampler(np.random.default_rng(0), rows, temperature, None, None)
    drawn = draw(predicted[0].numpy().repeat(rows, axis=0))
    log_weight, mean, std = (part[0, 0].numpy() for part in head.components(predicted))  # type: ignore[operator]
    weight = np.exp(log_weight / temperature) if temperature else (log_weight == log_weight.max()).astype(float)
    weight = (weight / weight.sum())[:, None]
    expected = (weight * mean).sum(axis=0)
    variance = (weight * ((spread * std) ** 2 + mean**2)).sum(axis=0) - expected**2
    assert drawn.shape == (rows, F)
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.03)
    np.testing.assert_allclose(drawn.var(axis=0), variance, atol=0.03)
    assert abs(expected).max() > 0.1


@pytest.mark.parametrize("temperature", [0.0, 1e-300, 0.5, 1e6])
@pytest.mark.parametrize("cls", HEADS)
def test_every_temperature_draws_finite_steps(cls: type[HeadSettings], temperature: float) -> None:
    head = built(cls)
    predicted = head(OUTPUT[0]).numpy()
    draws = [head.sampler(np.random.default_rng(0), 3, temperature, None, None)(predicted) for _ in range(2)]
    assert np.isfinite(draws[0]).all()
    np.testing.assert_array_equal(*draws)  # the same seed gives the same steps


@pytest.mark.parametrize("cls", HEADS)
def test_predictions_in_bfloat16_are_scored_in_float32(cls: type[HeadSettings]) -> None:
    head = built(cls).float()
    steps = torch.zeros(5, 3, dtype=torch.int64) if cls is Categorical else torch.zeros(5, 3, F)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = head(OUTPUT.float())
        nll = head.nll(predicted, steps)
    assert predicted.dtype == torch.bfloat16
    assert nll.dtype == torch.float32
    torch.testing.assert_close(nll, head.nll(predicted.float(), steps))


def test_a_mixture_of_one_gaussian_written_out() -> None:
    head = Mixture(num_components=1, min_std=0.25).build(1, 2).requires_grad_(False)
    head.weight.zero_()  # type: ignore[operator]
    head.bias.copy_(torch.tensor([3.0, 1.0, -1.0, 0.0, 0.0]))  # type: ignore[operator]
    std = math.log(2) + 0.25  # softplus(0) and the floor
    frame = torch.tensor([[[1.0 + std, -1.0]]])
    expected = 0.5 + 2 * math.log(std) + math.log(2 * math.pi)
    assert float(head.nll(head(torch.zeros(1, 1, 1)), frame)) == pytest.approx(expected, rel=1e-6)


def test_the_units_of_heads() -> None:
    assert built(Categorical).metrics(math.log(2)) == pytest.approx({"bpc": 1.0, "ppl": 2.0})
    assert built(Categorical).metrics(1e6)["ppl"] == math.inf
    for cls in (Bernoulli, Mixture):
        assert built(cls).metrics(1.0) == {}
