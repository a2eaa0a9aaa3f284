"""A carried pass in many rows has the totals of one row, whether the memory of the network fades or not."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from throughline.batches.batch import Batches
from throughline.batches.carry import Carry
from throughline.data.line import Line
from throughline.evaluation import handover
from throughline.evaluation.handover import Totals, carried_totals
from throughline.evaluation.measure import measure
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings.carried import Carried
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, Model

CPU = torch.device("cpu")
ROWS = Evaluation(streams=6, warmup=8)
FORGETFUL, SLOW, NEVER = -3.0, 2.0, 30.0
"""Added to the bias of the forget gates: a memory of one or two steps, of some dozen steps, and one that never fades."""


def generator(bias: float = 0.0, settings: Model = LSTM(hidden_size=8, embedding_size=4, num_layers=2)) -> Generator:  # noqa: B008
    torch.manual_seed(3)
    model = Generator(settings, vocab_size=7).double().eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            weight.mul_(3.0)  # so that the past matters
            if "bias_ih" in name:
                weight[8:16] += bias
    return model


def line(n: int) -> Line:
    return Line.of([np.random.default_rng(0).integers(1, 7, n).astype(np.uint8)])


def in_rows(model: Generator, data: Line, evaluation: Evaluation = ROWS) -> tuple[Totals, list[int]]:
    """The totals, the number of targets read, and the number of targets announced in addition to those of the line."""
    counted = [0, 0]

    def advance(done: int, more: int) -> None:
        counted[0] += done
        counted[1] += more

    with torch.inference_mode():
        totals = carried_totals(lambda batch, state: Carried().score(model, batch, state), data, evaluation, CPU, advance)
    return totals, counted


def in_one_row(model: Generator, data: Line) -> tuple[float, int]:
    """The same by the plan that defines the reading: one row from the beginning to the end."""
    nll, correct, carry = 0.0, 0, Carry()
    with torch.inference_mode():
        for batch in Batches(Carried().plan(data, ROWS, exact=True), data):
            assert len(batch.reset) == 1
            scores, state = Carried().score(model, batch, carry.begin("carried", batch.reset))
            carry.offer("carried", state)
            carry.commit("carried")
            assert scores.correct is not None
            nll, correct = nll + float(scores.nll.sum()), correct + int(scores.correct.sum())
    return nll, correct


@pytest.mark.parametrize("n", [2, 3, 40, 197, 198, 199, 1000, 5003])
@pytest.mark.parametrize("bias", [FORGETFUL, SLOW, NEVER])
def test_the_totals_are_those_of_one_row(n: int, bias: float) -> None:
    model, data = generator(bias), line(n)
    totals, counted = in_rows(model, data)
    nll, correct = in_one_row(model, data)
    assert totals.nll == pytest.approx(nll, rel=1e-12)
    assert totals.correct == correct
    assert counted[0] == n - 1 + counted[1]  # a progress bar reaches its end exactly


@pytest.mark.parametrize("settings", [GRU(hidden_size=8, embedding_size=4), LSTM(hidden_size=8, input="onehot")])
@pytest.mark.parametrize("warmup", [0, 1, 8])
def test_of_any_core_and_any_warmup(settings: Model, warmup: int) -> None:
    model, data = generator(SLOW, settings), line(2000)
    totals, _ = in_rows(model, data, replace(ROWS, warmup=warmup))
    assert totals.nll == pytest.approx(in_one_row(model, data)[0], rel=1e-12)
    assert totals.read_again > 0  # the warm-up was too short


def test_what_has_faded_is_not_read_again() -> None:
    data = line(60_001)
    forgetful, _ = in_rows(generator(FORGETFUL), data, replace(ROWS, warmup=200))
    slow, _ = in_rows(generator(SLOW), data)
    never, _ = in_rows(generator(NEVER), data)
    assert (forgetful.read_again, forgetful.in_one_row) == (0, 0)
    assert 0 < slow.read_again < 20_000  # as far as the states differ, and no further
    assert slow.in_one_row == 0
    # First, all strips but the first are read again side by side. Then, all but the first two are read in one row.
    assert never == Totals(never.nll, never.correct, 50_000 + 40_000, 40_000)


def test_the_rows_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the hand-over the loss differs, so the tests above would fail."""
    model, data = generator(NEVER), line(1000)
    monkeypatch.setattr(handover.Strips, "handed_over_wrongly", lambda self: np.arange(0))
    assert in_rows(model, data)[0].nll != pytest.approx(in_one_row(model, data)[0], rel=1e-6)


def test_a_state_that_is_not_finite_ends_the_reading_all_the_same() -> None:
    model = generator()
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    totals, _ = in_rows(model, line(1000))
    assert np.isnan(totals.nll)


def test_a_state_of_whole_numbers_is_compared_as_it_is() -> None:
    same, other = (torch.tensor([[[5], [n]]]) for n in (7, 8))
    assert handover.alike((same,), (other,)).tolist() == [True, False]


def test_a_subclass_is_read_in_one_row_unless_it_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(Carried):
        """Might keep more than the state from batch to batch."""

    read: list[int] = []
    monkeypatch.setattr("throughline.evaluation.measure.carried_totals", lambda *_: read.append(1) or Totals(1.0, 1))
    model, data = generator(), line(300)
    exact = measure(model, data, [Mine()], ROWS)["val/nll"]
    assert read == []
    assert exact == pytest.approx(in_one_row(model, data)[0] / 299, rel=1e-12)
    measure(model, data, [Carried()], ROWS)
    assert read == [1]
