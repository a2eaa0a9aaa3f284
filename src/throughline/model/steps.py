"""Single steps of generation, and of training with an update after every token. The classes here work for any core."""

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from throughline.batches.carry import State


class Stepper(ABC):
    """A generator, one step at a time for several sequences."""

    @abstractmethod
    def step(self, tokens: np.ndarray) -> np.ndarray:
        """Feed steps, (B,) or (B, F), and return the predictions (B, P) for the next ones; the caller may change them."""

    @property
    @abstractmethod
    def state(self) -> State:
        """A copy of the state after all steps, each tensor (L, B, ...)."""

    @abstractmethod
    def restart(self, rows: list[int]) -> None:
        """Let these rows continue from the state with which the stepper was built."""


class TorchStepper(Stepper):
    """Steps by calls of the module itself.

    Args:
        generator: in evaluation mode.
        state: of one row; all sequences continue from it.
        rows: B, the number of sequences.
    """

    def __init__(self, generator: nn.Module, state: State, rows: int) -> None:
        self.generator = generator
        self.begin = state
        self._state = tuple(s.repeat_interleave(rows, dim=1) for s in state)

    @property
    def state(self) -> State:
        return tuple(s.clone() for s in self._state)

    @torch.inference_mode()
    def step(self, tokens: np.ndarray) -> np.ndarray:
        predicted, self._state = self.generator(torch.from_numpy(tokens)[:, None], self._state)
        step: np.ndarray = predicted[:, 0].numpy()
        return step

    @torch.inference_mode()
    def restart(self, rows: list[int]) -> None:
        for state, begin in zip(self._state, self.begin, strict=True):
            state[:, rows] = begin


class SingleToken(ABC):
    """A generator that reads one token at a time, with the gradients of that token's nll; they reach no earlier step.

    Weights and gradients are those of the module, in PyTorch's own memory.
    """

    @abstractmethod
    def begin(self, state: State | None, rng: np.random.Generator) -> None:
        """Continue from the state of one row, or from zeros; `rng` draws the dropout masks."""

    @property
    @abstractmethod
    def state(self) -> State:
        """The state after the last token, each tensor (L, 1, ...)."""

    @abstractmethod
    def forward(self, token: int, target: int) -> float:
        """Read a token, and return the nll of `target`, the token after it."""

    @abstractmethod
    def backward(self, limit: float) -> float:
        """Write the gradients, clipped to a norm of `limit`, and return their norm before clipping."""

    @abstractmethod
    def reset_if_not_finite(self) -> None:
        """Continue from zeros if the state holds a nan or an infinity."""


class AutogradToken(SingleToken):
    """Single tokens by autograd, for any generator.

    Args:
        generator: a module that takes tokens (B, T) and a state, and has a head.
    """

    def __init__(self, generator: nn.Module) -> None:
        self.generator = generator
        self.parameters = list(generator.parameters())
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)
        self._state: State | None = None
        self._nll: Tensor | None = None

    def begin(self, state: State | None, rng: np.random.Generator) -> None:
        zeros = None if self._state is None else tuple(torch.zeros_like(s) for s in self._state)
        self._state = zeros if state is None else state
        if self.generator.training:
            torch.default_generator.manual_seed(int(rng.integers(2**63)))

    @property
    def state(self) -> State:
        assert self._state is not None, "no token was read"
        return self._state

    def forward(self, token: int, target: int) -> float:
        with torch.enable_grad():
            nll, state = self.generator.nll(torch.tensor([[token]]), torch.tensor([[target]]), self._state)  # type: ignore[operator]
            self._nll = nll.sum()
        self._state = tuple(s.detach() for s in state)
        return float(self._nll.detach())

    def backward(self, limit: float) -> float:
        assert self._nll is not None
        for parameter in self.parameters:
            assert parameter.grad is not None
            parameter.grad.zero_()  # in place, because an update may keep references to the gradients
        with torch.enable_grad():
            self._nll.backward()  # type: ignore[no-untyped-call]
        return float(nn.utils.clip_grad_norm_(self.parameters, limit))

    def reset_if_not_finite(self) -> None:
        if not all(s.isfinite().all() for s in self.state):
            self._state = tuple(torch.zeros_like(s) for s in self.state)
