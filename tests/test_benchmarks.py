"""The benchmarks compare the same problem on both sides, and write down their measurements."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import run, speedrun
from benchmarks.measurements.duel import Duel, Worker
from benchmarks.measurements.figures import Figure, Row, once
from benchmarks.measurements.speed import SECOND_BIAS
from benchmarks.page import results
from benchmarks.page.kept import load, save
from benchmarks.page.table import table
from benchmarks.peers import bare
from benchmarks.peers.matmul import LIBRARIES, product, step_shapes
from benchmarks.peers.product import Paced
from benchmarks.peers.shakespeare import chunks, read
from benchmarks.peers.transformer import Transformer, learning_rate
from benchmarks.scaling import Point, enough
from helpers import column
from helpers import run as train
from throughline.config import Config
from throughline.data.sources.text import Text
from throughline.model.generator import Generator
from throughline.model.settings import LSTM
from throughline.regimes.stateful import Stateful

SIZES = LSTM(hidden_size=16, embedding_size=8)


def test_the_text_is_read_as_the_product_reads_it(tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_text("the quick brown fox. " * 20 + "jumps over")
    corpus = Text(str(tmp_path / "text.txt")).read()
    train_tokens, val_tokens, vocab_size = read(tmp_path / "text.txt")
    np.testing.assert_array_equal(train_tokens, corpus.train.steps)
    np.testing.assert_array_equal(val_tokens, corpus.val.steps)
    assert vocab_size == corpus.codec.size
    assert corpus.unknown == 5  # j, m, p, s and v; the training split does not contain them


def test_a_regime_around_another_one_can_be_shown() -> None:
    config = Config(regime=Paced(Stateful(streams=4)), seed=3)
    assert config.differences() == {"regime": "paced", "seed": 3}


def test_chunks_are_streams_in_order() -> None:
    inputs, targets = chunks(np.arange(14), streams=2, bptt=3)
    assert inputs.tolist() == [[[0, 1, 2], [6, 7, 8]], [[3, 4, 5], [9, 10, 11]]]
    assert targets.tolist() == [[[1, 2, 3], [7, 8, 9]], [[4, 5, 6], [10, 11, 12]]]


def test_the_bare_loop_is_the_product_without_the_product(tmp_path: Path) -> None:
    """Same weights, same text: the same loss at each step of two epochs."""
    (tmp_path / "text.txt").write_text("the quick brown fox. " * 46)  # 869 characters to train on: 4 x 217 targets
    corpus = Text(str(tmp_path / "text.txt")).read()
    assert corpus.train.num_targets == 4 * 217
    torch.manual_seed(1)
    ours = Generator(SIZES, corpus.codec.size).state_dict()
    weights = {k.replace("reader.", "embedding.").replace("core.", "lstm."): value for k, value in ours.items()}
    streams = ["regime.streams=4", "regime.bptt=31", "trainer.precision=32-true", "trainer.log_every_n_steps=1"]
    train(corpus, tmp_path, *streams, "schedule=constant", "trainer.max_epochs=2", "regime.reset_probability=0")

    model = bare.Generator(corpus.codec.size, SIZES.embedding_size, SIZES.hidden_size)
    model.load_state_dict(weights)
    loop = bare.Loop(model, "32-true")
    inputs, targets = map(torch.from_numpy, chunks(read(tmp_path / "text.txt")[0], streams=4, bptt=31))
    losses = [float(loss) for _ in range(2) for loss in loop.epoch(inputs, targets)]
    assert len(losses) == 14
    assert column(tmp_path, "train/nll") == pytest.approx(losses, rel=1e-4)
    assert losses[-1] < losses[0]


def test_the_models_have_as_many_parameters() -> None:
    ours, theirs = (sum(p.numel() for p in model.parameters()) for model in (Generator(LSTM(), 66), bare.Generator(66)))
    assert ours == theirs == 350_914
    assert ours - SECOND_BIAS == 349_890  # as in Keras; `benchmarks/measurements/speed.py` checks this at every run
    assert 0.80e6 < sum(p.numel() for p in Transformer(66).parameters()) < 0.81e6  # nanoGPT prints 0.80M


def test_the_transformers_schedule() -> None:
    rates = [learning_rate(step, 300) for step in (0, 99, 100, 200, 300)]
    assert rates == pytest.approx([1e-3 / 101, 1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4])


def test_the_products_of_a_step_are_all_that_is_counted() -> None:
    shapes = step_shapes(B=64, T=32, E=64, H=256, V=66)
    operations = Generator(LSTM(), 66).operations()
    counted = 64 * 32 * operations.per_position - 64 * operations.less_per_row
    assert sum(2 * m * k * n for m, k, n in shapes) == counted
    assert (shapes.count((64, 256, 1024)), shapes.count((64, 1024, 256))) == (32, 31)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_product_is_one(library: str) -> None:
    if library == "oneDNN" and not torch.backends.mkldnn.is_available():
        pytest.skip("this PyTorch has no oneDNN")
    torch.manual_seed(1)
    result = product(3, 4, 5, torch.float32, library)()
    torch.manual_seed(1)
    a, b = torch.randn(3, 4), torch.randn(5, 4)
    torch.testing.assert_close(result.to_dense() if result.is_mkldnn else result, a @ b.t())


def test_a_worker_works_a_slice_at_each_line() -> None:
    with Worker([sys.executable, "-m", "benchmarks.peers.matmul", "--size", "8", "--seconds", "0.001"]) as worker:
        for _ in range(2):
            slice_ = worker.slice()
            assert slice_["tokens"] % (2 * 8**3) == 0
            assert slice_["seconds"] >= 0.001


def test_a_ratio_is_between_slices_of_one_round() -> None:
    def landing(*rates: float) -> list[dict[str, float]]:
        return [{"tokens_per_second": rate} for rate in rates]

    fast_then_slow = [landing(20.0, 10.0, 10.0), landing(40.0, 40.0, 8.0)]
    duel = Duel({"ours": fast_then_slow, "theirs": [landing(10.0, 5.0, 10.0), landing(10.0, 10.0, 4.0)]})
    assert duel.ratio("ours", "theirs") == Figure(2.0, 2.0, 4.0, "6 in 2 landings")
    assert duel.rate("ours") == 15.0


def test_the_table(tmp_path: Path) -> None:
    rows = [
        Row("a", "20 tokens/s", "10 tokens/s", Figure(2.0, 1.5, 2.5, "7"), at_least=1.5),
        Row("b", figure=Figure(0.9, 0.9, 0.9, "6 in 3 landings"), at_least=1.0),
        Row("c", "1.5000", figure=once(1.5), unit="nats", at_most=1.25),
        Row("d", at_least=300, note="there is no peer"),
        Row("e", figure=once(-0.5), unit="%", at_most=5.0, quick=True),
    ]
    save(rows, tmp_path / "kept" / "rows.json")
    assert load(tmp_path / "kept" / "rows.json") == rows
    assert table(rows) == (
        "| what | throughline | peer | figure | spread (repeats) | target | met |\n"
        "| --- | --- | --- | --- | --- | --- | --- |\n"
        "| a | 20 tokens/s | 10 tokens/s | 2.00 x | 1.50 x to 2.50 x (7) | >= 1.50 x | yes |\n"
        "| b |  |  | 0.90 x | 0.90 x to 0.90 x (6 in 3 landings) | >= 1.00 x | no, by 10.0% |\n"
        "| c | 1.5000 |  | 1.5000 |  | <= 1.2500 | no, by 20.0% |\n"
        "| d |  |  | not measured |  | >= 300.00 x |  |\n"
        "| e (quick) |  |  | -0.5 % |  | <= 5.0 % | yes |\n"
    )


def test_what_is_not_measured_has_no_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THROUGHLINE_DATA", str(tmp_path))
    for name in run.GROUPS:
        save(run.measure(name, quick=True), tmp_path / f"{name}.json")
    monkeypatch.setattr(results, "draw", lambda *_: None)
    results.write(tmp_path, tmp_path, run.GROUPS)
    text = (tmp_path / "RESULTS.md").read_text()
    assert text.count("| not measured |") == len(run.GROUPS)
    assert json.dumps("set THROUGHLINE_DATA to the folder above it")[1:-1] in text


def test_how_much_is_enough() -> None:
    speeds = {1: 10.0, 8: 70.0, 32: 91.0, 128: 100.0, 512: 95.0}
    curve = {value: [Point(speed, 0.0, 0.0, 0.0)] for value, speed in speeds.items()}
    assert enough(curve) == 32


def test_a_record_counts_if_every_seed_reaches_the_goal() -> None:
    record = speedrun.Record("strict", 60, "Muon", "optimizer=muon")
    arguments = f"optimizer=muon {speedrun.COMMON} budget.seconds=60"

    def ended(seed: int, strict: float) -> dict[str, Any]:
        nll = {"carried": 1.25, "strict": strict}
        own = {"board": "strict", "arguments": arguments, "seed": seed, "nll": nll, "whole": 64.0}
        return {**own, "tokens": 1000, "parameters": 500, "machine": "a machine"}

    def row(runs: list[dict[str, Any]]) -> str:
        return next(line for line in speedrun.page([record], runs).splitlines() if line.endswith("| Muon |"))

    reached = [ended(1, 1.5), ended(1, 1.46), ended(2, 1.45), ended(3, 1.47 - 0.0003)]  # seed 1 was run again
    assert row(reached) == ("| 60 | 64 | 1.4600, 1.4500, 1.4697 | 1.4599 ±0.0099 | 1.2500 ±0.0000 | 500 | 1,000 | Muon |")
    assert row(reached[:3]).startswith("| 60, not reached | 64 | 1.4600, 1.4500 |")
    assert row([*reached, ended(3, 1.4698)]).startswith("| 60, not reached | 64 | 1.4600, 1.4500, 1.4698 |")
    assert row([]).startswith("| 60, not run |  |  |  |")
