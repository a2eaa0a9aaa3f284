"""A minute that finds a setting: the learning rate, or the number of streams and the bptt."""

import math
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count

import torch
from pydantic import ValidationError
from rich.console import Console

from throughline.batches.batch import Batch, Batches
from throughline.batches.carry import Carry
from throughline.config import Config
from throughline.data.corpus import Corpus
from throughline.memory import of_machine, of_training, refuse_too_much
from throughline.plumbing.errors import UserError
from throughline.regimes.stateful import Stateful
from throughline.runs import initial
from throughline.training.machine import prepare_process, process_as_before
from throughline.training.recorded import Recorder, can_be_recorded
from throughline.training.row_shares import RowShares
from throughline.training.run import build_learner, data_module, parts_of_rows, runnable, with_threads
from throughline.training.step import divisor, read, total

SECONDS = 50.0
"""What a test takes, apart from its start."""
LOWEST, HIGHEST = 1e-5, 3.0
"""The learning rates of the range test."""
FEWEST_STEPS, MOST_STEPS = 60, 600
SMOOTH = 0.9
"""How much of the smoothed loss stays at each step."""
DIVERGED = 1.5
"""The smoothed loss at which the test ends, as a multiple of the lowest."""
STREAMS, BPTT = (4, 8, 16, 32, 64, 128, 256, 512), (16, 32, 64, 128)
ENOUGH = 0.8
"""The share of the highest speed that is enough: fewer streams make more updates on the same data."""
WIDTH = 40
"""The longest bar of a picture."""


def tune(config: Config, corpus: Corpus, console: Console) -> str:
    """Find a setting, print how, and return it as an argument of the command line.

    Raises:
        UserError: the regime has no such setting, or no step can be made.
    """
    with process_as_before():
        prepare_process()
        config = runnable(config)
        config, corpus, first = initial.read(config, corpus)
        config = config.suited(corpus.codec)
        refuse_too_much(config, lambda config: of_training(config, corpus))
        asked = config.trainer.row_shares
        config = with_threads(config, data_module(config, corpus))
        config = replace(config, trainer=replace(config.trainer, row_shares=asked))  # a trial may have another shape
        if config.regime.update_every_token:
            raise UserError(
                f"tune={config.tune}: regime {config.regime.name} updates after every token; give another regime"
            )
        device = torch.device("cuda" if torch.cuda.is_available() and config.trainer.accelerator != "cpu" else "cpu")
        tests = {"lr": _learning_rate, "streams": _streams}
        return tests[str(config.tune)](_Trial(config, corpus, first, device), console)


class _Trial:
    """A network that is trained for a few steps, and its batches."""

    def __init__(self, config: Config, corpus: Corpus, first: initial.Initial | None, device: torch.device) -> None:
        self.config, self.corpus, self.first, self.device = config, corpus, first, device
        learner = build_learner(config, data_module(config, corpus))
        if first is not None:
            first.into(learner.generator, corpus.codec)
        self.generator = learner.generator.to(device).train()
        self.parameters = list(self.generator.parameters())
        self.optimizer = config.optimizer.build_for(self.generator)
        self.carry = Carry()
        threads = int(config.trainer.threads)
        parts = parts_of_rows(config, self.generator, threads)
        self.shares = RowShares(self.generator, parts, threads) if parts > 1 else None
        rows, steps = config.regime.shape
        self.recorder = (
            Recorder(self.generator, (rows, steps), config.penalties)
            if config.trainer.cuda_graphs and can_be_recorded(self.generator)
            else None
        )

    def batches(self) -> Iterator[Batch]:
        """Those of training, without end."""
        for epoch in count():
            batches = Batches(self.config.regime.plan(self.corpus.train, self.config.seed, epoch), self.corpus.train)
            for number in range(len(batches)):
                yield batches[number].to(self.device)

    def step(self, batch: Batch, lr: float) -> float:
        """Make an update, and return the loss before it."""
        bf16 = self.config.trainer.precision == "bf16-mixed"
        before = self.carry.begin("train", batch.reset, batch.from_noise)
        by = divisor(batch, self.config.trainer.loss, self.config.regime.shape[0])
        with torch.autocast(self.device.type, torch.bfloat16, enabled=bf16):
            recorded = None if self.recorder is None else self.recorder.step(batch)
            shares = self.shares if self.shares is not None and len(batch.reset) >= self.shares.shares else None
            if shares is not None:
                shared = shares.step(batch, before, by)
            elif recorded is None:
                nll, penalty, state = read(self.generator, batch, before, self.config.penalties)
        if shares is not None:
            nll_sum, state = shared.nll.sum(), shared.state
            shared.add_gradients()
        elif recorded is None:
            nll_sum = nll.masked_fill(~batch.scored, 0.0).sum()
            (total(nll_sum, penalty, batch.n_valid) / by).backward()  # type: ignore[no-untyped-call]
        else:
            _, state, numbers = recorded.replay(batch, before, by)
            nll_sum = numbers[1]
        self.carry.offer("train", state)
        self.carry.commit("train")
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.trainer.gradient_clip_val or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(nll_sum.detach()) / batch.n_valid


