"""Updates after single tokens are those of autograd and of batches of one token."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import column, corpus_of, run
from throughline.data.corpus import Corpus
from throughline.model.cores.lstm_single_token import LSTMToken
from throughline.model.generator import Generator
from throughline.model.settings import LSTM
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint
from throughline.training.single_token import updates

EXACT = ("trainer.precision=64-true", "schedule=constant", "regime.rotate=true", "trainer.max_epochs=2")
BY_TOKEN = ("regime=stateful", "regime.streams=1", "regime.bptt=1", "regime.reset_probability=0")


def ending(folder: Path, *overrides: str) -> list[torch.Tensor]:
    """Weights, carried state, and the optimizer's moments after a run of 124 updates."""
    corpus = corpus_of("the quick brown fox. " * 3, "the quick brown fox. ")
    folder.mkdir()
    run(corpus, folder, *EXACT, *overrides)
    saved = checkpoint.read(folder / "checkpoints" / "last.ckpt")
    (moments,) = (optimizer["state"] for optimizer in saved["optimizer_states"])
    carried = saved["throughline"]["carry"]["train"]
    return [*saved["state_dict"].values(), *carried, *(value for state in moments.values() for value in state.values())]


@pytest.mark.parametrize(
    "overrides",
    [
        ("optimizer=adam", "trainer.gradient_clip_val=null"),
        ("optimizer=adamw", "trainer.gradient_clip_val=0.3", "model.num_layers=3"),
        ("optimizer=sgd", "optimizer.momentum=0.9", "optimizer.lr=0.1", "model.input=onehot", "model.num_layers=2"),
        ("model.embedding_size=16", "model.tie_weights=true", "trainer.gradient_clip_val=0.3", "seed=5"),
    ],
)
def test_a_run_is_the_run_of_batches_of_one_token(overrides: tuple[str, ...], tmp_path: Path) -> None:
    ours = ending(tmp_path / "ours", "regime=onestep", "regime.updates=10", *overrides)
    expected = ending(tmp_path / "expected", *BY_TOKEN, *overrides)
    for one, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def adam_by_hand(weight: float, gradients: list[float], decay: float, decoupled: bool) -> float:
    m = v = 0.0
    for t, g in enumerate(gradients, start=1):
        if decoupled:
            weight -= LR * decay * weight
        else:
            g += decay * weight
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        weight -= LR * m / (1 - 0.9**t) / (math.sqrt(v / (1 - 0.999**t)) + 1e-8)
    return weight


def sgd_by_hand(weight: float, gradients: list[float], momentum: float) -> float:
    moved = 0.0
    for g in gradients:
        moved = momentum * moved + g
        weight -= LR * moved
    return weight


LR = 0.5
OPTIMIZERS = {
    "Adam": (torch.optim.Adam, {}, lambda w, gs: adam_by_hand(w, gs, decay=0.0, decoupled=False)),
    "Adam with decay": (torch.optim.Adam, {"weight_decay": 0.1}, lambda w, gs: adam_by_hand(w, gs, 0.1, decoupled=False)),
    "AdamW": (torch.optim.AdamW, {"weight_decay": 0.1}, lambda w, gs: adam_by_hand(w, gs, 0.1, decoupled=True)),
    "SGD": (torch.optim.SGD, {}, lambda w, gs: sgd_by_hand(w, gs, momentum=0.0)),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9}, lambda w, gs: sgd_by_hand(w, gs, momentum=0.9)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_updates_are_exact_and_those_of_adam_take_the_short_way(name: str) -> None:
    cls, arguments, by_hand = OPTIMIZERS[name]
    gradients = [[2.0, -4.0], [-1.0, -3.0], [0.5, 8.0], [1.0, 1.0]]
    weights = [torch.nn.Parameter(torch.tensor([start], dtype=torch.float64)) for start in (1.0, -2.0)]
    for weight, gradient in zip(weights, gradients[0], strict=True):
        weight.grad = torch.tensor([gradient], dtype=torch.float64)
    optimizer = cls(weights, lr=LR, fused=True, **arguments)
    with updates(optimizer) as update:
        assert update == optimizer.step  # the first update creates the averages
    optimizer.step()
    for some in (gradients[1:3], gradients[3:]):
        with updates(optimizer) as update, torch.no_grad():
            assert (update != optimizer.step) == name.startswith("Adam")
            for pair in some:
                for weight, gradient in zip(weights, pair, strict=True):
                    weight.grad.fill_(gradient)  # in place, as backward does
                update()
    expected = [by_hand(start, [g[i] for g in gradients]) for i, start in enumerate((1.0, -2.0))]
    assert [weight.item() for weight in weights] == pytest.approx(expected, abs=1e-12)
    if name.startswith("Adam"):
        assert [float(optimizer.state[weight]["step"]) for weight in weights] == [4.0, 4.0]


