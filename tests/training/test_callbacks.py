"""The end of a run, its validations and output, and the handling of batches that are not finite."""

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import QUICK, column, rows, run
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.training.commit import Commit
from throughline.training.display import Display
from throughline.training.learner import Learner


def test_a_budget_of_tokens_ends_the_run_and_the_schedule(corpus: Corpus, tmp_path: Path) -> None:
    budget = (
        "budget.tokens=500",
        "regime.streams=2",
        "regime.bptt=10",
        "trainer.log_every_n_steps=1",
        "schedule.warmup=0",
    )
    summary = run(corpus, tmp_path, *budget)
    assert (summary["tokens"], summary["steps"], summary["epochs"]) == (500, 25, 500 / corpus.train.num_targets)
    lr = column(tmp_path, "train/lr")
    assert lr == pytest.approx([lr[0] * 0.5 * (1 + math.cos(math.pi * step / 25)) for step in range(25)])


def test_a_budget_of_seconds_counts_training_only(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 0.001
        return now

    monkeypatch.setattr("throughline.training.spending.time.perf_counter", tick)
    slow = Learner.validation_step

    def slow_validation_step(*args: Any) -> torch.Tensor:
        nonlocal now
        now += 100.0
        return slow(*args)

    monkeypatch.setattr(Learner, "validation_step", slow_validation_step)
    summary = run(corpus, tmp_path, "budget.seconds=1", "trainer.val_check_interval=5", "regime.streams=2", "regime.bptt=10")
    assert 1 <= summary["seconds"] < 1.1
    assert summary["steps"] > 20


def test_validations_over_a_budget_are_closer_at_its_beginning(corpus: Corpus, tmp_path: Path) -> None:
    budget = (
        "budget.tokens=1600",
        "trainer.val_checks=4",
        "regime.streams=2",
        "regime.bptt=8",
    )  # 100 steps, over two epochs
    run(corpus, tmp_path, *budget, "regime.rotate=true")
    steps = [int(row["step"]) for row in rows(tmp_path) if row["val/nll"]]
    tokens = [int(row["tokens"]) for row in rows(tmp_path) if row["val/nll"]]
    assert len(steps) == 4  # and none at the end of an epoch
    for k, seen in enumerate(tokens, start=1):
        assert 0 <= seen - 1600 * (k / 4) ** 2 < 16 + 1


def test_one_line_an_epoch_where_there_is_no_terminal(corpus: Corpus, tmp_path: Path) -> None:
    run(corpus, tmp_path, "trainer.max_epochs=2")
    lines = (tmp_path / "terminal.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1", "epoch 2"]
    assert any(line.startswith("data: fox") for line in lines)
    assert any(line.endswith(str(tmp_path)) for line in lines)


def test_of_many_lines_some_are_left_out_but_not_the_last(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Display, "LINES", 2)
    monkeypatch.setattr(Display, "LINE_SECONDS", 1000.0)
    run(corpus, tmp_path, "trainer.max_epochs=5")
    lines = (tmp_path / "terminal.txt").read_text().splitlines()
    assert [line.split(":")[0] for line in lines if line.startswith("epoch")] == ["epoch 1", "epoch 2", "epoch 5"]
    assert len([row for row in rows(tmp_path) if row["val/nll"]]) == 5


def test_a_loss_that_rose_again_is_told(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(corpus, tmp_path, "trainer.max_epochs=1")
    assert "caution: val nll was lower" not in (tmp_path / "terminal.txt").read_text()
    monkeypatch.setattr("throughline.training.display.OVERFITTED", -1.0)  # now the same nll is too high
    (tmp_path / "again").mkdir()
    run(corpus, tmp_path / "again", "trainer.max_epochs=1")
    lowest = min(float(row["val/nll"]) for row in rows(tmp_path / "again") if row["val/nll"])
    assert (
        f"\ncaution: val nll was lower before, {lowest:.4f} in best.ckpt; give a smaller budget, or model.dropout\n"
        in (tmp_path / "again" / "terminal.txt").read_text()
    )


def poison(batches: set[tuple[int, int]], row: int) -> Any:
    """A `Learner.step` in which one row of some batches overflows."""
    original = Learner.step

    def step(self: Learner, batch: Any) -> Any:
        done = original(self, batch)
        place = self.trainer.datamodule  # type: ignore[attr-defined]
        if (place.epoch, place.batch) in batches:
            h, _ = self.carry._pending["train"]
            h[:, row] = torch.nan
            overflow = torch.where(torch.arange(len(done.nll)) == row, torch.inf, 1.0)[:, None]
            return done._replace(nll=done.nll * overflow)
        return done

    return step


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "step", poison({(1, 4)}, row=2))
    with pytest.raises(UserError) as error:
        run(corpus, tmp_path, "regime.streams=4", "regime.bptt=16", *QUICK)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert str(error.value) == (
        f"epoch 2, batch 5: the loss of row 2 is not finite; the last good checkpoint is {last}; "
        "numerics.on_bad_batch=skip would skip such batches"
    )
    assert all(p.isfinite().all() for p in load_parts(last)[0].parameters())


def test_a_bad_batch_can_be_skipped_at_the_cost_of_that_batch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Learner, "step", poison({(0, 4), (1, 4)}, row=2))
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "numerics.on_bad_batch=skip")
    summary = run(corpus, tmp_path, *chosen)
    assert "epoch 1, batch 5: the loss of row 2 is not finite; skipped" in (tmp_path / "terminal.txt").read_text()
    assert summary["val/nll"] < 3.0
    assert len(column(tmp_path, "train/nll")) == len([v for v in column(tmp_path, "train/nll") if v < 4])
    (tmp_path / "again").mkdir()
    with pytest.raises(
        UserError, match=r"^epoch 2, batch 5: .* and numerics.max_skipped=1 such batches were skipped before"
    ):
        run(corpus, tmp_path / "again", *chosen, "numerics.max_skipped=1")


@pytest.mark.parametrize(
    ("accumulated", "bad", "updates_after"),
    [
        (1, {(0, 4)}, {*range(17)} - {4}),
        (2, {(0, 4)}, {1, 3, 5, 7, 9, 11, 13, 15, 16}),
        (2, {(0, 4), (0, 5)}, {1, 3, 7, 9, 11, 13, 15, 16}),
    ],
)
def test_a_skipped_update_leaves_weights_and_moments_alone(
    corpus: Corpus,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    accumulated: int,
    bad: set[tuple[int, int]],
    updates_after: set[int],
) -> None:
    seen: list[list[torch.Tensor]] = []
    end = Commit.on_train_batch_end

    def record(self: Commit, trainer: Any, pl_module: Any, *args: Any) -> None:
        end(self, trainer, pl_module, *args)
        state = [v for s in trainer.optimizers[0].state.values() for v in s.values()]
        seen.append([t.detach().clone() for t in (*pl_module.generator.parameters(), *state)])

    monkeypatch.setattr(Commit, "on_train_batch_end", record)
    monkeypatch.setattr(Learner, "step", poison(bad, row=2))
    once = ("trainer.max_epochs=1", "numerics.on_bad_batch=skip", f"trainer.accumulate_grad_batches={accumulated}")
    run(corpus, tmp_path, "regime.streams=4", "regime.bptt=16", *once, "trainer.val_checks=null")
    changed = [not all(map(torch.equal, one, other)) for one, other in itertools.pairwise(seen)]
    assert changed == [batch in updates_after for batch in range(1, 17)]
