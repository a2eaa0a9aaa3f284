"""Whole runs on a small corpus: what they spend, leave and report."""

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from rich.console import Console

from test_config import config
from throughline.config import Evaluation
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_generator
from throughline.training import run as training
from throughline.training.run import train

SMALL = (
    "model.hidden_size=16",
    "model.embedding_size=8",
    "trainer.accelerator=cpu",
    "logger=none",
    "sampling.length=40",
)


def run(corpus: Corpus, folder: Path, *overrides: str) -> dict[str, Any]:
    with (folder / "terminal.txt").open("w") as terminal:
        return train(config(*SMALL, f"output_root={folder}", *overrides), corpus, folder, Console(file=terminal, width=200))


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def column(folder: Path, name: str) -> list[float]:
    return [float(row[name]) for row in rows(folder) if row[name]]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Corpus]:
    corpus = Corpus.of(
        ["the quick brown fox. " * 50],
        ["the quick brown dog! " * 5],
        {"source": "fox", "bytes": 1155, "sha256": "0" * 64},
    )
    folder = tmp_path_factory.mktemp("run")
    overrides = (
        "regime.streams=4",
        "regime.bptt=16",
        "trainer.max_epochs=40",
        "trainer.log_every_n_steps=10",
        "schedule=constant",
    )
    return folder, run(corpus, folder, *overrides, "trainer.val_check_interval=7"), corpus