def test_updates_follow_the_learning_rate_and_end_alike_after_an_error() -> None:
    weights = [torch.nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.ones(1, dtype=torch.float64)
    optimizer = torch.optim.Adam(weights, lr=1.0, fused=True)
    optimizer.step()
    optimizer.param_groups[0]["lr"] = 0.25

    def interrupted() -> None:
        with updates(optimizer) as update, torch.no_grad():
            update()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [weight.item() for weight in weights] == pytest.approx([-1.25, -1.25])  # Adam moves by lr if gradients are equal
    assert [float(optimizer.state[weight]["step"]) for weight in weights] == [2.0, 2.0]


@pytest.mark.parametrize("changed", ["count", "fused", "amsgrad", "groups"])
def test_other_updates_are_those_of_the_optimizer(changed: str) -> None:
    weights = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    for weight in weights:
        weight.grad = torch.ones(1)
    groups = [{"params": [weight]} for weight in weights] if changed == "groups" else weights
    optimizer = torch.optim.Adam(groups, fused=changed != "fused", amsgrad=changed == "amsgrad")
    optimizer.step()
    if changed == "count":
        weights[0].grad = None  # for one update, as a user's callback may do
        optimizer.step()
        weights[0].grad = torch.ones(1)
    with updates(optimizer) as update:
        assert update == optimizer.step


@pytest.mark.parametrize("vocab_size", [9, 300])
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_gradients_with_dropout_are_those_of_autograd(vocab_size: int, clip: float) -> None:
    torch.manual_seed(0)
    model = Generator(LSTM(hidden_size=6, num_layers=2, input="onehot", dropout=0.5), vocab_size).double()
    network = model.single_token()
    assert isinstance(network, LSTMToken)
    network.begin(None, np.random.default_rng(0))
    for token, target in ((3, 5), (7, 3)):  # the second continues from a state, and overwrites another gradient
        h, c = network.state
        nll = network.forward(token, target)
        norm = network.backward(clip)
    weights = {name: weight.detach().requires_grad_() for name, weight in model.named_parameters()}
    x = F.one_hot(torch.tensor([token]), vocab_size).double()
    for number, layer in enumerate(network.layers):
        names = (f"core.{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        x, _ = torch.lstm_cell(x, (h[number], c[number]), *(weights[name] for name in names))
        assert set(np.unique(layer.kept)) == {0.0, 2.0}
        x = x * torch.from_numpy(layer.kept)
    loss = F.cross_entropy(F.linear(x, weights["head.weight"], weights["head.bias"]), torch.tensor([target]))
    loss.backward()
    assert nll == pytest.approx(loss.item(), abs=1e-12)
    assert norm == pytest.approx(torch.nn.utils.clip_grad_norm_(weights.values(), clip).item(), abs=1e-12)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.grad, weights[name].grad, rtol=0, atol=1e-12)


def test_an_update_that_is_not_finite_is_left_out_and_the_next_goes_on_from_zeros(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward, after = LSTMToken.forward, []

    def poisoned(self: LSTMToken, token: int, target: int) -> float:
        if len(after) == 40:
            self.layers[0].h = np.full_like(self.layers[0].h, np.inf)
            self.layers[0].c = np.full_like(self.layers[0].c, np.inf)
        nll = forward(self, token, target)
        after.append((self.head.weight.copy(), self.layers[0].h.copy()))
        return nll

    monkeypatch.setattr(LSTMToken, "forward", poisoned)
    chosen: tuple[Any, ...] = ("regime=onestep", "regime.updates=30", "budget.tokens=90", "trainer.log_every_n_steps=1")
    with pytest.raises(UserError, match=r"^epoch 1, batch 2: the loss of row 0 is not finite; there is no checkpoint yet"):
        run(corpus, tmp_path, *chosen)
    after.clear()
    folder = tmp_path / "again"
    folder.mkdir()
    run(corpus, folder, *chosen, "numerics.on_bad_batch=skip")
    weights, states = zip(*after, strict=True)
    changed = [not np.array_equal(one, other) for one, other in itertools.pairwise(weights)]
    assert changed == [step != 40 for step in range(89)]
    assert [step for step, h in enumerate(states) if not np.isfinite(h).all()] == [40]
    assert len(column(folder, "train/nll")) == 2


@pytest.mark.parametrize(
    ("override", "allowed"),
    [
        ("trainer.accelerator=gpu", "auto, cpu"),
        ("trainer.precision=bf16-mixed", "auto, 32-true, 64-true"),
        ("trainer.accumulate_grad_batches=2", "1"),
    ],
)
def test_what_single_tokens_do_not_allow_is_refused(override: str, allowed: str, corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf"^{override}: allowed with regime onestep are {allowed}$"):
        run(corpus, tmp_path, "regime=onestep", "trainer.accelerator=auto", override)
