"""Lightning callbacks of other people work: the metrics they monitor exist, and the files they save can be used."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from rich.console import Console

from helpers import SMALL, column, config
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.training.run import Run, train

CHOSEN = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=6", "trainer.val_check_interval=10", "schedule=constant")


def trained(corpus: Corpus, folder: Path, *callbacks: Callback, more: tuple[str, ...] = ()) -> Run:
    return train(config(*SMALL, *CHOSEN, *more), corpus, folder, callbacks=callbacks, console=Console(quiet=True))


class Seen(Callback):
    """Records `trainer.callback_metrics` after each validation."""

    def __init__(self) -> None:
        self.metrics: list[dict[str, float]] = []

    def on_validation_end(self, trainer: Trainer, *_: Any) -> None:
        self.metrics.append({key: float(value) for key, value in trainer.callback_metrics.items()})


def test_the_metrics_of_a_validation_reach_them(corpus: Corpus, tmp_path: Path) -> None:
    seen = Seen()
    trained(corpus, tmp_path, seen)
    assert len(seen.metrics) == len(column(tmp_path, "val/nll")) > 5
    for name in ("val/nll", "val/bpc", "val/ppl", "val/accuracy", "val/nll_reset", "val/accuracy_reset"):
        assert [metrics[name] for metrics in seen.metrics] == pytest.approx(column(tmp_path, name), rel=1e-6)


def test_early_stopping_ends_a_run_which_then_is_a_finished_one(corpus: Corpus, tmp_path: Path) -> None:
    # With a patience of 2, the second validation that is not better by 10 nats ends the run: the third of all.
    run = trained(corpus, tmp_path, EarlyStopping("val/nll", min_delta=10.0, patience=2))
    assert len(column(tmp_path, "val/nll")) == 3
    assert run.record.steps == 30
    assert (tmp_path / "summary.json").exists()
    assert load_parts(tmp_path / "checkpoints" / "last.ckpt")[0].vocab_size == corpus.codec.size


def test_model_checkpoint_saves_files_that_can_be_used(corpus: Corpus, tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path / "kept", monitor="val/nll", save_top_k=2, filename="{step}")
    run = trained(corpus, tmp_path, keep)
    losses = column(tmp_path, "val/nll")
    assert float(keep.best_model_score) == pytest.approx(min(losses), rel=1e-6)  # type: ignore[arg-type]
    kept = sorted((tmp_path / "kept").glob("*.ckpt"))
    steps = [int(file.stem.removeprefix("step=")) for file in kept]
    places = sorted(range(len(losses)), key=lambda place: losses[place])[:2]
    updates = [int(value) for value in column(tmp_path, "updates")]
    assert len(kept) == 2
    assert run.record.updates == run.record.steps == max(updates)
    assert sorted(steps) == sorted(min(10 * (place + 1), run.record.steps) for place in places)
    for file in kept:
        assert load_parts(file)[1] == corpus.codec


def test_they_act_in_each_of_two_processes(corpus: Corpus, tmp_path: Path) -> None:
    stop = EarlyStopping("val/nll", min_delta=10.0, patience=2)
    run = trained(corpus, tmp_path, stop, more=("trainer.devices=2",))
    assert run.record.steps == 30


def test_a_run_is_what_is_needed_to_go_on_with(corpus: Corpus, tmp_path: Path) -> None:
    run = trained(corpus, tmp_path)
    text = run.generate("the quick", 60, temperature=1e-6)
    assert text.startswith("the quick")
    assert len(text) == len("the quick") + 60
    assert run.generate("the", 30, seed=1) == run.generate("the", 30, seed=1)
    assert run.codec == corpus.codec
    assert run.record.to_plain()["val/nll"] == run.record.metrics["val/nll"]
    again = trained(corpus, tmp_path, more=("resume=must",))  # it is finished, so it is read and not trained
    assert again.record == run.record
    assert again.generate("the quick", 60, temperature=1e-6) == text


def test_what_they_log_leaves_the_rows_of_a_run_as_they_are(corpus: Corpus, tmp_path: Path) -> None:
    class Logs(Callback):
        def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
            pl_module.log("my/metric", 1.0)

    trained(corpus, tmp_path, Logs())
    (tmp_path / ".hydra").mkdir()
    assert all(column(tmp_path, name) == sorted(column(tmp_path, name)) for name in ("step", "tokens", "seconds"))
    assert len(column(tmp_path, "tokens")) == len(column(tmp_path, "step")) > 5


def test_a_file_of_weights_only_is_no_run_to_resume(corpus: Corpus, tmp_path: Path) -> None:
    trained(corpus, tmp_path, ModelCheckpoint(tmp_path / "kept", save_weights_only=True, filename="w"))
    with pytest.raises(UserError, match=r"w.ckpt: holds only weights, so no run can be resumed"):
        trained(corpus, tmp_path, more=(f"resume={tmp_path / 'kept' / 'w.ckpt'}",))
