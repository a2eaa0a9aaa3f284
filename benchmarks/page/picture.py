"""The picture below the table."""

from pathlib import Path

from matplotlib.figure import Figure as Drawing

from benchmarks.measurements.figures import Row


def draw(rows: list[Row], picture: Path) -> None:
    """Draw every ratio with its spread on one logarithmic axis. An orange line marks its target."""
    ratios = [row for row in reversed(rows) if row.figure is not None and row.unit == "x"]
    drawing = Drawing(figsize=(10, 0.8 + 0.42 * len(ratios)), layout="constrained")
    axes = drawing.subplots()
    for height, row in enumerate(ratios):
        figure = row.figure
        assert figure is not None
        axes.barh(height, figure.value - 1, left=1, height=0.55, color="tab:red" if row.met.startswith("no") else "tab:blue")
        axes.plot([figure.low, figure.high], [height, height], color="black", linewidth=1.5)
        if row.at_least is not None:
            axes.plot([row.at_least] * 2, [height - 0.42, height + 0.42], color="tab:orange", linewidth=3)
    axes.set_yticks(range(len(ratios)), [row.what for row in ratios])
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("ratio of throughline to the peer; black: spread, orange: target")
    axes.grid(axis="x", alpha=0.3)
    drawing.savefig(picture, dpi=110)
