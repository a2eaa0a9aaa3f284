"""minGRU and minLSTM (Feng 2024, arXiv 2410.01201): all steps of a batch at once, by a scan."""

from collections.abc import Callable
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from throughline.batches.carry import State
from throughline.model.cores import Core, Operations
from throughline.model.dropout import dropped


class MinGRUCore(Core):
    """Blocks in which h moves towards a candidate: h = (1 - z) h + z n. Both z and n see the input alone.

    Its state is `(h,)`, with h (L, B, H).

    Args:
        input_size: E.
        hidden_size: H.
        num_layers: L.
        dropout: between blocks.
        variational: whether it draws one mask for all steps.
        expansion: the width inside the MLP of a block, as a multiple of H.
    """

    state_names: ClassVar = ("h",)
    restarts: ClassVar = True
    matrices: ClassVar = 2
    """Those of the gates and that of the candidate."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 3,
        dropout: float = 0.0,
        variational: bool = False,
        expansion: int = 2,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.num_layers, self.expansion = input_size, hidden_size, num_layers, expansion
        self.dropout, self.variational = dropout, variational
        self.reads = nn.Linear(input_size, hidden_size)
        self.blocks = nn.ModuleList(Block(hidden_size, self.matrices, expansion) for _ in range(num_layers))
        self.norm = nn.LayerNorm(hidden_size)

    def forward(self, x: Tensor, state: State | None = None, restart: Tensor | None = None) -> tuple[Tensor, State]:
        x, after = self.reads(x), []
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = dropped(x, self.dropout if number else 0.0, self.training, self.variational)
            gates = block.gates(block.norm_gates(x))
            # In bfloat16 a share that is kept of nearly 1 would be 1, and what is added to a large h would be lost.
            kept, added = self.moved(gates.to(torch.promote_types(gates.dtype, torch.float32)))
            if restart is not None:  # nothing is kept and nothing is added, so h is exactly zeros
                kept, added = (part.masked_fill(restart[..., None], 0.0) for part in (kept, added))
            before = torch.zeros_like(added[0]) if state is None else state[0][number].to(added.dtype)
            h = linear_recurrence(kept, added, before)
            after.append(h[-1])
            x = x + h
            x = x + block.mlp(block.norm_mlp(x))
        return self.norm(x), (torch.stack(after),)

    def moved(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        """The share of h that is kept at each step, and what is added, from (T, B, 2H)."""
        z, n = gates.chunk(2, dim=-1)
        z = z.sigmoid()
        return 1 - z, z * n

    def operations(self, input_size: int) -> Operations:
        H = self.hidden_size  # noqa: N806
        block = (self.matrices + 2 * self.expansion) * H * H
        return Operations(3 * 2 * (H * input_size + self.num_layers * block), 0)


class MinLSTMCore(MinGRUCore):
    """As `MinGRUCore`, with a forget gate and an input gate that are divided by their sum."""

    matrices: ClassVar = 3

    def moved(self, gates: Tensor) -> tuple[Tensor, Tensor]:
        f, i, n = gates.chunk(3, dim=-1)
        kept = (F.logsigmoid(f) - F.logsigmoid(i)).sigmoid()  # sigmoid(f) / (sigmoid(f) + sigmoid(i)), also where both are 0
        return kept, (1 - kept) * n


class Block(nn.Module):
    """The weights of a block: a recurrence, and two matrices with a GELU between them, each behind a normalisation."""

    def __init__(self, hidden_size: int, matrices: int, expansion: int) -> None:
        super().__init__()
        self.norm_gates, self.norm_mlp = nn.LayerNorm(hidden_size), nn.LayerNorm(hidden_size)
        self.gates = nn.Linear(hidden_size, matrices * hidden_size)
        wide = expansion * hidden_size
        self.mlp = nn.Sequential(nn.Linear(hidden_size, wide), nn.GELU(), nn.Linear(wide, hidden_size))


class Recurrence(torch.autograd.Function):
    """h[t] = a[t] h[t - 1] + b[t] for a and b (T, B, H), from h[-1] (B, H); the gradient is the same, backward in time."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, before: Tensor) -> Tensor:
        h = solved(a, b, before)
        ctx.save_for_backward(a, h, before)
        return h

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, h, before = ctx.saved_tensors
        following = torch.cat([a[1:], torch.zeros_like(a[:1])])  # of the last step nothing is handed back
        by_b = solved(following.flip(0), grad.flip(0), torch.zeros_like(before)).flip(0)
        return by_b * torch.cat([before[None], h[:-1]]), by_b, a[0] * by_b[0]


def solved(a: Tensor, b: Tensor, before: Tensor) -> Tensor:
    """All h (T, B, H).

    A GPU gets a scan, which takes log2(T) passes over all steps. A CPU takes the steps one by one, because each is one
    pass over what fits its caches: 32 steps of 64 rows with H = 256 take 0.4 ms on two cores, and by a scan 4.3 ms.
    """
    return scanned(a, b, before) if a.is_cuda else step_by_step(a, b, before)


def step_by_step(a: Tensor, b: Tensor, before: Tensor) -> Tensor:
    h = torch.empty_like(b)
    for t in range(len(b)):
        torch.addcmul(b[t], a[t], before, out=h[t])
        before = h[t]
    return h


def scanned(a: Tensor, b: Tensor, before: Tensor) -> Tensor:
    """By doubling (Hillis and Steele 1986): after pass k, each step holds what the 2^k steps up to it do to h."""
    b = torch.cat([torch.addcmul(b[:1], a[:1], before[None]), b[1:]])
    reach = 1
    while reach < len(b):
        b = torch.cat([b[:reach], torch.addcmul(b[reach:], a[reach:], b[:-reach])])
        a = torch.cat([a[:reach], a[reach:] * a[:-reach]])
        reach *= 2
    return b


linear_recurrence: Callable[[Tensor, Tensor, Tensor], Tensor] = Recurrence.apply
