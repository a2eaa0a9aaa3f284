"""Whole sequences as `stateful` plays them: side by side, or one behind the other."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from throughline.batches.batch import Batches
from throughline.batches.carry import Carry
from throughline.data.line import Line
from throughline.model.generator import Generator
from throughline.model.settings import GRU, LSTM, LayernormLSTM, MinGRU, MinLSTM, Model
from throughline.regimes.onestep import Onestep
from throughline.regimes.sequences import Behind, Beside, behind, beside
from throughline.regimes.stateful import Stateful
from throughline.training.internals import onednn_multiplies

E = 9
X = 0


def line_of(*sequences: list[int]) -> Line:
    return Line.with_ends([np.array(sequence, np.uint8) for sequence in sequences], end=E)


def test_beside_written_out() -> None:
    line = line_of([1, 2, 3, 4], [5], [6, 7, 8, 1], [2, 3, 4])  # 5, 2, 5 and 4 targets
    plan = beside(line, streams=3, bptt=3, rng=None)
    batches = list(Batches(plan, line))
    assert [batch.inputs.tolist() for batch in batches] == [
        [[E, 1], [E, 6], [E, 2]],  # 5 steps in two batches of about the same size
        [[2, 3, 4], [7, 8, 1], [3, 4, X]],
        [[E, 5]],
    ]
    assert [batch.targets.tolist() for batch in batches] == [
        [[1, 2], [6, 7], [2, 3]],
        [[3, 4, E], [8, 1, E], [4, E, X]],
        [[5, E]],
    ]
    assert [batch.reset.tolist() for batch in batches] == [[True] * 3, [False] * 3, [True]]
    assert [batch.n_valid for batch in batches] == [6, 8, 2]
    assert all(batch.restart is None for batch in batches)


def test_rows_that_have_ended_leave() -> None:
    line = line_of([1, 2, 3, 4, 5, 6], [7], [8])
    batches = list(Batches(beside(line, streams=3, bptt=4, rng=None), line))
    assert [batch.inputs.tolist() for batch in batches] == [[[E, 1, 2], [E, 7, X], [E, 8, X]], [[3, 4, 5, 6]]]
    assert batches[1].reset.tolist() == [False]


def test_short_sequences_get_more_rows() -> None:
    line = line_of(*[[1, 2]] * 50)
    batches = list(Batches(beside(line, streams=4, bptt=16, rng=None), line))
    assert [batch.inputs.shape for batch in batches] == [(21, 3), (21, 3), (8, 3)]  # up to 4 x 16 tokens


class InOrder:
    """A generator of random numbers that shuffles nothing."""

    def permutation(self, n: int) -> np.ndarray:
        return np.arange(n)


def test_behind_written_out() -> None:
    line = line_of([1, 2, 3], [4], [5, 6], [7], [8])  # 4, 2, 3, 2 and 2 targets
    rng: Any = InOrder()
    plan = behind(line, streams=2, bptt=5, rng=rng)
    batches = list(Batches(plan, line))
    # The longest first: 4 | 3; then 2 to the row that ends first: 4 + restart + 2 | 3 + restart + 2 + restart + 2.
    assert [batch.inputs.tolist() for batch in batches] == [
        [[E, 5, 6, X, E], [E, 1, 2, 3, X]],
        [[4, X, E, 8], [E, 7, X, X]],
    ]
    assert [batch.targets.tolist() for batch in batches] == [
        [[5, 6, E, X, 4], [1, 2, 3, E, X]],
        [[E, X, 8, E], [7, E, X, X]],
    ]
    restarts = [None if batch.restart is None else batch.restart.int().tolist() for batch in batches]
    assert restarts == [[[0, 0, 0, 1, 0], [0, 0, 0, 0, 1]], [[0, 1, 0, 0], [0, 0, 0, 0]]]
    assert [batch.reset.tolist() for batch in batches] == [[True, True], [False, True]]
    assert [batch.n_valid for batch in batches] == [8, 5]


def test_no_restart_is_read_where_a_sequence_ends_with_a_batch() -> None:
    line = line_of([1], [2], [3])
    rng: Any = InOrder()
    batches = list(Batches(behind(line, streams=1, bptt=2, rng=rng), line))
    assert [batch.inputs.tolist() for batch in batches] == [[[E, 1]], [[E, 2]], [[E, 3]]]
    assert all(batch.restart is None and batch.reset.tolist() == [True] for batch in batches)


@pytest.mark.parametrize(
    ("lengths", "kind"), [([3] * 40, Beside), ([100] * 40, Behind), ([23] * 40, Beside), ([24] * 40, Behind)]
)
def test_the_data_choose(lengths: list[int], kind: type[Any]) -> None:
    line = line_of(*[[1] * length for length in lengths])
    assert type(Stateful(bptt=32).plan(line, 0, 0)) is kind


def lengths_like_a_log(rng: np.random.Generator) -> np.ndarray:
    return np.minimum(rng.geometric(1 / 3.6, 3804) + 1, 60)


@pytest.mark.parametrize(
    ("lengths", "most"),
    [
        (lengths_like_a_log(np.random.default_rng(0)), 0.08),  # a log of cases of 4.6 events
        (np.random.default_rng(1).binomial(14, 0.43, 6000) + 1, 0.03),  # names
        (np.random.default_rng(2).gamma(4, 60, 900).astype(int) + 1, 0.03),  # tunes of 240 steps
        (np.random.default_rng(3).gamma(4, 30, 400).astype(int) + 1, 0.03),  # of 120 steps, and few of them
    ],
    ids=["log", "names", "tunes", "few"],
)
def test_little_is_read_that_is_not_scored(lengths: np.ndarray, most: float) -> None:
    line = line_of(*[[1] * length for length in lengths.tolist()])
    batches = list(Batches(Stateful().plan(line, 0, 0), line))
    read = sum(batch.inputs.numel() for batch in batches)
    assert sum(batch.n_valid for batch in batches) == line.num_targets
    assert read / line.num_targets - 1 <= most
    tokens = np.array([batch.inputs.numel() for batch in batches])
    assert np.median(tokens) >= 0.75 * 64 * 32  # and the batches are full


CORES: list[Model] = [
    LSTM(hidden_size=5, embedding_size=3),
    LSTM(hidden_size=5, num_layers=2, input="onehot"),
    GRU(hidden_size=5, num_layers=2, embedding_size=3),
    LayernormLSTM(hidden_size=5, num_layers=2, embedding_size=3),
    MinGRU(hidden_size=5, num_layers=2, embedding_size=3),
    MinLSTM(hidden_size=5, num_layers=2, embedding_size=3),
]


def generator_of(model: Model, vocab: int, dtype: torch.dtype = torch.float64) -> Generator:
    torch.manual_seed(1)
    return Generator(model, vocab).to(dtype)


@pytest.mark.parametrize("vocab", [10, 300])
@pytest.mark.parametrize("model", CORES, ids=lambda model: f"{model.name}-{model.input}")
@pytest.mark.parametrize("sequences", ["beside", "behind"])
def test_every_sequence_is_scored_as_alone(model: Model, vocab: int, sequences: Any) -> None:
    generator = generator_of(model, vocab)
    rng = np.random.default_rng(0)
    line = line_of(*(rng.integers(1, 9, length).tolist() for length in [7, 0, 1, 12, 3, 5, 20, 2]))
    alone = np.zeros(line.num_targets)
    for first, last in zip(line.edges[:-1].tolist(), line.edges[1:].tolist(), strict=True):
        steps = torch.from_numpy(line.steps[first : last + 1].astype(np.int64))[None]
        with torch.no_grad():
            alone[first:last] = generator.score(steps[:, :-1], steps[:, 1:])[0][0].numpy()
    positions = replace(line, steps=np.arange(len(line.steps)))
    plan, carry, checked = Stateful(streams=3, bptt=4, sequences=sequences).plan(line, 0, 0), Carry(), 0
    for batch, at in zip(Batches(plan, line), Batches(plan, positions), strict=True):
        with torch.no_grad():
            nll, _, state = generator.score(batch.inputs, batch.targets, carry.begin("train", batch.reset), batch.restart)
        carry.offer("train", state)
        carry.commit("train")
        scored = batch.scored
        np.testing.assert_allclose(nll[scored].numpy(), alone[at.inputs[scored].numpy()], rtol=1e-12)
        checked += int(scored.sum())
    assert checked == line.num_targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("model", CORES, ids=lambda model: f"{model.name}-{model.input}")
@pytest.mark.parametrize("vocab", [10, 300])
def test_a_restart_gives_zeros_and_lets_no_gradient_pass(
    model: Model, dtype: torch.dtype, vocab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generator_of(model, vocab, torch.float32 if dtype == torch.bfloat16 else dtype)
    for parameter in generator.core.parameters():
        parameter.data.uniform_(-3, 3)  # a candidate that is far from zero
    inputs = torch.randint(1, vocab, (4, 6))
    restart = torch.zeros(4, 6, dtype=torch.bool)
    restart[:, 3] = True
    L, H = generator.core.num_layers, 5  # noqa: N806
    before = tuple(torch.full((L, 4, H), 0.9, dtype=generator.dtype, requires_grad=True) for _ in generator.core.state_names)
    if dtype == torch.bfloat16:  # as training does on processors without AVX-512
        monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn_multiplies("bf16-mixed"))
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        _, state = generator(inputs[:, :4], before, restart[:, :4])
        assert all((s == 0).all() for s in state)
        predicted, _ = generator(inputs, before, restart)
        alone, _ = generator(inputs[:, 4:])
    limit = {torch.float64: 1e-14, torch.float32: 1e-5, torch.bfloat16: 0.1}[dtype]
    assert (predicted[:, 4:] - alone).abs().max() <= limit
    gradients = torch.autograd.grad(
        predicted[:, 4:].float().square().sum(), [*before, *generator.parameters()], allow_unused=True
    )
    after = torch.autograd.grad(alone.float().square().sum(), list(generator.parameters()))
    for gradient in gradients[: len(before)]:
        assert gradient is None or (gradient == 0).all()
    for one, other in zip(gradients[len(before) :], after, strict=True):
        assert one is not None
        torch.testing.assert_close(
            one, other, rtol=0.1 if dtype == torch.bfloat16 else 1e-4, atol=0.5 if dtype == torch.bfloat16 else 1e-4
        )
    assert any((gradient != 0).any() for gradient in after)


def test_one_token_at_a_time_starts_each_sequence_from_zeros() -> None:
    line = line_of([1, 2], [3], [4, 5, 6])
    batch = Batches(Onestep(updates=100).plan(line, 0, 0), line)[0]
    assert batch.inputs.shape == (1, 3 + 2 + 4 + 2)  # and two restarts
    assert batch.restart is not None
    assert batch.restart.sum() == 2
