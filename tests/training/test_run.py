"""Whole runs on a small corpus: their budgets, files and reports."""

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers import REGIMES, SMALL, column, config, corpus_of, resident_bytes, rows, run, summary_of
from throughline.data.codecs import Codec
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.ids import Ids
from throughline.data.codecs.words import Words
from throughline.data.corpus import Corpus
from throughline.evaluation.measure import measure
from throughline.evaluation.readings.carried import Carried
from throughline.model.generator import Generator
from throughline.plumbing.errors import UserError
from throughline.runs.checkpoint import load_parts
from throughline.runs.record import AS_IT_LEARNED
from throughline.training import machine


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], Corpus]:
    corpus = corpus_of("the quick brown fox. " * 50, "the quick brown dog! " * 5)
    folder = tmp_path_factory.mktemp("run")
    overrides = (
        "regime.streams=4",
        "regime.bptt=16",
        "trainer.max_epochs=10",
        "trainer.log_every_n_steps=10",
        "schedule=constant",
    )
    return folder, run(corpus, folder, *overrides, "trainer.val_check_interval=7"), corpus


def test_a_run_leaves_what_it_promises(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, summary, corpus = finished
    assert summary_of(folder) == summary
    promised = {
        *("regime", "model", "seed", "tokens", "steps", "seconds", "wall_seconds", "tokens_per_second"),
        *("val/nll", "val/nll_reset", "val/bpc", "val/accuracy", "peak_memory_bytes", "parameters"),
    }
    assert promised <= set(summary)
    assert (summary["regime"], summary["model"], summary["seed"]) == ("stateful", "lstm16", 1)
    assert summary["tokens"] == 10 * corpus.train.num_targets
    assert summary["steps"] == 10 * math.ceil(math.ceil(corpus.train.num_targets / 4) / 16)
    assert summary["seconds"] < summary["wall_seconds"]
    assert summary["val/unknown"] == 5 * 3  # d, g and ! in five sentences
    passage, _, earlier = (folder / "samples.txt").read_text().partition(f"\n{AS_IT_LEARNED}\n")
    assert len(passage) == 42
    assert earlier.count(" tokens:\n") == len(column(folder, "val/nll")) >= 10
    assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")


def test_the_reported_figures_are_those_of_the_last_checkpoint(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, summary, corpus = finished
    model, vocab, _ = load_parts(folder / "checkpoints" / "last.ckpt")
    assert vocab.symbols == corpus.codec.symbols
    tokens = torch.from_numpy(corpus.val.steps.astype(np.int64))
    with torch.no_grad():
        nll = F.cross_entropy(model(tokens[None, :-1])[0][0], tokens[1:]).item()
    assert summary["val/nll"] == pytest.approx(nll, abs=1e-6)
    assert sum(p.numel() for p in model.parameters()) == summary["parameters"]


def test_the_best_checkpoint_is_that_of_the_lowest_loss(finished: tuple[Path, dict[str, Any], Corpus]) -> None:
    folder, _, corpus = finished
    model, *_ = load_parts(folder / "checkpoints" / "best.ckpt")
    figures = measure(model, corpus.val, [Carried()])
    assert figures["val/nll"] == pytest.approx(min(column(folder, "val/nll")), abs=2e-2)  # during training, in bfloat16
    assert min(column(folder, "val/nll")) < column(folder, "val/nll")[-1]  # the last is not the best, so this can fail


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="this machine has one")
def test_a_device_that_is_not_there_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^trainer.accelerator=mps: there is none here"):
        run(corpus, tmp_path, "trainer.accelerator=mps")


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can reset a peak")
def test_the_peak_of_memory_is_of_this_run(corpus: Corpus, tmp_path: Path) -> None:
    """With a ballast in memory, the peak of a run is higher by the ballast than that of a later run without it."""
    chosen = ("trainer.max_epochs=1", "regime.streams=4", "regime.bptt=16")
    (tmp_path / "first").mkdir()
    run(corpus, tmp_path / "first", *chosen)  # only a first run allocates some of its memory
    ballast = torch.ones(2**25)
    weight = ballast.nbytes  # 128 MiB
    held = run(corpus, tmp_path, *chosen)["peak_memory_bytes"]
    del ballast
    (tmp_path / "again").mkdir()
    free = run(corpus, tmp_path / "again", *chosen)["peak_memory_bytes"]
    assert held - free == pytest.approx(weight, rel=0.25)
    assert free == pytest.approx(resident_bytes(), rel=0.25)  # of this process, right after the run


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
    model, *_ = load_parts(tmp_path / "checkpoints" / "last.ckpt")
    tokens = torch.from_numpy(corpus.train.steps.astype(np.int64))
    with torch.no_grad():
        nll = F.cross_entropy(model(tokens[None, :-1])[0][0], tokens[1:]).item()
    assert column(tmp_path, "train/nll") == pytest.approx([nll], abs=1e-6)  # batches of 1000 and 49 tokens


@pytest.mark.parametrize(
    ("regime", "epochs"),
    [("stateful", 6), ("onestep", 1), ("windowed", 6), ("segments", 6), ("padded", 6), ("shuffled_carry", 6)],
)
def test_every_regime_trains(regime: str, epochs: int, corpus: Corpus, tmp_path: Path) -> None:
    """It learns from context: the loss falls well below the best possible loss of a model without context."""
    chosen = (f"regime={regime}", *REGIMES.get(regime, REGIMES["stateful"]))
    summary = run(corpus, tmp_path, *chosen, f"trainer.max_epochs={epochs}")
    assert summary["regime"] == regime
    assert summary["tokens"] == epochs * corpus.train.num_targets
    shares = np.unique(corpus.val.steps[1:], return_counts=True)[1] / corpus.val.num_targets
    without_context = float(-(shares * np.log(shares)).sum())  # the entropy of single symbols, 2.71
    untrained = Generator(config(*SMALL).model, corpus.codec.size)
    assert measure(untrained, corpus.val, [Carried()])["val/nll"] > without_context
    assert 0 < summary["val/nll"] < without_context / 2  # from 0.3 to 0.85 with any of three seeds; 0.04 with `onestep`


def test_the_same_seed_gives_the_same_weights(corpus: Corpus, tmp_path: Path) -> None:
    weights = []
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        (tmp_path / name).mkdir()
        run(corpus, tmp_path / name, f"seed={seed}", "trainer.max_epochs=2", "model.dropout=0.3", "regime.rotate=true")
        weights.append(load_parts(tmp_path / name / "checkpoints" / "last.ckpt")[0].head.weight)
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
    wanted: Any, accelerator: str, flags: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor : 0\n{flags}\n")
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "cpuinfo")
    assert machine.precision(wanted, accelerator) == expected


def test_precision_is_float32_where_the_system_does_not_tell_of_its_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "CPUINFO", tmp_path / "nothing")
    assert machine.precision("auto", "cpu") == "32-true"


@pytest.mark.parametrize(
    ("codec", "raw"),
    [(Words(), "the fox. " * 90), (Bpe(vocab_size=260), "the fox. " * 90), (Ids(), np.tile(np.arange(5), 90))],
    ids=lambda value: value.name if isinstance(value, Codec) else "",
)
def test_steps_that_are_no_characters_have_no_bits_per_character(codec: Codec, raw: Any, tmp_path: Path) -> None:
    corpus = Corpus.of(codec, [raw], [raw[:90]])
    run(corpus, tmp_path, "budget.tokens=100", "regime.streams=4", "regime.bptt=8")
    said = (tmp_path / "terminal.txt").read_text()
    assert re.search(r"val nll \d\.\d+ \(perplexity \d+\.\d\), with resets", said)
