"""The first two updates of every optimizer are those computed by hand."""

import math
from pathlib import Path

import pytest
import torch

from helpers import run, run_with_kills, weights_hash
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.model.optimizers import SGD, Adam, AdamW, Muon, Optimizer, RMSprop
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
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
    Muon: (Muon(lr=0.1, weight_decay=0.0, betas=[0.8, 0.9]), adam(0.1, 0.8, 0.9)),  # what is no matrix is left to AdamW
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


def test_muon_makes_the_update_of_a_matrix_orthogonal_and_as_large_as_that_of_adam() -> None:
    torch.manual_seed(0)
    generator = Generator(LSTM(hidden_size=8, embedding_size=6), 9)
    before = {name: weight.detach().clone() for name, weight in generator.named_parameters()}
    optimizer = Muon(lr=0.1, weight_decay=0.0).build_for(generator)
    for weight in generator.parameters():
        weight.grad = torch.randn_like(weight)
    optimizer.step()
    changes = {name: before[name] - weight.detach() for name, weight in generator.named_parameters()}
    for name in ("core.weight_ih_l0", "core.weight_hh_l0"):
        singular = torch.linalg.svdvals(changes[name])
        assert singular.max() < 2 * singular.min()  # Newton and Schulz stop after five steps
        assert changes[name].square().mean().sqrt() == pytest.approx(0.02, rel=0.3)  # 0.2 of lr, as AdamW's usually are
    for name in ("reader.weight", "head.weight", "core.bias_ih_l0"):
        torch.testing.assert_close(changes[name].abs(), torch.full_like(changes[name], 0.1), rtol=1e-3, atol=0)


def test_more_iterations_of_muon_make_an_update_more_orthogonal() -> None:
    gradient = torch.diag(torch.tensor([1.0, 0.2, 0.05, 0.01]))

    def spread(steps: int) -> float:
        matrix = torch.nn.Parameter(torch.zeros(4, 4))
        matrix.grad = gradient.clone()
        Muon(lr=1.0, weight_decay=0.0, ns_steps=steps).build([matrix]).step()
        singular = torch.linalg.svdvals(matrix.detach())
        return float(singular.max() / singular.min())

    assert spread(1) > 2 * spread(3) > 4 * spread(5)


def test_muon_needs_a_pytorch_that_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(UserError, match=r"^optimizer=muon: needs PyTorch 2.9 or newer, and this is 2\."):
        Muon().build([torch.nn.Parameter(torch.zeros(2, 2))])
