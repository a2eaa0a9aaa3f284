"""Two runs at once, by one command: neither may harm the other."""

import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from helpers import PROJECT, weights_hash, without_times
from torture.life import command
from torture.signals import COMMAND, new

PAIRS = 16


def torture_pairs(root: Path, rng: random.Random, console: Console) -> list[str]:
    """Start the same command twice, with a run to resume and without; returns what went wrong."""
    wrong: list[str] = []
    alone = new(root, "undisturbed")
    command(alone, "train", *COMMAND)
    (run,) = alone.glob("out/2*/*")
    wanted = weights_hash(run), without_times(run)
    refused = 0
    for number in range(PAIRS):
        folder = new(root, "pair")
        if number % 2:  # a run to resume: the second process finds its folder held, or its result finished
            command(folder, "train", *COMMAND, after=0.9)
        killed = {run for run in folder.glob("out/2*/*") if not (run / "checkpoints").exists()}  # nothing to resume
        call = [sys.executable, str(PROJECT / "src" / "train.py"), *COMMAND]
        pair = []
        for _ in range(2):
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
            pair.append(subprocess.Popen(call, cwd=folder, **pipes))  # type: ignore[call-overload]
            time.sleep(rng.uniform(0, 0.5))
        for process in pair:
            _, stderr = process.communicate(timeout=120)
            refused += process.returncode == 2
            held = "another process trains here" in stderr and len(stderr.splitlines()) == 1
            if process.returncode not in (0, 2) or (process.returncode == 2 and not held):
                wrong.append(f"pair {number}: status {process.returncode}, {stderr[-300:]}")
        for folder_of_run in {*folder.glob("out/2*/*")} - killed:
            if not (folder_of_run / "summary.json").exists():
                wrong.append(f"pair {number}: {sorted(path.name for path in folder_of_run.iterdir())} is left unfinished")
            elif (weights_hash(folder_of_run), without_times(folder_of_run)) != wanted:
                wrong.append(f"pair {number}: another result")
            if (folder_of_run / "failure.txt").exists():
                wrong.append(f"pair {number}: a failure is noted in a good run")
        shutil.rmtree(folder)
    console.print(f"{PAIRS} pairs of runs at once: {refused} processes were refused in a line, all others ended the same")
    return wrong
