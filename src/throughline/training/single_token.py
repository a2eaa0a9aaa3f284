"""Training with an update after every token of a batch of one row."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from throughline.batches.batch import Batch
from throughline.training.datamodule import datamodule_of
from throughline.training.internals import adam_kernel
from throughline.training.learner import Learner


class SingleTokenLearner(Learner):
    """Makes an update after every token of a batch of one row, as a `Learner` does after a batch of one token."""

    def on_train_start(self) -> None:
        self.single_token = self.generator.single_token()

    def rows_with_gradient(self, batch: Batch) -> int:
        return batch.scored.numel()

    def on_validation_model_zero_grad(self) -> None:
        """Do nothing: Lightning would remove the gradients, and `single_token` writes into them."""

    def training_step(self, batch: Batch, batch_idx: int) -> dict[str, Tensor]:
        """Forward, backward and update for each token; an update that is not finite is left out, like a bad batch."""
        here, single, optimizer = datamodule_of(self.trainer), self.single_token, self.trainer.optimizers[0]
        rng = np.random.default_rng([self.seed, here.epoch, here.batch])
        single.begin(self.carry.begin("train", batch.reset), rng)
        restart = [False] * batch.scored.numel() if batch.restart is None else batch.restart[0].tolist()
        nlls, norm_sum, made, self.bad_batch = [], 0.0, 0, False
        # Every value that is not finite shows in the nll or in the norm.
        with one_thread(), torch.no_grad(), np.errstate(all="ignore"), updates(optimizer) as update:
            for token, target, ended in zip(batch.inputs[0].tolist(), batch.targets[0].tolist(), restart, strict=True):
                if ended:
                    single.begin(None, rng)
                    nlls.append(0.0)
                    continue
                nll = single.forward(token, target)
                norm = single.backward(self.gradient_clip_val)
                nlls.append(nll)
                norm_sum += norm
                if math.isfinite(nll + norm):
                    update()
                    made += 1
                else:
                    self.bad_batch = True
                    single.reset_if_not_finite()
        self.carry.offer("train", single.state)
        self.nll, self.grad_norm = torch.tensor([nlls]), torch.tensor(norm_sum / batch.n_valid)
        self.count_updates(made)
        return {"nll_sum": self.nll.sum()}


@contextmanager
def one_thread() -> Iterator[None]:
    """Let PyTorch work in one thread: the data of these updates fit one core's caches, and moving them costs time.

    LSTM(256) on two cores: 5,400 updates per second with one thread, and 4,100 with two. On another machine two made a
    quarter more than one, or only a third if the system had chosen cores that are far apart.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@contextmanager
def updates(optimizer: torch.optim.Optimizer) -> Iterator[Callable[[], object]]:
    """Give a function that makes one update per call, as long as settings and gradients stay where they are.

    For Adam and AdamW it is the kernel that `optimizer.step` calls in the end. To look up all the tensors, sort them and
    count the step of each would take a third of the kernel's time. One count serves all of them; the others get its value at
    the end.
    """
    group, state = optimizer.param_groups[0], optimizer.state
    parameters: list[Tensor] = group["params"]
    known = type(optimizer) in (torch.optim.Adam, torch.optim.AdamW) and len(optimizer.param_groups) == 1
    known = known and group["fused"] and not group["amsgrad"]
    # A parameter has no count before the first update, and another one if it once had no gradient.
    steps = [state[p]["step"] for p in parameters if p in state] if known else []
    if len(steps) < len(parameters) or len({float(step) for step in steps}) > 1:
        yield optimizer.step
        return
    gradients = [parameter.grad for parameter in parameters]
    averages, squares = ([state[p][key] for p in parameters] for key in ("exp_avg", "exp_avg_sq"))
    decoupled = group.get("decoupled_weight_decay", type(optimizer) is torch.optim.AdamW)
    settings = {key: group[key] for key in ("lr", "weight_decay", "eps", "maximize", "amsgrad")}
    settings |= {"beta1": group["betas"][0], "beta2": group["betas"][1]}
    kernel, count, counts = adam_kernel(decoupled), steps[0].numpy(), steps[:1] * len(steps)

    def update() -> None:
        np.add(count, 1, out=count)
        kernel(parameters, gradients, averages, squares, [], counts, **settings)

    try:
        yield update
    finally:
        for step in steps[1:]:
            step.copy_(steps[0])
