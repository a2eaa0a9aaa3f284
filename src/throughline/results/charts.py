"""The plots of a comparison: their titles, their captions and their points."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from throughline.regimes.windowed import Windowed
from throughline.results.comparison import Comparison
from throughline.results.looks import Look, by_rank, looks
from throughline.results.memory import bytes_of_windows
from throughline.results.metrics import AXES
from throughline.results.run import Run


class Series(NamedTuple):
    """Points under one name, each with the lowest and the highest seed."""

    label: str
    look: Look
    x: list[Any]
    y: list[float]
    low: list[float]
    high: list[float]


class View(NamedTuple):
    """One view of a chart; in bars, y are names and x are values, and `zero` says whether bars begin there."""

    name: str
    x_title: str
    y_title: str
    series: list[Series]
    bars: bool = False
    zero: bool = True
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
            "nll",
            "Loss at the end",
            "The carried nll of the whole validation split, lower is better. A bar is the mean over seeds, and its whisker "
            "reaches from the lowest to the highest seed. The axis does not begin at zero.",
            [_bars(comparison, "val/nll", f"carried nll (nats per {comparison.step})", nll_format(comparison), zero=False)],
        ),
        _curves(
            comparison,
            "loss",
            "Loss",
            "Carried nll in the validations during training, on the whole validation split or on evaluation.tokens of its "
            "targets, so a line may end beside its bar. Lines are means over seeds, on both axes, after equal numbers of "
            "batches, as far as all seeds have validations. Bands reach from the lowest to the highest seed.",
            "val/nll",
            f"carried nll (nats per {comparison.step})",
            lambda run: run.validations,
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
        _curves(
            comparison,
            "gradient_norm",
            "Gradient norm",
            "The norm of all gradients together, before clipping. Each point is a mean over one twenty-fourth of the run.",
            "train/grad_norm",
            "gradient norm",
            _grad_norms,
        ),
    ]
    with_series = [chart._replace(views=[view for view in chart.views if view.series]) for chart in every]
    return [chart for chart in with_series if chart.views]


def _grad_norms(run: Run, points: int = 24) -> list[dict[str, float]]:
    rows = [row for row in run.curve if math.isfinite(row.get("train/grad_norm", math.nan))]
    pieces = [piece for piece in np.array_split(np.arange(len(rows)), points) if len(piece)]
    columns = ("step", *AXES, "train/grad_norm")
    return [{column: math.fsum(rows[i][column] for i in piece) / len(piece) for column in columns} for piece in pieces]


def _curves(
    comparison: Comparison,
    name: str,
    title: str,
    caption: str,
    key: str,
    y_title: str,
    points: Callable[[Run], list[dict[str, float]]],
) -> Chart:
    """A chart with a view along each axis; its caption also names the seeds that are in no line."""
    lines, absent = [], []
    of = looks(comparison.finished)
    for member in comparison.finished:
        curves = [points(run) for run in member.finished]
        together = aligned(curves, key)
        if together:
            lines.append((member.label, of[member.label], together))
        if len(together) < len(curves):
            absent.append(f"{len(curves) - len(together)} of the {len(curves)} seeds of {member.label}")
    views = []
    for axis, x_title in AXES.items():
        series = [
            _over_seeds(label, look, _means([way[axis] for way in ways]), [*zip(*(way[key] for way in ways), strict=True)])
            for label, look, ways in lines
        ]
        log_x, log_y = _positive([x for s in series for x in s.x]), _positive([y for s in series for y in s.low])
        views.append(View(axis, x_title, y_title, series, log_x=log_x, log_y=log_y))
    if absent:
        caption += f" Not in the lines, because they have too little in common with the others: {', '.join(absent)}."
    return Chart(name, title, caption, views)


def aligned(curves: list[list[dict[str, float]]], key: str) -> list[dict[str, list[float]]]:
    """The columns of curves at common places: after every number of batches where one has a point, as far as all of them go.

    Between its points a curve is straight. Curves of one point can be put beside each other only if all are so. Otherwise
    they are left out, and so are all curves if there is no range that all of them cover.
    """
    several = [curve for curve in curves if len(curve) > 1]
    if not several:
        return [{column: [curve[0][column]] for column in (*AXES, key)} for curve in curves if curve]
    low, high = max(curve[0]["step"] for curve in several), min(curve[-1]["step"] for curve in several)
    if low >= high:
        return []
    places = sorted({row["step"] for curve in several for row in curve if low <= row["step"] <= high})
    return [
        {
            column: np.interp(places, [row["step"] for row in curve], [row[column] for row in curve]).tolist()
            for column in (*AXES, key)
        }
        for curve in several
    ]


def _means(seeds: list[list[float]]) -> list[float]:
    return [math.fsum(values) / len(values) for values in zip(*seeds, strict=True)]


def _positive(values: Sequence[float]) -> bool:
    """Whether an axis can be logarithmic."""
    return min(values, default=0) > 0


def _over_seeds(label: str, look: Look, x: list[Any], values: Sequence[Sequence[float]]) -> Series:
    mean = [math.fsum(seeds) / len(seeds) for seeds in values]
    return Series(label, look, x, mean, [min(seeds) for seeds in values], [max(seeds) for seeds in values])


def nll_format(comparison: Comparison) -> Callable[[float], str]:
    """Writes a loss with the digits that the spread over the seeds allows: one more than it has in common."""
    ranges = [member.nll.high - member.nll.low for member in comparison.finished if len(member.finished) > 1]
    widest = max(ranges, default=0.0)
    digits = 4 if widest <= 0 else min(4, max(2, 1 - math.floor(math.log10(widest))))
    return lambda nll: f"{nll:.{digits}f}" if abs(nll) < 1e6 else f"{nll:.4g}"


def _bars(
    comparison: Comparison, key: str, x_title: str, show: Callable[[float], str], name: str = "", zero: bool = True
) -> View:
    series, of = [], looks(comparison.finished)
    for member in comparison.finished:
        spread = member.metric(key)
        if spread:
            look = of[member.label]
            series.append(Series(member.label, look, [member.label], [spread.mean], [spread.low], [spread.high]))
    return View(name, x_title, "", series, bars=True, zero=zero, show=show)


def _by_position(comparison: Comparison) -> View:
    series, of = [], looks(comparison.finished)
    for member in comparison.finished:
        if all(run.by_position for run in member.finished):
            steps = min(run.by_position[-1][0] for run in member.finished)
            edges = [*(2**k for k in range(steps.bit_length()) if 2**k < steps), steps] if steps > 1 else [1]
            bins = [(1, 1), *((a + 1, b) for a, b in pairwise(edges))]
            values = [[_mean_between(run, *b) for run in member.finished] for b in bins]
            names = [str(b) if a == b else f"{a}–{b}" for a, b in bins]  # noqa: RUF001
            carried = [run.metrics["val/nll"] for run in member.finished]
            series.append(_over_seeds(member.label, of[member.label], [*names, "carried"], [*values, carried]))
    return View("", f"{comparison.step}s read since the reset", f"nll (nats per {comparison.step})", series)


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
        _over_seeds(label, by_rank(rank), list(steps), [[v] for v in sizes])
        for rank, (label, sizes) in enumerate(named.items())
        if steps  # the line is longer than the shortest window
    ]
    peaks: dict[int, list[float]] = {}
    for member in windowed:
        peaks.setdefault(member.shape[1], []).extend(run.metrics["peak_memory_bytes"] for run in member.finished)
    if peaks:
        series.append(
            _over_seeds("whole runs (measured)", by_rank(len(named)), sorted(peaks), [peaks[T] for T in sorted(peaks)])
        )
    sizes_are_positive = _positive([y for s in series for y in s.low])
    return View("", "steps of a window", "bytes", series, log_x=True, log_y=sizes_are_positive)
