"""The cost of the checks for numbers that are not finite, compared with the training step that they guard.

    python -m benchmarks.measurements.checks

The step is a plain step in float32 with nothing around it: forward, loss, backward, clipping, update.
"""

import math
from statistics import median

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch.utils.benchmark import Timer

from throughline.batches.carry import Carry, State
from throughline.model.generator import Generator
from throughline.model.settings import LSTM

VOCAB_SIZE, ROUNDS = 66, 9


class Step:
    """LSTM(256) on B rows of T steps. Each step starts from the state of the previous one, with or without checks."""

    def __init__(self, B: int, T: int) -> None:  # noqa: N803
        self.model = Generator(LSTM(), VOCAB_SIZE)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), fused=True)
        self.inputs, self.targets = torch.randint(1, VOCAB_SIZE, (2, B, T))
        self.carry = Carry()
        self.state = self.train()
        self.check()

    def train(self) -> State:
        logits, state = self.model(self.inputs)
        nll = F.cross_entropy(logits.flatten(0, 1), self.targets.flatten())
        self.optimizer.zero_grad()
        nll.backward()  # type: ignore[no-untyped-call]
        self.grad_norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.nll = nll.detach()
        return tuple(state)

    def check(self) -> None:
        """The work of `Learner` and `Commit`: wait for two numbers, and commit the state."""
        if not math.isfinite(sum(torch.stack([self.grad_norm, self.nll]).tolist())):
            raise AssertionError
        self.carry.offer("train", self.state)
        self.carry.commit("train")


def main() -> None:
    torch.manual_seed(1)
    table = Table("rows x steps", "training step", "checks", "share")
    for B, T in ((1, 1), (1, 32), (64, 32), (128, 64)):  # noqa: N806
        step = Step(B, T)
        timers = [
            Timer(f"step.{what}()", globals={"step": step}, num_threads=torch.get_num_threads())
            for what in ("train", "check")
        ]
        rounds = [[timer.blocked_autorange(min_run_time=0.3).median for timer in timers] for _ in range(ROUNDS)]
        train, check = (median(times) for times in zip(*rounds, strict=True))
        share = median(times[1] / times[0] for times in rounds)
        table.add_row(f"{B} x {T}", f"{train * 1e6:,.0f} us", f"{check * 1e6:,.1f} us", f"{share:.2%}")
    Console(width=80).print(table)


if __name__ == "__main__":
    main()
