"""Muon for matrices and AdamW for the rest, as one optimizer with one state, so that a run resumes as with any other."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from throughline.plumbing.errors import UserError


class MuonWithAdamW(torch.optim.Optimizer):
    """Two of PyTorch's optimizers on two groups of parameters.

    Args:
        matrices: for Muon.
        others: for AdamW.
        lr, weight_decay: of both.
        momentum: of Muon.
        betas: of AdamW.
        ns_steps: the iterations of Newton and Schulz in an update of Muon.
    """

    def __init__(
        self,
        matrices: Sequence[Tensor],
        others: Sequence[Tensor],
        lr: float,
        weight_decay: float,
        momentum: float,
        betas: tuple[float, float],
        ns_steps: int = 5,
    ) -> None:
        if not hasattr(torch.optim, "Muon"):
            raise UserError(f"optimizer=muon: needs PyTorch 2.9 or newer, and this is {torch.__version__}")
        self._inner: list[torch.optim.Optimizer] = []
        if matrices:
            # The scale of its updates is that of AdamW, so that one learning rate serves both.
            of_muon: dict[str, Any] = {"momentum": momentum, "ns_steps": ns_steps, "adjust_lr_fn": "match_rms_adamw"}
            self._inner.append(torch.optim.Muon(matrices, lr, weight_decay, **of_muon))
        if others:
            self._inner.append(torch.optim.AdamW(others, lr, betas, weight_decay=weight_decay, fused=True))
        # A group that is called fused gets its numbers of steps on the device of its weights when a checkpoint is read.
        groups: list[dict[str, Any]] = [{"params": list(matrices)}, {"params": list(others), "fused": True}]
        super().__init__([group for group in groups if group["params"]], {"lr": lr, "fused": False})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for inner, group in zip(self._inner, self.param_groups, strict=True):
            inner.state = self.state  # one, which a checkpoint may have replaced
            inner.param_groups[0]["lr"] = group["lr"]
            inner.step()
