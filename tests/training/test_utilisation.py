"""The operations of the model are those that a counter counts. A run reports its share of the device's rate."""

import csv
import json
import time
from pathlib import Path

import pytest
import torch

from helpers import column, run
from throughline.batches.batch import Batch, Batches
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.model.settings import LSTM
from throughline.training import utilisation
from throughline.training.internals import DataWait
from throughline.training.utilisation import calibrated, matrix_rate

SIZES = LSTM(hidden_size=16, embedding_size=8)
"""The model of the runs here."""


def test_the_operations_written_out() -> None:
    def per_position(settings: LSTM) -> int:
        return Generator(settings, 5).operations().per_position

    assert per_position(LSTM(hidden_size=2, embedding_size=3)) == 6 * (8 * 3 + 8 * 2 + 5 * 2)
    assert per_position(LSTM(hidden_size=2, num_layers=2, embedding_size=3)) == 6 * (8 * 3 + 8 * 2 * 3 + 5 * 2)
    assert per_position(LSTM(hidden_size=2, input="onehot")) == 6 * (8 * 2 + 5 * 2)
    assert Generator(LSTM(hidden_size=2, num_layers=3), 5).operations().less_per_row == 3 * 2 * 8 * 2


@pytest.mark.parametrize(
    ("precision", "clock"),
    [
        # the loop reads the clock, then reads it before and after a product; the products take 2, 1 and 4 seconds
        ("64-true", [0, 0, 0, 2, 2, 2, 3, 3, 3, 7, 7]),
        # before and after a product by each library; they take 2 and 1, then 2 and 2 seconds
        ("32-true", [0, 0, 0, 2, 2, 3, 3, 3, 5, 5, 7, 7]),
        ("bf16-mixed", [0, 0, 0, 2, 2, 3, 3, 3, 5, 5, 7, 7]),
    ],
)
def test_the_matrix_rate_is_that_of_the_fastest_product(
    precision: str, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    if precision != "64-true" and not utilisation.onednn_multiplies(precision):
        pytest.skip("oneDNN does not multiply that here")
    times = iter(clock)
    monkeypatch.setattr(utilisation.time, "perf_counter", lambda: next(times))
    assert matrix_rate(torch.device("cpu"), precision, seconds=7) == 2 * 512**3 / 1
    assert next(times, None) is None


def test_the_fastest_rate_of_a_run_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([100.0, 90.0, 120.0, 80.0])
    monkeypatch.setattr(utilisation, "matrix_rate", lambda *_: next(rates))
    file, device = tmp_path / "run" / "device.json", torch.device("cpu")
    assert calibrated(file, device, "32-true") == 100
    assert calibrated(file, device, "32-true") == 100
    assert json.loads(file.read_text()) == {
        "device": "cpu",
        "precision": "32-true",
        "threads": torch.get_num_threads(),
        "flops_per_second": 100.0,
    }
    assert calibrated(file, device, "32-true", again=True) == 100
    assert calibrated(file, device, "32-true", again=True) == calibrated(file, device, "32-true") == 120
    assert calibrated(file, device, "64-true") == 80  # another precision has its own rate


def test_waiting_for_data_is_told_from_everything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([1.0, 3.5, 10.0, 10.25])
    monkeypatch.setattr(utilisation.time, "perf_counter", lambda: next(clock))
    wait = DataWait()
    for action in (DataWait.FETCH, "[_EvaluationLoop].val_next", DataWait.FETCH):
        with wait.profile("run_training_batch"):
            wait.start(action)
            wait.stop(action)
    assert wait.seconds == 2.75


def test_single_tokens_need_no_gradient_of_a_state(corpus: Corpus, tmp_path: Path) -> None:
    summary = run(corpus, tmp_path, "regime=onestep", "regime.updates=10", "budget.tokens=30")
    operations = Generator(SIZES, corpus.codec.size).operations()
    assert summary["flops"] == 30 * (operations.per_position - operations.less_per_row)


def test_a_run_logs_its_share_of_the_matrix_rate(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pause, read = 0.01, Batches.__getitem__

    def slowly(self: Batches, item: int) -> Batch:
        time.sleep(pause)
        return read(self, item)

    monkeypatch.setattr(Batches, "__getitem__", slowly)
    monkeypatch.setattr(utilisation, "matrix_rate", lambda *_: 1e9)
    small = ("regime=windowed", "regime.steps=7", "regime.batch_size=50", "trainer.max_epochs=1")
    summary = run(corpus, tmp_path, *small, "trainer.log_every_n_steps=5")
    windows = corpus.train.num_targets  # each has 7 steps, the first windows after padding; 50 per batch
    assert summary["positions"] == windows * 7
    operations = Generator(SIZES, corpus.codec.size).operations()
    per_window = 7 * operations.per_position - operations.less_per_row
    assert summary["flops"] == windows * per_window
    assert summary["device/utilisation"] == pytest.approx(summary["flops"] / 1e9 / summary["seconds"])
    # Lightning's name for a fetch is not public. If it changes, `DataWait.FETCH` matches nothing and no wait is measured.
    # Then this test fails.
    waited = summary["steps"] * pause / summary["seconds"]
    assert 0.1 < waited <= summary["device/data_wait"] < 1

    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["train/nll"]]
    assert [float(row["device/utilisation"]) for row in rows] == pytest.approx(
        [float(row["train/tokens_per_second"]) * per_window / 1e9 for row in rows]
    )
    assert all(float(row["train/grad_norm"]) > 0 for row in rows)
    if not torch.cuda.is_available():
        assert column(tmp_path, "device/driver_utilisation") == []


def test_the_gradient_norm_of_a_row_is_the_mean_over_its_updates(corpus: Corpus, tmp_path: Path) -> None:
    still = ("optimizer=sgd", "optimizer.lr=1e-30", "schedule=constant", "trainer.precision=64-true", "regime=segments")
    means = []
    for name, more in (("each", []), ("pairs", ["trainer.accumulate_grad_batches=2"])):
        (tmp_path / name).mkdir()
        batches = ("regime.steps=525", "regime.batch_size=1", "trainer.log_every_n_steps=4", "trainer.max_epochs=4")
        run(corpus, tmp_path / name, *still, *batches, *more)
        means.append(column(tmp_path / name, "train/grad_norm"))
    each, pairs = means
    assert len(each) == len(pairs) == 8 // 4 + 2
    assert each[0] > 0
    # The two pieces of this text are near copies, so the mean of their gradients has nearly the norm of either.
    assert pairs == pytest.approx(each, rel=0.1)
