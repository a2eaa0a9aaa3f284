"""One training step for every regime: state in, loss, state out."""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from lightning.pytorch import LightningModule
from torch import Tensor
from torchmetrics import SumMetric
from torchmetrics.classification import MulticlassAccuracy

from throughline.batches.batch import IGNORE_INDEX, Batch
from throughline.config import Optimizer
from throughline.data.vocab import Vocab
from throughline.model.generator import LSTMGenerator, State
from throughline.runs.checkpoint import FORMAT
from throughline.training.datamodule import place
from throughline.training.processes import gathered, share

STAGES = ("val", "val_reset")
"""The validation loaders in order: state carried through the whole split, and from zeros every so many steps."""


class Carry:
    """The state that each stage goes on from: one slot a stage, so that validation can never touch training."""

    def __init__(self) -> None:
        self.committed: dict[str, State] = {}
        self._pending: dict[str, State] = {}

    def begin(self, stage: str, reset: Tensor) -> State | None:
        """The state that a batch starts from: zeros where `reset` (B,), and elsewhere what the batch before left."""
        carried = self.committed.get(stage)
        if carried is None or carried[0].shape[1] != len(reset):
            if not reset.all():
                raise RuntimeError(f"{stage}: {len(reset)} rows, not all reset, have no carried state to go on from")
            return None
        if reset.device.type == "cpu" and not reset.any():  # most batches; a GPU would have to be waited for
            return carried
        h, c = (torch.where(reset[:, None], 0.0, s.to(reset.device)) for s in carried)  # L, B, H; a file's is on the CPU
        return h, c

    def offer(self, stage: str, state: State) -> None:
        """Take the state after a batch, cut off its graph."""
        h, c = state
        self._pending[stage] = h.detach(), c.detach()

    def commit(self, stage: str, bad_batch: bool = False) -> None:
        """The batch is done: the next one goes on from where it ended, after a bad one a row that is not finite from zeros.

        After a good one nothing is checked: where a row's last step is scored and its loss finite, so is the state after it,
        since c grows by at most 1 a step, and a nan in the state is one in the logits. Elsewhere the next loss tells.
        """
        h, c = self._pending.pop(stage)
        if bad_batch:
            sound = (h.isfinite() & c.isfinite()).all(dim=2).all(dim=0)[:, None]  # B, 1
            h, c = torch.where(sound, h, 0.0), torch.where(sound, c, 0.0)
        self.committed[stage] = h, c


