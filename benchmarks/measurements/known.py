"""Data with known answers, and how near a trained network comes: python -m benchmarks.measurements.known [--seconds 40].

- Reber: the share of steps at which the likeliest symbol is legal, with the state carried and with resets every 16 steps.
- Markov: nll against the entropy of the source.
- A process: an event log of cases, nll and accuracy against the best that the known probabilities allow.
"""

import argparse
import csv
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from throughline import AdamW, Budget, Config, Logger, Markov, Reber, Run, Segments, Stateful, Table, train
from throughline.config import Sampling
from throughline.data.sources.reber import legal

STEPS = 16
"""Steps between resets; a string of the grammar is about as long."""

PROCESS: dict[str, dict[str, float]] = {
    "": {"receive": 0.9, "reopen": 0.1},
    "receive": {"assign": 0.8, "ask": 0.15, "reject": 0.05},
    "reopen": {"assign": 1.0},
    "assign": {"work": 0.75, "ask": 0.2, "assign": 0.05},
    "ask": {"answer": 0.7, "close": 0.3},
    "answer": {"work": 0.6, "ask": 0.1, "close": 0.3},
    "work": {"solve": 0.7, "work": 0.2, "assign": 0.1},
    "solve": {"close": 0.85, "reopen": 0.15},
    "reject": {"": 1.0},
    "close": {"": 0.95, "reopen": 0.05},
}
"""A help desk: the activities that may follow each one, with their probabilities; the empty one begins and ends a case."""


def cases(number: int, rng: np.random.Generator) -> Iterator[list[str]]:
    """Cases of the process."""
    for _ in range(number):
        case, last = [], ""
        while True:
            names, shares = zip(*PROCESS[last].items(), strict=True)
            last = names[rng.choice(len(names), p=shares)]
            if not last:
                break
            case.append(last)
        yield case


def best_possible(found: list[list[str]]) -> tuple[float, float]:
    """The nll per step of these cases by the probabilities of the process, and its accuracy."""
    steps = [(a, b) for case in found for a, b in zip(["", *case], [*case, ""], strict=True)]
    nll = -np.mean([np.log(PROCESS[a][b]) for a, b in steps])
    return float(nll), float(np.mean([max(PROCESS[a], key=PROCESS[a].__getitem__) == b for a, b in steps]))


def trained(config: Config, seconds: float, folder: str) -> Run:
    """The run on this data, without output."""
    config = replace(config, budget=Budget(seconds=seconds), logger=Logger(name="none"), sampling=Sampling(length=1))
    return train(config, folder=tempfile.mkdtemp(dir=folder), console=Console(quiet=True))


def legal_share(run: Run, symbols: list[str], reset_every: int | None) -> float:
    """The share of steps at which the likeliest next symbol is legal."""
    ids = torch.from_numpy(run.codec.encode(symbols).astype(np.int64))
    allowed, pieces = legal(symbols), torch.split(ids, reset_every or len(ids))
    with torch.inference_mode():
        likeliest = torch.cat([run.generator(piece[None])[0][0].argmax(-1) for piece in pieces])
    return float(np.mean([run.codec.decode([id]) in allowed[i + 1] for i, id in enumerate(likeliest.tolist())]))


def main() -> None:
    """Train on each, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=40.0)
    parser.add_argument("--only", default="")
    chosen = parser.parse_args()
    print("| data | trained and read | measured | best possible |\n| --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.only in ("", "reber"):
            source = Reber()
            symbols = source.read().codec.decode(source.read().val.steps.tolist()).split()
            for regime, reset in ((Stateful(bptt=STEPS), None), (Segments(steps=STEPS), STEPS)):
                run = trained(Config(data=source, regime=regime, optimizer=AdamW(lr=1e-2)), chosen.seconds, folder)
                share = legal_share(run, symbols, reset)
                how = "carried" if reset is None else f"reset every {STEPS} steps"
                print(
                    f"| Reber | {regime.name}, {how} | {share:.2%} legal, nll {run.record.metrics['val/nll']:.4f} | "
                    f"100 %, {run.record.data['entropy']:.4f} |",
                    flush=True,
                )
        if chosen.only in ("", "markov"):
            run = trained(Config(data=Markov(num_symbols=2_000_000)), chosen.seconds, folder)
            print(
                f"| Markov | stateful | nll {run.record.metrics['val/nll']:.4f} | {run.record.data['entropy']:.4f} |",
                flush=True,
            )
        if chosen.only in ("", "process"):
            path, found = Path(folder, "log.csv"), list(cases(20_000, np.random.default_rng(0)))
            with path.open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file)
                rows.writerow(["case", "activity"])
                rows.writerows([number, activity] for number, case in enumerate(found) for activity in case)
            data = Table(str(path), sequence="case", symbol="activity", split="end", val_fraction=0.2)
            nll, accuracy = best_possible(found[16_000:])
            run = trained(Config(data=data), chosen.seconds, folder)
            metrics = run.record.metrics
            print(
                f"| process | stateful | nll {metrics['val/nll']:.4f}, accuracy {metrics['val/accuracy']:.2%} | "
                f"{nll:.4f}, {accuracy:.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
