"""A plain transformer with the size and schedule that nanoGPT's README gives for a CPU, written from that description.

    python -m benchmarks.peers.transformer --steps 2000

4 layers, 4 heads, 128 features, crops of 64 characters, 12 crops per step, no dropout, float32, 2000 steps. AdamW
(0.9, 0.99) with weight decay 0.1 on matrices, learning rate 1e-3, 100 steps of warm-up, then half a cosine to 1e-4, clip 1.
The README reports val 1.88 on random crops. Here every crop of the split is scored once, from zero context.
It prints the seconds that its steps took, without validation.
"""

import argparse
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.shakespeare import path, read

LAYERS, HEADS, FEATURES, CONTEXT, BATCH = 4, 4, 128, 64, 12
LR, FLOOR, WARMUP = 1e-3, 1e-4, 100


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(FEATURES, bias=False)
        self.queries_keys_values = nn.Linear(FEATURES, 3 * FEATURES, bias=False)
        self.mix = nn.Linear(FEATURES, FEATURES, bias=False)
        self.before_mlp = nn.LayerNorm(FEATURES, bias=False)
        self.widen = nn.Linear(FEATURES, 4 * FEATURES, bias=False)
        self.narrow = nn.Linear(4 * FEATURES, FEATURES, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        heads = self.queries_keys_values(self.before_attention(x)).unflatten(2, (3, HEADS, -1))  # B, T, 3, HEADS, .
        queries, keys, values = heads.permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(queries, keys, values, is_causal=True)  # B, HEADS, T, .
        x = x + self.mix(attended.transpose(1, 2).flatten(2))
        further: Tensor = self.narrow(F.gelu(self.widen(self.before_mlp(x))))
        return x + further


class Transformer(nn.Module):
    def __init__(self, vocab_size: int) -> None:
        super().__init__()
        self.symbol = nn.Embedding(vocab_size, FEATURES)
        self.place = nn.Embedding(CONTEXT, FEATURES)
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(FEATURES, bias=False)
        self.head = nn.Linear(FEATURES, vocab_size, bias=False)
        self.head.weight = self.symbol.weight
        for parameter in self.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(("mix.weight", "narrow.weight")):  # onto the residual
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * LAYERS))

    def forward(self, inputs: Tensor) -> Tensor:
        x = self.symbol(inputs) + self.place.weight[: inputs.shape[1]]
        logits: Tensor = self.head(self.norm(self.blocks(x)))  # B, T, V
        return logits


def learning_rate(step: int, steps: int) -> float:
    if step < WARMUP:
        return LR * (step + 1) / (WARMUP + 1)
    rest = (step - WARMUP) / max(steps - WARMUP, 1)
    return FLOOR + 0.5 * (1 + math.cos(math.pi * rest)) * (LR - FLOOR)


def train(model: Transformer, tokens: Tensor, steps: int) -> float:
    """Train; returns the seconds that the steps took."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LR, betas=(0.9, 0.99), fused=True)
    began = time.perf_counter()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps)
        start = torch.randint(len(tokens) - CONTEXT, (BATCH, 1))
        crop = tokens[start + torch.arange(CONTEXT + 1)]
        loss = F.cross_entropy(model(crop[:, :-1]).flatten(0, 1), crop[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - began


@torch.no_grad()
def validate(model: Transformer, tokens: Tensor) -> float:
    """Mean nll over adjacent crops of `CONTEXT` characters, each from zero context."""
    count = (len(tokens) - 1) // CONTEXT
    inputs, targets = (part[: count * CONTEXT].view(count, CONTEXT) for part in (tokens[:-1], tokens[1:]))
    total = 0.0
    for x, y in zip(torch.split(inputs, 64), torch.split(targets, 64), strict=True):
        total += float(F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum"))
    return total / (count * CONTEXT)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--steps", type=int, default=2000)
    options.add_argument("--text", type=Path, default=path())
    arguments = options.parse_args()
    torch.manual_seed(1337)
    train_tokens, val_tokens, vocab_size = read(arguments.text)
    model = Transformer(vocab_size)
    seconds = train(model, torch.from_numpy(train_tokens), arguments.steps)
    figures = {"steps": arguments.steps, "seconds": seconds, "val_nll": validate(model, torch.from_numpy(val_tokens))}
    print(json.dumps({"peer": "transformer", "parameters": sum(p.numel() for p in model.parameters()), **figures}))


if __name__ == "__main__":
    main()
