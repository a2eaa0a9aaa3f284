import csv
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from throughline.batches.batch import Batches
from throughline.config import Evaluation
from throughline.data.corpus import Line
from throughline.data.vocab import Vocab
from throughline.evaluation.measure import ByPosition, evaluate
from throughline.evaluation.protocol import carried_plan, loaders
from throughline.model.generator import LSTMGenerator
from throughline.training.learner import STAGES, Learner

VOCAB = Vocab("abcdefgh")


def random_line(n: int) -> Line:
    return Line.of([np.random.default_rng(0).integers(1, 9, n).astype(np.uint8)])


def nll(model: LSTMGenerator, line: Line, reset_every: int) -> tuple[float, float]:
    """By hand: mean nll and accuracy over all targets, from zeros every `reset_every` of them."""
    tokens = torch.from_numpy(line.tokens.astype(np.int64))
    with torch.no_grad():
        logits = torch.cat([model(piece[None])[0][0] for piece in tokens[:-1].split(reset_every)])
    return F.cross_entropy(logits, tokens[1:]).item(), (logits.argmax(-1) == tokens[1:]).double().mean().item()


@pytest.mark.parametrize("targets", [1, 10, 999])
def test_both_figures_equal_those_worked_out_by_hand(model: LSTMGenerator, targets: int) -> None:
    model.lstm.weight_hh_l0.data *= 5  # so that the state matters
    line = random_line(targets + 1)
    figures = evaluate(model, VOCAB, line, Evaluation(reset_every=10), accelerator="cpu")
    carried, accuracy = nll(model, line, reset_every=10**9)
    assert figures["val/nll"] == pytest.approx(carried, abs=1e-12)
    assert figures["val/bpc"] == pytest.approx(carried / np.log(2), abs=1e-12)
    assert figures["val/ppl"] == pytest.approx(np.exp(carried), abs=1e-12)
    assert figures["val/accuracy"] == pytest.approx(accuracy, abs=1e-6)
    reset, _ = nll(model, line, reset_every=10)
    assert figures["val/nll_reset"] == pytest.approx(reset, abs=1e-12)
    assert (abs(carried - reset) > 1e-5) == (targets > 10)


def test_nll_by_position_equals_that_worked_out_by_hand(model: LSTMGenerator, tmp_path: Path) -> None:
    line, by_position = random_line(36), ByPosition(reset_every=10)
    figures = evaluate(model, VOCAB, line, Evaluation(reset_every=10), "cpu", by_position)
    by_position.write(tmp_path / "by_position.csv")
    with (tmp_path / "by_position.csv").open(newline="") as file:
        rows = [(int(row["position"]), float(row["nll"]), int(row["targets"])) for row in csv.DictReader(file)]
    tokens = torch.from_numpy(line.tokens.astype(np.int64))
    with torch.no_grad():
        rest = [F.cross_entropy(model(t[None, :-1])[0][0], t[1:], reduction="none") for t in tokens.unfold(0, 11, 10)]
        rest.append(F.cross_entropy(model(tokens[None, 30:-1])[0][0], tokens[31:], reduction="none"))
    columns = [[piece[p].item() for piece in rest if p < len(piece)] for p in range(10)]
    assert rows == [(p, pytest.approx(np.mean(column)), len(column)) for p, column in enumerate(columns, start=1)]
    assert [targets for _, _, targets in rows] == [4] * 5 + [3] * 5
    assert sum(nll * targets for _, nll, targets in rows) / 35 == pytest.approx(figures["val/nll_reset"], abs=1e-12)


@given(st.integers(1, 300), st.integers(1, 9), st.integers(0, 40))
def test_every_target_is_scored_once_after_its_warmup(targets: int, streams: int, warmup: int) -> None:
    line = Line.of([np.arange(targets + 1, dtype=np.uint16)])
    plan = carried_plan(line, streams, warmup)
    batches = Batches(plan, line)
    seen: list[int] = []
    read = np.zeros(len(plan[0].start), dtype=int)
    for k in range(len(batches)):
        targets_k = batches[k].targets.numpy()
        seen += targets_k[targets_k >= 0].tolist()
        assert plan[k].reset.all() == (k == 0)
        for row, cut in enumerate(zip(plan[k].start, plan[k].length, plan[k].scored, strict=True)):
            start, length, scored = cut
            if scored:
                first = start + length - scored
                assert read[row] + length - scored >= min(warmup, first)
            read[row] += length
    assert sorted(seen) == list(range(1, targets + 1))


@given(st.integers(1, 5000), st.integers(1, 600))
def test_a_part_of_the_split_is_spread_over_it_and_never_larger(targets: int, tokens: int) -> None:
    line = Line.of([np.arange(targets + 1, dtype=np.uint16)])
    settings = Evaluation(reset_every=50, streams=4, warmup=10, tokens=tokens)
    carried, reset = loaders(line, settings, exact=False)
    seen = [target for batch in carried for row in batch.targets.tolist() for target in row if target >= 0]
    rows = max(1, min(4, targets // 40))
    edges = np.arange(rows + 1) * targets // rows
    per_row = -(-tokens // rows)
    assert sorted(seen) == [t + 1 for a, b in pairwise(edges) for t in range(a, min(b, a + per_row))]
    n_reset = sum(batch.n_valid for batch in reset)  # a batch is 81 pieces of 50
    assert n_reset == targets if targets <= 4050 else tokens <= n_reset <= 4050
    exactly = loaders(line, settings, exact=True)
    assert [sum(batch.n_valid for batch in loader) for loader in exactly] == [targets, targets]


def test_the_figure_while_training_is_close_to_the_exact_one(model: LSTMGenerator) -> None:
    line = random_line(20_000)
    learner = Learner(model, VOCAB)
    learner.on_validation_epoch_start()
    for stage in range(len(STAGES)):
        for k, batch in enumerate(loaders(line, Evaluation(streams=8, warmup=64), exact=False)[stage]):
            learner.validation_step(batch, k, stage)
            learner.carry.commit(STAGES[stage])
    approximate = (learner.nll_sum[0].compute() / learner.tokens[0].compute()).item()
    exact, _ = nll(model, line, reset_every=10**9)
    assert approximate == pytest.approx(exact, abs=1e-3)
    reset = (learner.nll_sum[1].compute() / learner.tokens[1].compute()).item()
    assert reset == pytest.approx(nll(model, line, 256)[0], abs=1e-12)
