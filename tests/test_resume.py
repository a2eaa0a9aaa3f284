"""A run that is killed and goes on ends with the same weights, bit for bit, as one that was left alone."""

import csv
import hashlib
import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from test_training import column, run
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_generator
from throughline.runs.resume import run_folder
from throughline.training import run as training
from throughline.training.callbacks import Commit

QUICK = ("trainer.max_epochs=3", "trainer.log_every_n_steps=5", "trainer.checkpoint_seconds=1e-9", "model.dropout=0.3")
REGIMES = {
    "stateful": ("regime.streams=4", "regime.bptt=16", "regime.rotate=true"),
    "onestep": ("regime.updates=64",),
    "windowed": ("regime.steps=8", "regime.stride=4", "regime.batch_size=16"),
    "segments": ("regime.steps=16", "regime.batch_size=4"),
    "padded": ("regime.max_length=16", "regime.batch_size=4", "regime.bucket=2"),
}


class Killed(BaseException):
    """Ends a run as a kill does: nothing that the run would do about an exception helps it."""


def weights_hash(folder: Path) -> str:
    model, _ = load_generator(folder / "checkpoints" / "last.ckpt")
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


def run_with_kills(
    corpus: Corpus, folder: Path, kills: list[tuple[str, int]], *overrides: str, last_life: tuple[str, ...] | None = ()
) -> None:
    """Run, be killed at the n-th call of each hook named, go on each time, and end, with `last_life` added, or stay dead."""
    folder.mkdir(exist_ok=True)
    for hook, count in kills:
        calls = 0
        original = getattr(Commit, hook)

        def killing(*args: Any, count: int = count, original: Any = original, **kwargs: Any) -> None:
            nonlocal calls
            calls += 1
            if calls == count:
                raise Killed
            original(*args, **kwargs)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Commit, hook, killing)
            with pytest.raises(Killed):
                run(corpus, folder, *overrides, "resume=auto")
    if last_life is not None:
        run(corpus, folder, *overrides, *last_life, "resume=auto")


def without_times(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{k: v for k, v in row.items() if "second" not in k and "device" not in k} for row in csv.DictReader(file)]


@pytest.mark.parametrize("regime", REGIMES)
def test_a_killed_run_goes_on_bit_for_bit(regime: str, corpus: Corpus, tmp_path: Path) -> None:
    chosen = (f"regime={regime}", *REGIMES[regime], *QUICK, "trainer.val_check_interval=7")
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    kills = [("on_train_batch_end", 20), ("on_train_batch_end", 3), ("on_validation_batch_end", 2)]
    run_with_kills(corpus, tmp_path / "killed", kills, *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "alone")


@pytest.mark.parametrize("batch", [1, 16, 17, 18, 33, 34, 35])
def test_a_kill_around_the_end_of_an_epoch(batch: int, corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)  # 17 batches an epoch
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    assert len(column(tmp_path / "alone", "val/nll")) == 3
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", batch)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "alone")


def test_accumulated_gradients_are_not_lost(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "trainer.accumulate_grad_batches=3")
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", n) for n in (5, 6, 20)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")


def test_float64_goes_on_without_rounding(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "trainer.precision=64-true")
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", 20)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")


