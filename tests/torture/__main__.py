import os
import random
import signal
import sys
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from torture.damage import torture_damage
from torture.kills import torture_files, torture_runs
from torture.life import PHASES, watch_phases
from torture.pairs import torture_pairs
from torture.signals import torture_signals, torture_sweeps

SEED = 1


def main(chosen: list[str]) -> None:
    torch.set_num_threads(1)  # a process with threads cannot fork
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, if this program was started by nohup
    watch_phases()
    rng, console, wrong = random.Random(SEED), Console(width=150), list[str]()
    with tempfile.TemporaryDirectory(dir=os.environ.get("THROUGHLINE_TORTURE")) as name:
        folder = Path(name)
        if "signals" in chosen:
            table = Table(title="signals to whole runs, by the phase in which they came", title_justify="left")
            for column in ("signal", *PHASES, "in all"):
                table.add_column(column)
            wrong += torture_signals(folder, rng, table)
            console.print(table)
            wrong += torture_sweeps(folder, rng)
        if "damage" in chosen:
            table = Table(title="files with random damage", title_justify="left")
            for column in ("file", "mutations", "named in a line", "as before"):
                table.add_column(column)
            wrong += torture_damage(folder, rng, table)
            console.print(table)
        if "pairs" in chosen:
            wrong += torture_pairs(folder, rng, console)
        if "kills" in chosen:
            table = Table(title="runs that are killed and resumed", title_justify="left")
            for column in ("case", "runs", *(f"killed {p}" for p in PHASES), "kills", "same weights and metrics"):
                table.add_column(column)
            total = torture_runs(folder, rng, table)
            console.print(table)
            table = Table(title="processes that save without end", title_justify="left")
            for column in ("TMPDIR lies on", "kills", "files saved", "killed inside a save", "unusable states"):
                table.add_column(column)
            unusable = torture_files(folder, rng, table)
            console.print(table)
            kills = sum(total[p] for p in PHASES)
            console.print(f"{kills} kills of runs, {total['same']} of {total['runs']} ended the same")
            wrong += [f"{total['runs'] - total['same']} runs ended differently"] * (total["same"] != total["runs"])
            wrong += [f"{unusable} unusable files"] * (unusable > 0) + ["too few kills"] * (kills < 150)
    for line in wrong:
        console.print(line, highlight=False, markup=False)
    console.print(f"{len(wrong)} faults")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1:] or ["signals", "damage", "pairs", "kills"])
