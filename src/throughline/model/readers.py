"""Readers that turn steps into the input of a core without an embedding."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class OneHot(nn.Module):
    """Token ids (T, B) as one-hot rows (T, B, V), in the precision of the weights."""

    like: Tensor

    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.register_buffer("like", torch.zeros(()), persistent=False)  # follows the weights to their device and type

    def forward(self, ids: Tensor) -> Tensor:
        return F.one_hot(ids, self.vocab_size).to(self.like.dtype)


class AsTheyAre(nn.Module):
    """Frames (T, B, F), in the precision of the weights."""

    like: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("like", torch.zeros(()), persistent=False)

    def forward(self, frames: Tensor) -> Tensor:
        return frames.to(self.like.dtype)
