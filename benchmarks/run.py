"""Measure everything and write RESULTS.md: python -m benchmarks.run [--quick] [--only bare keras ...].

Each group of rows is saved in `outputs/benchmarks/` as soon as it is measured, so groups can be measured one at a time.
RESULTS.md is written from all groups saved there. To keep the results of another machine, rename its RESULTS.md to
RESULTS-NAME.md.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import replace

from benchmarks.measurements.figures import Row
from benchmarks.measurements.losses import asker_loss, goal, transformer
from benchmarks.measurements.programs import FULL, QUICK, Effort, needed
from benchmarks.measurements.speed import bare, keras, onestep, processes, sharing, utilisation
from benchmarks.measurements.using import generation, memory, start
from benchmarks.page.kept import save
from benchmarks.page.results import write
from benchmarks.page.table import table
from benchmarks.peers.shakespeare import PROJECT

GROUPS: dict[str, Callable[[Effort], list[Row]]] = {
    group.__name__: group
    for group in (
        *(bare, keras, onestep, asker_loss, transformer, goal),
        *(generation, start, memory, utilisation, sharing, processes),
    )
}
"""The groups, in the order of the table."""

KEPT = PROJECT / "outputs" / "benchmarks"


def measure(name: str, quick: bool) -> list[Row]:
    print(f"{name} ...", file=sys.stderr, flush=True)
    began = time.perf_counter()
    if needed():
        return [Row(name, note=needed())]
    try:
        rows = GROUPS[name](QUICK if quick else FULL)
    except RuntimeError as error:  # a program failed; the other groups can still be measured
        traceback.print_exc()
        rows = [Row(name, note=f"failed: {error}")]
    print(f"{name}: {time.perf_counter() - began:.0f} s\n{table(rows)}", file=sys.stderr, flush=True)
    return [replace(row, quick=quick) for row in rows]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="take minutes instead of an hour")
    options.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS), metavar="GROUP", help=" ".join(GROUPS))
    arguments = options.parse_args()
    for name in arguments.only:
        save(measure(name, arguments.quick), KEPT / f"{name}.json")
        write(PROJECT / "benchmarks", KEPT, GROUPS)


if __name__ == "__main__":
    main()
