"""The rows of a batch in parts: what is added up over them is what a pass over all rows gives, in any number of threads."""

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from helpers import SMALL, config, fox, run, run_with_kills, sealed, weights_hash
from throughline.batches.batch import Batch, Batches
from throughline.config import Penalties
from throughline.data.line import Line
from throughline.evaluation.threads import in_threads
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, LayernormLSTM, MinGRU, MinLSTM, Model
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.regimes.overlapping import Overlapping
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Stateful
from throughline.runs.checkpoint import read as read_checkpoint
from throughline.training.datamodule import StreamDataModule
from throughline.training.internals import in_all_threads
from throughline.training.row_shares import RowShares, SharedPass, added
from throughline.training.run import data_module, with_threads
from throughline.training.step import read

LINE = Line.of([np.random.default_rng(0).integers(1, 9, 200).astype(np.uint8)])
SEQUENCES = Line.with_ends(
    [np.random.default_rng(n).integers(1, 8, 3 + n % 5).astype(np.uint8) for n in range(40)], end=8, joined=False
)
ALL = {"dropout": 0.3, "input_dropout": 0.2, "embedding_dropout": 0.2}
MODELS: list[Model] = [
    LSTM(hidden_size=6),
    LSTM(hidden_size=6, num_layers=2, weight_drop=0.3, **ALL),
    LSTM(hidden_size=6, num_layers=2, variational=True, **ALL),
    LSTM(hidden_size=6, num_layers=2, dropout=0.3),
    LSTM(hidden_size=6, num_layers=2, dropout=0.3, input="onehot"),
    GRU(hidden_size=6, num_layers=2, dropout=0.3),
    LayernormLSTM(hidden_size=6, num_layers=2, dropout=0.3),
    MinGRU(hidden_size=6, num_layers=2, dropout=0.3),
    MinLSTM(hidden_size=6, num_layers=2, dropout=0.3, variational=True),
]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Leave one thread to the other tests."""
    yield
    torch.set_num_threads(1)


def built(settings: Model) -> Generator:
    torch.manual_seed(0)
    return Generator(settings, 9).double().train()


def state_of(generator: Generator, rows: int) -> tuple[Tensor, ...]:
    with torch.no_grad():
        _, state = generator(torch.ones(rows, 1, dtype=torch.int64))
    return tuple(torch.rand_like(s) for s in state)


def whole(generator: Generator, batch: Batch, before: Any) -> SharedPass:
    """The same in one pass."""
    done = read(generator, batch, before, Penalties())
    nll = done.nll.masked_fill(~batch.scored, 0.0)
    grads = torch.autograd.grad(nll.sum() / 7, list(generator.parameters()), allow_unused=True)
    pairs = zip(generator.parameters(), grads, strict=True)
    return SharedPass(nll.detach(), done.state, [(p, grad) for p, grad in pairs if grad is not None])


def check_equal(settings: Model, batch: Batch, shares: int) -> None:
    generator = built(settings)
    before = state_of(generator, len(batch.reset))
    torch.manual_seed(5)
    expected = whole(generator, batch, before)
    torch.manual_seed(5)
    found = RowShares(generator, shares, 2).step(batch, before, 7)
    torch.testing.assert_close(found.nll, expected.nll, rtol=0, atol=1e-12)
    torch.testing.assert_close(found.state, tuple(s.detach() for s in expected.state), rtol=0, atol=1e-12)
    assert len(expected.grads) > 5
    for (parameter, one), (same, other) in zip(found.grads, expected.grads, strict=True):
        assert parameter is same
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)
        assert other.any()
    if settings.drops:  # else nothing was shown about masks
        torch.manual_seed(6)
        assert not torch.allclose(whole(generator, batch, before).nll, expected.nll)


@pytest.mark.parametrize("shares", [2, 3])
@pytest.mark.parametrize("settings", MODELS, ids=lambda s: f"{s.name}-{s.dropout}")
def test_parts_add_up_to_the_whole(settings: Model, shares: int) -> None:
    check_equal(settings, Batches(Stateful(streams=7, bptt=5).plan(LINE, 0, 0), LINE)[1], shares)


@pytest.mark.parametrize(
    "regime",
    [Overlapping(streams=5, bptt=6, advance=2), Segments(batch_size=5, steps=4, burn_in=2)],
    ids=lambda r: r.name,
)
@pytest.mark.parametrize("settings", MODELS[:3], ids=lambda s: f"{s.name}-{s.dropout}")
def test_batches_that_are_read_in_parts_of_their_steps(settings: Model, regime: Regime) -> None:
    batch = Batches(regime.plan(LINE, 0, 0), LINE)[2]
    assert batch.burn_in or batch.handed is not None
    # Masks inside the core are drawn for each part of the steps, and all parts of the rows draw them in the same order.
    check_equal(settings, batch, 2)


@pytest.mark.parametrize("settings", [LSTM(hidden_size=6, num_layers=2), GRU(hidden_size=6)], ids=lambda s: s.name)
def test_rows_that_restart_inside_a_batch(settings: Model) -> None:
    batch = Batches(Stateful(streams=5, bptt=6, sequences="behind").plan(SEQUENCES, 0, 0), SEQUENCES)[1]
    assert batch.restart is not None
    check_equal(settings, batch, 2)


@pytest.mark.parametrize("dropout", ["0", "0.3"])
def test_a_run_depends_on_the_parts_but_not_on_the_threads(dropout: str, tmp_path: Path) -> None:
    chosen = ("regime.streams=6", "regime.bptt=16", "trainer.max_epochs=2", f"model.dropout={dropout}")
    for shares, threads in ((2, 1), (2, 2), (3, 1), (1, 1)):
        own = f"trainer.row_shares={shares}", f"trainer.threads={threads}"
        summary = run(fox(), tmp_path / f"{shares}-{threads}", *chosen, *own)
        assert summary["val/nll"] < 2.9
    assert weights_hash(tmp_path / "2-1") == weights_hash(tmp_path / "2-2")
    assert len({weights_hash(tmp_path / name) for name in ("2-2", "3-1", "1-1")}) == 3  # rounding


def test_a_killed_run_goes_on_bit_for_bit_and_keeps_its_parts(tmp_path: Path) -> None:
    chosen = ("regime.streams=6", "regime.bptt=16", "trainer.max_epochs=2", "model.dropout=0.3", "trainer.threads=2")
    short = ("trainer.checkpoint_seconds=1e-9", "trainer.accumulate_grad_batches=2")
    run(fox(), tmp_path / "alone", *chosen, *short, "trainer.row_shares=2")
    run_with_kills(
        fox(),
        tmp_path / "killed",
        [("on_train_batch_end", 7)],
        *chosen,
        *short,
        "trainer.row_shares=2",
        last_life=("trainer.row_shares=auto",),
    )
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    identity = read_checkpoint(tmp_path / "killed" / "checkpoints" / "last.ckpt")["throughline"]["identity"]
    assert identity["trainer.row_shares"] == 2  # 6 rows are too few for `auto`
    with pytest.raises(UserError, match=r"^resume: trainer.row_shares is 1 here and 2 in "):
        run(fox(), tmp_path / "killed", *chosen, *short, "trainer.row_shares=1", "resume=auto")


@pytest.mark.parametrize(
    ("chosen", "shares"),
    [
        ((), 2),
        (("regime.streams=32",), 2),
        (("regime.streams=31",), 1),
        (("trainer.threads=1",), 1),
        (("penalties.activation=1",), 1),
        (("regime=onestep",), 1),
        (("trainer.devices=2",), 1),
        (("trainer.threads=4",), 2),
        (("trainer.row_shares=3", "regime.streams=3"), 3),
    ],
)
def test_what_auto_means(chosen: tuple[str, ...], shares: int) -> None:
    settings = config(*SMALL, "trainer.threads=2", "trainer.precision=32-true", *chosen)
    corpus = fox()
    settings = settings.suited(corpus.codec)
    data: StreamDataModule = data_module(settings, corpus)
    assert with_threads(settings, data).trainer.row_shares == shares


def test_a_run_goes_on_where_rows_cannot_be_shared(tmp_path: Path) -> None:
    chosen = ("regime.streams=6", "regime.bptt=16", "trainer.checkpoint_seconds=1e-9", "trainer.threads=2")
    run_with_kills(
        fox(),
        tmp_path,
        [("on_train_batch_end", 7)],
        *chosen,
        "trainer.row_shares=2",
        last_life=("trainer.row_shares=auto", "trainer.devices=2"),
    )
    identity = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["throughline"]["identity"]
    assert identity["trainer.row_shares"] == 1


def test_a_checkpoint_of_before_has_one_part(tmp_path: Path) -> None:
    chosen = ("regime.streams=32", "regime.bptt=8", "trainer.checkpoint_seconds=1e-9", "trainer.threads=2")
    run_with_kills(fox(), tmp_path, [("on_train_batch_end", 3)], *chosen, "trainer.row_shares=1", last_life=None)
    for file in (tmp_path / "checkpoints").glob("*.ckpt"):
        checkpoint = read_checkpoint(file)
        del checkpoint["throughline"]["identity"]["trainer.row_shares"]
        sealed(checkpoint, file)
    run(fox(), tmp_path, *chosen, "resume=auto")
    identity = read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["throughline"]["identity"]
    assert identity["trainer.row_shares"] == 1


def test_the_profiler_sees_the_threads_of_rows(tmp_path: Path) -> None:
    chosen = ("regime.streams=8", "regime.bptt=8", "trainer.threads=2", "trainer.row_shares=2", "callbacks=profile")
    run(fox(), tmp_path, *chosen, "callbacks.profile.wait=1", "callbacks.profile.active=2", "budget.tokens=2000")
    (table,) = tmp_path.rglob("profile.txt")
    assert ("lstm" in table.read_text() or "rnn" in table.read_text()) == bool(in_all_threads())


def test_modules_of_others_are_not_read_in_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(*SMALL, "trainer.threads=2").suited(fox().codec)
    monkeypatch.setattr(Generator, "__module__", "mine")
    assert with_threads(settings, data_module(settings, fox())).trainer.row_shares == 1


def test_a_part_that_fails_ends_the_step_and_no_thread() -> None:
    generator = built(LSTM(hidden_size=6))
    good = Batches(Stateful(streams=4, bptt=5).plan(LINE, 0, 0), LINE)[0]
    bad = good._replace(inputs=torch.tensor([[1], [1], [1], [99]]).expand(4, 5))
    shares = RowShares(generator, 2, 2)
    with pytest.raises(IndexError):
        shares.step(bad, None, 1)
    assert shares.step(good, None, 1).nll.shape == (4, 5)
    names = [thread.name for thread in threading.enumerate() if thread.name.startswith("rows")]
    assert len(names) == 2
    del shares
    gc.collect()
    for thread in threading.enumerate():
        if thread.name in names:
            thread.join(5)
    assert not [thread for thread in threading.enumerate() if thread.name in names and thread.is_alive()]


def test_threads_of_the_process_are_as_before() -> None:
    with in_threads(3):
        RowShares(built(LSTM(hidden_size=6)), 2, 4)
        assert torch.get_num_threads() == 4  # all of them work between two steps
    assert torch.get_num_threads() == 1


def test_frozen_parameters_have_no_gradient_until_they_are_free() -> None:
    generator = built(LSTM(hidden_size=6))
    shares = RowShares(generator, 2, 2)
    batch = Batches(Stateful(streams=4, bptt=5).plan(LINE, 0, 0), LINE)[0]
    generator.reader.weight.requires_grad_(False)
    frozen = [parameter for parameter, _ in shares.step(batch, None, 1).grads]
    generator.reader.weight.requires_grad_(True)
    free = [parameter for parameter, _ in shares.step(batch, None, 1).grads]
    assert [p is generator.reader.weight for p in free].count(True) == 1
    assert len(frozen) == len(free) - 1


@pytest.mark.parametrize("short", [True, False])
def test_sizes_at_which_updates_are_made_by_several_threads(
    short: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a command makes them, which shortens how long threads wait, and as a notebook does."""
    if short:
        monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    else:
        monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    chosen = ("model.hidden_size=128", "regime.streams=8", "regime.bptt=16", "budget.tokens=4000", "trainer.row_shares=2")
    for threads in (1, 2):
        run(fox(), tmp_path / str(threads), *chosen, f"trainer.threads={threads}", "trainer.precision=32-true")
    assert weights_hash(tmp_path / "1") == weights_hash(tmp_path / "2")


def test_what_is_added_up_is_new_memory() -> None:
    """Two biases of an LSTM get one gradient, in the same memory; clipping multiplies each in place."""
    one, two, three = torch.ones(2), torch.full((2,), 2.0), torch.full((2,), 4.0)
    assert added([one, two, three]).tolist() == [7.0, 7.0]  # type: ignore[union-attr]
    assert (one.tolist(), two.tolist(), three.tolist()) == ([1.0, 1.0], [2.0, 2.0], [4.0, 4.0])
    alone = added([None, one])
    assert alone is not None
    assert alone.data_ptr() != one.data_ptr()
    assert added([None, None]) is None
