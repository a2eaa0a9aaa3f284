"""Training with 20,000 symbols, against the products of the head alone, which no implementation can avoid.

    python -m benchmarks.measurements.vocabulary

The products are those of the head's forward and backward pass at the same sizes and in the same precision: three of them.
"""

import argparse
import contextlib
import io
import tempfile
import timeit
from dataclasses import replace
from statistics import median

import numpy as np
import torch
from rich.console import Console

from benchmarks.peers.matmul import product
from throughline import Config, train
from throughline.config import Budget, Logger, Sampling
from throughline.data.codecs.symbols import Symbols
from throughline.data.corpus import Corpus
from throughline.evaluation.protocol import Evaluation
from throughline.model.settings import LSTM

VOCAB = 20_000


def products(rows: int, hidden_size: int, precision: str) -> float:
    """Positions per second of the head's three products."""
    dtype = torch.bfloat16 if precision == "bf16-mixed" else torch.float32
    shapes = (rows, hidden_size, VOCAB), (rows, VOCAB, hidden_size), (VOCAB, rows, hidden_size)
    seconds = sum(min(timeit.repeat(product(*shape, dtype, "torch.mm"), repeat=3, number=1)) for shape in shapes)
    return rows / seconds


def main() -> None:
    """Interleave the products and runs with an own and with a tied head; print medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--batches", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    base = Config(logger=Logger(name="none"), sampling=Sampling(length=1), evaluation=Evaluation(tokens=64))
    rows, steps = base.regime.shape
    tokens = rows * steps * chosen.batches
    rng = np.random.default_rng(0)
    symbols = [f"{number:05}" for number in range(VOCAB - 1)]
    drawn = [symbols[i] for i in rng.integers(0, len(symbols), tokens).tolist()]
    corpus = Corpus.of(Symbols(symbols=symbols), [drawn], [symbols[:100]])
    base = replace(base, budget=Budget(tokens=tokens - rows), trainer=replace(base.trainer, threads=torch.get_num_threads()))
    models = {"own": LSTM(hidden_size=256, embedding_size=256), "tied": LSTM(embedding_size=256, tie_weights=True)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in models}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.rounds):
            for name, model in models.items():
                with contextlib.redirect_stdout(io.StringIO()):
                    run = train(
                        replace(base, model=model), corpus, tempfile.mkdtemp(dir=folder), console=Console(quiet=True)
                    )
                rate = products(rows * steps, model.hidden_size, run.record.precision)
                found[name].append((run.record.tokens_per_second / rate, run.record.peak_memory_bytes / 2**20))
    print("| head | speed / products of the head | peak memory |\n| --- | --- | --- |")
    for name, pairs in found.items():
        speed, memory = (median(values) for values in zip(*pairs, strict=True))
        print(f"| {name} | {speed:.2f} | {memory:,.0f} MiB |", flush=True)


if __name__ == "__main__":
    main()