def _learning_rate(trial: _Trial, console: Console) -> str:
    """The range test (Smith 2017, arXiv 1506.01186): the rate grows at every step, and the loss says how far is too far."""
    batches = trial.batches()
    began = time.perf_counter()
    warm = 3
    for _ in range(warm):
        trial.step(next(batches), LOWEST)
    steps = int(SECONDS * warm / (time.perf_counter() - began))
    steps = min(MOST_STEPS, max(FEWEST_STEPS, steps))
    rates = [LOWEST * (HIGHEST / LOWEST) ** (k / (steps - 1)) for k in range(steps)]
    smoothed: list[float] = []
    mean = 0.0
    for number, rate in enumerate(rates, start=1):
        loss = trial.step(next(batches), rate)
        mean = SMOOTH * mean + (1 - SMOOTH) * loss
        now = mean / (1 - SMOOTH**number)
        if not math.isfinite(now) or (smoothed and now > DIVERGED * min(smoothed)):
            break
        smoothed.append(now)
    if not smoothed:
        raise UserError(f"tune=lr: the loss is not finite at lr={LOWEST:g}; give another model, or precision=32-true")
    lowest = min(range(len(smoothed)), key=smoothed.__getitem__)
    rows = [(f"{rates[k]:.2g}", smoothed[k]) for k in _spread(len(smoothed), 18)]
    console.print(f"the loss while the learning rate grows, {len(smoothed)} updates:")
    for line in _bars("lr", "train nll", rows):
        console.print(line)
    if not smoothed[lowest] < smoothed[0]:
        raise UserError("tune=lr: the loss fell at no learning rate; give more data, or another model")
    best = _rounded(rates[lowest] / 3)
    told = f"the loss was lowest at lr={rates[lowest]:.2g}"
    told += "" if len(smoothed) == steps else f", and diverged at {rates[len(smoothed)]:.2g}"
    console.print(f"{told}; a third of the lowest is safe for a whole run")
    return f"optimizer.lr={best:g}"


def _streams(trial: _Trial, console: Console) -> str:
    """The speed by the shape of a batch; fewer streams make more updates, so the fewest that are fast enough are taken."""
    config, corpus = trial.config, trial.corpus
    if not isinstance(config.regime, Stateful):
        raise UserError(f"tune=streams: regime {config.regime.name} has no streams; give regime=stateful")
    own, targets = config.regime, corpus.train.num_targets
    by_shape = dict[tuple[int, int], Config]()
    for bptt in BPTT:
        for streams in STREAMS:
            if streams * bptt <= targets // 4:
                with suppress(ValidationError):  # a regime may allow fewer
                    regime = replace(own, streams=streams, bptt=bptt, bptt_start=None)
                    by_shape[streams, bptt] = replace(config, regime=regime)
    if not by_shape:
        raise UserError(f"tune=streams: {targets:,} targets are too few for any choice; give more data")
    shapes = {shape: tried for shape, tried in by_shape.items() if of_training(tried, corpus) <= of_machine()}
    if not shapes:
        raise UserError("tune=streams: no choice fits into the memory of this machine; give a smaller model")
    speeds: dict[tuple[int, int], float] = {}
    for (streams, bptt), tried in shapes.items():
        one = _Trial(tried, corpus, trial.first, trial.device)
        batches, lr = one.batches(), trial.optimizer.param_groups[0]["lr"]
        one.step(next(batches), lr)
        began, tokens = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < SECONDS / len(shapes):
            batch = next(batches)
            one.step(batch, lr)
            tokens += int(batch.n_valid)
        speeds[streams, bptt] = tokens / spent
    bptts = sorted({bptt for _, bptt in speeds})
    console.print("tokens per second by streams and bptt:")
    console.print("streams " + "".join(f"{f'bptt {bptt}':>10}" for bptt in bptts))
    for streams in sorted({streams for streams, _ in speeds}):
        console.print(
            f"{streams:>7} "
            + "".join(f"{speeds.get((streams, bptt), math.nan):>10,.0f}".replace("nan", "  -") for bptt in bptts)
        )
    bptt = min(bptts, key=lambda each: abs(each - own.bptt))
    of_bptt = {streams: speed for (streams, b), speed in speeds.items() if b == bptt}
    fewest = min(streams for streams, speed in of_bptt.items() if speed >= ENOUGH * max(of_bptt.values()))
    console.print(
        f"with bptt={bptt}, {fewest} streams are the fewest with {ENOUGH:.0%} of the highest speed; "
        "more make fewer updates on the same data"
    )
    return f"regime.streams={fewest} regime.bptt={bptt}"


def _spread(number: int, most: int) -> list[int]:
    """Places from the first to the last."""
    return sorted({round(k * (number - 1) / max(1, most - 1)) for k in range(most)})


def _rounded(value: float) -> float:
    """To two digits."""
    return float(f"{value:.1e}")


def _bars(x: str, y: str, rows: Sequence[tuple[str, float]]) -> Iterator[str]:
    """A picture for the terminal: a bar per row."""
    low, high = min(value for _, value in rows), max(value for _, value in rows)
    yield f"{x:>9}  {y}"
    for name, value in rows:
        bar = "#" * round(1 + (WIDTH - 1) * (value - low) / ((high - low) or 1.0))
        yield f"{name:>9}  {value:8.4f}  {bar}"
