"""On a GPU, a run trains what it trains on the CPU, is resumed bit for bit, and every handle works."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

import throughline as tl
from helpers import (
    QUICK,
    REGIMES,
    SEQUENCES,
    column,
    config,
    figures,
    fox,
    kept,
    names,
    roll,
    run,
    run_with_kills,
    series,
    weights_hash,
    without_times,
)
from throughline.data.corpus import Corpus
from throughline.evaluation.measure import measure
from throughline.evaluation.readings.cache import Cache
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.evaluation.readings.reset import Reset
from throughline.model.generator import Generator
from throughline.runs.trained import load
from throughline.training import tuning

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here that PyTorch can use"),
    # lightning warns of a run on the CPU beside a GPU, which is what is compared here
    pytest.mark.filterwarnings("ignore:GPU available but not used"),
    # weights of a layer that are copied for a batch are no single block; see throughline.plumbing.startup
    pytest.mark.filterwarnings("ignore:.*not part of single contiguous chunk of memory"),
]

GPU = "trainer.accelerator=gpu"
EXACT = ("trainer.precision=64-true", "trainer.max_epochs=2", "trainer.log_every_n_steps=5")
WAYS = {name: (f"regime={name}", *chosen) for name, chosen in REGIMES.items() if name != "onestep"}
"""`onestep` trains on the CPU, because an update per token is faster there."""
BY_SEQUENCE = {name: chosen for name, chosen in SEQUENCES.items() if name != "onestep"}


@pytest.fixture(autouse=True)
def the_gpu_is_used() -> Iterator[None]:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_stats().get("allocation.all.allocated", 0)
    yield
    assert torch.cuda.memory_stats().get("allocation.all.allocated", 0) > before


def assert_same(corpus: Corpus, folder: Path, *chosen: str) -> None:
    """A run in float64 on the CPU and on the GPU ends with the same weights and losses."""
    cpu, gpu = run(corpus, folder / "cpu", *chosen), run(corpus, folder / "gpu", *chosen, GPU)
    assert column(folder / "gpu", "train/nll")[-1] < column(folder / "gpu", "train/nll")[0]
    assert (cpu["device"], gpu["device"]) == ("cpu", "cuda:0")
    for mine, yours in zip(kept(folder / "gpu"), kept(folder / "cpu"), strict=True):
        torch.testing.assert_close(mine, yours, rtol=0, atol=1e-8)
    for name in ("train/nll", "val/nll", "val/nll_reset"):
        assert column(folder / "gpu", name) == pytest.approx(column(folder / "cpu", name), abs=1e-9), name
    assert len(column(folder / "gpu", "train/nll")) > 2


@pytest.mark.parametrize("way", WAYS)
def test_a_run_ends_as_on_the_cpu(way: str, tmp_path: Path) -> None:
    assert_same(fox(), tmp_path, *WAYS[way], *EXACT)


@pytest.mark.parametrize("way", BY_SEQUENCE)
def test_a_run_on_sequences_ends_as_on_the_cpu(way: str, tmp_path: Path) -> None:
    assert_same(names(), tmp_path, *BY_SEQUENCE[way], *EXACT, "model.num_layers=2")


@pytest.mark.parametrize("model", ["lstm256", "gru256", "lstm256 model.input=onehot", "lstm256 model.tie_weights=true"])
def test_every_core_and_input_trains_as_on_the_cpu(model: str, tmp_path: Path) -> None:
    same_size = "model.embedding_size=16" if "tie" in model else "model.num_layers=2"
    chosen = (f"model={model.split()[0]}", *model.split()[1:], same_size, "model.hidden_size=16")
    assert_same(fox(), tmp_path, *WAYS["stateful"], *chosen, *EXACT)


@pytest.mark.parametrize("corpus", [roll(), series()], ids=["binary", "real"])
def test_frames_train_as_on_the_cpu(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *EXACT)
    cpu, gpu = run(corpus, tmp_path / "cpu", *chosen), run(corpus, tmp_path / "gpu", *chosen, GPU)
    assert gpu["val/nll"] == pytest.approx(cpu["val/nll"], abs=1e-8)


@pytest.mark.parametrize("way", [*WAYS, *BY_SEQUENCE])
@pytest.mark.parametrize("layers", [1, 2])
def test_a_killed_run_goes_on_bit_for_bit(way: str, layers: int, tmp_path: Path) -> None:
    """Dropout as well: with several layers cuDNN draws it, from a state of its own."""
    corpus, chosen = (fox(), WAYS[way]) if way in WAYS else (names(), BY_SEQUENCE[way])
    settings = (*chosen, *QUICK, GPU, f"model.num_layers={layers}", "trainer.val_check_interval=7")
    run(corpus, tmp_path / "alone", *settings)
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", 20), ("on_train_batch_end", 3)], *settings)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "alone")


@pytest.mark.parametrize("chosen", ["callbacks=ema", "callbacks=swa", "callbacks=[early_stopping,lr_monitor]"])
def test_callbacks_work_and_resume_bit_for_bit(chosen: str, tmp_path: Path) -> None:
    settings = (*WAYS["stateful"], *QUICK, GPU, chosen)
    run(fox(), tmp_path / "alone", *settings)
    run_with_kills(fox(), tmp_path / "killed", [("on_train_batch_end", 20)], *settings)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert column(tmp_path / "killed", "val/nll") == column(tmp_path / "alone", "val/nll")


def test_averages_are_those_of_the_cpu(tmp_path: Path) -> None:
    assert_same(fox(), tmp_path, *WAYS["stateful"], *EXACT, "callbacks=ema", "callbacks.ema.decay=0.8")


@pytest.mark.parametrize("precision", ["auto", "32-true", "bf16-mixed", "64-true"])
def test_every_precision_learns(precision: str, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=8", "trainer.log_every_n_steps=5")
    record = run(fox(), tmp_path, *chosen, GPU, f"trainer.precision={precision}", "evaluation.reset_every=16")
    losses = column(tmp_path, "train/nll")
    assert losses[-1] < 0.7 * losses[0]
    assert record["val/nll"] < 2.0
    assert record["peak_memory_bytes"] > 0
    assert record["device/utilisation"] > 0
    assert any("device/driver_utilisation" in row for row in figures(tmp_path))


@pytest.mark.parametrize("reading", [Carried(), Reset(), Dynamic(bptt=5), Cache(window=9)], ids=lambda r: r.name)
def test_readings_measure_what_they_measure_on_the_cpu(reading: Any, model: Generator) -> None:
    line = fox().val
    generator = Generator(replace(model.settings, dropout=0.0), fox().codec.size).double().eval()
    there = copy.deepcopy(generator)
    cpu = measure(generator, line, [reading])
    gpu = measure(there, line, [reading], device=torch.device("cuda"))
    assert gpu.keys() == cpu.keys()
    for name, value in cpu.items():
        assert gpu[name] == pytest.approx(value, abs=1e-10), name


def test_a_trained_model_writes_and_begins_another_run(tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=2", "logger=none", GPU)
    run(fox(), tmp_path / "first", *chosen)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    trained = load(last)
    assert len(trained.generate("the ", 40, seed=1)) == 44
    live = trained.live()
    assert len(list(live.read(trained.codec.prompt("the quick")))) == 8
    record = run(names(), tmp_path / "second", "regime.streams=4", "trainer.max_epochs=1", GPU, f"init_from={last}")
    assert record["device"] == "cuda:0"


@pytest.mark.parametrize("what", ["lr", "streams"])
def test_a_setting_is_found(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "SECONDS", 2.0)
    settings = config("model.hidden_size=16", GPU, f"tune={what}", "regime.streams=4", "regime.bptt=16", "logger=none")
    found = tuning.tune(settings, fox(), Console(quiet=True))
    assert found.startswith("optimizer.lr=" if what == "lr" else "regime.streams=")


def test_a_model_on_the_gpu_is_checked() -> None:
    torch.manual_seed(0)

    class Core(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = torch.nn.LSTM(5, 6)

        def forward(self, x: Any, state: Any = None) -> Any:
            return self.lstm(x, state)

    report = tl.check(Core().cuda(), torch.randn(12, 3, 5, device="cuda"), batch_first=False)
    assert report.passed, str(report)


def test_batches_are_read_ahead_and_pinned(tmp_path: Path) -> None:
    chosen = (*WAYS["stateful"], "trainer.max_epochs=1", GPU)
    run(fox(), tmp_path / "alone", *chosen)
    run(fox(), tmp_path / "workers", *chosen, "trainer.num_workers=2")
    assert weights_hash(tmp_path / "workers") == weights_hash(tmp_path / "alone")
    assert np.isfinite(column(tmp_path / "alone", "val/nll")).all()
