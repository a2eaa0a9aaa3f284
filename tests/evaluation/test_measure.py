import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from throughline.batches.batch import Batches
from throughline.data.codecs.bpe import Bpe
from throughline.data.codecs.bytes import Bytes
from throughline.data.corpus import Corpus
from throughline.data.line import Line
from throughline.evaluation import measure as module
from throughline.evaluation.measure import ByPosition, BySequence, by_text, measure
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.evaluation.readings.reset import Reset
from throughline.model.generator import Generator
from throughline.model.optimizers import SGD
from throughline.model.settings import LSTM
from throughline.runs.trained import Trained
from throughline.training.learner import Learner

BOTH = [Carried(), Reset()]


def random_line(n: int) -> Line:
    return Line.of([np.random.default_rng(0).integers(1, 9, n).astype(np.uint8)])


def nll(model: Generator, line: Line, reset_every: int) -> tuple[float, float]:
    """By hand: mean nll and accuracy over all targets, starting from zeros every `reset_every` targets."""
    tokens = torch.from_numpy(line.steps.astype(np.int64))
    with torch.no_grad():
        logits = torch.cat([model(piece[None])[0][0] for piece in tokens[:-1].split(reset_every)])
    return F.cross_entropy(logits, tokens[1:]).item(), (logits.argmax(-1) == tokens[1:]).double().mean().item()


@pytest.mark.parametrize("targets", [1, 10, 999])
def test_both_figures_equal_those_worked_out_by_hand(model: Generator, targets: int) -> None:
    model.core.weight_hh_l0.data *= 5  # so that the state matters
    line = random_line(targets + 1)
    figures = measure(model, line, BOTH, Evaluation(reset_every=10))
    carried, accuracy = nll(model, line, reset_every=10**9)
    assert figures["val/nll"] == pytest.approx(carried, abs=1e-12)
    assert figures["val/bpc"] == pytest.approx(carried / np.log(2), abs=1e-12)
    assert figures["val/ppl"] == pytest.approx(np.exp(carried), abs=1e-12)
    assert figures["val/accuracy"] == pytest.approx(accuracy, abs=1e-12)
    reset, _ = nll(model, line, reset_every=10)
    assert figures["val/nll_reset"] == pytest.approx(reset, abs=1e-12)
    assert (abs(carried - reset) > 1e-5) == (targets > 10)


def test_nll_by_position_equals_that_worked_out_by_hand(model: Generator, tmp_path: Path) -> None:
    line, by_position = random_line(36), ByPosition(10, random_line(36))
    figures = measure(model, line, BOTH, Evaluation(reset_every=10), by_position=by_position)
    by_position.write(tmp_path / "by_position.csv")
    with (tmp_path / "by_position.csv").open(newline="") as file:
        rows = [(int(row["position"]), float(row["nll"]), int(row["targets"])) for row in csv.DictReader(file)]
    tokens = torch.from_numpy(line.steps.astype(np.int64))
    with torch.no_grad():
        rest = [F.cross_entropy(model(t[None, :-1])[0][0], t[1:], reduction="none") for t in tokens.unfold(0, 11, 10)]
        rest.append(F.cross_entropy(model(tokens[None, 30:-1])[0][0], tokens[31:], reduction="none"))
    columns = [[piece[p].item() for piece in rest if p < len(piece)] for p in range(10)]
    assert rows == [(p, pytest.approx(np.mean(column)), len(column)) for p, column in enumerate(columns, start=1)]
    assert [targets for _, _, targets in rows] == [4] * 5 + [3] * 5
    assert sum(nll * targets for _, nll, targets in rows) / 35 == pytest.approx(figures["val/nll_reset"], abs=1e-12)


def test_the_figure_while_training_is_close_to_the_exact_one(model: Generator) -> None:
    for weight in model.parameters():
        weight.data *= 3  # so that the state matters
    line = random_line(8000)

    def while_training(warmup: int) -> list[float]:
        learner, evaluation = Learner(model, Bytes(), SGD(), BOTH), Evaluation(streams=8, warmup=warmup)
        learner.on_validation_epoch_start()
        for number, reading in enumerate(BOTH):
            for k, batch in enumerate(Batches(reading.plan(line, evaluation, exact=False), line)):
                learner.validation_step(batch, k, number)
                learner.carry.commit(reading.name)
        return [meter.compute()[f"val/nll{meter.suffix}"] for meter in learner.meters]

    exact, _ = nll(model, line, reset_every=10**9)
    carried, reset = while_training(warmup=64)
    assert carried == pytest.approx(exact, abs=1e-9)
    assert abs(while_training(warmup=0)[0] - exact) > 1e-3  # rows that begin from zeros differ
    assert reset == pytest.approx(nll(model, line, 256)[0], abs=1e-12)


