"""RESULTS.md, written from all rows that were kept."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.measurements.environment import commit, machine, versions
from benchmarks.measurements.figures import Row
from benchmarks.page.kept import load
from benchmarks.page.picture import draw
from benchmarks.page.table import notes, table

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
slices of one round (`benchmarks/measurements/duel.py` says why); where more than one landing is named, the processes were
started anew for each. A figure is the median of all repeats. Its spread is from the least to the greatest landing, or repeat
where there is one landing. All peers get the allocator tuning that throughline gives itself, and every program both cores.

{notes}
"""


def write(folder: Path, kept: Path, groups: Iterable[str]) -> None:
    """RESULTS.md and its picture in `folder`, from those of the groups that were kept."""
    files = {name: kept / f"{name}.json" for name in groups}
    absent = [Row(name, note="not run") for name, file in files.items() if not file.exists()]
    rows = [row for file in files.values() if file.exists() for row in load(file)] + absent
    texts = {"machine": machine(), "versions": versions(), "commit": commit(), "table": table(rows), "notes": notes(rows)}
    texts["elsewhere"] = "".join(
        f"On another machine: [{file.name}]({file.name}).\n" for file in sorted(folder.glob("RESULTS-*.md"))
    )
    (folder / "RESULTS.md").write_text(TEXT.format(**texts).rstrip() + "\n")
    draw(rows, folder / "RESULTS.png")
