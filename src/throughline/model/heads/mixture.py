"""A mixture of Gaussians over the features of a real frame (Graves 2013, arXiv 1308.0850)."""

import math
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from throughline.data.codecs import Codec
from throughline.model.heads import LinearHead


class MixtureHead(LinearHead):
    """Predicts K logits, K means (K, F) and K unbounded stds (K, F) of the next standardised frame: (..., K + 2KF).

    Given its component, the features of a frame are independent. Frames are standardised. The nll is still that of a density
    in the units of the data: the logarithm of the std of each feature is added. It may be negative.

    Args:
        input_size: H.
        features: F.
        num_components: K.
        min_std: the smallest std of a component, of standardised features.
    """

    has_likeliest: ClassVar[bool] = False

    log_volume: Tensor

    def __init__(self, input_size: int, features: int, num_components: int, min_std: float) -> None:
        super().__init__(input_size, num_components * (1 + 2 * features))
        self.features, self.num_components, self.min_std = features, num_components, min_std
        # Kept with the weights, so that an export scores in the units of the data.
        self.register_buffer("log_volume", torch.zeros(()))

    def in_units_of(self, codec: Codec) -> None:
        self.log_volume.fill_(codec.log_volume)

    def components(self, predicted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The logarithms of the weights (..., K), the means and the stds (..., K, F), from predictions (..., P)."""
        predicted = predicted.to(torch.promote_types(predicted.dtype, torch.float32))
        logits, rest = predicted.tensor_split([self.num_components], dim=-1)
        mean, spread = rest.view(*rest.shape[:-1], 2, self.num_components, self.features).unbind(-3)
        return logits.log_softmax(-1), mean, F.softplus(spread) + self.min_std

    def nll(self, predicted: Tensor, targets: Tensor) -> Tensor:
        log_weight, mean, std = self.components(predicted)
        distance = (targets.to(mean.dtype)[..., None, :] - mean) / std  # ..., K, F
        log_density = -(0.5 * distance.square() + std.log()).sum(-1) - 0.5 * self.features * math.log(2 * math.pi)
        return self.log_volume - (log_weight + log_density).logsumexp(-1)

    def correct(self, predicted: Tensor, targets: Tensor) -> None:
        """None: no frame is hit exactly."""

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
        """Draws a component and then a frame, with the bias b = 1 / T - 1 of Graves 2013 (equations 61 and 62).

        The logits are divided by T, and the stds are multiplied by exp(1 - 1 / T). At temperature 0 the frame is the mean of
        the component with the largest weight.
        """

        def draw(predicted: np.ndarray) -> np.ndarray:
            log_weight, mean, std = (part.double().numpy() for part in self.components(torch.from_numpy(predicted)))
            each = np.arange(len(predicted))
            if temperature == 0:
                frames: np.ndarray = mean[each, log_weight.argmax(axis=1)]
                return frames.astype(np.float32)
            component = (log_weight + temperature * rng.gumbel(size=log_weight.shape)).argmax(axis=1)
            spread = math.exp(1 - min(1 / temperature, 700.0))
            frames = mean[each, component] + spread * std[each, component] * rng.standard_normal((len(each), self.features))
            return frames.astype(np.float32)

        return draw
