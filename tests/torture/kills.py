"""SIGKILL at random moments.

First, runs are killed and resumed until they end. Their weights and metrics must be those of an uninterrupted run. Then,
processes that do nothing but save are killed. The files that they leave must be usable, each time.
"""

import random
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from helpers import REGIMES, SEQUENCES, fox, names, run, weights_hash, without_times
from throughline.plumbing import atomic
from throughline.runs import checkpoint
from throughline.runs.resume import checkpoint_to_resume
from torture.life import PHASES, life, phase

RUNS_EACH, FILE_KILLS = 12, 240
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
    **{f"sequences, {name}": (*overrides, *BASE, *SAVING) for name, overrides in SEQUENCES.items()},
    "loader workers, now 0 and now 2": ("regime.streams=4", "regime.bptt=16", *BASE, "trainer.checkpoint_seconds=0.02"),
}
JOINED, APART = fox(), names()


def torture_runs(root: Path, rng: random.Random, table: Table) -> Counter[str]:
    total: Counter[str] = Counter()
    for name, overrides in CASES.items():
        alone = root / "alone"
        alone.mkdir()
        corpus = APART if name.startswith("sequences") else JOINED
        began = time.monotonic()
        life(lambda: run(corpus, alone, *overrides), None)  # noqa: B023
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
                work = lambda: run(corpus, folder, *overrides, workers, "resume=auto")  # noqa: B023, E731
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


def save_for_ever(whole: dict[str, Any], folder: Path, number: int) -> None:
    weights = torch.zeros(500_000)
    while True:
        number += 1
        content = {**whole, "number": number, "weights": weights + number}
        checkpoint.write(content, folder / "last.ckpt", folder / "previous.ckpt")


def torture_files(root: Path, rng: random.Random, table: Table) -> int:
    """Kill processes that save. Half of them have TMPDIR on another file system."""
    unusable, alone = 0, Path(tempfile.mkdtemp(dir=root))
    run(fox(), alone, "trainer.max_epochs=1")
    whole = checkpoint.read(alone / "checkpoints" / "last.ckpt")  # otherwise it would not be resumed from
    for temporary in (root, Path("/dev/shm")):
        if not temporary.exists():
            raise SystemExit(f"{temporary} is not there: give another file system for TMPDIR")
        other = temporary.stat().st_dev != root.stat().st_dev
        tempfile.tempdir = str(temporary)
        folder = Path(tempfile.mkdtemp(dir=root)) / "checkpoints"
        bad, newest, torn = 0, 0, 0
        for _ in range(FILE_KILLS // 2):
            life(lambda: save_for_ever(whole, folder, newest), rng.uniform(0.005, 0.06))  # noqa: B023
            path, content, said = checkpoint_to_resume("auto", folder)
            number = content["number"] if path else 0
            intact = number >= newest and "damaged" not in said and (not path or bool((content["weights"] == number).all()))
            bad, torn, newest = bad + (not intact), torn + any(folder.glob("last.ckpt*.tmp")), number
            atomic.clear(folder)
        table.add_row("another file system" if other else "the same", str(FILE_KILLS // 2), str(newest), str(torn), str(bad))
        unusable += bad
    return unusable
