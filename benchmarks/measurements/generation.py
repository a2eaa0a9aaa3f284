"""Characters per second of generating, sampling included: python -m benchmarks.measurements.generation

Prints a line of JSON with the median of the repeats, for one sequence and for 64 at once. The weights are untrained, because
their values do not change the speed.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from throughline.model.generation import generate
from throughline.model.generator import Generator
from throughline.model.settings import LSTM

VOCAB_SIZE = 66


def characters_per_second(model: Generator, num_sequences: int, length: int) -> float:
    began = time.perf_counter()
    for _ in generate(model, np.array([1]), length, num_sequences=num_sequences):
        pass
    return num_sequences * length / (time.perf_counter() - began)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=7)
    repeats = options.parse_args().repeats
    torch.manual_seed(1)
    model = Generator(LSTM(), VOCAB_SIZE).eval()
    figures: dict[str, list[float]] = {}
    for _ in range(repeats + 1):
        for name, num_sequences, length in (("one_sequence", 1, 10_000), ("64_at_once", 64, 2_000)):
            figures.setdefault(name, []).append(characters_per_second(model, num_sequences, length))
    print(json.dumps({name: statistics.median(rates[1:]) for name, rates in figures.items()}))  # the first warms up


if __name__ == "__main__":
    main()
