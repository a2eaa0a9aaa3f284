"""Updates after single tokens, written out, are those that autograd and batches of one token make."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from test_training import column, run
from throughline.config import Model
from throughline.data.corpus import Corpus
from throughline.model.generator import LSTMGenerator
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint
from throughline.training.by_token import Network, updates

EXACT = ("trainer.precision=64-true", "schedule=constant", "regime.rotate=true", "trainer.max_epochs=2")
BY_TOKEN = ("regime=stateful", "regime.streams=1", "regime.bptt=1")


def ending(folder: Path, *overrides: str) -> list[torch.Tensor]:
    """Weights, carried state, and the optimizer's moments after a run of 124 updates."""
    fingerprint = {"source": "fox", "bytes": 84, "sha256": "0" * 64}
    corpus = Corpus.of(["the quick brown fox. " * 3], ["the quick brown fox. "], fingerprint)
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


@pytest.mark.parametrize(("cls", "short"), [(torch.optim.Adam, True), (torch.optim.SGD, False)])
def test_where_an_update_takes_the_short_way(cls: type[torch.optim.Optimizer], short: bool) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    weight.grad = torch.ones(2)
    optimizer = cls([weight], lr=0.5, fused=True)  # type: ignore[call-arg]
    assert updates(optimizer) == optimizer.step  # the first one makes the averages
    optimizer.step()
    assert (updates(optimizer) != optimizer.step) == short
    before = weight.detach().clone()
    with torch.no_grad():
        updates(optimizer)()
    assert (weight < before).all()


@pytest.mark.parametrize("vocab_size", [9, 300])
@pytest.mark.parametrize("clip", [1e-3, 1e3])
def test_gradients_with_dropout_are_those_of_autograd(vocab_size: int, clip: float) -> None:
    torch.manual_seed(0)
    model = LSTMGenerator(Model(hidden_size=6, num_layers=2, input="onehot", dropout=0.5), vocab_size).double()
    network = Network(model)
    network.go_on(None, np.random.default_rng(0))
    for token, target in ((3, 5), (7, 3)):  # so that the second goes on from a state, and over another gradient
        h, c = network.state
        nll = network.forward(token, target)
        norm = network.backward(clip)
    weights = {name: weight.detach().requires_grad_() for name, weight in model.named_parameters()}
    x = F.one_hot(torch.tensor([token]), vocab_size).double()
    for number, layer in enumerate(network.layers):
        names = (f"lstm.{kind}_l{number}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
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
    forward, after = Network.forward, []

    def poisoned(self: Network, token: int, target: int) -> float:
        if len(after) == 40:
            self.layers[0].h = np.full_like(self.layers[0].h, np.inf)
            self.layers[0].c = np.full_like(self.layers[0].c, np.inf)
        nll = forward(self, token, target)
        after.append((self.head.weight.copy(), self.layers[0].h.copy()))
        return nll

    monkeypatch.setattr(Network, "forward", poisoned)
    chosen: tuple[Any, ...] = ("regime=onestep", "regime.updates=30", "budget.tokens=90", "trainer.log_every_n_steps=1")
    with pytest.raises(UserError, match=r"^epoch 1, batch 2: the loss of row 0 is not finite; there is no checkpoint yet"):
        run(corpus, tmp_path, *chosen)
    after.clear()
    run(corpus, tmp_path, *chosen, "numerics.on_bad_batch=skip")
    weights, states = zip(*after, strict=True)
    changed = [not np.array_equal(one, other) for one, other in itertools.pairwise(weights)]
    assert changed == [step != 40 for step in range(89)]
    assert [step for step, h in enumerate(states) if not np.isfinite(h).all()] == [40]
    assert len(column(tmp_path, "train/nll")) == 2


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
