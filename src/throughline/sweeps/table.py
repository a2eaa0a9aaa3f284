"""The table at the end of a sweep: its members, with the seeds of each together."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from throughline.runs.folders import shown
from throughline.sweeps.members import Member, Seen

HEADINGS = ("member", "state", "val nll", "over seeds", "tokens/s", "folder")


def table(sweep: Path, results: Sequence[tuple[Member, Seen]]) -> Iterator[str]:
    """The lines of the table, the lowest nll first; members that differ in nothing but the seed are one row."""
    groups: dict[str, list[tuple[Member, Seen]]] = {}
    for member, now in results:
        name = " ".join(word for word in member.label.split() if not word.startswith("seed=")) or "all"
        groups.setdefault(name, []).append((member, now))
    rows = sorted((_row(name, group) for name, group in groups.items()), key=lambda row: row[0])
    cells = [HEADINGS, *(row[1:] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADINGS))]
    numbers = ("val nll", "tokens/s")
    for row in cells:
        aligned = (
            cell.rjust(width) if heading in numbers else cell.ljust(width)
            for cell, width, heading in zip(row, widths, HEADINGS, strict=True)
        )
        yield "  ".join(aligned).rstrip()
    yield f"folders are in {shown(sweep)}"


def _row(name: str, group: Sequence[tuple[Member, Seen]]) -> tuple[float, str, str, str, str, str, str]:
    finished = [now for _, now in group if now.state == "finished"]
    nll = [now.nll for now in finished]
    mean = sum(nll) / len(nll) if nll else float("inf")
    counts = {state: sum(now.state == state for _, now in group) for state in ("finished", "pruned", "failed")}
    counts["not finished"] = len(group) - sum(counts.values())
    return (
        mean,
        name,
        ", ".join(f"{count} {state}" if len(group) > 1 else state for state, count in counts.items() if count),
        f"{mean:.4f}" if nll else "",
        f"{min(nll):.4f} to {max(nll):.4f}" if len(nll) > 1 else "",
        f"{sum(now.tokens_per_second for now in finished) / len(nll):,.0f}" if nll else "",
        " ".join(f"{member.number}-*" for member, _ in group),
    )
