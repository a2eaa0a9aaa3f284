"""Training on sequences that are not joined, against one long text of as many tokens.

    python -m benchmarks.measurements.sequences

Symbols are random, because only the speed counts. It is that of useful tokens: padding and restarts are not counted.
"""

import argparse
import contextlib
import io
import tempfile
from dataclasses import replace
from statistics import median

import numpy as np
from rich.console import Console

from throughline import Config, train
from throughline.config import Budget, Logger, Sampling
from throughline.data.codecs.characters import Characters
from throughline.data.corpus import Corpus
from throughline.evaluation.protocol import Evaluation
from throughline.regimes.stateful import Stateful

TOKENS, ALPHABET = 400_000, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,."


def kinds(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Lengths of sequences of many kinds."""
    cases = np.array([8, 25, 35, 15, 8, 4, 2, 1, 0.7, 0.5, 0.3, 0.2, 0.2, 0.1])
    return {
        "cases of 4.3 events": 2 + rng.choice(len(cases), TOKENS // 5, p=cases / cases.sum()),
        "names of 7": 1 + rng.binomial(14, 0.43, TOKENS // 8),
        "sequences of 12": 1 + rng.gamma(4, 11 / 4, TOKENS // 13).astype(int),
        "sequences of 20": 1 + rng.gamma(4, 19 / 4, TOKENS // 21).astype(int),
        "sequences of 40": 1 + rng.gamma(4, 39 / 4, TOKENS // 41).astype(int),
        "tunes of 250": 1 + rng.gamma(4, 249 / 4, TOKENS // 251).astype(int),
    }


def corpus_of(lengths: np.ndarray, joined: bool) -> Corpus:
    rng = np.random.default_rng(0)
    text = "".join(rng.choice(list(ALPHABET), int(lengths.sum() + len(lengths))).tolist())
    ends = np.cumsum(lengths)
    sequences = [text[:TOKENS]] if joined else [text[end - n : end] for n, end in zip(lengths, ends, strict=True)]
    return Corpus.of(Characters(), sequences, [ALPHABET], ended=not joined, joined=joined)


def measured(config: Config, corpus: Corpus, folder: str) -> tuple[float, float]:
    """Tokens per second, and the share of positions that were read beside the targets."""
    with contextlib.redirect_stdout(io.StringIO()):
        run = train(config, corpus, tempfile.mkdtemp(dir=folder), console=Console(quiet=True))
    return run.record.tokens_per_second, run.record.positions / run.record.tokens - 1


def main() -> None:
    """Interleave one long text and all kinds, each in both ways, and print medians."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    chosen = parser.parse_args()
    base = Config(
        budget=Budget(seconds=chosen.seconds),
        logger=Logger(name="none"),
        sampling=Sampling(length=1),
        evaluation=Evaluation(streams=1, warmup=0),
    )
    base = replace(base, trainer=replace(base.trainer, threads=2))
    rng = np.random.default_rng(1)
    text = corpus_of(np.array([TOKENS]), joined=True)
    corpora = {name: corpus_of(lengths, joined=False) for name, lengths in kinds(rng).items()}
    found: dict[tuple[str, str], list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(chosen.rounds):
            for name, corpus in corpora.items():
                before, _ = measured(base, text, folder)
                for way in ("beside", "behind"):
                    config = replace(base, regime=Stateful(sequences=way))
                    speed, overhead = measured(config, corpus, folder)
                    found.setdefault((name, way), []).append((speed / before, overhead))
    print("| data | auto | way | speed / one long text | read beside the targets |\n| --- | --- | --- | --- | --- |")
    for (name, way), pairs in found.items():
        speed, overhead = (median(values) for values in zip(*pairs, strict=True))
        plan = Stateful().plan(corpora[name].train, 0, 0)
        auto = "x" if type(plan).__name__.lower() == way else ""
        print(f"| {name} | {auto} | {way} | {speed:.2f} | {overhead:.1%} |", flush=True)


if __name__ == "__main__":
    main()
