"""A probability for each feature of a multi-hot frame, such as the keys of a piano."""

from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from throughline.model.heads import LinearHead


class BernoulliHead(LinearHead):
    """Predicts a logit (..., F) for each feature of the next frame.

    The nll of a frame is the sum over its features, as is customary for piano rolls (Boulanger-Lewandowski 2012).

    Args:
        input_size: H.
        features: F.
    """

    has_likeliest: ClassVar[bool] = False

    def __init__(self, input_size: int, features: int) -> None:
        super().__init__(input_size, features)

    def nll(self, predicted: Tensor, targets: Tensor) -> Tensor:
        # A sum over many features needs more digits than bfloat16 has.
        logits = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
        return F.binary_cross_entropy_with_logits(logits, targets.to(logits.dtype), reduction="none").sum(-1)

    def correct(self, predicted: Tensor, targets: Tensor) -> None:
        """None: a frame of many features is hardly ever hit, and no published work counts it."""

    def metrics(self, nll: float) -> dict[str, float]:
        return {}

    def sampler(
        self,
        rng: np.random.Generator,
        rows: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        min_p: float | None = None,
    ) -> Callable[[np.ndarray], np.ndarray]:
        """Draws each feature from sigmoid(logit / T); at temperature 0, those are set that are likelier set than not."""
        if temperature == 0:
            return lambda logits: (logits > 0).astype(np.float32)
        # A logistic variable is below x with probability sigmoid(x); multiplied by T, the smallest T does not overflow.
        return lambda logits: (temperature * rng.logistic(size=logits.shape) < logits).astype(np.float32)