def test_a_run_leaves_what_it_promises(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, summary, corpus = finished
    assert json.loads((folder / "summary.json").read_text()) == summary
    promised = {
        *("regime", "model", "seed", "tokens", "steps", "seconds", "wall_seconds", "tokens_per_second"),
        *("val/nll", "val/nll_reset", "val/bpc", "val/accuracy", "peak_memory_bytes", "parameters"),
    }
    assert promised <= set(summary)
    assert (summary["regime"], summary["model"], summary["seed"]) == ("stateful", "lstm16", 1)
    assert summary["tokens"] == 40 * corpus.train.targets
    assert summary["steps"] == 40 * math.ceil(math.ceil(corpus.train.targets / 4) / 16)
    assert summary["seconds"] < summary["wall_seconds"]
    assert summary["val/unknown"] == 5 * 3  # d, g and ! in five sentences
    assert len((folder / "samples.txt").read_text()) == 42
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_reported_figures_are_those_of_the_last_checkpoint(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, summary, corpus = finished
    model, vocab = load_generator(folder / "checkpoints" / "last.ckpt")
    assert vocab.symbols == corpus.vocab.symbols
    tokens = torch.from_numpy(corpus.val.tokens.astype(np.int64))
    with torch.no_grad():
        nll = F.cross_entropy(model(tokens[None, :-1])[0][0], tokens[1:]).item()
    assert summary["val/nll"] == pytest.approx(nll, abs=1e-6)
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]


def test_the_best_checkpoint_is_that_of_the_lowest_loss(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, _, corpus = finished
    model, vocab = load_generator(folder / "checkpoints" / "best.ckpt")
    figures = training.evaluate(model, vocab, corpus.val, Evaluation(), "cpu")
    assert figures["val/nll"] == pytest.approx(min(column(folder, "val/nll")), abs=2e-2)  # while training in bfloat16
    assert min(column(folder, "val/nll")) < column(folder, "val/nll")[-1]  # the last is not the best, so this can fail


def test_a_device_that_is_not_there_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    if not torch.backends.mps.is_available():
        with pytest.raises(UserError, match=r"^trainer.accelerator=mps: there is none here"):
            run(corpus, tmp_path, "trainer.accelerator=mps")


def test_the_peak_of_memory_is_of_this_run(corpus: Corpus, tmp_path: Path) -> None:
    ballast = torch.ones(2**28)  # 1 GiB
    held = run(corpus, tmp_path, "trainer.max_epochs=1")["peak_memory_bytes"]
    del ballast
    (tmp_path / "again").mkdir()
    free = run(corpus, tmp_path / "again", "trainer.max_epochs=1")["peak_memory_bytes"]
    assert 2**28 < free + 2**29 < held


def test_every_row_has_its_place_on_the_three_axes(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, summary, _ = finished
    for name in ("step", "tokens", "seconds"):
        places = column(folder, name)
        assert len(places) == len(rows(folder))
        assert places == sorted(places)
    assert column(folder, "tokens")[-1] == summary["tokens"]
    steps = [int(row["step"]) for row in rows(folder) if row["val/nll"]]
    assert steps == [*range(7, summary["steps"], 7), summary["steps"]]
    assert steps[-1] == summary["steps"]


def test_training_figures_are_means_over_tokens(corpus: Corpus, tmp_path: Path) -> None:
    frozen = (
        "optimizer=sgd",
        "optimizer.lr=1e-30",
        "trainer.precision=32-true",
        "trainer.max_epochs=1",
        "schedule=constant",
    )
    run(corpus, tmp_path, *frozen, "regime.streams=1", "regime.bptt=1000", "trainer.log_every_n_steps=99")
    model, _ = load_generator(tmp_path / "checkpoints" / "last.ckpt")
    tokens = torch.from_numpy(corpus.train.tokens.astype(np.int64))
    with torch.no_grad():
        nll = F.cross_entropy(model(tokens[None, :-1])[0][0], tokens[1:]).item()
    assert column(tmp_path, "train/nll") == pytest.approx([nll], abs=1e-6)  # batches of 1000 and 49 tokens


@pytest.mark.parametrize("regime", ["stateful", "onestep", "windowed", "segments", "padded", "shuffled_carry"])
def test_every_regime_trains(regime: str, corpus: Corpus, tmp_path: Path) -> None:
    summary = run(corpus, tmp_path, f"regime={regime}", "trainer.max_epochs=1")
    assert summary["regime"] == regime
    assert summary["tokens"] == corpus.train.targets
    assert 0 < summary["val/nll"] < 3.2


def test_a_budget_of_tokens_ends_the_run_and_the_schedule(corpus: Corpus, tmp_path: Path) -> None:
    budget = (
        "budget.tokens=500",
        "regime.streams=2",
        "regime.bptt=10",
        "trainer.log_every_n_steps=1",
        "schedule.warmup=0",
    )
    summary = run(corpus, tmp_path, *budget)
    assert (summary["tokens"], summary["steps"], summary["epochs"]) == (500, 25, 500 / corpus.train.targets)
    lr = column(tmp_path, "train/lr")
    assert lr == pytest.approx([lr[0] * 0.5 * (1 + math.cos(math.pi * step / 25)) for step in range(25)])


def test_a_budget_of_seconds_counts_training_only(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0

    def tick() -> float:
        nonlocal now
        now += 0.001
        return now

    monkeypatch.setattr("throughline.training.callbacks.time.perf_counter", tick)
    slow = training.Learner.validation_step

    def slow_validation_step(*args: Any) -> torch.Tensor:
        nonlocal now
        now += 100.0
        return slow(*args)

    monkeypatch.setattr(training.Learner, "validation_step", slow_validation_step)
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


def test_the_same_seed_gives_the_same_weights(corpus: Corpus, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        run(corpus, tmp_path / name, f"seed={seed}", "trainer.max_epochs=2", "model.dropout=0.3", "regime.rotate=true")
        weights.append(load_generator(tmp_path / name / "checkpoints" / "last.ckpt")[0].head.weight)
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("wanted", "accelerator", "flags", "expected"),
    [
        ("auto", "cpu", "flags : fpu avx512_bf16 vme", "bf16-mixed"),
        ("auto", "cpu", "flags : fpu amx_bf16", "bf16-mixed"),
        ("auto", "cpu", "flags : fpu avx512f", "32-true"),
        ("auto", "mps", "flags : avx512_bf16", "32-true"),
        ("64-true", "cpu", "flags : avx512_bf16", "64-true"),
    ],
)
def test_precision_goes_by_the_processor(
    wanted: str, accelerator: str, flags: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", lambda *_: flags)
    monkeypatch.setattr(Path, "exists", lambda *_: True)
    assert training.precision(wanted, accelerator) == expected
