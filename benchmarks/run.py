"""Measure everything and write RESULTS.md: python benchmarks/run.py [--quick] [--only bare keras ...].

Each group of rows is kept in `outputs/benchmarks/` as soon as it is measured, so that groups can be measured one at a time;
the file is written from all that lie there. Results of another machine are kept by renaming theirs to RESULTS-NAME.md.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from environment import commit, machine, versions
from losses import asker_loss, goal, transformer
from programs import FULL, QUICK, Effort, needed
from report import Row, draw, load, notes, save, table
from shakespeare import PROJECT
from speed import bare, keras, onestep, processes, utilisation
from using import generation, memory, start

GROUPS: dict[str, Callable[[Effort], list[Row]]] = {
    group.__name__: group
    for group in (
        *(bare, keras, onestep, asker_loss, transformer, goal),
        *(generation, start, memory, utilisation, processes),
    )
}
"""In the order of the table."""

KEPT = PROJECT / "outputs" / "benchmarks"

TEXT = """# Results

From `make bench`; what is marked quick comes from `make bench QUICK=1`: few repeats, short runs.

Machine: {machine}.
{versions}.
throughline at {commit}.
{elsewhere}
{table}
![ratios](RESULTS.png)

## How it is measured

The peers work in turns, a slice of seconds each, in processes that stand still in between, and a ratio is taken between
slices of one round (`benchmarks/duel.py` says why); where more than one landing is named, the processes were started anew
for each. A figure is the median of all repeats. Its spread is from the least to the greatest landing, or repeat where there
is one landing. All peers get the allocator tuning that throughline gives itself, and every program both cores.

{notes}
"""


def measure(name: str, quick: bool) -> list[Row]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    if needed():
        return [Row(name, note=needed())]
    try:
        rows = GROUPS[name](QUICK if quick else FULL)
    except RuntimeError as error:  # a program that failed; the other groups can still be measured
        traceback.print_exc()
        rows = [Row(name, note=f"failed: {error}")]
    print(f"{name}: {time.perf_counter() - began:.0f} s\n{table(rows)}", file=sys.stderr, flush=True)
    return [replace(row, quick=quick) for row in rows]


def write(folder: Path, kept: Path) -> None:
    """RESULTS.md and its picture in `folder`, from the groups that were kept."""
    files = {name: kept / f"{name}.json" for name in GROUPS}
    absent = [Row(name, note="not run") for name, file in files.items() if not file.exists()]
    rows = [row for file in files.values() if file.exists() for row in load(file)] + absent
    texts = {"machine": machine(), "versions": versions(), "commit": commit(), "table": table(rows), "notes": notes(rows)}
    texts["elsewhere"] = "".join(
        f"On another machine: [{file.name}]({file.name}).\n" for file in sorted(folder.glob("RESULTS-*.md"))
    )
    (folder / "RESULTS.md").write_text(TEXT.format(**texts).rstrip() + "\n")
    draw(rows, folder / "RESULTS.png")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="minutes instead of an hour")
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=" ".join(GROUPS))
    arguments = options.parse_args()
    for name in arguments.only:
        save(measure(name, arguments.quick), KEPT / f"{name}.json")
        write(PROJECT / "benchmarks", KEPT)


if __name__ == "__main__":
    main()