def test_loader_workers_may_change_between_lives(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    (tmp_path / "alone").mkdir()
    run(corpus, tmp_path / "alone", *chosen)
    folder = tmp_path / "killed"
    workers = (*chosen, "trainer.num_workers=2")
    run_with_kills(corpus, folder, [("on_train_batch_end", 21)], *workers, last_life=("trainer.num_workers=0",))
    assert weights_hash(folder) == weights_hash(tmp_path / "alone")


def test_a_finished_run_is_not_trained_further(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    summary = run(corpus, tmp_path, *chosen)
    before = weights_hash(tmp_path)
    again = run(corpus, tmp_path, *chosen, "resume=must")
    assert weights_hash(tmp_path) == before
    assert (again["tokens"], again["steps"], again["val/nll"]) == (summary["tokens"], summary["steps"], summary["val/nll"])
    (tmp_path / "summary.json").write_text("[")  # damaged: the run ends once more
    once_more = run(corpus, tmp_path, *chosen, "resume=auto")
    assert {**once_more, "seconds": 0} == {**json.loads((tmp_path / "summary.json").read_text()), "seconds": 0}
    assert (weights_hash(tmp_path), once_more["val/nll"]) == (before, summary["val/nll"])
    longer = run(corpus, tmp_path, *chosen, "resume=auto", "trainer.max_epochs=4")
    assert longer["tokens"] == summary["tokens"] // 3 * 4


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    run(corpus, tmp_path, *chosen)
    before, last = weights_hash(tmp_path), tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    run(corpus, tmp_path, *chosen, "resume=auto")
    terminal = (tmp_path / "terminal.txt").read_text()
    assert f"{last}: damaged, its checksum does not match" in terminal
    assert f"resume: going on from {tmp_path / 'checkpoints' / 'previous.ckpt'}" in terminal
    assert weights_hash(tmp_path) == before


def test_auto_says_that_it_starts_anew_and_must_refuses(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^resume=must: no checkpoint in \S+; resume=auto would start anew$"):
        run(corpus, tmp_path, *QUICK, "resume=must")
    run(corpus, tmp_path, "trainer.max_epochs=1", "resume=auto")
    assert "resume: nothing to go on from, starting anew" in (tmp_path / "terminal.txt").read_text()
    with pytest.raises(UserError, match=r"^no/such.ckpt: No such file or directory"):
        run(corpus, tmp_path, "resume=no/such.ckpt")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("regime.bptt=8", "resume: regime.bptt is 8 here and 16 in "),
        ("regime.streams=5", "resume: regime.streams is 5 here and 4 in "),
        ("model.hidden_size=17", "resume: model.hidden_size is 17 here and 16 in "),
        ("seed=2", "resume: seed is 2 here and 1 in "),
        ("optimizer.lr=0.5", "resume: optimizer.lr is 0.5 here and 0.01 in "),
        ("trainer.precision=64-true", "resume: trainer.precision is '64-true' here and 'auto' in "),
    ],
)
def test_another_run_is_refused_by_the_field_that_differs(override: str, line: str, corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")
    run(corpus, tmp_path, *chosen)
    with pytest.raises(UserError) as error:
        run(corpus, tmp_path, *chosen, override, "resume=auto")
    assert str(error.value) == line + str(tmp_path / "checkpoints" / "last.ckpt")
    other = Corpus.of(
        ["the quick brown fizz. " * 50], ["the quick brown fox. " * 5], {"source": "x", "bytes": 1, "sha256": "0"}
    )
    with pytest.raises(UserError, match=r"resume: data.tokens_sha256 is '\w+' here and '\w+' in .*\n.*data.vocab_sha256"):
        run(other, tmp_path, *chosen, "resume=auto")


def test_the_folder_is_that_of_the_newest_unfinished_run_of_the_same_command(tmp_path: Path) -> None:
    def past(name: str, overrides: str, *files: str) -> str:
        for file in (".hydra/overrides.yaml", *files):
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(overrides)
        return str(tmp_path / name)

    mine = "- seed=1\n- resume=auto\n"
    past("2026-01-01/a", mine, "checkpoints/last.ckpt")
    newest = past("2026-01-02/b", "- seed=1\n", "checkpoints/last.ckpt")
    past("2026-01-03/c", mine, "checkpoints/last.ckpt", "summary.json")
    past("2026-01-04/d", mine)
    past("2026-01-05/e", "- seed=2\n", "checkpoints/last.ckpt")
    for number, damaged in enumerate(("- [", "", "\0", "a: b\n", "- 1\n")):
        past(f"2026-01-06/{number}", damaged, "checkpoints/last.ckpt")
    overrides = ["seed=1", "resume=auto"]
    assert run_folder("new", str(tmp_path), "auto", overrides) == newest
    assert run_folder("new", str(tmp_path), "none", overrides) == "new"
    assert run_folder("new", str(tmp_path), "auto", ["seed=3", "resume=auto"]) == "new"
    assert run_folder("new", str(tmp_path), f"{newest}/checkpoints/last.ckpt", overrides) == "new"


def poison(batches: set[tuple[int, int]], row: int) -> Any:
    """A `Learner.step` in which one row of some batches overflows."""
    original = training.Learner.step

    def step(self: training.Learner, stage: str, batch: Any) -> Any:
        nll, logits = original(self, stage, batch)
        place = self.trainer.datamodule  # type: ignore[attr-defined]
        if stage == "train" and (place.epoch, place.batch) in batches:
            h, _ = self.carry._pending["train"]
            h[:, row], nll = torch.nan, nll * torch.where(torch.arange(len(nll)) == row, torch.inf, 1.0)[:, None]
        return nll, logits

    return step


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.Learner, "step", poison({(1, 4)}, row=2))
    with pytest.raises(UserError) as error:
        run(corpus, tmp_path, "regime.streams=4", "regime.bptt=16", *QUICK)
    last = tmp_path / "checkpoints" / "last.ckpt"
    assert str(error.value) == (
        f"epoch 2, batch 5: the loss of row 2 is not finite; the last good checkpoint is {last}; "
        "numerics.on_bad_batch=skip would pass over such batches"
    )
    assert all(p.isfinite().all() for p in load_generator(last)[0].parameters())


def test_a_bad_batch_can_be_skipped_at_the_cost_of_that_batch(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training.Learner, "step", poison({(0, 4), (1, 4)}, row=2))
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "numerics.on_bad_batch=skip")
    summary = run(corpus, tmp_path, *chosen)
    assert "epoch 1, batch 5: the loss of row 2 is not finite; skipped" in (tmp_path / "terminal.txt").read_text()
    assert summary["val/nll"] < 3.0
    assert len(column(tmp_path, "train/nll")) == len([v for v in column(tmp_path, "train/nll") if v < 4])
    with pytest.raises(
        UserError, match=r"^epoch 2, batch 5: .* and numerics.max_skipped=1 such batches were skipped before"
    ):
        run(corpus, tmp_path, *chosen, "numerics.max_skipped=1")


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
        seen.append([t.detach().clone() for t in (*pl_module.model.parameters(), *state)])

    monkeypatch.setattr(Commit, "on_train_batch_end", record)
    monkeypatch.setattr(training.Learner, "step", poison(bad, row=2))
    once = ("trainer.max_epochs=1", "numerics.on_bad_batch=skip", f"trainer.accumulate_grad_batches={accumulated}")
    run(corpus, tmp_path, "regime.streams=4", "regime.bptt=16", *once, "trainer.val_checks=null")
    changed = [not all(map(torch.equal, one, other)) for one, other in itertools.pairwise(seen)]
    assert changed == [batch in updates_after for batch in range(1, 17)]
