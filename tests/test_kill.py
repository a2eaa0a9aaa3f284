"""Real signals to real processes: what is left goes on to the same weights."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import PROJECT
from throughline.runs.checkpoint import load_generator

COMMAND = [
    *("data=text", "data.path=fox.txt", "logger=none", "model.hidden_size=24", "regime.streams=4", "regime.bptt=8"),
    *("model.dropout=0.2", "trainer.max_epochs=3", "trainer.accelerator=cpu", "trainer.checkpoint_seconds=0.05"),
    *("trainer.val_check_interval=50", "resume=auto"),
]


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 150)
    command = [sys.executable, str(PROJECT / "src" / "train.py"), *more, *COMMAND, f"output_root={folder}/out"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_checkpoint(folder: Path) -> None:
    deadline = time.monotonic() + 60
    while not list(folder.rglob("last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)


def ended(process: subprocess.Popen[str]) -> str:
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, ""), stdout
    return stdout


def end(folder: Path, *more: str) -> str:
    """Let the command go on to its end; the hash of the weights it leaves."""
    ended(start(folder, *more))
    runs = list((folder / "out").glob("2*/*/summary.json"))
    assert len(runs) == 1, "it went on in the same folder"
    model, _ = load_generator(runs[0].parent / "checkpoints" / "last.ckpt")
    return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return end(tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 75)]
)
def test_a_run_ended_by_a_signal_goes_on_to_the_same_weights(
    number: signal.Signals, status: int, undisturbed: str, tmp_path: Path
) -> None:
    process = start(tmp_path)
    wait_for_checkpoint(tmp_path)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (status, ""), stdout
    assert (f"{number.name}: saved " in stdout) == (number != signal.SIGKILL)
    assert not list((tmp_path / "out").glob("2*/*/summary.json"))
    assert end(tmp_path) == undisturbed


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
    sweep = ("-m", "seed=1,2")
    process = start(tmp_path, *sweep)
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGTERM)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (143, ""), stdout
    assert len(list(tmp_path.rglob("last.ckpt"))) == 1, "the second member never began"
    assert "resume: continuing from" in ended(start(tmp_path, *sweep))
    (folder,) = (tmp_path / "out" / "multirun").glob("*/*")
    summaries = {member.name: (member / "summary.json").read_bytes() for member in folder.iterdir() if member.is_dir()}
    assert summaries.keys() == {"0-lstm256-stateful-s1", "1-lstm256-stateful-s2"}
    assert ended(start(tmp_path, *sweep)).count("finished already") == 2
    assert summaries == {name: (folder / name / "summary.json").read_bytes() for name in summaries}


def test_a_folder_holds_one_run_at_a_time(tmp_path: Path) -> None:
    process = start(tmp_path)
    wait_for_checkpoint(tmp_path)
    process.send_signal(signal.SIGSTOP)
    try:
        stdout, stderr = start(tmp_path).communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    (checkpoint,) = tmp_path.rglob("last.ckpt")
    assert stderr == f"error: {checkpoint.parents[1]}: another process trains here; resume=none starts a new run\n"
    assert "epoch 1" not in stdout
