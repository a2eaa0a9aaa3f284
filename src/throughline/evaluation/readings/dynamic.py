"""Dynamic evaluation: the network continues to learn from the targets just read (Krause 2018, arXiv 1709.07432)."""

from copy import deepcopy
from typing import TYPE_CHECKING, ClassVar

from pydantic.dataclasses import dataclass

from throughline.data.line import Line
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading, Scores
from throughline.evaluation.readings.carried import carried_plan, one_by_one
from throughline.regimes import Plan
from throughline.settings import STRICT, Fraction, NonNegative, Positive, PositiveInt

if TYPE_CHECKING:
    from torch import Tensor

    from throughline.batches.batch import Batch
    from throughline.batches.carry import State
    from throughline.model.generator import Generator


@dataclass(frozen=True, config=STRICT)
class Dynamic(Reading):
    """`val/nll_dynamic`: one carried pass in which a copy of the network takes a step of SGD after every `bptt` targets.

    A chunk is scored before the network learns from it. The step follows the clipped gradient of the chunk's mean nll. Then
    the weights go a share `decay` of the way back to the trained weights. With `lr` at 0 the result is that of `carried`.
    """

    while_training: ClassVar[bool] = False
    learns: ClassVar[bool] = True
    apart: ClassVar[bool] = True

    lr: NonNegative = 0.1
    """The learning rate of plain SGD; 0 is the same as `carried`."""
    decay: Fraction = 0.001
    """The share of the way back to the trained weights, per step."""
    bptt: PositiveInt = 32
    """Targets per step."""
    gradient_clip_val: Positive = 1.0
    """The largest norm that a gradient may have."""

    def plan(self, line: Line, evaluation: Evaluation, exact: bool) -> Plan:
        return carried_plan(line, 1, 0, tokens_per_batch=self.bptt) if line.joined else one_by_one(line, self.bptt)

    def begin(self, generator: "Generator") -> "Adapting":
        return Adapting(generator)

    def score(self, generator: "Adapting", batch: "Batch", state: "State | None") -> "tuple[Scores, State]":
        import torch

        # cuDNN differentiates a recurrent network only in training mode, but there dropout would act.
        with torch.backends.cudnn.flags(enabled=False):
            scores, state = super().score(generator.copy, batch, state)
            generator.learn(scores.nll.sum() / batch.n_valid, self)
        return Scores(scores.nll.detach(), scores.correct), tuple(s.detach() for s in state)


class Adapting:
    """A copy of a generator, and the trained weights: the copy starts from them and is pulled back to them."""

    def __init__(self, generator: "Generator") -> None:
        self.copy = deepcopy(generator).requires_grad_(True)
        self.trained = [weight.detach().clone() for weight in self.copy.parameters()]

    def learn(self, loss: "Tensor", settings: Dynamic) -> None:
        """Take one step of gradient descent on the loss of a chunk."""
        import torch

        weights = list(self.copy.parameters())
        gradients = torch.autograd.grad(loss, weights, allow_unused=True, materialize_grads=True)
        norm = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(gradient) for gradient in gradients]))
        rate = settings.lr * torch.clamp(settings.gradient_clip_val / (norm + 1e-6), max=1.0)
        with torch.no_grad():
            for weight, gradient, trained in zip(weights, gradients, self.trained, strict=True):
                weight.sub_(rate * gradient)
                weight.lerp_(trained, settings.decay)
