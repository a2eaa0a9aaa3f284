import gc
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import torch

from helpers import fox, shared_data
from throughline.data.corpus import Corpus
from throughline.model.generator import Generator
from throughline.model.settings import LSTM

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"))), None
)
torch.set_num_threads(1)  # the tensors here are tiny, and threads that wait for each other cost more time than they save
hypothesis.settings.register_profile("throughline", deadline=None)  # a busy machine is no error
hypothesis.settings.load_profile("throughline")
os.environ.setdefault("WANDB_MODE", "offline")


def pytest_collection_finish() -> None:
    """Exclude imported objects from garbage collection. Each run begins with a collection; they would add 0.2 s."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    """The matrix rate of the device is measured only in its own test, because this takes time."""
    monkeypatch.setattr("throughline.training.utilisation.matrix_rate", lambda *_: 1e11)


@pytest.fixture(autouse=True)
def curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a run is drawn only in its own tests and by the commands, because this also takes time."""
    monkeypatch.setattr("throughline.training.run.draw_curve", lambda *_: None)


@pytest.fixture
def model() -> Generator:
    """Two layers in float64, in evaluation mode."""
    torch.manual_seed(0)
    sizes = LSTM(hidden_size=6, num_layers=2, embedding_size=5)
    return Generator(sizes, vocab_size=9).double().eval()


@pytest.fixture
def corpus() -> Corpus:
    return fox()


@pytest.fixture
def tinyshakespeare() -> Path:
    return shared_data("tinyshakespeare/input.txt")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("there is no Chromium here: install chromium or Google Chrome")
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install -e '.[dev]'")
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page_of(browser: Any) -> Iterator[Any]:
    """Opens a file as a page on a given device. Every complaint, and every request of another address, fails the test."""
    contexts: list[Any] = []
    complaints: list[str] = []
    requests, pages = set[str](), set[str]()

    def opened(file: Path, **device: Any) -> Any:
        contexts.append(browser.new_context(**device))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: complaints.append(dialog.message))
        page.on("request", lambda request: requests.add(request.url))
        page.goto(f"file://{file}")
        pages.add(page.url)
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []
    assert requests == pages
