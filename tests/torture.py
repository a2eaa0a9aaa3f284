"""Kills training at random, hundreds of times, and counts the failures: `make torture`, about ten minutes.

Every life is its own process. It is forked from this one, so that nothing has to be imported again. SIGKILL ends it after a
random time. First, runs are killed and resumed until they end. Their weights and metrics must be those of an uninterrupted
run. Then, processes that do nothing but save are killed. The files that they leave must be usable, each time.
"""

import contextlib
import mmap
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from helpers import REGIMES, fox, run, weights_hash, without_times
from throughline.runs import checkpoint
from throughline.runs.resume import checkpoint_to_resume
from throughline.training.commit import Commit
from throughline.training.saving import Checkpoints
from throughline.training.spending import Spending

SEED, RUNS_EACH, FILE_KILLS = 1, 12, 240
PHASES = ("starting", "training", "validating", "saving", "ending")
SAVING = ("trainer.checkpoint_seconds=1e-9",)  # after every batch, so that many kills fall into a save
BASE = ("trainer.max_epochs=3", "trainer.log_every_n_steps=5", "model.dropout=0.3", "trainer.val_check_interval=6")
CASES = {
    **{name: (f"regime={name}", *overrides, *BASE, *SAVING) for name, overrides in REGIMES.items()},
    "accumulated": ("regime.streams=4", "regime.bptt=16", *BASE, *SAVING, "trainer.accumulate_grad_batches=3"),
    "validated at epoch ends": ("regime.streams=4", "regime.bptt=16", *BASE, *SAVING, "trainer.val_check_interval=null"),
    "two layers, one-hot, float64": (
        *("regime.streams=4", "regime.bptt=16", *BASE, *SAVING),
        *("model.num_layers=2", "model.input=onehot", "trainer.precision=64-true"),
    ),
    "loader workers, now 0 and now 2": ("regime.streams=4", "regime.bptt=16", *BASE, "trainer.checkpoint_seconds=0.02"),
}
CORPUS = fox()
phase = mmap.mmap(-1, 1)
"""The phase of the life in progress, as an index of `PHASES`; shared with it."""


def watch_phases() -> None:
    """Make the training code note its phase."""
    for owner, name, index, only_within in (
        (Spending, "on_train_start", 1, False),
        (Commit, "on_train_batch_end", 1, False),
        (Spending, "on_validation_start", 2, False),
        (checkpoint, "write", 3, True),
        (Checkpoints, "on_train_end", 4, False),
    ):
        setattr(owner, name, noting(getattr(owner, name), index, only_within))


def noting(function: Callable[..., Any], index: int, only_within: bool) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before, phase[0] = phase[0], index
        result = function(*args, **kwargs)
        if only_within:
            phase[0] = before
        return result

    return wrapped


def life(work: Callable[[], Any], seconds: float | None) -> bool:
    """Do the work in another process, and kill it after `seconds`. Returns whether it reached its end."""
    phase[0] = 0
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # so that loader workers die with it
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it has already done so itself, or ended
        os.setpgid(pid, pid)
    deadline = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done and status != 0:
            raise SystemExit("a life ended with an error; it has printed the error")
        if done:
            return True
        if deadline is not None and time.monotonic() > deadline:
            os.killpg(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(0.0005)


def torture_runs(root: Path, rng: random.Random, table: Table) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, overrides in CASES.items():
        alone = root / "alone"
        alone.mkdir()
        began = time.monotonic()
        life(lambda: run(CORPUS, alone, *overrides), None)  # noqa: B023
        duration = time.monotonic() - began
        wanted = weights_hash(alone), without_times(alone)
        kills: Counter[str] = Counter()
        same = 0
        for _ in range(RUNS_EACH):
            folder = root / "killed"
            folder.mkdir()
            lives = 0
            while True:
                workers = f"trainer.num_workers={rng.choice((0, 2))}" if "workers" in name else "trainer.num_workers=0"
                patience = rng.uniform(0.02, duration) if lives < 4 else None
                work = lambda: run(CORPUS, folder, *overrides, workers, "resume=auto")  # noqa: B023, E731
                if life(work, patience):
                    break
                lives += 1
                kills[PHASES[phase[0]]] += 1
            same += (weights_hash(folder), without_times(folder)) == wanted
            shutil.rmtree(folder)
        shutil.rmtree(alone)
        total += kills
        total["runs"] += RUNS_EACH
        total["same"] += same
        table.add_row(
            name, str(RUNS_EACH), *(str(kills[p]) for p in PHASES), str(sum(kills.values())), f"{same}/{RUNS_EACH}"
        )
        Console(stderr=True).print(f"{name}: {sum(kills.values())} kills, {same} of {RUNS_EACH} runs the same")
    return total


def save_for_ever(folder: Path, number: int) -> None:
    weights = torch.zeros(500_000)
    while True:
        number += 1
        content = {
            "throughline": {"format": checkpoint.FORMAT, "number": number},
            "weights": weights + number,
            "callbacks": {"Spending": {}},
        }
        checkpoint.write(content, folder / "last.ckpt", folder / "previous.ckpt")


def torture_files(root: Path, rng: random.Random, table: Table) -> int:
    """Kill processes that save. Half of them have TMPDIR on another file system."""
    unusable = 0
    for temporary in (root, Path("/dev/shm")):
        if not temporary.exists():
            raise SystemExit(f"{temporary} is not there: give another file system for TMPDIR")
        other = temporary.stat().st_dev != root.stat().st_dev
        tempfile.tempdir = str(temporary)
        folder = Path(tempfile.mkdtemp(dir=root)) / "checkpoints"
        bad, newest, torn = 0, 0, 0
        for _ in range(FILE_KILLS // 2):
            life(lambda: save_for_ever(folder, newest), rng.uniform(0.005, 0.06))  # noqa: B023
            path, content, said = checkpoint_to_resume("auto", folder)
            number = content["throughline"]["number"] if path else 0
            intact = number >= newest and "damaged" not in said and (not path or bool((content["weights"] == number).all()))
            bad, torn, newest = bad + (not intact), torn + (folder / "last.ckpt.tmp").exists(), number
        table.add_row("another file system" if other else "the same", str(FILE_KILLS // 2), str(newest), str(torn), str(bad))
        unusable += bad
    return unusable


def main() -> None:
    torch.set_num_threads(1)  # a process with threads cannot fork
    watch_phases()
    rng, console = random.Random(SEED), Console(width=150)
    with tempfile.TemporaryDirectory(dir=os.environ.get("THROUGHLINE_TORTURE")) as folder:
        runs = Table(title="runs that are killed and resumed", title_justify="left")
        for column in ("case", "runs", *(f"killed {p}" for p in PHASES), "kills", "same weights and metrics"):
            runs.add_column(column)
        total = torture_runs(Path(folder), rng, runs)
        files = Table(title="processes that save without end", title_justify="left")
        for column in ("TMPDIR lies on", "kills", "files saved", "killed inside a save", "unusable states"):
            files.add_column(column)
        unusable = torture_files(Path(folder), rng, files)
    console.print(runs, files)
    kills = sum(total[p] for p in PHASES)
    console.print(f"{kills} kills of runs, {total['same']} of {total['runs']} ended the same; {unusable} unusable files")
    sys.exit(total["same"] != total["runs"] or unusable > 0 or kills < 150)


if __name__ == "__main__":
    main()
