"""One training step for every regime: state in, loss, state out."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

from throughline.batches.batch import Batch, rows_of_rank
from throughline.batches.carry import Carry, State
from throughline.config import Penalties
from throughline.data.codecs import Codec
from throughline.evaluation.measure import ByPosition, Meter, measure
from throughline.evaluation.readings import Reading
from throughline.evaluation.threads import in_threads
from throughline.model.generator import Generator
from throughline.model.optimizers import Optimizer
from throughline.runs.checkpoint import describe
from throughline.runs.resume import check_fit
from throughline.training.datamodule import datamodule_of
from throughline.training.internals import QuickNotes, count_updates, with_signature
from throughline.training.processes import gathered
from throughline.training.recorded import Recorder, can_be_recorded, grad_norm
from throughline.training.row_shares import RowShares
from throughline.training.step import Pass, divisor, read, total


class Learner(QuickNotes, LightningModule):
    """Trains and validates a generator by truncated backpropagation through time.

    Args:
        generator: the generator to train.
        codec: the codec of its steps, saved beside the weights.
        optimizer: the settings of the optimizer.
        readings: the ways in which it is validated.
        seed: the seed of dropout, which is a function of (seed, epoch, batch, process), so a resumed run draws the same.
        identity: values that a run must have in common with a checkpoint to resume it, saved beside the weights.
        data: where the data came from, saved beside the weights.
        run_id: identifies the run in W&B, saved beside the weights.
        cuda_graphs: whether a step on a GPU is launched at once.
        loss: how the nll of a batch becomes one number (see `throughline.config.Trainer`).
        penalties: what is added to it.
        row_shares: the parts of the rows of a batch that are read at the same time, each in a thread of its own.
        changes: settings that changed in the middle of the run, saved beside the weights.
        init_from: the model that the run began with, saved beside the weights.
        gradient_clip_val: the largest norm that the gradient of all parameters may have.
        accumulate_grad_batches: the number of batches whose gradients are averaged for one update.

    Attributes:
        updates: the number of updates made.
        bad_batch: whether the last batch had a non-finite loss or gradient and was left out of the update.
        nll: (B, T) of the last batch, zero where nothing is scored.
        nll_sum_of_batch: the sum of `nll` over all processes.
        grad_norm: the norm of the gradients of the last update, before clipping.
        metrics: the metrics of the last validation.
        ends: whether the last validation is the one that ends the run.
        by_position: the loss by position of the exact validation that ends a run; None before.
        advance: called with the targets that the exact validation reads (see `throughline.evaluation.measure.measure`).
    """

    def __init__(
        self,
        generator: Generator,
        codec: Codec,
        optimizer: Optimizer,
        readings: Sequence[Reading],
        seed: int = 0,
        identity: Mapping[str, Any] | None = None,
        data: Mapping[str, Any] | None = None,
        run_id: str = "",
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
        cuda_graphs: bool = True,
        changes: Sequence[dict[str, Any]] = (),
        init_from: Mapping[str, str] | None = None,
        loss: str = "mean",
        penalties: Penalties = Penalties(),  # noqa: B008  # frozen
        row_shares: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the step is written out here, because Lightning's own loop costs 0.4 ms
        self.generator = generator
        self.codec = codec
        self.optimizer = optimizer
        self.readings = readings
        self.seed = seed
        self.identity = identity or {}
        self.data = dict(data or {})
        self.run_id = run_id
        self.changes = list(changes)
        self.init_from = dict(init_from or {})
        self.loss, self.penalties = loss, penalties
        self.gradient_clip_val = gradient_clip_val or math.inf
        self.accumulate_grad_batches = accumulate_grad_batches
        self.updates = 0
        self.bad_batch = False
        self.nll = self.nll_sum_of_batch = self.grad_norm = torch.zeros(())
        self.carry = Carry()
        self.meters: Any = torch.nn.ModuleList(Meter(generator.head, reading.suffix) for reading in readings)
        self.metrics: dict[str, float] = {}
        self.ends = False
        self.by_position: ByPosition | None = None
        self.advance: Callable[[int, int], None] = lambda done, more: None
        self.cuda_graphs = cuda_graphs
        self._recorder: Recorder | None = None
        self.row_shares = row_shares
        self._shares: RowShares | None = None

    def on_train_start(self) -> None:
        alone = self.trainer.world_size == 1 and self.accumulate_grad_batches == 1
        if self.cuda_graphs and alone and can_be_recorded(self.generator):
            rows, steps = datamodule_of(self.trainer).regime.shape
            self._recorder = Recorder(self.generator, (rows, steps), self.penalties)
        if self.row_shares > 1:
            self._shares = RowShares(self.generator, self.row_shares, torch.get_num_threads())

    def on_train_end(self) -> None:
        self._shares = None  # its threads end with it

    def rows_with_gradient(self, batch: Batch) -> int:
        """The number of chains of steps through which gradients flow: one per row."""
        return len(batch.reset)

    def step(self, batch: Batch) -> Pass:
        """Read one batch, from the carried state to the next; its nll (B, T) is zero where nothing is scored."""
        before = self.carry.begin("train", batch.reset, batch.from_noise)
        done = read(self.generator, batch, before, self.penalties)
        self.carry.offer("train", done.state)
        # Most batches are scored everywhere. With several processes, `n_valid` counts the rows of all of them.
        whole = self.trainer.world_size == 1 and batch.n_valid == done.nll.numel()
        return done if whole else done._replace(nll=done.nll.masked_fill(~batch.scored, 0.0))

    def divisor(self, batch: Batch) -> int:
        """What the sum of the nll of all processes is divided by."""
        return divisor(batch, self.loss, datamodule_of(self.trainer).regime.shape[0])

    @with_signature
    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forward and backward, then the update, unless the gradients of further batches must be added first."""
        recorded = None if self._recorder is None else self._recorder.step(batch)
        if self.generator.settings.drops or batch.from_noise:
            self._seed_dropout()
        if recorded is not None:
            before = self.carry.begin("train", batch.reset, batch.from_noise)
            self.nll, state, numbers = recorded.replay(batch, before, self.divisor(batch))
            self.carry.offer("train", state)
            self.nll_sum_of_batch, self.bad_batch = numbers[1], False
            self._apply_gradients(self.trainer.optimizers[0], numbers)
            return {"nll_sum": self.nll_sum_of_batch}
        shares = self._shares if len(batch.reset) >= self.row_shares else None
        nll, backward = self._whole(batch) if shares is None else self._in_parts(batch, shares)
        with nullcontext() if shares is None else shares.between_steps():
            self.nll = nll.detach()
            self.nll_sum_of_batch = self.trainer.strategy.reduce(self.nll.sum(), reduce_op="sum")
            # Where gradients of several batches add up, a non-finite one must be kept out. Otherwise `_update` checks it.
            self.bad_batch = self.accumulate_grad_batches > 1 and not bool(self.nll_sum_of_batch.isfinite())
            with torch.autocast(self.device.type, enabled=False):  # the Trainer enters it; only the forward pass needs it
                if not self.bad_batch:
                    backward()
                if datamodule_of(self.trainer).completes(self.accumulate_grad_batches):
                    self._update(self.trainer.optimizers[0])
        return {"nll_sum": self.nll_sum_of_batch}

    def _whole(self, batch: Batch) -> tuple[Tensor, Callable[[], None]]:
        """The nll (B, T) of a batch that is read at once, and what adds its gradients to those of the parameters."""
        done, world_size = self.step(batch), self.trainer.world_size

        def backward() -> None:
            # The mean over the valid targets of all processes. The factors are there because gradients are averaged over
            # processes, and added over batches.
            loss = (
                total(done.nll.sum(), done.penalty, batch.n_valid / world_size)
                * (world_size / self.accumulate_grad_batches)
                / self.divisor(batch)
            )
            self.trainer.strategy.pre_backward(loss)
            loss.backward()  # type: ignore[no-untyped-call]

        return done.nll, backward

    def _in_parts(self, batch: Batch, shares: RowShares) -> tuple[Tensor, Callable[[], None]]:
        """The same with the rows in parts, each of which is differentiated at once in its own thread."""
        before = self.carry.begin("train", batch.reset, batch.from_noise)
        done = shares.step(batch, before, self.divisor(batch) * self.accumulate_grad_batches)
        self.carry.offer("train", done.state)
        return done.nll, done.add_gradients

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        """Apply the gradients, clipped to a norm of `gradient_clip_val`, unless they or the loss are not finite."""
        grads = [p.grad for p in parameters_of(optimizer) if p.grad is not None]
        if grads:  # else all the batches of this update were bad
            with nullcontext() if self._shares is None else in_threads(1):  # or the sum would depend on the threads
                norm = grad_norm(grads)
            self._apply_gradients(optimizer, torch.stack([norm, self.nll_sum_of_batch.to(norm)]))

    def _apply_gradients(self, optimizer: torch.optim.Optimizer, numbers: Tensor) -> None:
        """Apply the gradients; `numbers` (2,) are their norm and the sum of the nll."""
        self.grad_norm = numbers[0]
        norm, nll_sum = numbers.tolist()  # this is the only place where a step waits for the device
        # Where several batches add up, bad ones are already left out, so only the norm counts.
        if math.isfinite(norm if self.bad_batch else norm + nll_sum):
            # The same as `torch.nn.utils.clip_grad_norm_`, but that function multiplies even by 1.
            if norm > self.gradient_clip_val - 1e-6:
                factor = self.gradient_clip_val / (self.grad_norm + 1e-6)
                for p in parameters_of(optimizer):
                    if p.grad is not None:
                        p.grad.mul_(factor)
            optimizer.step()
            self.count_updates(1)
        else:
            self.bad_batch = True
        for p in parameters_of(optimizer):
            p.grad = None

    def count_updates(self, made: int) -> None:
        self.updates += made
        count_updates(self.trainer, self.updates)

    def _seed_dropout(self) -> None:
        here = datamodule_of(self.trainer)
        seed = int(np.random.SeedSequence([self.seed, here.epoch, here.batch, self.global_rank]).generate_state(1)[0])
        # Not torch.manual_seed: without a GPU each call formats and keeps a stack trace for three kinds of absent device.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_validation_start(self) -> None:
        # The validation that ends a run is exact, so that nothing is read twice. Several processes share the validation
        # instead, and the first of them measures exactly afterwards.
        # Where validations read a part of the split, the last one does too, or `best.ckpt` would compare unlike numbers.
        whole = datamodule_of(self.trainer).evaluation.tokens is None
        self.ends = whole and bool(self.trainer.should_stop) and self.trainer.world_size == 1

    def on_validation_epoch_start(self) -> None:
        self._read = [reading.begin(self.generator) for reading in self.readings]
        for meter in self.meters:
            meter.begin(self.device)  # here, because moving the module to its device resets the precision

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> None:
        if self.ends:
            return
        reading = self.readings[dataloader_idx]
        scores, state = reading.score(self._read[dataloader_idx], batch, self.carry.begin(reading.name, batch.reset))
        self.carry.offer(reading.name, state)
        self.meters[dataloader_idx].update(*scores.sums(batch))

    def on_validation_epoch_end(self) -> None:
        if self.ends:
            data = datamodule_of(self.trainer)
            self.by_position = ByPosition(data.evaluation.reset_every, data.corpus.val)
            settings = data.evaluation, self.device, self.by_position
            self.metrics = measure(self.generator, data.corpus.val, self.readings, *settings, advance=self.advance)
        else:
            self.metrics = {key: value for meter in self.meters for key, value in meter.compute().items()}
        # For the callbacks of users, in float32. Our own logger gets the metrics unrounded.
        self.log_dict(self.metrics, logger=False, sync_dist=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer.build_for(self.generator)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["throughline"] = {
            **describe(self.generator, self.codec),
            "carry": {stage: _gathered(state) for stage, state in self.carry.committed.items() if stage == "train"},
            "identity": self.identity,
            "data": self.data,
            "updates": self.updates,
            "run_id": self.run_id,
            "changes": self.changes,
            "init_from": self.init_from,
        }
        # Our own callbacks and the data module save the place of training. Lightning's counts of batches in an epoch would
        # be one behind or ahead, depending on the hook that saved.
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        check_fit(checkpoint, self.generator, self.optimizer, datamodule_of(self.trainer).following)
        saved = checkpoint["throughline"]
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        self.carry.committed = {stage: _shared(state, rank, world_size) for stage, state in saved["carry"].items()}
        self.updates = saved["updates"]


def parameters_of(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Those that it updates; faster than `module.parameters()`, which looks through all modules."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def between_updates(trainer: Trainer) -> bool:
    """Whether no gradient is waiting for the gradients of further batches."""
    assert isinstance(trainer.lightning_module, Learner)
    return datamodule_of(trainer).batch % trainer.lightning_module.accumulate_grad_batches == 0


def _gathered(state: State) -> State:
    """The state of the rows of all processes, collected from each of them, in the precision of the weights."""
    return tuple(
        gathered(s.to(torch.promote_types(s.dtype, torch.float32)) if s.is_floating_point() else s, dim=1) for s in state
    )


def _shared(state: State, rank: int, world_size: int) -> State:
    """The part of the state of all rows that belongs to one process."""
    return tuple(s[:, rows_of_rank(s.shape[1], rank, world_size)] for s in state)
