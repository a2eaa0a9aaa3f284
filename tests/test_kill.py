"""Real signals to real processes: what is left goes on to the same weights."""

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import PROJECT
from throughline.checkpoint import load_generator

COMMAND = [
    *(sys.executable, str(PROJECT / "src" / "train.py"), "data=text", "data.path=fox.txt", "logger=none", "resume=auto"),
    *("model.hidden_size=24", "model.dropout=0.2", "regime.streams=4", "regime.bptt=8", "trainer.max_epochs=3"),
    *("trainer.accelerator=cpu", "trainer.checkpoint_seconds=0.05", "trainer.val_check_interval=50"),
]


def start(folder: Path, *overrides: str) -> subprocess.Popen[str]:
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 150)
    command = [*COMMAND, f"output_root={folder}/out", *overrides]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(folder: Path) -> str:
    """Let the command go on to its end; the hash of the weights it leaves."""
    process = start(folder)
    stdout, stderr = process.communicate(timeout=120)
    assert (process.returncode, stderr) == (0, ""), stdout
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
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out").glob("2*/*/checkpoints/last.ckpt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    stdout, stderr = process.communicate(timeout=60)
    assert (process.returncode, stderr) == (status, ""), stdout
    assert (f"{number.name}: saved " in stdout) == (number != signal.SIGKILL)
    assert not list((tmp_path / "out").glob("2*/*/summary.json"))
    assert end(tmp_path) == undisturbed
