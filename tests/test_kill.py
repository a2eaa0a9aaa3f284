"""Real signals to real processes: the ended run resumes and reaches the same weights."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers import PROJECT, weights_hash

COMMAND = [
    *("data=text", "data.path=fox.txt", "logger=none", "model.hidden_size=24", "regime.streams=4", "regime.bptt=8"),
    *("model.dropout=0.2", "trainer.max_epochs=4", "trainer.accelerator=cpu", "trainer.checkpoint_seconds=0.03"),
    *("trainer.val_check_interval=50", "resume=auto"),
]
SIGNALS = {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGUSR1: 75}
"""Each with the exit status of a process that it ends."""


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 150)
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *COMMAND, f"output_root={folder}/out", *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def checkpoints(folder: Path) -> list[tuple[Path, int]]:
    """The path of each last checkpoint, and the time when it was written."""
    return [(path, path.stat().st_mtime_ns) for path in folder.rglob("last.ckpt")]


def wait_for_checkpoint(folder: Path, before: list[tuple[Path, int]] | None = None) -> None:
    """Wait until there is a checkpoint other than `before`."""
    deadline = time.monotonic() + 60
    while checkpoints(folder) == (before or []) and time.monotonic() < deadline:
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, ""), stdout
    return stdout


def end(folder: Path, *more: str) -> str:
    """Let the command continue to its end; the hash of the weights that it leaves."""
    ended(start(folder, *more))
    runs = list((folder / "out").glob("2*/*/summary.json"))
    assert len(runs) == 1, "it went on in the same folder"
    return weights_hash(runs[0].parent)


class Ending(NamedTuple):
    """The status and output of a process that was ended, and whether its run had finished."""

    status: int
    stdout: str
    stderr: str
    finished: bool


class Lives(NamedTuple):
    """A run that each of `SIGNALS` ended once, and that then resumed and reached its end."""

    endings: dict[signal.Signals, Ending]
    rival: Ending
    """The ending of a process that was started in the same folder during training."""
    checkpoint: Path
    weights: str


@pytest.fixture(scope="module")
def lives(tmp_path_factory: pytest.TempPathFactory) -> Lives:
    folder = tmp_path_factory.mktemp("lives")
    endings = {}
    for number in SIGNALS:
        before = checkpoints(folder)
        process = start(folder)
        wait_for_checkpoint(folder, before)
        if number == signal.SIGKILL:
            process.send_signal(signal.SIGSTOP)
            other = start(folder)
            rival = Ending(*_left_by(other), finished=False)
        process.send_signal(number)
        endings[number] = Ending(*_left_by(process), finished=any((folder / "out").glob("2*/*/summary.json")))
    ((checkpoint, _),) = checkpoints(folder)
    return Lives(endings, rival, checkpoint, end(folder))


def _left_by(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    try:
        stdout, stderr = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, stdout, stderr


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_a_run_and_all_but_one_let_it_save(number: signal.Signals, lives: Lives) -> None:
    ending = lives.endings[number]
    assert (ending.status, ending.stderr) == (SIGNALS[number], ""), ending.stdout
    assert (f"{number.name}: saved " in ending.stdout) == (number != signal.SIGKILL)
    assert not ending.finished
    assert ("resume: continuing from" in ending.stdout) == (number != signal.SIGKILL)  # it was the first signal


def test_a_run_ended_by_signals_goes_on_to_the_same_weights(lives: Lives, tmp_path: Path) -> None:
    assert lives.weights == end(tmp_path)


def test_a_folder_holds_one_run_at_a_time(lives: Lives) -> None:
    told = f"error: {lives.checkpoint.parents[1]}: another process trains here; resume=none starts a new run\n"
    assert (lives.rival.stderr, lives.rival.status) == (told, 2)
    assert "epoch 1" not in lives.rival.stdout


@pytest.mark.slow
def test_several_processes_end_and_go_on_as_one(tmp_path: Path) -> None:
    two = ("trainer.devices=2",)
    (tmp_path / "alone").mkdir()
    (tmp_path / "stopped").mkdir()
    process = start(tmp_path / "stopped", *two)
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (143, ""), stdout
    assert stdout.count("SIGTERM: saved ") == 1
    assert end(tmp_path / "stopped", *two) == end(tmp_path / "alone", *two)


def test_a_stopped_sweep_fails_and_goes_on_where_it_was(tmp_path: Path) -> None:
    sweep = ("seed=1,2", "trainer.max_epochs=2", "-m")
    process = start(tmp_path, *sweep)
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (143, ""), stdout
    assert len(list(tmp_path.rglob("last.ckpt"))) == 1, "the second member never began"
    told = ended(start(tmp_path, *sweep))
    assert "1 of 2  seed=1  continues\n" in told
    assert "2 of 2  seed=2  begins\n" in told
    (folder,) = (tmp_path / "out" / "multirun").glob("*/*")
    summaries = {member.name: (member / "summary.json").read_bytes() for member in folder.iterdir() if member.is_dir()}
    assert summaries.keys() == {"0-lstm24-stateful4-s1", "1-lstm24-stateful4-s2"}
    assert "2 of 2 members have already finished\n" in ended(start(tmp_path, *sweep))
    assert summaries == {name: (folder / name / "summary.json").read_bytes() for name in summaries}
