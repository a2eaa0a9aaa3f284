"""One pass of training over a batch: its nll, its penalties, and the state after it."""

from typing import NamedTuple

from torch import Tensor

from throughline.batches.batch import Batch
from throughline.batches.carry import State
from throughline.config import Penalties
from throughline.model.generator import Generator


class Pass(NamedTuple):
    """What a pass over a batch gives.

    Attributes:
        nll: (B, T), of all targets, also of those that are not scored.
        penalty: what is added to the mean nll; None if nothing is.
        state: what the next batch continues from.
    """

    nll: Tensor
    penalty: Tensor | None
    state: State


def divisor(batch: Batch, loss: str, rows: int) -> int:
    """What the sum of the nll is divided by; `rows` is the number of rows of a full batch (see `Trainer.loss`)."""
    return batch.n_valid if loss == "mean" else rows


def total(nll_sum: Tensor, penalty: Tensor | None, n_valid: Tensor | float) -> Tensor:
    """The sum of the nll with the penalty, which counts as much as in a mean over `n_valid` targets."""
    return nll_sum if penalty is None else nll_sum + penalty * n_valid


def read(generator: Generator, batch: Batch, before: State | None, penalties: Penalties) -> Pass:
    """Read a batch from a state."""
    whole = not batch.burn_in and batch.handed is None
    if whole and not penalties.any:
        nll, state = generator.nll(batch.inputs, batch.targets, before, batch.restart)
        return Pass(nll, None, state)
    output, state = generator.output_in_parts(batch.inputs, before, batch.restart, batch.burn_in, batch.handed)
    dropped = generator.dropout(output)
    nll = generator.head.nll_of(dropped, batch.targets.transpose(0, 1)).t()
    return Pass(nll, penalty(output, dropped, batch.scored.t(), penalties) if penalties.any else None, state)


def penalty(output: Tensor, dropped: Tensor, scored: Tensor, penalties: Penalties) -> Tensor:
    """The penalties on outputs (T, B, H) before and after dropout, each a mean over the scored steps (T, B) and H."""
    there = scored[..., None].to(output.dtype)
    each = (dropped.square() * there).sum() / (there.sum().clamp(min=1) * output.shape[2])
    both = there[1:] * there[:-1]
    steps = ((output[1:] - output[:-1]).square() * both).sum() / (both.sum().clamp(min=1) * output.shape[2])
    total: Tensor = penalties.activation * each + penalties.temporal * steps
    return total
