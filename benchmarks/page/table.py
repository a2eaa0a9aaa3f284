"""The table of all rows, and the notes below it, in Markdown."""

from benchmarks.measurements.figures import Row


def table(rows: list[Row]) -> str:
    head = ["what", "throughline", "peer", "figure", "spread (repeats)", "target", "met"]
    lines = [head, ["---"] * len(head), *(cells(row) for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def cells(row: Row) -> list[str]:
    """One line of the table, in the order of its columns."""
    what = f"{row.what} (quick)" if row.quick else row.what
    if row.figure is None:
        return [what, row.ours, row.theirs, "not measured", "", row.target, ""]
    spread = f"{row.show(row.figure.low)} to {row.show(row.figure.high)} ({row.figure.repeats})"
    spread = "" if row.figure.repeats == "1" else spread
    return [what, row.ours, row.theirs, row.show(row.figure.value), spread, row.target, row.met]


def notes(rows: list[Row]) -> str:
    return "".join(f"- *{row.what}*: {row.note}\n" for row in rows if row.note)
