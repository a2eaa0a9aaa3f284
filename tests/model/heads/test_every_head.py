"""Tests for every head, present and future. The heads are found by their settings."""

import math

import numpy as np
import pytest
import torch

from throughline.model.heads import Head
from throughline.model.settings import Categorical
from throughline.model.settings import Head as HeadSettings
from throughline.settings import targets

H, V = 4, 6
HEADS: dict[type[HeadSettings], list[int]] = {Categorical: list(range(V))}
"""Each with all possible values of a step."""


def built(cls: type[HeadSettings]) -> Head:
    torch.manual_seed(0)
    return cls().build(H, V).double()


OUTPUT = torch.randn(5, 3, H, generator=torch.Generator().manual_seed(1), dtype=torch.float64)  # T, B, H


def test_every_head_is_tested_here() -> None:
    assert set(targets(HeadSettings).values()) == set(HEADS)  # type: ignore[type-abstract]


@pytest.mark.parametrize("cls", HEADS)
def test_the_probabilities_of_all_steps_sum_to_1(cls: type[HeadSettings]) -> None:
    head = built(cls)
    predicted = head(OUTPUT)
    nll = torch.stack([head.nll(predicted, torch.full((5, 3), step)) for step in HEADS[cls]])
    torch.testing.assert_close((-nll).exp().sum(0), torch.ones(5, 3, dtype=torch.float64), rtol=0, atol=1e-12)
    assert nll.min() > 0
    assert nll.std() > 1e-2


@pytest.mark.parametrize("cls", HEADS)
def test_the_likeliest_step_is_correct_and_no_other(cls: type[HeadSettings]) -> None:
    head = built(cls)
    predicted = head(OUTPUT)
    nll = torch.stack([head.nll(predicted, torch.full((5, 3), step)) for step in HEADS[cls]])
    correct = torch.stack([c for step in HEADS[cls] if (c := head.correct(predicted, torch.full((5, 3), step))) is not None])
    assert torch.equal(correct, nll == nll.min(0).values)
    assert (correct.sum(0) == 1).all()


@pytest.mark.parametrize("cls", HEADS)
def test_draws_have_the_probabilities_of_the_nll(cls: type[HeadSettings]) -> None:
    head, rows = built(cls).requires_grad_(False), 20_000
    predicted = head(OUTPUT[:1, :1])  # 1, 1, P
    draw = head.sampler(np.random.default_rng(0), rows, 1.0, None, None)
    drawn = np.bincount(draw(predicted[0].numpy().repeat(rows, axis=0)), minlength=V) / rows
    nll = [float(head.nll(predicted, torch.full((1, 1), step))) for step in HEADS[cls]]
    expected = np.exp(-np.array(nll)) * (np.arange(V) > 0)  # the unknown symbol is never drawn
    np.testing.assert_allclose(drawn, expected / expected.sum(), atol=0.02)
    assert drawn[0] == 0
    assert (drawn[1:] > 0.01).all()


def test_the_units_of_a_categorical_head() -> None:
    assert built(Categorical).metrics(math.log(2)) == pytest.approx({"bpc": 1.0, "ppl": 2.0})
    assert built(Categorical).metrics(1e6)["ppl"] == math.inf
