"""Recorded steps, with a stand-in for CUDA's recording that runs on the CPU; tests/test_gpu.py has the real one."""

from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import REGIMES, SEQUENCES, column, fox, names, run, weights_hash
from throughline.batches.batch import Batch
from throughline.config import Penalties
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.training import learner, recorded
from throughline.training.recorded import RecordedStep, Recorder, can_be_recorded, grad_norm
from throughline.training.step import read


class Played:
    """As `RecordedStep`, but each replay is computed anew, into memory that the next one overwrites."""

    made: list[tuple[torch.Size, bool]] = []  # noqa: RUF012  # emptied by each test

    def __init__(self, generator: Generator, batch: Batch, penalties: Penalties) -> None:
        assert all(p.grad is None for p in generator.parameters())
        self.generator, self.penalties, self.valid = generator, penalties, True
        self.made.append((batch.scored.shape, batch.restart is not None))

    def replay(self, batch: Batch, before: Any, divisor: int) -> Any:
        nll, penalty, after = read(self.generator, batch, before, self.penalties)
        nll = nll.masked_fill(~batch.scored, 0.0)
        total = nll.sum() if penalty is None else nll.sum() + penalty * batch.n_valid
        (total / divisor).backward()
        norm = grad_norm([p.grad for p in self.generator.parameters() if p.grad is not None])
        return nll.detach(), tuple(s.detach() for s in after), torch.stack([norm, nll.sum().detach()])


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> type[Played]:
    monkeypatch.setattr(recorded, "RecordedStep", Played)
    monkeypatch.setattr(learner, "can_be_recorded", lambda generator: True)
    Played.made.clear()
    return Played


WAYS: dict[str, tuple[Corpus, tuple[str, ...]]] = {
    "streams": (fox(), ("regime=stateful", *REGIMES["stateful"])),
    "windows": (fox(), ("regime=windowed", *REGIMES["windowed"])),
    "restarts": (names(), SEQUENCES["behind"]),
    "padding": (names(), SEQUENCES["padded"]),
    "penalties": (fox(), (*REGIMES["stateful"], "penalties.activation=2", "trainer.loss=sum_over_steps")),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_recorded_steps_is_the_same_run(way: str, played: type[Played], tmp_path: Path) -> None:
    corpus, chosen = WAYS[way]
    settings = (*chosen, "trainer.max_epochs=2", "model.dropout=0.3", "trainer.gradient_clip_val=0.3", "trainer.threads=1")
    run(corpus, tmp_path / "recorded", *settings)
    assert played.made
    assert len({shape for shape, _ in played.made}) == 1  # other shapes, such as that of a last batch, are not recorded
    assert len(played.made) == len(set(played.made)) <= 2  # once with restarts, and once without
    run(corpus, tmp_path / "alone", *settings, "trainer.cuda_graphs=false")
    assert weights_hash(tmp_path / "recorded") == weights_hash(tmp_path / "alone")
    for name in ("train/nll", "train/grad_norm", "val/nll"):
        # A sum over a batch without padding may be taken in another order.
        assert column(tmp_path / "recorded", name) == pytest.approx(column(tmp_path / "alone", name), abs=1e-6)


@pytest.mark.parametrize("other", ["trainer.accumulate_grad_batches=2", "trainer.cuda_graphs=false"])
def test_some_runs_are_never_recorded(other: str, played: type[Played], tmp_path: Path) -> None:
    run(fox(), tmp_path, *REGIMES["stateful"], "trainer.max_epochs=1", other)
    assert played.made == []


def test_a_step_is_recorded_again_where_the_weights_lie_elsewhere(played: type[Played], model: Generator) -> None:
    recorder, batch = Recorder(model, (1, 3)), a_batch(3)
    first = recorder.step(batch)
    assert first is recorder.step(batch)
    assert recorder.step(a_batch(2)) is None
    assert first is not None
    first.valid = False  # type: ignore[misc]
    assert recorder.step(batch) not in (first, None)
    assert len(played.made) == 2


def test_what_cannot_be_recorded_is_trained_kernel_by_kernel(model: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def fails(generator: Generator, batch: Batch, penalties: Penalties) -> RecordedStep:
        calls.append(batch)
        next(generator.parameters()).grad = torch.ones_like(next(generator.parameters()))
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recorded, "RecordedStep", fails)
    recorder = Recorder(model, (1, 3))
    with pytest.warns(UserWarning, match="so they are slower: operation not permitted when stream is capturing$"):
        assert recorder.step(a_batch(3)) is None
    assert recorder.step(a_batch(3)) is None
    assert len(calls) == 1
    assert all(p.grad is None for p in model.parameters())


def test_only_known_modules_on_a_gpu_can_be_recorded(model: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_be_recorded(model)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    assert can_be_recorded(model)

    class Own(torch.nn.Dropout):
        pass

    model.own = Own()
    assert not can_be_recorded(model)


def a_batch(steps: int) -> Batch:
    ids = torch.ones(1, steps, dtype=torch.int64)
    return Batch(ids, ids, ids.bool(), torch.ones(1, dtype=torch.bool), steps)
