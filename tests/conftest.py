import os
from pathlib import Path

import pytest
import torch

from throughline.config import Model
from throughline.data.corpus import Corpus, Line
from throughline.model.generator import LSTMGenerator

torch.set_num_threads(1)  # the tensors here are tiny, and threads that wait for each other cost more than they give
os.environ.setdefault("WANDB_MODE", "offline")
PROJECT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the device can do is measured in its own test alone, since it takes its time."""
    monkeypatch.setattr("throughline.training.utilisation.matrix_rate", lambda *_: 1e11)


@pytest.fixture
def model() -> LSTMGenerator:
    """Two layers in float64, in evaluation mode."""
    torch.manual_seed(0)
    sizes = Model(hidden_size=6, num_layers=2, embedding_size=5)
    return LSTMGenerator(sizes, vocab_size=9).double().eval()


@pytest.fixture
def corpus() -> Corpus:
    """About a thousand characters to train on and a hundred to validate on, with structure to learn."""
    return Corpus.of(
        ["the quick brown fox. " * 50],
        ["the quick brown fox. " * 5],
        {"source": "fox", "bytes": 1155, "sha256": "0" * 64},
    )


@pytest.fixture
def line(corpus: Corpus) -> Line:
    return corpus.train


@pytest.fixture
def tinyshakespeare() -> Path:
    return shared_data("tinyshakespeare/input.txt")


def shared_data(name: str) -> Path:
    """A file of the data folder beside the checkout, or the one that THROUGHLINE_DATA names."""
    folder = Path(os.environ.get("THROUGHLINE_DATA", PROJECT.parent / "shared" / "data"))
    if not (folder / name).exists():
        pytest.skip(f"{name} is not there: set THROUGHLINE_DATA to the folder that holds it")
    return folder / name
