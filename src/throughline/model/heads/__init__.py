"""Heads predict the next step and score the prediction. One file per head.

A new head needs one file here, its settings in `throughline.model.settings`, one YAML in `conf/head`, and one line in
`tests/model/heads/test_every_head.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import numpy as np
from torch import Tensor, nn

from throughline.data.codecs import Codec


class Head(nn.Module, ABC):
    """Turns a core's output into the prediction of the next step.

    Targets and steps below are ids, or frames with one more dimension F.

    Attributes:
        has_likeliest: whether the likeliest step is a figure of interest; otherwise `correct` returns None.
    """

    has_likeliest: ClassVar[bool] = True

    def in_units_of(self, codec: Codec) -> None:
        """Let the nll be in the units of these data; a head of symbols has none."""

    @abstractmethod
    def forward(self, output: Tensor) -> Tensor:
        """The prediction (..., P) from outputs (..., H)."""

    @abstractmethod
    def nll(self, predicted: Tensor, targets: Tensor) -> Tensor:
        """The negative log-likelihood of each target, in nats: (T, B) from predictions (T, B, P) and targets (T, B)."""

    def nll_of(self, output: Tensor, targets: Tensor) -> Tensor:
        """The same from outputs (T, B, H), for training; a head may save the memory of all predictions."""
        return self.nll(self(output), targets)

    def score(self, output: Tensor, targets: Tensor) -> tuple[Tensor, Tensor | None]:
        """The nll of each target, and whether the likeliest step is the target, from outputs (T, B, H)."""
        predicted = self(output)
        return self.nll(predicted, targets), self.correct(predicted, targets)

    @abstractmethod
    def correct(self, predicted: Tensor, targets: Tensor) -> Tensor | None:
        """Whether the likeliest step is the target, (...) bool; None if there is no such figure."""

    @abstractmethod
    def metrics(self, nll: float) -> dict[str, float]:
        """The mean nll in other units, by name; empty for frames, whose features have no common unit."""

    @abstractmethod
    def sampler(
        self,
        rng: np.random.Generator,
        rows: int,
        temperature: float,
        top_k: int | None,
        top_p: float | None,
        min_p: float | None = None,
    ) -> Callable[[np.ndarray], np.ndarray]:
        """A function that draws, in each call, one step for each of `rows` predictions (B, P)."""

    @abstractmethod
    def operations(self) -> int:
        """Floating-point operations of training per position."""


class LinearHead(nn.Linear, Head):
    """A head whose prediction is one product: weights (P, H) and a bias."""

    def operations(self) -> int:
        return 3 * 2 * self.in_features * self.out_features
