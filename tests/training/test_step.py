"""A pass over a batch that is read in parts, with penalties, or whose loss is a sum: against the same written out."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helpers import SMALL, column, fox, run, run_with_kills, weights_hash
from throughline.batches.batch import Batch, Batches
from throughline.batches.carry import Carry
from throughline.config import Penalties
from throughline.data.line import Line
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, MinGRU, Model
from throughline.plumbing.errors import UserError
from throughline.regimes.overlapping import Overlapping
from throughline.regimes.segments import Segments
from throughline.training.internals import onednn_multiplies
from throughline.training.step import read

MODELS = [LSTM(hidden_size=5, num_layers=2), GRU(hidden_size=5), MinGRU(hidden_size=5, num_layers=2)]
NONE = Penalties()
LINE = Line.of([np.random.default_rng(0).integers(1, 9, 60).astype(np.uint8)])


def built(settings: Model) -> Generator:
    torch.manual_seed(0)
    return Generator(settings, 9).double().train()


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: s.name)
def test_each_target_of_overlapping_chunks_is_scored_as_in_one_pass(settings: Model) -> None:
    generator, carry = built(settings), Carry()
    tokens = torch.from_numpy(LINE.steps.astype(np.int64))[None]
    with torch.no_grad():
        whole, _ = generator.nll(tokens[:, :-1], tokens[:, 1:])
    plan = Overlapping(streams=1, bptt=10, advance=4, reset_probability=0.0).plan(LINE, 0, 0)
    found = []
    for batch in Batches(plan, LINE):
        done = read(generator, batch, carry.begin("train", batch.reset), NONE)
        carry.offer("train", done.state)
        carry.commit("train")
        found.append(done.nll[batch.scored])
    torch.testing.assert_close(torch.cat(found), whole[0], rtol=0, atol=1e-12)
    assert len(found) == 15


def test_gradients_of_overlapping_chunks_reach_as_far_back_as_they_should() -> None:
    """Of a batch in the middle, the gradient of the first scored step reaches the first of 6 steps before it."""
    generator = built(LSTM(hidden_size=5))
    batch = Batches(Overlapping(streams=1, bptt=10, advance=4, reset_probability=0.0).plan(LINE, 0, 0), LINE)[5]
    assert batch.inputs.shape == (1, 10)
    assert batch.scored.tolist() == [[False] * 6 + [True] * 4]
    before = tuple(torch.zeros(1, 1, 5, dtype=torch.float64, requires_grad=True) for _ in range(2))
    done = read(generator, batch, before, NONE)
    assert done.state[0].grad_fn is not None  # the carry cuts it off
    (gradient,) = torch.autograd.grad(done.nll[0, 6], before[0], retain_graph=True)
    assert (gradient != 0).any()


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: s.name)
@pytest.mark.parametrize("joined", [True, False])
def test_a_burnt_in_piece_is_scored_after_what_came_before_it_and_no_gradient_reaches_there(
    settings: Model, joined: bool
) -> None:
    ends = np.array([3, 20, 21, 59])
    line = Line(LINE.steps, ends, joined=joined, ended=False)
    generator, count = built(settings), 0
    for batch, at in zip(
        *(
            Batches(Segments(steps=4, batch_size=3, burn_in=6).plan(each, 0, 0), each)
            for each in (line, Line(np.arange(1, 61, dtype=np.uint8), ends, joined=joined))
        ),
        strict=True,
    ):
        done = read(generator, batch, None, NONE)
        for row, step in batch.scored.nonzero().tolist():
            place = int(at.inputs[row, step]) - 1
            piece = place - (step - 6)
            part = 0 if joined else int(max(e for e in [0, *ends] if e <= piece))
            steps = torch.from_numpy(line.steps[max(part, piece - 6) : place + 2].astype(np.int64))[None]
            with torch.no_grad():
                alone, _ = generator.nll(steps[:, :-1], steps[:, 1:])
            assert float(done.nll[row, step].detach()) == pytest.approx(float(alone[0, -1]), abs=1e-12)
            count += 1
    assert count == line.num_targets
    torch.manual_seed(0)
    batch = Batch(
        *(torch.randint(1, 9, (2, 8)) for _ in range(2)), torch.ones(2, 8).bool(), torch.ones(2).bool(), 8, None, 4
    )
    done = read(generator, batch, None, NONE)
    done.nll[:, 4:].sum().backward()
    with_burn_in = [weight.grad.clone() for weight in generator.parameters() if weight.grad is not None]
    generator.zero_grad()
    with torch.no_grad():
        _, state = generator.output(batch.inputs[:, :4], None)
    nll, _ = generator.nll(batch.inputs[:, 4:], batch.targets[:, 4:], state)
    nll.sum().backward()
    for ours, weight in zip(with_burn_in, (w for w in generator.parameters() if w.grad is not None), strict=True):
        torch.testing.assert_close(ours, weight.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("settings", MODELS, ids=lambda s: s.name)
def test_steps_without_gradient_leave_one_to_the_others_in_bfloat16(
    settings: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Autocast keeps its copies of weights, and those of a part without gradient have none."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn_multiplies("bf16-mixed"))
    generator = built(settings).float()
    inputs = torch.randint(1, 9, (2, 8))
    batch = Batch(inputs, inputs, torch.ones(2, 8).bool(), torch.ones(2).bool(), 8, None, burn_in=4)
    with torch.autocast("cpu", torch.bfloat16):
        nll = read(generator, batch, None, NONE).nll
    nll[:, 4:].sum().backward()
    assert all(weight.grad is not None and (weight.grad != 0).any() for weight in generator.core.parameters())


def test_penalties_by_hand() -> None:
    """One row and two cells over three steps, of which the last is not scored."""
    generator = built(LSTM(hidden_size=2, embedding_size=2))
    batch = Batch(
        torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 4]]), torch.tensor([[True, True, False]]), torch.tensor([True]), 2
    )
    done = read(generator, batch, None, Penalties(activation=2.0, temporal=3.0))
    output, _ = generator.output(batch.inputs, None)
    h = output[:, 0].detach()
    expected = 2 * h[:2].square().mean() + 3 * (h[1] - h[0]).square().mean()
    assert done.penalty is not None
    assert float(done.penalty.detach()) == pytest.approx(float(expected), abs=1e-12)
    assert torch.equal(done.nll, read(generator, batch, None, NONE).nll)


def test_rows_start_from_noise_that_looks_like_the_states_before() -> None:
    carry, states = Carry(), torch.randn(2, 4000, 3, dtype=torch.float64) * torch.tensor([1.0, 2.0, 0.0]) + 5
    carry.offer("train", (states,))
    carry.commit("train")
    reset = torch.zeros(4000, dtype=torch.bool)
    reset[7] = True
    torch.manual_seed(0)
    (noise,) = carry.begin("train", reset, from_noise=True) or ()
    assert (noise[:, 7] == 0).all()
    rest = noise[:, ~reset]
    torch.testing.assert_close(rest.mean(dim=1), states.mean(dim=1), rtol=0.05, atol=0)
    torch.testing.assert_close(rest.std(dim=1), states.std(dim=1), rtol=0.05, atol=1e-9)
    assert not torch.equal(rest, states[:, ~reset])
    (again,) = carry.begin("train", reset) or ()
    assert torch.equal(again[:, ~reset], states[:, ~reset])


@pytest.mark.parametrize(
    "chosen",
    [
        ("regime=random_bptt", "regime.streams=4", "regime.bptt=16"),
        ("regime=overlapping", "regime.streams=4", "regime.bptt=16", "regime.advance=6"),
        ("regime=segments", "regime.batch_size=4", "regime.steps=8", "regime.burn_in=5"),
        ("regime=passed", "regime.batch_size=4", "regime.steps=8"),
        ("regime=passed", "regime.batch_size=4", "regime.steps=8", "regime.first_state=noise"),
        ("regime.streams=4", "regime.bptt=32", "regime.bptt_start=4", "regime.bptt_epochs=2"),
        ("regime.streams=4", "regime.bptt=16", "trainer.loss=sum_over_steps", "penalties.temporal=1", "model.dropout=0.2"),
        ("regime.streams=4", "regime.bptt=16", "model.weight_drop=0.3", "model.variational=true", "model.dropout=0.2"),
        ("regime.streams=4", "regime.bptt=16", "model.embedding_dropout=0.2", "model.input_dropout=0.2"),
        ("regime.streams=4", "regime.bptt=16", "optimizer=muon"),
        ("regime.streams=4", "regime.bptt=16", "schedule=step", "schedule.epochs=1", "optimizer=sgd"),
        (*("regime.streams=4", "regime.bptt=16", "schedule=constant", "callbacks=nt_asgd"), "callbacks.nt_asgd.patience=1"),
    ],
    ids=lambda chosen: " ".join(chosen),
)
def test_a_killed_run_resumes_bit_for_bit(chosen: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*chosen, *SMALL, "trainer.max_epochs=3", "trainer.checkpoint_seconds=1e-9", "trainer.threads=1")
    run(fox(), tmp_path / "alone", *settings)
    run_with_kills(fox(), tmp_path / "killed", [("on_train_batch_end", 25), ("on_train_batch_end", 3)], *settings)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert column(tmp_path / "killed", "val/nll") == column(tmp_path / "alone", "val/nll")


def test_a_sum_over_steps_is_the_mean_times_the_steps(tmp_path: Path) -> None:
    """With plain SGD, a rate that is smaller by the number of steps gives the same run."""
    common = (*SMALL, "regime.streams=4", "regime.bptt=16", "optimizer=sgd", "schedule=constant", "trainer.max_epochs=1")
    exact = (*common, "trainer.precision=64-true", "trainer.gradient_clip_val=null", "trainer.threads=1")
    run(fox(), tmp_path / "mean", *exact, "optimizer.lr=0.16", "budget.tokens=640")
    run(fox(), tmp_path / "sum", *exact, "optimizer.lr=0.01", "trainer.loss=sum_over_steps", "budget.tokens=640")
    mean, total = (column(tmp_path / name, "val/nll") for name in ("mean", "sum"))
    assert total == pytest.approx(mean, abs=1e-9)


def test_the_rate_of_a_step_schedule_falls_with_epochs(tmp_path: Path) -> None:
    schedule = ("schedule=step", "schedule.epochs=2", "schedule.decay=0.5", "optimizer=sgd", "optimizer.lr=0.8")
    settings = (*SMALL, "regime.streams=4", "regime.bptt=64", "trainer.max_epochs=5", "trainer.log_every_n_steps=1")
    run(fox(), tmp_path, *settings, *schedule)
    rates = list(dict.fromkeys(column(tmp_path, "train/lr")))
    assert rates == [0.8, 0.4, 0.2, 0.1]  # epochs 1 and 2, 3, 4, 5


def test_averaging_begins_when_the_nll_no_longer_falls(tmp_path: Path) -> None:
    """A rate that is far too high makes it rise at once; the mean of the weights is then what is validated."""
    settings = (*SMALL, "regime.streams=4", "regime.bptt=16", "optimizer=sgd", "schedule=constant", "trainer.max_epochs=8")
    wild = (*settings, "optimizer.lr=30", "trainer.threads=1")
    plain = run(fox(), tmp_path / "plain", *wild)
    averaged = run(fox(), tmp_path / "averaged", *wild, "callbacks=nt_asgd", "callbacks.nt_asgd.patience=1")
    one, other = (column(tmp_path / name, "val/nll") for name in ("plain", "averaged"))
    differ = [k for k, (a, b) in enumerate(zip(one, other, strict=True)) if a != b]
    rises = [k for k in range(2, len(one)) if one[k - 1] > min(one[: k - 1])]
    assert differ
    assert rises
    assert differ[0] == rises[0]
    assert averaged["val/nll"] < plain["val/nll"]


def test_what_has_no_effect_is_refused() -> None:
    from helpers import config

    for chosen, line in {
        ("regime.bptt_start=64",): r"regime.*bptt_start=64: bptt grows, so allowed is at most bptt=32",
        ("regime=overlapping", "regime.advance=65"): r"regime.*advance=65: leaves steps without a gradient",
        ("schedule.decay=0.3",): r"schedule.*decay=0.3: is for schedule=step; leave it out",
    }.items():
        with pytest.raises(UserError, match=line):
            config(*chosen)


def test_updates_after_every_token_have_no_penalties(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^penalties: regime onestep updates after every token, and has none"):
        run(fox(), tmp_path, *SMALL, "regime=onestep", "penalties.activation=1")


def test_bptt_grows_from_epoch_to_epoch() -> None:
    from throughline.regimes.stateful import Stateful

    regime: Any = Stateful(streams=2, bptt=32, bptt_start=4, bptt_epochs=3)
    assert [regime.at(epoch).bptt for epoch in range(6)] == [4, 8, 16, 32, 32, 32]
    lengths = [Batches(regime.plan(LINE, 0, epoch), LINE)[0].inputs.shape[1] for epoch in range(4)]
    assert lengths == [4, 8, 16, 30]
