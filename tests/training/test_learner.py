import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch import Trainer
from torch import Tensor

from throughline.batches.batch import Batches
from throughline.batches.carry import Carry
from throughline.data.corpus import Corpus
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.model.generator import Generator
from throughline.model.optimizers import SGD
from throughline.model.settings import LSTM
from throughline.regimes import Regime
from throughline.regimes.segments import Segments
from throughline.regimes.stateful import Stateful
from throughline.training.commit import Commit
from throughline.training.datamodule import StreamDataModule
from throughline.training.learner import Learner, _gathered

READINGS = [Carried(), Reset()]
ALL, NONE = torch.tensor([True, True]), torch.tensor([False, False])


def state(value: float, rows: int = 2) -> tuple[Tensor, Tensor]:
    return torch.full((1, rows, 3), value), torch.full((1, rows, 3), -value)


def test_a_row_marked_reset_starts_from_zeros_and_the_others_go_on() -> None:
    carry = Carry()
    assert carry.begin("train", ALL) is None
    carry.offer("train", state(5.0))
    carry.commit("train")
    h, c = carry.begin("train", torch.tensor([True, False]))  # type: ignore[misc]
    assert h.tolist() == [[[0, 0, 0], [5, 5, 5]]]
    assert c.tolist() == [[[0, 0, 0], [-5, -5, -5]]]


def test_a_state_counts_only_once_its_batch_is_done() -> None:
    carry = Carry()
    carry.offer("train", state(1.0))
    carry.commit("train")
    carry.offer("train", state(2.0))
    assert carry.begin("train", NONE)[0].unique().tolist() == [1.0]  # type: ignore[index]
    carry.commit("train")
    assert carry.begin("train", NONE)[0].unique().tolist() == [2.0]  # type: ignore[index]


def test_after_a_bad_batch_rows_that_are_not_finite_are_committed_as_zeros_and_the_others_as_they_were() -> None:
    carry = Carry()
    h, c = torch.arange(12.0).view(2, 2, 3), torch.ones(2, 2, 3)
    h[1, 0, 2], c[0, 1, 1] = torch.nan, torch.inf
    for bad, (poisoned_h, poisoned_c) in enumerate([(h.clone(), torch.ones(2, 2, 3)), (torch.ones(2, 2, 3), c.clone())]):
        carry.offer("train", (poisoned_h, poisoned_c))
        carry.commit("train", bad_batch=True)
        kept_h, kept_c = carry.committed["train"]
        assert kept_h[:, bad].tolist() == kept_c[:, bad].tolist() == [[0, 0, 0], [0, 0, 0]]
        assert torch.equal(kept_h[:, 1 - bad], poisoned_h[:, 1 - bad])
        assert torch.equal(kept_c[:, 1 - bad], poisoned_c[:, 1 - bad])


def test_stages_have_slots_of_their_own() -> None:
    carry = Carry()
    for stage, value in (("train", 1.0), ("val", 2.0)):
        carry.offer(stage, state(value))
        carry.commit(stage)
    assert carry.begin("train", NONE)[0].unique().tolist() == [1.0]  # type: ignore[index]


def test_the_carried_state_is_cut_off_its_graph_and_saved_in_float32() -> None:
    carry, leaf = Carry(), torch.ones(1, 2, 3, requires_grad=True)
    carry.offer("train", ((leaf * 2).bfloat16(), leaf * 3))
    carry.commit("train")
    h, c = carry.begin("train", NONE)  # type: ignore[misc]
    assert not h.requires_grad
    assert not c.requires_grad
    assert (h.dtype, c.dtype) == (torch.bfloat16, torch.float32)
    assert [s.dtype for s in _gathered((h, c))] == [torch.float32, torch.float32]
    assert [s.dtype for s in _gathered((h.double(), c.double()))] == [torch.float64, torch.float64]


def test_rows_with_nothing_to_go_on_from_are_refused() -> None:
    carry = Carry()
    with pytest.raises(RuntimeError, match="train: 2 rows, not all reset, have no carried state"):
        carry.begin("train", NONE)
    carry.offer("train", state(1.0, rows=1))
    carry.commit("train")
    with pytest.raises(RuntimeError, match="train: 2 rows"):
        carry.begin("train", torch.tensor([True, False]))


def test_the_last_rows_may_leave() -> None:
    carry, (h, c) = Carry(), state(1.0, rows=3)
    h[0, 1] = 5.0
    carry.offer("train", (h, c))
    carry.commit("train")
    before = carry.begin("train", torch.tensor([True, False]))
    assert before is not None
    assert [s.shape[1] for s in before] == [2, 2]
    assert (before[0][0, 0] == 0).all()
    assert (before[0][0, 1] == 5).all()


def fit(
    regime: Regime,
    corpus: Corpus,
    epochs: int,
    val_check_interval: int | None = None,
    dropout: float = 0.0,
    clip: float | None = None,
) -> Learner:
    """Train in float64 with SGD, so that the same training can be done by hand."""
    torch.manual_seed(0)
    model = Generator(LSTM(hidden_size=8, embedding_size=4, dropout=dropout), corpus.codec.size).double()
    learner = Learner(model, corpus.codec, SGD(lr=0.1), READINGS, seed=3, gradient_clip_val=clip)
    trainer = Trainer(
        accelerator="cpu",
        precision="64-true",
        max_epochs=epochs,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=0,
        reload_dataloaders_every_n_epochs=1,
        callbacks=[Commit()],
        val_check_interval=val_check_interval,
        limit_val_batches=None if val_check_interval else 0,
    )
    datamodule = StreamDataModule(corpus, regime, READINGS, Evaluation(streams=3, warmup=1), seed=0)
    trainer.fit(learner, datamodule)
    return learner


CLIP = 0.24


@pytest.mark.parametrize("regime", [Stateful(streams=3, bptt=10, reset_probability=0.0), Segments(steps=10, batch_size=3)])
def test_training_is_truncated_backpropagation_with_the_state_handed_on(regime: Regime, corpus: Corpus) -> None:
    trained = fit(regime, corpus, epochs=2, clip=CLIP)

    torch.manual_seed(0)
    model = Generator(trained.generator.settings, corpus.codec.size).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    carried, norms = None, []
    for epoch in range(2):
        batches = Batches(regime.plan(corpus.train, 0, epoch), corpus.train)
        for k in range(len(batches)):
            batch = batches[k]
            logits, after = model(batch.inputs, None if batch.reset.all() else carried)
            targets = batch.targets.masked_fill(~batch.scored, -100)
            loss = F.cross_entropy(logits.flatten(0, 1), targets.flatten())
            optimizer.zero_grad()
            loss.backward()
            norms.append(float(torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)))
            optimizer.step()
            carried = after[0].detach(), after[1].detach()
    assert min(norms) < CLIP < max(norms)
    expected = dict(model.named_parameters())
    for name, value in trained.generator.named_parameters():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-12)


def test_validation_in_mid_epoch_changes_nothing_in_training(corpus: Corpus) -> None:
    with_validation, without = (
        fit(Stateful(streams=3, bptt=10, reset_probability=0.0), corpus, 1, interval, dropout=0.5) for interval in (4, None)
    )
    assert "carried" in with_validation.carry.committed
    assert "carried" not in without.carry.committed
    for one, other in zip(with_validation.generator.parameters(), without.generator.parameters(), strict=True):
        assert torch.equal(one, other)
    for one, other in zip(with_validation.carry.committed["train"], without.carry.committed["train"], strict=True):
        assert torch.equal(one, other)
