"""Two processes train as one: the same numbers up to the order of sums, also if the number of processes changes."""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helpers import PROJECT, SEQUENCES, corpus_of, masked, names, roll, rows, run, run_with_kills
from throughline.batches.batch import Batch, rows_of, rows_of_rank
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import read
from throughline.training import processes
from throughline.training.commit import Commit
from throughline.training.processes import interleaved

SAVE_ALWAYS = "trainer.checkpoint_seconds=1e-9"
EXACT = (
    "trainer.precision=64-true",
    "trainer.max_epochs=2",
    "trainer.log_every_n_steps=5",
    "trainer.checkpoint_seconds=1e-9",
)


@pytest.fixture
def corpus() -> Corpus:
    """The validation text is so long that the carried pass has several rows."""
    return corpus_of("the quick brown fox. " * 50, "the quick brown dog. " * 300)


@pytest.fixture
def forked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fork the other processes from one that has imported everything. Each would need three seconds for the imports.

    Their arguments are pickled nevertheless. Without this fixture, processes are started from nothing, as in real use. The
    tests without it show that this works.
    """
    if sys.platform != "linux":
        return  # elsewhere a fork is not safe after so many imports
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["throughline.training.run"])
    monkeypatch.setenv("PYTHONPATH", str(PROJECT / "src"))  # the process that is forked does not get `sys.path`
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: context)


@given(rows=st.integers(1, 100), world_size=st.integers(1, 9))
def test_the_shares_of_all_processes_are_the_rows_in_order(rows: int, world_size: int) -> None:
    shares = [rows_of_rank(rows, rank, world_size) for rank in range(world_size)]
    sizes = [len(range(rows)[piece]) for piece in shares]
    assert max(sizes) - min(sizes) <= 1
    parts = [torch.arange(rows)[None, piece] for piece in shares]
    assert interleaved(parts, dim=1).tolist() == [list(range(rows))]


def test_a_share_without_rows_is_a_row_that_predicts_nothing() -> None:
    batch = Batch(torch.tensor([[1, 2]]), torch.tensor([[2, 3]]), torch.tensor([[True, True]]), torch.tensor([False]), 2)
    nothing = rows_of(batch, rows_of_rank(1, 1, 2))
    assert (nothing.inputs.tolist(), nothing.scored.tolist()) == ([[1, 2]], [[False, False]])
    assert (nothing.reset.tolist(), nothing.n_valid) == ([True], 2)
    whole = rows_of(batch, rows_of_rank(1, 0, 2))
    assert (masked(whole), whole.reset.tolist(), whole.n_valid) == ([[2, 3]], [False], 2)


def assert_same(one: Path, other: Path, stateless: bool = False) -> None:
    """Weights, optimizer, carried state (if one is read) and all metrics but times agree to 1e-12."""
    first, second = (read(folder / "checkpoints" / "last.ckpt") for folder in (one, other))
    tensors = [dict(flattened(checkpoint)) for checkpoint in (first, second)]
    assert len(tensors[0]) >= 30
    assert tensors[0].keys() == tensors[1].keys()
    for key, value in tensors[0].items():
        if key == "/callbacks/MetricLog/rows":
            continue  # they hold times; the rows are compared below
        if stateless and key.startswith("/throughline/carry"):
            continue  # the state of a row that only replaces a missing one
        torch.testing.assert_close(tensors[1][key], value, rtol=0, atol=1e-12, msg=key)
    for mine, yours in zip(rows(one), rows(other), strict=True):
        for key in mine:
            if "second" not in key and "device" not in key and mine[key] != yours[key]:
                assert abs(float(mine[key]) - float(yours[key])) < 1e-12, key


def flattened(node: Any, path: str = "") -> Any:
    if isinstance(node, torch.Tensor):
        yield path, node
    elif isinstance(node, dict | list | tuple):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from flattened(value, f"{path}/{key}")


STATEFUL = ("regime=stateful", "regime.streams=5", "regime.bptt=16", "regime.rotate=true", "model.num_layers=2")
SEGMENTS = ("regime=segments", "regime.steps=7", "regime.batch_size=149")  # its last batch has a single row
PADDED = ("regime=padded", "regime.padding=pre", "regime.max_length=17", "trainer.accumulate_grad_batches=2")


def test_two_processes_train_as_one(corpus: Corpus, tmp_path: Path) -> None:
    assert_alone_and_together_are_the_same(STATEFUL, corpus, tmp_path)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize("regime", [SEGMENTS, PADDED], ids=["segments", "padded"])
def test_two_processes_train_as_one_without_a_state(regime: tuple[str, ...], corpus: Corpus, tmp_path: Path) -> None:
    assert_alone_and_together_are_the_same(regime, corpus, tmp_path)


@pytest.mark.usefixtures("forked")
@pytest.mark.parametrize(("way", "corpus"), [("beside", names), ("behind", names), ("behind", roll)])
def test_two_processes_train_on_sequences_as_one(way: str, corpus: Callable[[], Corpus], tmp_path: Path) -> None:
    assert_alone_and_together_are_the_same((*SEQUENCES[way], "model.num_layers=2"), corpus(), tmp_path)


def assert_alone_and_together_are_the_same(regime: tuple[str, ...], corpus: Corpus, tmp_path: Path) -> None:
    epochs = "trainer.max_epochs=2" if regime is STATEFUL else "trainer.max_epochs=12"
    summaries = []
    for devices in (1, 2):
        (tmp_path / str(devices)).mkdir()
        summaries.append(run(corpus, tmp_path / str(devices), *EXACT, *regime, epochs, f"trainer.devices={devices}"))
    assert_same(tmp_path / "1", tmp_path / "2", stateless=regime is not STATEFUL)
    assert summaries[0]["steps"] == summaries[1]["steps"] >= 24
    assert summaries[0]["tokens"] == summaries[1]["tokens"]
    assert summaries[1]["val/nll"] == pytest.approx(summaries[0]["val/nll"], abs=1e-12)


@pytest.mark.usefixtures("forked")
def test_a_run_goes_on_with_another_number_of_processes_and_back(corpus: Corpus, tmp_path: Path) -> None:
    chosen = (*EXACT, "regime.streams=5", "regime.bptt=16", "trainer.val_check_interval=10", SAVE_ALWAYS)
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    kill = ("on_train_batch_end", 9)
    run_with_kills(corpus, tmp_path / "killed", [kill], *chosen, "trainer.devices=2", last_life=None)
    run_with_kills(corpus, tmp_path / "killed", [kill], *chosen, last_life=("trainer.devices=2",))
    assert_same(tmp_path / "alone", tmp_path / "killed")


def test_what_processes_cannot_share_is_refused(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(
        UserError, match=r"^trainer.devices=2: regime onestep has batches of 1 rows here, .*; allowed are up to 1$"
    ):
        run(corpus, tmp_path, "regime=onestep", "trainer.devices=2")
    chosen = ("regime.streams=4", "regime.bptt=64", "trainer.max_epochs=1", "model.dropout=0.1")
    run(corpus, tmp_path, *chosen)
    with pytest.raises(UserError, match=r"^resume: trainer.devices is 2 here and 1 in "):
        run(corpus, tmp_path, *chosen, "trainer.devices=2", "resume=auto")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=r"^WORLD_SIZE=2: a launcher has started several processes; start one"):
        run(corpus, tmp_path)


def test_the_death_of_another_process_is_told_and_nothing_is_lost(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = (*EXACT, "regime.streams=4", "regime.bptt=16", SAVE_ALWAYS)
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    end, calls = Commit.on_train_batch_end, 0

    def kill_the_other(self: Commit, *args: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 9:
            (other,) = multiprocessing.active_children()
            assert other.pid is not None
            os.kill(other.pid, signal.SIGKILL)
        end(self, *args)

    (tmp_path / "killed").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(Commit, "on_train_batch_end", kill_the_other)
        with pytest.raises(UserError, match=r"^process 2 of 2 ended with SIGKILL; resume=auto continues from the last"):
            run(corpus, tmp_path / "killed", *chosen, "trainer.devices=2")
    assert not multiprocessing.active_children()
    assert not torch.distributed.is_initialized()
    assert "LOCAL_RANK" not in os.environ
    run(corpus, tmp_path / "killed", *chosen, "resume=must")
    assert_same(tmp_path / "alone", tmp_path / "killed")
