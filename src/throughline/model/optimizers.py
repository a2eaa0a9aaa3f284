"""PyTorch's optimizers with their own arguments; `optimizer=` names one of them."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import field
from typing import TYPE_CHECKING, Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from throughline.settings import STRICT, NonNegative, Positive, Probability

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Adam as TorchAdam
    from torch.optim import Optimizer as TorchOptimizer

    from throughline.model.generator import Generator

Betas = Annotated[list[Probability], Field(min_length=2, max_length=2)]


@dataclass(frozen=True, config=STRICT)
class Optimizer(ABC):
    """The settings of an optimizer; `lr` is multiplied by the schedule's factor."""

    lr: Positive = 0.01
    """The highest learning rate. Lower it for larger networks and smaller batches."""
    weight_decay: NonNegative = 0.0
    """How strongly weights are pulled towards zero."""

    @abstractmethod
    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        """PyTorch's optimizer for these parameters."""

    def build_for(self, generator: "Generator") -> "TorchOptimizer":
        """PyTorch's optimizer for a generator; by default, all parameters are treated alike."""
        return self.build(generator.parameters())


@dataclass(frozen=True, config=STRICT)
class Adam(Optimizer):
    """Adam (Kingma 2015)."""

    betas: Betas = field(default_factory=lambda: [0.9, 0.999])
    """How long gradients and their squares are averaged."""

    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        import torch

        return self._built(torch.optim.Adam, parameters)

    def _built(self, cls: "type[TorchAdam]", parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        b1, b2 = self.betas
        return cls(parameters, self.lr, (b1, b2), weight_decay=self.weight_decay, fused=True)


@dataclass(frozen=True, config=STRICT)
class AdamW(Adam):
    """Adam with weight decay that does not pass through the moments (Loshchilov 2019)."""

    weight_decay: NonNegative = 0.01
    betas: Betas = field(default_factory=lambda: [0.9, 0.99])

    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        import torch

        return self._built(torch.optim.AdamW, parameters)


@dataclass(frozen=True, config=STRICT)
class Muon(AdamW):
    """Muon (Jordan 2024) for the matrices of the core, whose updates become orthogonal; AdamW for everything else.

    An update of Muon is scaled to the size of one of AdamW (Liu 2025, arXiv 2502.16982), so one `lr` serves both. It costs
    products of matrices in bfloat16, which are slow on a CPU that has no instructions for it. Needs PyTorch 2.9 or newer.
    """

    momentum: Probability = 0.95
    """How long gradients of matrices are averaged."""
    ns_steps: Annotated[int, Field(ge=1, le=99)] = 5
    """Newton-Schulz iterations per update. On a CPU, 3 make a step of a wide network a tenth faster."""

    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        own = list(parameters)
        return self._split([p for p in own if p.dim() == 2], [p for p in own if p.dim() != 2])

    def build_for(self, generator: "Generator") -> "TorchOptimizer":
        matrices: list[Tensor] = [p for p in generator.core.parameters() if p.dim() == 2]
        known = {*map(id, matrices)}
        return self._split(matrices, [p for p in generator.parameters() if id(p) not in known])

    def _split(self, matrices: "list[Tensor]", others: "list[Tensor]") -> "TorchOptimizer":
        from throughline.model.muon import MuonWithAdamW

        b1, b2 = self.betas
        return MuonWithAdamW(matrices, others, self.lr, self.weight_decay, self.momentum, (b1, b2), self.ns_steps)


@dataclass(frozen=True, config=STRICT)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum."""

    lr: Positive = 1.0
    momentum: Probability = 0.0
    """How long gradients are averaged."""

    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        import torch

        return torch.optim.SGD(parameters, self.lr, self.momentum, weight_decay=self.weight_decay, fused=True)


@dataclass(frozen=True, config=STRICT)
class RMSprop(Optimizer):
    """RMSprop, with the settings of char-rnn (Karpathy 2015)."""

    lr: Positive = 0.002
    alpha: Probability = 0.95
    """How long squares of gradients are averaged; char-rnn calls it the decay rate."""
    eps: Positive = 1e-8
    """A small number, added to the square root before the division."""
    momentum: Probability = 0.0
    """How long gradients are averaged."""

    def build(self, parameters: "Iterable[Tensor]") -> "TorchOptimizer":
        import torch

        return torch.optim.RMSprop(
            parameters, self.lr, self.alpha, self.eps, weight_decay=self.weight_decay, momentum=self.momentum
        )
