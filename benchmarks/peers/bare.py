"""A loop that a user could write instead of throughline: the same model, settings and tuning in plain PyTorch.

python -m benchmarks.peers.bare --streams 64 --bptt 32 --precision bf16-mixed
"""

import ctypes
import platform
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.peers.pace import Pace, parser
from benchmarks.peers.shakespeare import chunks, path, read

State = tuple[Tensor, Tensor]


class Generator(nn.Module):
    def __init__(self, vocab_size: int, embedding_size: int = 64, hidden_size: int = 256) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, embedding_size)
        self.lstm = nn.LSTM(embedding_size, hidden_size, batch_first=True)
        self.head = nn.Linear(hidden_size, vocab_size)

    def forward(self, inputs: Tensor, state: State | None) -> tuple[Tensor, State]:
        output, state = self.lstm(self.embedding(inputs), state)
        return self.head(output), state  # B, T, V


class Loop:
    """Truncated backpropagation through time over parallel streams, state carried."""

    def __init__(self, model: Generator, precision: str, lr: float = 0.01) -> None:
        self.model = model
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
        self.precision = precision

    def autocast(self) -> AbstractContextManager[None]:
        return torch.autocast("cpu", torch.bfloat16, enabled=self.precision == "bf16-mixed")

    def epoch(self, inputs: Tensor, targets: Tensor) -> Iterator[Tensor]:
        """Train on chunks (K, B, T) in order, from zeros; yields the mean nll of each chunk."""
        state = None
        for x, y in zip(inputs, targets, strict=True):
            with self.autocast():
                logits, state = self.model(x, state)
                loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            h, c = state
            state = h.detach(), c.detach()
            yield loss.detach()

    @torch.no_grad()
    def validate(self, inputs: Tensor, targets: Tensor, carried: bool) -> float:
        """Mean nll over chunks (K, B, T). Each chunk starts from zeros, unless `carried`."""
        state, total = None, 0.0
        for x, y in zip(inputs, targets, strict=True):
            with self.autocast():
                logits, state = self.model(x, state if carried else None)
                total += float(F.cross_entropy(logits.flatten(0, 1), y.flatten()))
        return total / len(inputs)


def keep_freed_memory() -> None:
    """The same tuning of glibc's allocator as in throughline."""
    if platform.libc_ver()[0] == "glibc":
        for option, value in ((-3, 2**30), (-1, 2**31 - 1), (-2, 2**28)):  # mmap threshold, trim threshold, top pad
            ctypes.CDLL(None).mallopt(option, value)


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--streams", type=int, default=64)
    options.add_argument("--bptt", type=int, default=32)
    options.add_argument("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    options.add_argument("--epochs", action="store_true", help="a slice is an epoch, both validations and a checkpoint")
    options.add_argument("--text", type=Path, default=path())
    arguments = options.parse_args()
    keep_freed_memory()
    torch.manual_seed(1)
    train, val, vocab_size = read(arguments.text)
    inputs, targets = map(torch.from_numpy, chunks(train, arguments.streams, arguments.bptt))
    carried_chunks, carried_targets = map(torch.from_numpy, chunks(val, 64, 64))
    reset_chunks, reset_targets = map(torch.from_numpy, chunks(val, 16, 256))
    model = Generator(vocab_size)
    loop = Loop(model, arguments.precision)
    pace = Pace(arguments, peer="bare PyTorch loop", parameters=sum(p.numel() for p in model.parameters()))
    pace.begin()
    with tempfile.TemporaryDirectory() as folder:
        while True:
            for loss in loop.epoch(inputs, targets):
                pace.about["train_nll"] = float(loss)
                if not arguments.epochs:
                    pace.step(inputs[0].numel())
            if arguments.epochs:
                loop.validate(carried_chunks, carried_targets, carried=True)
                loop.validate(reset_chunks, reset_targets, carried=False)
                torch.save({"model": model.state_dict(), "optimizer": loop.optimizer.state_dict()}, f"{folder}/last.ckpt")
                pace.step(inputs.numel())


if __name__ == "__main__":
    main()
