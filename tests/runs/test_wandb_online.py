"""The online path of W&B, against a stand-in server: what was not tested is W&B's own."""

import gc
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from wandb.sdk.lib.module import unset_globals

from helpers import column, fox, rows, run, run_with_kills, without_times
from throughline.config import Logger
from throughline.runs import wandb_log
from wandb_server import Server, helpers_alive, serving

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

ONLINE = ("logger.name=wandb", "trainer.max_epochs=3", "trainer.log_every_n_steps=2", "regime.streams=4", "regime.bptt=16")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr("throughline.training.run.draw_curve", lambda _, path, *__: Image.new("RGB", (1, 1)).save(path))
    with serving() as server:
        monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef" * 2 + "01234567")
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.delenv("WANDB_MODE", raising=False)
        wandb.teardown()
        yield server
        wandb.teardown()
        unset_globals()
        gc.collect()
        for helper in helpers_alive():  # one that waits for a silent server
            os.kill(helper, signal.SIGKILL)


def said(folder: Path) -> list[str]:
    return [line for line in (folder / "terminal.txt").read_text().splitlines() if line.startswith("W&B")]


def shown(history: list[dict[str, Any]], name: str) -> list[tuple[int, float]]:
    return [(row["_step"], row[name]) for row in history if name in row]


def wanted(folder: Path, name: str) -> list[tuple[int, float]]:
    return [(int(row["step"]), float(row[name])) for row in rows(folder) if row[name]]


def test_a_run_arrives_whole(server: Server, tmp_path: Path) -> None:
    (tmp_path / "console.txt").write_text("what the terminal showed\n")
    run(fox(), tmp_path, *ONLINE, "logger.group=mine", "tags=[a]", "logger.notes=why")
    (told,) = said(tmp_path)
    assert told.startswith(f"W&B: {server.url}/team/throughline/runs/lstm16-stateful4-s1-")
    ((name, stored),) = server.runs.items()
    assert name.startswith("lstm16-stateful4-s1-")
    assert stored.creations == 1
    assert (stored.about["displayName"], stored.about["groupName"]) == ("stateful4-lstm16-s1", "mine")
    assert (stored.about["notes"], stored.about["jobType"]) == ("why", "train")
    assert stored.about["tags"] == ["a", "stateful", "lstm16"]
    assert stored.config["regime"]["streams"] == 4
    for key in ("train/nll", "val/nll"):
        assert shown(stored.history, key) == wanted(tmp_path, key)
    assert len(shown(stored.history, "val/nll")) == 3
    assert stored.summary["best/val/nll"] == min(column(tmp_path, "val/nll"))
    assert stored.exit_codes == [0]
    assert stored.files["output.log"] == b"what the terminal showed\n"
    assert json.loads(stored.files["wandb-summary.json"])["val/nll"] == column(tmp_path, "val/nll")[-1]
    assert any(file.startswith("media/images/curve") for file in stored.files)
    assert any(file.startswith("media/table/written/passages") for file in stored.files)
    assert server.unknown == []


def test_a_killed_run_goes_on_under_one_id(server: Server, tmp_path: Path) -> None:
    often = ("trainer.checkpoint_seconds=1e-9",)
    run_with_kills(fox(), tmp_path, [("on_train_batch_end", 20), ("on_train_batch_end", 12)], *ONLINE, *often)
    (stored,) = server.runs.values()
    assert stored.creations == 1
    assert stored.exit_codes == [1, 1, 0]
    steps = [row["_step"] for row in stored.history if "train/nll" in row]
    assert steps == sorted(set(steps))  # none doubled
    assert steps == [step for step, _ in wanted(tmp_path, "train/nll")]  # none missing
    assert shown(stored.history, "val/nll") == wanted(tmp_path, "val/nll")


@pytest.mark.parametrize("after", [0, 1])
def test_a_server_that_stops_answering_stops_nothing(
    after: int, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wandb_log, "PATIENCE", 3.0 - Logger().init_timeout)
    server.silent_after = after
    began = time.perf_counter()
    run(fox(), tmp_path / "silent", *ONLINE)
    assert time.perf_counter() - began < 60
    assert (tmp_path / "silent" / "summary.json").exists()
    assert said(tmp_path / "silent")[-1].endswith("; the run continues without it, metrics.csv has everything")
    run(fox(), tmp_path / "without", *ONLINE[1:])
    assert without_times(tmp_path / "silent") == without_times(tmp_path / "without")
