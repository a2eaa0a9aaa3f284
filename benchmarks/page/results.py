"""RESULTS.md, written from all saved rows."""

from collections.abc import Iterable
from pathlib import Path

from benchmarks.measurements.environment import commit, machine, versions
from benchmarks.measurements.figures import Row
from benchmarks.page.kept import load
from benchmarks.page.picture import draw
from benchmarks.page.table import notes, table

TEXT = """# Results

From `make bench`. Rows marked "quick" come from `make bench QUICK=1`, with few repeats and short runs. "The question's code"
is that of [docs/answers.md](../docs/answers.md): one step and one row per batch.

Machine: {machine}.
{versions}.
throughline at {commit}.
{elsewhere}
{table}
![ratios](RESULTS.png)

## How it is measured

The peers work in turns. Each works for a slice of some seconds, and its process waits between slices. A ratio compares
slices of the same round (`benchmarks/measurements/duel.py` gives the reasons). A landing is one start of all processes. If a
row has several landings, all processes were started again for each. The column "figure" is the median of all repeats. A
ratio is the median of the ratios of all rounds, and not that of the two medians beside it. The
spread goes from the lowest to the highest median of a landing. With one landing, it goes from the lowest to the highest
repeat. All peers get the same allocator tuning as throughline. Every program gets both cores.

{notes}
"""


def write(folder: Path, kept: Path, groups: Iterable[str]) -> None:
    """Write RESULTS.md and its picture to `folder`, from the saved rows of the given groups."""
    files = {name: kept / f"{name}.json" for name in groups}
    absent = [Row(name, note="not run") for name, file in files.items() if not file.exists()]
    rows = [row for file in files.values() if file.exists() for row in load(file)] + absent
    texts = {"machine": machine(), "versions": versions(), "commit": commit(), "table": table(rows), "notes": notes(rows)}
    texts["elsewhere"] = "".join(
        f"On another machine: [{file.name}]({file.name}).\n" for file in sorted(folder.glob("RESULTS-*.md"))
    )
    (folder / "RESULTS.md").write_text(TEXT.format(**texts).rstrip() + "\n")
    draw(rows, folder / "RESULTS.png")
