"""The measured programs as commands, and the length of the measurements."""

import csv
import json
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.measurements.environment import OURS, PEERS, environment
from benchmarks.peers.shakespeare import PROJECT, path


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        landings, rounds: their numbers in a duel.
        seconds: the length of a slice.
        quick: whether long runs are shortened or left out, so that all rows together take a few minutes.
    """

    landings: int
    rounds: int
    seconds: float
    quick: bool


FULL = Effort(landings=3, rounds=6, seconds=2.0, quick=False)
QUICK = Effort(landings=1, rounds=3, seconds=0.7, quick=True)


def product(effort: Effort, *overrides: str) -> list[str]:
    return [*program("product"), "--seconds", str(effort.seconds), "trainer.accelerator=cpu", *overrides]


def peer(effort: Effort, name: str, *options: str) -> list[str]:
    return [*program(name), "--seconds", str(effort.seconds), *options]


def program(name: str) -> list[str]:
    """A program of `benchmarks.peers`, in the environment that it needs."""
    return [str(PEERS if name in ("keras_stateful", "asker") else OURS), "-m", f"benchmarks.peers.{name}"]


def needed() -> str:
    """The reason why no row can be measured; empty if there is none."""
    return "" if path().exists() else "tinyshakespeare/input.txt is not there: set THROUGHLINE_DATA to the folder above it"


def peers_needed() -> str:
    return "" if PEERS.exists() else "the peers are not installed: `make bench` installs them"


def fast_precision() -> str:
    """The precision that `trainer.precision=auto` selects on this machine."""
    from throughline.training.machine import precision

    return precision("auto", "cpu")


@contextmanager
def training_run(*overrides: str, text: Path | None = None) -> Iterator[tuple[dict[str, Any], list[dict[str, str]]]]:
    """Run `python src/train.py` in its own folder; yields its summary and the rows of its metrics."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*train_command(folder, text), *overrides]
        done = subprocess.run(command, env=environment(OURS), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
        with (Path(folder) / "run" / "metrics.csv").open(newline="") as file:
            metrics = list(csv.DictReader(file))
        yield json.loads((Path(folder) / "run" / "summary.json").read_text()), metrics


def train_command(folder: str, text: Path | None = None) -> list[str]:
    data = ["data=shakespeare", f"data.path={text or path()}", "logger=none", "trainer.accelerator=cpu"]
    return [str(OURS), str(PROJECT / "src" / "train.py"), *data, f"output_root={folder}", f"hydra.run.dir={folder}/run"]


def own_line(command: list[str]) -> dict[str, Any]:
    """The line that a peer prints when it runs alone."""
    done = subprocess.run(command, env=environment(Path(command[0])), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
    line: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return line
