"""Draws the loss of a run as a picture."""

from pathlib import Path

from throughline.runs.record import metric_rows


def draw_curve(metrics: Path, picture: Path, title: str, step: str = "token") -> None:
    """Draw the training and validation loss of `metrics.csv` against tokens and against seconds; `step` names one."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    rows = list(metric_rows(metrics))
    figure = Figure(figsize=(10, 4), layout="constrained")
    halves = zip(figure.subplots(1, 2, sharey=True), ("tokens", "seconds"), (f"{step}s", "training time (s)"), strict=True)
    for axes, axis, unit in halves:
        for column, label, style in (
            ("train/nll", "train", "-"),
            ("val/nll", "validation, carried", "o-"),
            ("val/nll_reset", "validation, from zeros", "o--"),
        ):
            points = [(float(row[axis]), float(row[column])) for row in rows if row[column]]
            style = style if len(points) > 1 else "o"  # a line of one point would not be seen
            axes.plot([x for x, _ in points], [y for _, y in points], style, label=label, markersize=4)
        axes.set_xlabel(unit)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel(f"nll (nats per {step})")
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.savefig(picture, dpi=120)
