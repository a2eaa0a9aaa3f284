"""The text that a network writes from an empty state, for several values of `regime.reset_probability`.

    python -m benchmarks.measurements.openings [--tokens 1000000 4000000] [--seeds 5] [--probabilities 0 0.02] [--out FILE]

Each run trains on the given number of tokens of tinyshakespeare and writes 40 passages of 64 characters without a prompt. A
better model is trained on `--judge` tokens with resets. A passage is noise if this model gives it a perplexity over 20. Each
row of the CSV is one run.
"""

import argparse
import csv
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmarks.peers.shakespeare import path
from throughline.config import Config
from throughline.data.codecs import Codec
from throughline.data.corpus import Corpus
from throughline.model.generation import generate
from throughline.model.generator import Generator
from throughline.regimes.stateful import Stateful
from throughline.training.run import Run, train

PASSAGES, LENGTH, PERPLEXITY_OF_NOISE = 40, 64, 20.0


def perplexities(judge: Generator, passages: np.ndarray) -> np.ndarray:
    """The perplexity of each passage (B, T) under another model, given its first symbol."""
    steps = torch.from_numpy(passages)
    with torch.inference_mode():
        nll, _, _ = judge.score(steps[:, :-1], steps[:, 1:])
    return np.asarray(nll.mean(dim=1).exp())


def written(generator: Generator, codec: Codec, seed: int) -> np.ndarray:
    """Passages (B, T) that begin like those of `generate.py` without a prompt."""
    opening = codec.prompt(codec.opening)
    steps = list(generate(generator, opening, LENGTH, num_sequences=PASSAGES, temperature=0.8, seed=seed))
    return np.concatenate([np.tile(opening, (PASSAGES, 1)), np.array(steps).T], axis=1).astype(np.int64)


def trained(config: Config, corpus: Corpus, folder: Path) -> Run:
    return train(config, corpus, folder, console=Console(quiet=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, nargs="+", default=[1_000_000, 4_000_000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--probabilities", type=float, nargs="+", default=[0.0, 0.01, 0.02, 0.05])
    parser.add_argument("--judge", type=int, default=8_000_000)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    base = from_yaml("data=shakespeare", f"data.path={path()}", "logger=none", "trainer.accelerator=cpu")
    corpus = base.data.read()
    out = given.out.open("w", newline="") if given.out else sys.stdout
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["tokens", "reset_probability", "seed", "val/nll", "val/nll_reset", "first_16", "noise_passages"])
    with tempfile.TemporaryDirectory() as root:
        judge = trained(with_budget(base, given.judge, 0.05, seed=100), corpus, Path(root, "judge")).generator
        for tokens in given.tokens:
            for seed in range(1, given.seeds + 1):
                for probability in given.probabilities:
                    folder = Path(root, f"{tokens}-{seed}-{probability}")
                    run = trained(with_budget(base, tokens, probability, seed), corpus, folder)
                    with (folder / "by_position.csv").open(newline="") as file:
                        first = [float(row["nll"]) for row in csv.DictReader(file)][:16]
                    noise = int((perplexities(judge, written(run.generator, run.codec, seed)) > PERPLEXITY_OF_NOISE).sum())
                    metrics = run.record.metrics
                    figures = metrics["val/nll"], metrics["val/nll_reset"], float(np.mean(first))
                    rows.writerow([tokens, probability, seed, *(f"{figure:.4f}" for figure in figures), noise])
                    out.flush()


def with_budget(config: Config, tokens: int, reset_probability: float, seed: int) -> Config:
    assert isinstance(config.regime, Stateful)
    regime = replace(config.regime, reset_probability=reset_probability)
    return replace(config, regime=regime, budget=replace(config.budget, tokens=tokens), seed=seed)


def from_yaml(*overrides: str) -> Config:
    """The settings that `src/train.py` has for these overrides."""
    from hydra import compose, initialize_config_dir

    from benchmarks.peers.shakespeare import PROJECT
    from throughline.commands.compose import load

    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        return load(compose("train", overrides=list(overrides)), Config)


if __name__ == "__main__":
    main()
