"""The plots of a comparison: their titles, their captions and their points."""

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from throughline.regimes.windowed import Windowed
from throughline.results.comparison import Comparison
from throughline.results.memory import bytes_of_windows
from throughline.results.metrics import AXES
from throughline.results.run import Run


class Series(NamedTuple):
    """Points under one name, each with the lowest and the highest seed; `rank` chooses the colour."""

    label: str
    rank: int
    x: list[Any]
    y: list[float]
    low: list[float]
    high: list[float]


class View(NamedTuple):
    """One view of a chart; in bars, y are names and x are values."""

    name: str
    x_title: str
    y_title: str
    series: list[Series]
    bars: bool = False
    log_x: bool = False
    log_y: bool = False
    show: Callable[[float], str] = "{:.4g}".format


class Chart(NamedTuple):
    """A plot under one title, with one or several views to switch between.

    Attributes:
        key: names its files and its place on the page.
        of_members: whether its series are members, and so are toggled with those of all other charts.
    """

    key: str
    title: str
    caption: str
    views: list[View]
    of_members: bool = True


def charts(comparison: Comparison) -> list[Chart]:
    """All plots that the runs have the metrics for."""
    every = [
        Chart(
            "loss",
            "Loss",
            "Carried nll in the validations during training, on the whole validation split or on evaluation.tokens of its "
            "targets. Lines are means over seeds, on both axes. Bands reach from the lowest to the highest seed.",
            [_curve(comparison, axis, "val/nll", "carried nll (nats per token)", _validations) for axis in AXES],
        ),
        Chart(
            "throughput",
            "Throughput",
            "Targets trained on per second of training.",
            [_bars(comparison, "tokens_per_second", "tokens per second", "{:,.0f}".format)],
        ),
        Chart(
            "utilisation",
            "Utilisation",
            "The share of the matrix rate of the device that was used. Padding and steps without loss also count as work.",
            [
                _bars(comparison, "device/utilisation", "share of the matrix rate", "{:.1%}".format, "matrix rate used"),
                _bars(comparison, "device/data_wait", "share of the time", "{:.1%}".format, "waiting for data"),
                _bars(
                    comparison,
                    "device/driver_utilisation",
                    "share of the time",
                    "{:.1%}".format,
                    "as NVIDIA's driver counts",
                ),
            ],
        ),
        Chart(
            "by_position",
            "Loss by position since the last reset",
            "The loss of each token that the model reads after it begins from zeros. The last point is the loss with the "
            "state carried through the whole split. The fall of a line is the gain from a longer context.",
            [_by_position(comparison)],
        ),
        Chart(
            "memory",
            "Memory against window length",
            "Two lines are computed: windows cut out of the line as one-hot arrays of shape (samples - steps, steps, "
            "features) in float32, or as token ids in int64. One is measured for this page: the memory of this program for "
            "the same windows, with line, order and one batch. Whole runs of the windowed regime are measured with all "
            "libraries.",
            [_memory(comparison)],
            of_members=False,
        ),
        Chart(
            "gradient_norm",
            "Gradient norm",
            "The norm of all gradients together, before clipping. Each point is a mean over one twenty-fourth of the run.",
            [_curve(comparison, axis, "train/grad_norm", "gradient norm", _grad_norms) for axis in AXES],
        ),
    ]
    with_series = [chart._replace(views=[view for view in chart.views if view.series]) for chart in every]
    return [chart for chart in with_series if chart.views]


def _validations(run: Run) -> list[dict[str, float]]:
    return run.validations


def _grad_norms(run: Run, points: int = 24) -> list[dict[str, float]]:
    rows = [row for row in run.curve if math.isfinite(row.get("train/grad_norm", math.nan))]
    pieces = [piece for piece in np.array_split(np.arange(len(rows)), points) if len(piece)]
    return [
        {key: math.fsum(rows[i][key] for i in piece) / len(piece) for key in (*AXES, "train/grad_norm")} for piece in pieces
    ]


def _curve(
    comparison: Comparison, axis: str, key: str, y_title: str, points: Callable[[Run], list[dict[str, float]]]
) -> View:
    series = []
    for rank, member in enumerate(comparison.finished):
        rows = _aligned([points(run) for run in member.finished])
        if rows:
            x = [math.fsum(row[axis] for row in seeds) / len(seeds) for seeds in rows]
            series.append(_over_seeds(member.label, rank, x, [[row[key] for row in seeds] for seeds in rows]))
    return View(axis, AXES[axis], y_title, series, log_x=True, log_y=True)


def _aligned(curves: list[list[dict[str, float]]]) -> list[list[dict[str, float]]]:
    """The k-th point of each curve side by side; longer curves lose some points, but never the first or the last."""
    length = min(map(len, curves))
    places = [np.linspace(0, len(curve) - 1, length).round().astype(int) for curve in curves]
    return [[curve[place[k]] for curve, place in zip(curves, places, strict=True)] for k in range(length)]


def _over_seeds(label: str, rank: int, x: list[Any], values: list[list[float]]) -> Series:
    mean = [math.fsum(seeds) / len(seeds) for seeds in values]
    return Series(label, rank, x, mean, [min(seeds) for seeds in values], [max(seeds) for seeds in values])


def _bars(comparison: Comparison, key: str, x_title: str, show: Callable[[float], str], name: str = "") -> View:
    series = []
    for rank, member in enumerate(comparison.finished):
        spread = member.metric(key)
        if spread:
            series.append(Series(member.label, rank, [member.label], [spread.mean], [spread.low], [spread.high]))
    return View(name, x_title, "", series, bars=True, show=show)


def _by_position(comparison: Comparison) -> View:
    series = []
    for rank, member in enumerate(comparison.finished):
        if all(run.by_position for run in member.finished):
            steps = max(run.by_position[-1][0] for run in member.finished)
            edges = [*(2**k for k in range(steps.bit_length()) if 2**k < steps), steps] if steps > 1 else [1]
            bins = [(1, 1), *((a + 1, b) for a, b in pairwise(edges))]
            values = [[_mean_between(run, *b) for run in member.finished] for b in bins]
            names = [str(b) if a == b else f"{a}–{b}" for a, b in bins]  # noqa: RUF001
            carried = [run.metrics["val/nll"] for run in member.finished]
            series.append(_over_seeds(member.label, rank, [*names, "carried"], [*values, carried]))
    return View("", "tokens read since the reset", "nll (nats per token)", series)


def _mean_between(run: Run, first: int, last: int) -> float:
    rows = [(nll, targets) for position, nll, targets in run.by_position if first <= position <= last]
    return math.fsum(nll * targets for nll, targets in rows) / sum(targets for _, targets in rows)


def _memory(comparison: Comparison) -> View:
    runs = [run for member in comparison.finished for run in member.finished]
    windowed = [member for member in comparison.finished if member.regime == "windowed"]
    batch_size = windowed[0].shape[0] if windowed else Windowed().batch_size
    record = runs[0].finished
    steps, named = bytes_of_windows(record.train_targets, int(record.data["vocab"]), batch_size)
    series = [
        _over_seeds(label, rank, list(steps), [[v] for v in sizes]) for rank, (label, sizes) in enumerate(named.items())
    ]
    peaks: dict[int, list[float]] = {}
    for member in windowed:
        peaks.setdefault(member.shape[1], []).extend(run.metrics["peak_memory_bytes"] for run in member.finished)
    if peaks:
        series.append(_over_seeds("whole runs (measured)", len(named), sorted(peaks), [peaks[T] for T in sorted(peaks)]))
    return View("", "steps of a window", "bytes", series, log_x=True, log_y=True)