class Learner(LightningModule):
    """Trains and validates an LSTM generator by truncated backpropagation through time.

    Args:
        model: the generator.
        vocab: its symbols, saved beside the weights.
        optimizer: None where the learner only validates.
        seed: of dropout, which is a function of (seed, epoch, batch) so that a resumed run draws the same.
        identity: what a run that goes on from a checkpoint must have in common with it, saved beside the weights.
        gradient_clip_val: the largest norm that the gradient of all parameters may have.
        accumulate_grad_batches: how many batches' gradients are averaged for an update.

    Attributes:
        bad_batch: whether the newest batch had a loss or a gradient that is not finite, and so no part in an update.
        nll: (B, T) its nll, zero where nothing is predicted.
        nll_sum_of_batch: the sum of that over all processes.
        grad_norm: of its gradients, before they were clipped.
    """

    def __init__(
        self,
        model: LSTMGenerator,
        vocab: Vocab,
        optimizer: Optimizer | None = None,
        seed: int = 0,
        identity: dict[str, Any] | None = None,
        gradient_clip_val: float | None = None,
        accumulate_grad_batches: int = 1,
    ) -> None:
        super().__init__()
        self.automatic_optimization = False  # the step is all there is to see here, and Lightning's way to it costs 0.4 ms
        self.model = model
        self.vocab = vocab
        self.optimizer = optimizer
        self.seed = seed
        self.identity = identity or {}
        self.gradient_clip_val = gradient_clip_val or math.inf
        self.accumulate_grad_batches = accumulate_grad_batches
        self.bad_batch = False
        self.nll = self.nll_sum_of_batch = self.grad_norm = torch.zeros(())
        self.carry = Carry()
        self.figures: dict[str, float] = {}  # of the newest validation
        # Sums rather than MeanMetric, which leaves nan out of its mean or, told not to, forgets the weights.
        self.nll_sum: Any = torch.nn.ModuleList(SumMetric(nan_strategy="disable") for _ in STAGES)
        self.tokens: Any = torch.nn.ModuleList(SumMetric(nan_strategy="disable") for _ in STAGES)
        self.accuracy: Any = torch.nn.ModuleList(
            MulticlassAccuracy(len(vocab), average="micro", ignore_index=IGNORE_INDEX) for _ in STAGES
        )

    def chains(self, batch: Batch) -> int:
        """How many chains of steps there are through which gradients go: a row is one."""
        return len(batch.reset)

    def step(self, stage: str, batch: Batch) -> tuple[Tensor, Tensor]:
        """One batch through the model, from the stage's carried state to its next one.

        Returns:
            The nll (B, T) in nats, zero where nothing is predicted, and the logits (B, T, V).
        """
        logits, state = self.model(batch.inputs, self.carry.begin(stage, batch.reset))
        self.carry.offer(stage, state)
        by_step, targets = logits.transpose(0, 1), batch.targets.t()  # T, B: as the logits lie in memory
        nll = F.cross_entropy(by_step.flatten(0, 1), targets.flatten(), ignore_index=IGNORE_INDEX, reduction="none")
        return nll.view(targets.shape).t(), logits

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forward, backward, and the update, unless the gradients of further batches are to be added first."""
        if self.model.sizes.dropout:
            self._seed_dropout()
        nll, _ = self.step("train", batch)
        self.nll, nll_sum = nll.detach(), nll.sum()
        self.nll_sum_of_batch = self.trainer.strategy.reduce(nll_sum.detach(), reduce_op="sum")
        # Where gradients of several batches add up, one that is not finite must not get in; else `_update` checks it.
        self.bad_batch = self.accumulate_grad_batches > 1 and not bool(self.nll_sum_of_batch.isfinite())
        with torch.autocast(self.device.type, enabled=False):  # which the Trainer enters, but is for the forward pass alone
            if not self.bad_batch:
                # Over the valid targets of all processes, between which gradients are averaged, as they are over batches.
                loss = nll_sum * (self.trainer.world_size / self.accumulate_grad_batches) / batch.n_valid
                self.trainer.strategy.pre_backward(loss)
                loss.backward()  # type: ignore[no-untyped-call]
            if place(self.trainer).completes(self.accumulate_grad_batches):
                self._update(self.trainer.optimizers[0])
        return {"nll_sum": self.nll_sum_of_batch}

    # Lightning asks for the signature at each step, and to work it out takes longer than any of its hooks.
    training_step.__signature__ = inspect.signature(training_step)  # type: ignore[attr-defined]

    def _update(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradients to a norm of `gradient_clip_val` and apply them, unless they or the loss are not finite."""
        parameters = list(self.model.parameters())
        grads = [p.grad for p in parameters if p.grad is not None]
        if not grads:  # all the batches of this update were bad
            return
        self.grad_norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
        # The one place where a step waits for the device.
        norm, nll_sum = torch.stack([self.grad_norm, self.nll_sum_of_batch.to(self.grad_norm)]).tolist()
        # Where several batches add up, bad ones were left out already, and only the norm counts.
        if math.isfinite(norm if self.bad_batch else norm + nll_sum):
            # As `torch.nn.utils.clip_grad_norm_` does, which multiplies where the factor is 1, too.
            if norm > self.gradient_clip_val - 1e-6:
                factor = self.gradient_clip_val / (self.grad_norm + 1e-6)
                for grad in grads:
                    grad.mul_(factor)
            optimizer.step()
        else:
            self.bad_batch = True
        for p in parameters:
            p.grad = None

    def _seed_dropout(self) -> None:
        here = place(self.trainer)
        seed = int(np.random.SeedSequence([self.seed, here.epoch, here.batch, self.global_rank]).generate_state(1)[0])
        # Not torch.manual_seed: without a GPU each call formats and keeps a stack trace for three kinds of absent device.
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def on_validation_epoch_start(self) -> None:
        dtype = torch.float32 if self.device.type == "mps" else torch.float64  # which has no float64
        for meter in (*self.nll_sum, *self.tokens):
            meter.set_dtype(dtype)  # here, since moving the module to its device sets it back

    def validation_step(self, batch: Batch, batch_idx: int, dataloader_idx: int = 0) -> Tensor:
        nll, logits = self.step(STAGES[dataloader_idx], batch)
        if batch.n_valid:  # a batch may be warm-up only
            self.nll_sum[dataloader_idx].update(nll.sum())
            self.tokens[dataloader_idx].update((batch.targets != IGNORE_INDEX).sum())
            self.accuracy[dataloader_idx].update(logits.argmax(-1), batch.targets)
        return nll

    def on_validation_epoch_end(self) -> None:
        self.figures.clear()
        for nll_sum, tokens, accuracy, suffix in zip(self.nll_sum, self.tokens, self.accuracy, ("", "_reset"), strict=True):
            nll = nll_sum.compute() / tokens.compute()
            figures = {"nll": nll, "bpc": nll / np.log(2), "ppl": nll.exp(), "accuracy": accuracy.compute()}
            self.figures |= {f"val/{key}{suffix}": float(value) for key, value in figures.items()}
            for meter in (nll_sum, tokens, accuracy):
                meter.reset()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        assert self.optimizer is not None, "a learner that trains needs an optimizer"
        cls: Callable[..., torch.optim.Optimizer] = getattr(torch.optim, self.optimizer.name)  # one of three names
        return cls(self.model.parameters(), fused=True, **self.optimizer.arguments())

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["throughline"] = {
            "format": FORMAT,
            "model": asdict(self.model.sizes),
            "vocab": self.vocab.to_plain(),
            "carry": {stage: _gathered(state) for stage, state in self.carry.committed.items() if stage == "train"},
            "identity": self.identity,
        }
        # Where training is, our own callbacks and the data module say; Lightning's counts of batches in an epoch would be
        # one behind or ahead, depending on the hook that saved.
        checkpoint.pop("loops", None)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        carry = checkpoint["throughline"]["carry"].items()
        rank, world_size = self.trainer.global_rank, self.trainer.world_size
        self.carry.committed = {stage: _shared(state, rank, world_size) for stage, state in carry}


def _gathered(state: State) -> State:
    """The state of the rows of all processes, from that of each, in the precision that the weights are kept in."""
    h, c = (gathered(s.to(torch.promote_types(s.dtype, torch.float32)), dim=1) for s in state)
    return h, c


def _shared(state: State, rank: int, world_size: int) -> State:
    """The state of the rows of one process, from that of all."""
    h, c = (s[:, share(s.shape[1], rank, world_size)] for s in state)
    return h, c
