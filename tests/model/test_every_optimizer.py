"""The first two updates of every optimizer are those computed by hand."""

import math
from pathlib import Path

import pytest
import torch

from helpers import run, run_with_kills, weights_hash
from throughline.data.corpus import Corpus
from throughline.model.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop
from throughline.settings import targets, word

W, G1, G2 = 2.0, 0.5, -1.5
"""A weight, and its gradients at two updates."""


def adam(lr: float, b1: float, b2: float) -> list[float]:
    m = v = 0.0
    steps = []
    for t, g in enumerate((G1, G2), start=1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        steps.append(-lr * (m / (1 - b1**t)) / (math.sqrt(v / (1 - b2**t)) + 1e-8))
    return steps


def rmsprop(lr: float, alpha: float, eps: float) -> list[float]:
    v1 = (1 - alpha) * G1 * G1
    v2 = alpha * v1 + (1 - alpha) * G2 * G2
    return [-lr * G1 / (math.sqrt(v1) + eps), -lr * G2 / (math.sqrt(v2) + eps)]


OPTIMIZERS: dict[type[Optimizer], tuple[Optimizer, list[float]]] = {
    Adam: (Adam(lr=0.1, betas=[0.8, 0.9]), adam(0.1, 0.8, 0.9)),
    AdamW: (AdamW(lr=0.1, weight_decay=0.0, betas=[0.8, 0.9]), adam(0.1, 0.8, 0.9)),
    SGD: (SGD(lr=0.1, momentum=0.5), [-0.1 * G1, -0.1 * (0.5 * G1 + G2)]),
    RMSprop: (RMSprop(lr=0.1, alpha=0.75, eps=1e-3), rmsprop(0.1, 0.75, 1e-3)),
}


def test_every_optimizer_is_tested_here() -> None:
    assert set(targets(Optimizer).values()) == set(OPTIMIZERS)  # type: ignore[type-abstract]


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_two_updates_by_hand(cls: type[Optimizer]) -> None:
    settings, steps = OPTIMIZERS[cls]
    weight = torch.nn.Parameter(torch.tensor(W, dtype=torch.float64))
    optimizer = settings.build([weight])
    expected = W
    for gradient, step in zip((G1, G2), steps, strict=True):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()
        expected += step
        assert weight.item() == pytest.approx(expected, abs=1e-9)
    assert abs(expected - W) > 1e-3


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_weight_decay_pulls_towards_zero(cls: type[Optimizer]) -> None:
    weight = torch.nn.Parameter(torch.tensor(W, dtype=torch.float64))
    optimizer = cls(lr=0.1, weight_decay=0.1).build([weight])
    weight.grad = torch.tensor(0.0, dtype=torch.float64)
    optimizer.step()
    assert 0 < weight.item() < W


@pytest.mark.parametrize("cls", OPTIMIZERS)
def test_a_killed_run_resumes_bit_for_bit(cls: type[Optimizer], corpus: Corpus, tmp_path: Path) -> None:
    chosen = (
        f"optimizer={word(cls)}",
        "regime.streams=4",
        "regime.bptt=16",
        "trainer.max_epochs=2",
        "trainer.checkpoint_seconds=1e-9",
    )
    (tmp_path / "alone").mkdir()
    summary = run(corpus, tmp_path / "alone", *chosen)
    assert summary["val/nll"] < 2.9
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", 20)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
