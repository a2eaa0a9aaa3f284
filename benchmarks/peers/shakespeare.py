"""The text that every peer reads, as ids. Id 0 is the unknown symbol; the symbols of the training split follow in order.

This file uses only numpy, because it runs in every environment. `tests/test_benchmarks.py` compares it with throughline's
own reading.
"""

import os
from pathlib import Path

import numpy as np

PROJECT = Path(__file__).parents[2]


def path() -> Path:
    """tinyshakespeare in the data folder beside the checkout, or in the folder that THROUGHLINE_DATA names."""
    folder = Path(os.environ.get("THROUGHLINE_DATA", PROJECT.parent / "shared" / "data"))
    return folder / "tinyshakespeare" / "input.txt"


def read(file: Path) -> tuple[np.ndarray, np.ndarray, int]:
    """The first 90 % of the characters (N,) to train on, the last 10 % to validate on, and the vocabulary size V."""
    text = file.read_text(encoding="utf-8")
    cut = int(len(text) * 0.9)
    ids = {symbol: number for number, symbol in enumerate(sorted(set(text[:cut])), start=1)}
    tokens = np.array([ids.get(symbol, 0) for symbol in text], dtype=np.int64)
    return tokens[:cut], tokens[cut:], len(ids) + 1


def chunks(tokens: np.ndarray, streams: int, bptt: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets (K, B, T). Row b of chunk k + 1 continues row b of chunk k; the tail is left out."""
    count = (len(tokens) - 1) // streams // bptt
    inputs, targets = (
        part[: streams * count * bptt].reshape(streams, count, bptt).transpose(1, 0, 2) for part in (tokens[:-1], tokens[1:])
    )
    return np.ascontiguousarray(inputs), np.ascontiguousarray(targets)
