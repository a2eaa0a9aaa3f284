"""Signals at random moments of whole runs, from the first line to the last, and of sweeps."""

import random
import shutil
import time
from collections import Counter
from pathlib import Path

from rich.table import Table

from helpers import weights_hash, without_times
from throughline.plumbing.stopping import EXIT_STATUS
from torture.life import PHASES, command

SIGNALS, SWEEPS = 120, 24
COMMAND = (
    *("data=text", "data.path=fox.txt", "logger=none", "model.hidden_size=24", "regime.streams=4", "regime.bptt=8"),
    *("model.dropout=0.2", "trainer.max_epochs=3", "trainer.accelerator=cpu", "trainer.val_check_interval=50"),
    *("trainer.threads=1", "output_root=out", "resume=auto"),
)


def torture_signals(root: Path, rng: random.Random, table: Table) -> list[str]:
    """Signals to single runs, which resume until they end; returns what went wrong."""
    wrong: list[str] = []
    alone = new(root, "alone")
    began = time.monotonic()
    ended, stdout, stderr = command(alone, "train", *COMMAND)
    duration = time.monotonic() - began
    assert ended.status == 0, stdout + stderr
    (finished,) = alone.glob("out/2*/*")
    wanted = weights_hash(finished), without_times(finished)
    came: dict[str, Counter[str]] = {number.name: Counter() for number in EXIT_STATUS}
    longest, ends, sent = 0.0, 0, 0
    folder = new(root, "signals")
    while sent < SIGNALS:
        number = rng.choice(list(EXIT_STATUS))
        workers = f"trainer.num_workers={rng.choice((0, 0, 0, 2))}"
        ended, stdout, stderr = command(
            folder, "train", *COMMAND, workers, sent=number, after=rng.uniform(0.01, 1.1 * duration)
        )
        if ended.sent and ended.status != 0:
            sent += 1
            came[number.name][ended.phase] += 1
            longest = max(longest, ended.seconds)
            last = (stdout + stderr).splitlines()[-1:]
            told = [line for line in (stdout + stderr).splitlines() if line.startswith(f"{number.name}: ")]
            if ended.status != EXIT_STATUS[number] or last != told or len(stderr.splitlines()) > 1:
                wrong.append(f"{number.name} while {ended.phase}: status {ended.status}, {last}, {stderr[-300:]}")
            if ended.seconds > 2:
                wrong.append(f"{number.name} while {ended.phase}: ended after {ended.seconds:.1f} s")
        elif ended.status != 0:
            wrong.append(f"status {ended.status} without a signal: {stderr[-300:]}")
        runs = list(folder.glob("out/2*/*/summary.json"))
        if ended.status == 0 or runs:  # a signal may also come after the result is written
            ends += 1
            if len(runs) != 1 or (weights_hash(runs[0].parent), without_times(runs[0].parent)) != wanted:
                wrong.append(f"a run that was stopped ended differently: {runs}")
            shutil.rmtree(folder)
            folder = new(root, "signals")
    for name, phases in came.items():
        table.add_row(name, *(str(phases[p]) for p in PHASES), str(sum(phases.values())))
    table.add_row("longest time to the end", *[""] * len(PHASES), f"{longest:.2f} s")
    table.add_row(
        "runs that then ended the same", *[""] * len(PHASES), f"{ends - sum('differently' in w for w in wrong)}/{ends}"
    )
    return wrong


def torture_sweeps(root: Path, rng: random.Random) -> list[str]:
    """Signals to sweeps of two members: they stop there, do not look successful, and resume to both results."""
    wrong: list[str] = []
    sweep = ("-m", "seed=1,2", *COMMAND)
    folder, began = new(root, "sweep"), time.monotonic()
    ended, stdout, stderr = command(folder, "train", *sweep)
    duration = time.monotonic() - began
    assert ended.status == 0, stdout + stderr
    wanted = {member.name: weights_hash(member) for member in folder.glob("out/multirun/*/*/[01]-*")}
    shutil.rmtree(folder)
    folder, sent = new(root, "sweep"), 0
    while sent < SWEEPS:
        number = rng.choice(list(EXIT_STATUS))
        ended, stdout, stderr = command(folder, "train", *sweep, sent=number, after=rng.uniform(0.05, duration))
        if ended.sent and ended.status != 0:
            sent += 1
            if ended.status != EXIT_STATUS[number] or len(stderr.splitlines()) > 1:
                wrong.append(f"sweep, {number.name} while {ended.phase}: status {ended.status}, {stderr[-300:]}")
        elif ended.status != 0:
            wrong.append(f"sweep, status {ended.status} without a signal: {stderr[-300:]}")
        else:
            found = {member.name: weights_hash(member) for member in folder.glob("out/multirun/*/*/[01]-*")}
            if found != wanted:
                wrong.append(f"a sweep that was stopped ended differently: {found.keys()}")
            shutil.rmtree(folder)
            folder = new(root, "sweep")
    return wrong


def new(root: Path, name: str) -> Path:
    folder = root / name
    folder.mkdir()
    (folder / "fox.txt").write_text("the quick brown fox jumps over the lazy dog. " * 150, encoding="utf-8")
    return folder
