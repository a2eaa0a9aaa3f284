"""Callbacks that settings add, passages on the way, and TensorBoard: what they leave, also after kills."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from helpers import (
    FOX_AND_DOG,
    PROJECT,
    column,
    config,
    corpus_of,
    fox,
    kept,
    nll_of_checkpoint,
    rows,
    run,
    run_as_from_hydra,
    run_with_kills,
    weights_hash,
)
from throughline.callbacks import EarlyStopping, Ema, LrMonitor, NtAsgd, Profile, Swa
from throughline.config import Config
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.results.run import read_run
from throughline.runs.record import AS_IT_LEARNED
from throughline.settings import word
from throughline.training import extras
from throughline.training.learner import Learner

SMALL = ("regime.streams=4", "regime.bptt=16", "trainer.log_every_n_steps=5", "trainer.checkpoint_seconds=1e-9")


@pytest.mark.parametrize(
    "file",
    [f for f in sorted((PROJECT / "conf" / "callbacks").glob("*.yaml")) if f.stem != "none"],
    ids=lambda file: file.stem,
)
def test_every_file_is_built(file: Path, tmp_path: Path) -> None:
    settings = config(f"callbacks={file.stem}").callbacks
    kinds = (EarlyStopping(), Ema(), Swa(), LrMonitor(), NtAsgd(), Profile())
    assert settings == {file.stem: next(kind for kind in kinds if word(type(kind)) == file.stem)}
    (callback,) = extras.built(list(settings.values()), tmp_path, None)  # type: ignore[arg-type]
    assert isinstance(callback, Callback)


def test_several_are_chosen_together() -> None:
    settings = config("callbacks=[ema,early_stopping]", "callbacks.ema.decay=0.9").callbacks
    assert settings == {"ema": Ema(decay=0.9), "early_stopping": EarlyStopping()}
    assert config().callbacks == {}


class Weights(Callback):
    """Keeps the weights after each update."""

    def __init__(self) -> None:
        self.each: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        assert isinstance(pl_module, Learner)
        self.each.append([p.detach().clone() for p in pl_module.generator.parameters()])


@pytest.mark.parametrize(
    ("chosen", "share"),
    [
        (("callbacks=ema", "callbacks.ema.decay=0.8"), None),
        (("callbacks=swa", "callbacks.swa.start=0.5", "schedule=constant"), 0.5),
    ],
)
def test_averages_are_those_by_hand_and_are_what_is_measured(
    chosen: tuple[str, ...], share: float | None, tmp_path: Path
) -> None:
    weights = Weights()
    settings = (*SMALL, *chosen, "trainer.max_epochs=3", "trainer.precision=64-true")
    record = run(FOX_AND_DOG, tmp_path, *settings, callbacks=[weights])
    if share is None:
        expected = weights.each[0]
        for number, own in enumerate(weights.each[1:], start=1):
            decay = min(0.8, number / (number + 1))
            expected = [decay * a + (1 - decay) * b for a, b in zip(expected, own, strict=True)]
    else:
        late = weights.each[len(weights.each) // 2 - 1 :]
        expected = [torch.stack(each).mean(0) for each in zip(*late, strict=True)]
    for mine, own, last in zip(kept(tmp_path), expected, weights.each[-1], strict=True):
        torch.testing.assert_close(mine, own, rtol=0, atol=1e-12)
        assert not torch.equal(own, last)
    (losses,) = nll_of_checkpoint(tmp_path, FOX_AND_DOG.val, FOX_AND_DOG.val.num_targets)
    assert record["val/nll"] == pytest.approx(sum(losses) / len(losses), abs=1e-9)


@pytest.mark.parametrize("chosen", [("callbacks=ema",), ("callbacks=swa", "callbacks.swa.start=0.4")])
def test_a_killed_run_with_an_average_resumes_bit_for_bit(chosen: tuple[str, ...], tmp_path: Path) -> None:
    settings = (*SMALL, *chosen, "trainer.max_epochs=3", "model.dropout=0.2")
    run(FOX_AND_DOG, tmp_path / "alone", *settings)
    kills = [("on_train_batch_end", 20), ("on_train_batch_end", 12)]
    run_with_kills(FOX_AND_DOG, tmp_path / "killed", kills, *settings)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert column(tmp_path / "killed", "val/nll") == column(tmp_path / "alone", "val/nll")
    for mine, yours in zip(kept(tmp_path / "killed", "best.ckpt"), kept(tmp_path / "alone", "best.ckpt"), strict=True):
        assert torch.equal(mine, yours)


def test_an_average_cannot_come_or_go_in_the_middle(tmp_path: Path) -> None:
    run_with_kills(FOX_AND_DOG, tmp_path, [("on_train_batch_end", 20)], *SMALL, "trainer.max_epochs=3", last_life=None)
    with pytest.raises(UserError, match="callbacks"):
        run(FOX_AND_DOG, tmp_path, *SMALL, "trainer.max_epochs=3", "callbacks=ema", "resume=auto")
    run(FOX_AND_DOG, tmp_path, *SMALL, "trainer.max_epochs=3", "callbacks=[early_stopping,lr_monitor]", "resume=auto")


def test_a_run_ends_early_where_the_nll_no_longer_falls(tmp_path: Path) -> None:
    other = corpus_of("the quick brown fox. " * 40, "zyx" * 40, source="unlike")
    chosen = (
        "callbacks=early_stopping",
        "callbacks.early_stopping.patience=2",
        "optimizer.lr=0.05",
        "trainer.max_epochs=40",
    )
    run(other, tmp_path, *SMALL, *chosen)
    nll = column(tmp_path, "val/nll")
    lowest = nll.index(min(nll))
    assert len(nll) == lowest + 3 < 40


def test_a_profile_is_written(tmp_path: Path) -> None:
    run(FOX_AND_DOG, tmp_path, *SMALL, "callbacks=profile", "callbacks.profile.wait=2", "trainer.max_epochs=1")
    table = (tmp_path / "profile.txt").read_text()
    assert table.startswith("5 batches\n")
    assert "aten::" in table
    trace = json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))
    assert len(trace["traceEvents"]) > 50
    assert not (tmp_path / "trace.json").exists()


def events(folder: Path) -> dict[str, list[tuple[int, float]]]:
    read = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    return {key: [(event.step, event.value) for event in read.Scalars(key)] for key in read.Tags()["scalars"]}


@pytest.mark.parametrize("kills", [[], [("on_train_batch_end", 20), ("on_train_batch_end", 12)]], ids=["alone", "killed"])
def test_tensorboard_has_the_rows_of_the_table(kills: list[Any], tmp_path: Path) -> None:
    run_with_kills(FOX_AND_DOG, tmp_path, kills, *SMALL, "trainer.max_epochs=3", "logger=tensorboard")
    found = events(tmp_path)
    for name in ("train/nll", "val/nll", "train/lr"):
        wanted = [(int(row["step"]), float(row[name])) for row in rows(tmp_path) if row[name]]
        assert [step for step, _ in found[name]] == [step for step, _ in wanted]
        assert [value for _, value in found[name]] == pytest.approx([value for _, value in wanted], rel=1e-6)
        assert len(wanted) >= 3


def test_the_learning_rate_is_logged_at_every_update(tmp_path: Path) -> None:
    run(FOX_AND_DOG, tmp_path, *SMALL, "trainer.max_epochs=1", "logger=tensorboard", "callbacks=lr_monitor")
    steps = {step for step, _ in events(tmp_path)["train/lr"]}
    assert steps == set(range(1, int(rows(tmp_path)[-1]["updates"]) + 1))
    assert len(steps) > 5


def test_passages_show_how_it_learns_and_change_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = (*SMALL, "trainer.max_epochs=4", "model.dropout=0.2", "sampling.length=30")
    run(fox(), tmp_path / "every", *settings)
    run(fox(), tmp_path / "none", *settings, "sampling.every=0")
    run_with_kills(fox(), tmp_path / "killed", [("on_train_batch_end", 40)], *settings)
    run(fox(), tmp_path / "second", *settings, "sampling.every=2")
    assert len({weights_hash(tmp_path / name) for name in ("every", "none", "killed", "second")}) == 1
    texts = {name: (tmp_path / name / "samples.txt").read_text() for name in ("every", "none", "killed", "second")}
    assert texts["killed"] == texts["every"]
    assert AS_IT_LEARNED not in texts["none"]
    last, _, earlier = texts["every"].partition(f"\n{AS_IT_LEARNED}\n")
    assert last == texts["none"]
    assert earlier.count(" tokens:\n") == 4
    assert texts["second"].count(" tokens:\n") == 2
    tokens = [row["tokens"] for row in rows(tmp_path / "every") if row["val/nll"]]
    assert [line for line in earlier.splitlines() if line.endswith(" tokens:")] == [f"{int(t):,} tokens:" for t in tokens]


def test_a_report_shows_the_last_passage_alone(tmp_path: Path) -> None:
    run_as_from_hydra(FOX_AND_DOG, tmp_path / "run", "trainer.max_epochs=2")
    text = (tmp_path / "run" / "samples.txt").read_text()
    assert AS_IT_LEARNED in text
    assert read_run(tmp_path / "run").passage == text.partition(f"\n{AS_IT_LEARNED}")[0]


def test_a_network_can_learn_a_few_steps_by_heart(tmp_path: Path) -> None:
    settings = config("data_limit=50", "trainer.max_epochs=60", *SMALL[:1], "regime.bptt=8", "optimizer.lr=0.03")
    corpus = FOX_AND_DOG.first(50)
    assert corpus.train == corpus.val
    assert corpus.train.steps.tolist() == FOX_AND_DOG.train.steps[:50].tolist()
    assert corpus.fingerprint["tokens_sha256"] != FOX_AND_DOG.fingerprint["tokens_sha256"]
    assert isinstance(settings, Config)
    record = run(corpus, tmp_path, "trainer.max_epochs=60", "regime.streams=4", "regime.bptt=8", "optimizer.lr=0.03")
    assert record["val/nll"] < 0.5


@given(limit=st.integers(2, 30), lengths=st.lists(st.integers(1, 6), min_size=1, max_size=8))
def test_the_first_steps_are_whole_sequences(limit: int, lengths: list[int]) -> None:
    sequences = [np.full(length, number + 1, np.uint8) for number, length in enumerate(lengths)]
    line = Line.with_ends(sequences, 20)
    whole = Corpus(FOX_AND_DOG.codec, {"train": line, "val": line}, {"source": "a", "tokens_sha256": "b"})
    first = whole.first(limit).train
    count = len(first.ends)
    assert first.steps.tolist() == Line.with_ends(sequences[:count], 20).steps.tolist()
    assert first.ends.tolist() == line.ends[:count].tolist()
    assert count == 1 or first.num_targets <= limit
    assert count == len(lengths) or line.ends[count] > limit
