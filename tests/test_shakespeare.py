"""Minutes of training on a real text, with the losses that the project promises."""

import csv
from pathlib import Path
from typing import Any

import pytest
import torch

from helpers import config
from throughline.training.run import train

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def threads() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def run(text: Path, folder: Path, *overrides: str) -> dict[str, Any]:
    chosen = config("data=shakespeare", f"data.path={text}", "logger=none", "trainer.accelerator=cpu", *overrides)
    folder.mkdir()
    return train(chosen, chosen.data.read(), folder).record.to_plain()


def test_a_minute_reaches_the_loss_of_a_good_bare_loop(tinyshakespeare: Path, tmp_path: Path) -> None:
    summary = run(tinyshakespeare, tmp_path / "run", "budget.seconds=60")
    assert summary["val/nll"] <= 1.55
    with (tmp_path / "run" / "metrics.csv").open() as file:
        while_training = [float(row["val/nll"]) for row in csv.DictReader(file) if row["val/nll"]][-1]
    assert while_training == pytest.approx(summary["val/nll"], abs=1e-3)


def test_carrying_beats_not_carrying_and_both_beat_one_step_at_a_time(tinyshakespeare: Path, tmp_path: Path) -> None:
    stateful, segments = (
        run(tinyshakespeare, tmp_path / regime, f"regime={regime}", "budget.tokens=3000000")
        for regime in ("stateful", "segments")
    )
    seconds = stateful["seconds"]
    onestep = run(tinyshakespeare, tmp_path / "onestep", "regime=onestep", f"budget.seconds={seconds}")
    assert stateful["val/nll"] < segments["val/nll"] < onestep["val/nll"]