def test_sequences_are_measured_one_by_one(model: Generator) -> None:
    rng = np.random.default_rng(0)
    lengths = [5, 0, 9, 1, 30, 2]
    line = Line.with_ends([rng.integers(1, 8, length).astype(np.uint8) for length in lengths], end=8)
    alone: list[Any] = []
    for first, last in zip(line.edges[:-1].tolist(), line.edges[1:].tolist(), strict=True):
        steps = torch.from_numpy(line.steps[first : last + 1].astype(np.int64))[None]
        with torch.no_grad():
            alone.append(model.score(steps[:, :-1], steps[:, 1:])[0][0].numpy())
    by_position, by_sequence = ByPosition(10, line), BySequence(line)
    readings = [*BOTH, Dynamic(lr=0.0, bptt=4)]
    figures = measure(model, line, readings, Evaluation(reset_every=4, streams=2), None, by_position, by_sequence)
    targets = sum(lengths) + len(lengths)
    whole = np.concatenate(alone)
    assert len(whole) == targets
    assert figures["val/nll"] == pytest.approx(whole.mean(), abs=1e-12)
    assert figures["val/nll_dynamic"] == pytest.approx(whole.mean(), abs=1e-12)
    assert figures["val/sequence_nll"] == pytest.approx(whole.sum() / len(lengths), abs=1e-12)
    assert abs(figures["val/nll_reset"] - figures["val/nll"]) > 1e-6
    rows = list(by_sequence.rows())
    assert [(number, count) for number, _, count, *_ in rows] == [(i, n + 1) for i, n in enumerate(lengths, start=1)]
    np.testing.assert_allclose([nll for _, nll, *_ in rows], [part.sum() for part in alone], rtol=1e-12)
    assert sum(correct for *_, correct, _ in rows) == pytest.approx(figures["val/accuracy"] * targets)
    assert by_position.targets.tolist() == [sum(len(part) > p for part in alone) for p in range(31)]
    np.testing.assert_allclose(by_position.nll_sum, [sum(part[p] for part in alone if len(part) > p) for p in range(31)])


def test_the_probabilities_of_all_sequences_add_up_to_1() -> None:
    """Over 2 symbols and an end: those of up to 7 symbols, and that of being longer."""
    torch.manual_seed(0)
    generator = Generator(LSTM(hidden_size=4, embedding_size=3), vocab_size=4).double()
    for weight in generator.parameters():
        weight.data.uniform_(-2, 2)
    generator.head.bias.data[0] = -torch.inf  # the unknown symbol, which no sequence has
    sequences = [np.array(s, np.uint8) for n in range(8) for s in itertools.product([1, 2], repeat=n)]
    line, by_sequence = Line.with_ends(sequences, end=3), BySequence(Line.with_ends(sequences, end=3))
    measure(generator, line, [Carried()], by_sequence=by_sequence)
    longer = 0.0
    for sequence in itertools.product([1, 2], repeat=8):
        steps = torch.tensor([[3, *sequence]])
        with torch.no_grad():
            longer += float((-generator.score(steps[:, :-1], steps[:, 1:])[0].sum()).exp())
    assert longer > 1e-6
    assert np.exp(-by_sequence.nll).sum() + longer == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("piece", [2, 2**20])
def test_the_nll_of_subwords_by_words_and_bytes(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PIECE", piece)
    codec = Bpe(vocab_size=260).fit(["the cat\n" * 9])
    line = Line.of([codec.encode("\nthe cat\nsat é\n")])  # behind the first step: 4 words, 2 line breaks and 15 bytes
    assert line.num_targets not in (6, 15)
    nll = 0.5 * line.num_targets
    assert by_text({"val/nll": 0.5}, line, codec) == pytest.approx(
        {"val/bpb": nll / 15 / np.log(2), "val/word_nll": nll / 6, "val/word_ppl": np.exp(nll / 6)}, abs=1e-12
    )
    assert by_text({"test/nll": 1e6}, line, codec, "test")["test/word_ppl"] == np.inf
    assert by_text({"val/nll": 0.5}, random_line(9), Bytes()) == {}


def test_of_bytes_as_subwords_the_bits_per_byte_are_those_per_step() -> None:
    codec = Bpe(vocab_size=256).fit([""])
    model = Generator(LSTM(hidden_size=4), codec.size).double()
    found = Trained(model, codec).evaluate(Corpus.of(codec, ["the cat sat"], ["the cat ran é"]))
    assert found["val/bpb"] == pytest.approx(found["val/bpc"], abs=1e-12)
    assert found["val/word_nll"] == pytest.approx(found["val/nll"] * 13 / 3, abs=1e-12)  # "the" is begun by the first step
