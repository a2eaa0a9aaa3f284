"""The plots of a comparison: what each shows, and how it is drawn, by plotly for the page and by matplotlib as a picture."""

import html
import math
import textwrap
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from throughline.batches.batch import Batches
from throughline.data.corpus import Line
from throughline.regimes.windowed import Windowed
from throughline.results.comparison import AXES, Comparison, Run

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999", "#b2182b", "#66a61e")
"""Of members, in their order; told apart by most people who do not see all colours, on white and on black."""
SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "X", "cross": "P", "star": "*"}
"""Of members, too, so that colour is never alone: the names of plotly, and of matplotlib. There are seven, so that the
eleventh member, whose colour is the first one's, has another."""
WINDOWS = (16, 32, 64, 128, 256, 512, 1024)


class Series(NamedTuple):
    """Points of one name with the lowest and the highest seed of each; `rank` tells its colour."""

    label: str
    rank: int
    x: list[Any]
    y: list[float]
    low: list[float]
    high: list[float]


class View(NamedTuple):
    """One way to look at a chart; as bars, y are names and x are values."""

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
    """All plots that the runs have the figures for."""
    every = [
        Chart(
            "loss",
            "Loss",
            "Carried nll on the way, of the validation split or as much of it as evaluation.tokens says, by what training "
            "has spent. Lines are means over seeds, of both axes; bands reach from the lowest to the highest.",
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
            "How much of what the device can do was done: padding and steps without loss are work, too.",
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
            "The model begins from zeros and reads: what each further token costs it, and last what it pays with the state "
            "carried through the whole split. How far a line falls is what reading on buys.",
            [_by_position(comparison)],
        ),
        Chart(
            "memory",
            "Memory against window length",
            "Windows cut out of the line as one-hot arrays of shape (samples - steps, steps, features), in float32, or as "
            "token ids in int64 (both computed); and what this program needs for the same windows, line, order and a batch "
            "(measured for this page). Whole runs of the windowed regime include the libraries (measured).",
            [_memory(comparison)],
            of_members=False,
        ),
        Chart(
            "gradient_norm",
            "Gradient norm",
            "Of all gradients together, before clipping, as a mean over a twenty-fourth of the run.",
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
        rows = _abreast([points(run) for run in member.finished])
        if rows:
            x = [math.fsum(row[axis] for row in seeds) / len(seeds) for seeds in rows]
            series.append(_over_seeds(member.label, rank, x, [[row[key] for row in seeds] for seeds in rows]))
    return View(axis, AXES[axis], y_title, series, log_x=True, log_y=True)


def _abreast(curves: list[list[dict[str, float]]]) -> list[list[dict[str, float]]]:
    """The k-th point of each curve side by side; of longer curves some are left out, never the first or the last."""
    length = min(map(len, curves))
    places = [np.linspace(0, len(curve) - 1, length).round().astype(int) for curve in curves]
    return [[curve[place[k]] for curve, place in zip(curves, places, strict=True)] for k in range(length)]


def _over_seeds(label: str, rank: int, x: list[Any], values: list[list[float]]) -> Series:
    mean = [math.fsum(seeds) / len(seeds) for seeds in values]
    return Series(label, rank, x, mean, [min(seeds) for seeds in values], [max(seeds) for seeds in values])


def _bars(comparison: Comparison, key: str, x_title: str, show: Callable[[float], str], name: str = "") -> View:
    series = []
    for rank, member in enumerate(comparison.finished):
        spread = member.figure(key)
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
            carried = [run.figures["val/nll"] for run in member.finished]
            series.append(_over_seeds(member.label, rank, [*names, "carried"], [*values, carried]))
    return View("", "tokens read since the reset", "nll (nats per token)", series)


def _mean_between(run: Run, first: int, last: int) -> float:
    rows = [(nll, targets) for position, nll, targets in run.by_position if first <= position <= last]
    return math.fsum(nll * targets for nll, targets in rows) / sum(targets for _, targets in rows)


def _memory(comparison: Comparison) -> View:
    runs = [run for member in comparison.finished for run in member.finished]
    windowed = [member for member in comparison.finished if member.regime == "windowed"]
    targets, vocab = runs[0].train_targets, int(runs[0].summary["data"]["vocab"])
    batch_size = windowed[0].shape[0] if windowed else Windowed().batch_size
    line = Line.of([np.zeros(targets + 1, np.min_scalar_type(vocab - 1))])
    steps = [T for T in WINDOWS if targets > T]
    named = {
        "one-hot windows (computed)": [4 * vocab * T * (targets + 1 - T) for T in steps],
        "windows of ids (computed)": [8 * T * (targets + 1 - T) for T in steps],
        "here (measured)": [line.tokens.nbytes + bytes_for_windows(line, T, batch_size) for T in steps],
    }
    series = [
        _over_seeds(label, rank, list(steps), [[v] for v in sizes]) for rank, (label, sizes) in enumerate(named.items())
    ]
    peaks: dict[int, list[float]] = {}
    for member in windowed:
        peaks.setdefault(member.shape[1], []).extend(run.figures["peak_memory_bytes"] for run in member.finished)
    if peaks:
        series.append(_over_seeds("whole runs (measured)", len(named), sorted(peaks), [peaks[T] for T in sorted(peaks)]))
    return View("", "steps of a window", "bytes", series, log_x=True, log_y=True)


def bytes_for_windows(line: Line, steps: int, batch_size: int) -> int:
    """The most memory that planning an epoch of all windows of a line takes and reading one batch of them, line apart."""
    tracemalloc.start()
    try:
        Batches(Windowed(steps=steps, batch_size=batch_size).plan(line, seed=0, epoch=0), line)[0]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def for_plotly(view: View) -> dict[str, Any]:
    """The view as the data and layout of plotly; colours of text and lines between are those of the page."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": None, "uirevision": "same", "showlegend": False, "bargap": 0.35})
    for s in view.series:
        colour, symbol = COLOURS[s.rank % len(COLOURS)], list(SYMBOLS)[s.rank % len(SYMBOLS)]
        label = html.escape(s.label, quote=False).replace("$", "&#36;")  # plotly takes names for HTML or TeX
        about = {"name": label, "legendgroup": s.label}
        seeds = [f"{view.show(low)}–{view.show(high)}" for low, high in zip(s.low, s.high, strict=True)]  # noqa: RUF001
        if view.bars:
            figure.add_bar(
                **about,
                orientation="h",
                x=s.y,
                y=[label],
                marker_color=colour,
                text=[view.show(y) for y in s.y],
                textposition="auto",
                insidetextanchor="start",  # where no line that tells the seeds crosses it
                error_x=_errors(s),
                customdata=seeds,
                hovertemplate=f"%{{text}}<br>seeds %{{customdata}}<extra>{label}</extra>",
            )
            continue
        if len(s.x) > 1 and s.low != s.high:
            figure.add_scatter(
                **about,
                x=[*s.x, *s.x[::-1]],
                y=[*s.high, *s.low[::-1]],
                fill="toself",
                fillcolor=f"rgba({int(colour[1:3], 16)},{int(colour[3:5], 16)},{int(colour[5:], 16)},0.18)",
                line_width=0,
                mode="lines",
                hoverinfo="skip",
                showlegend=False,
            )
        figure.add_scatter(
            **about,
            x=s.x,
            y=s.y,
            mode="lines+markers" if len(s.x) > 1 else "markers",
            line_color=colour,
            marker={"symbol": symbol, "size": 7},
            customdata=seeds,
            hovertemplate=f"%{{y:.4g}} at %{{x}}<br>seeds %{{customdata}}<extra>{label}</extra>",
        )
    figure.update_xaxes(title_text=view.x_title)
    figure.update_yaxes(title_text=view.y_title, autorange="reversed" if view.bars else None)
    if view.log_x:
        places, names = _ticks([x for s in view.series for x in s.x])
        figure.update_xaxes(type="log", tickvals=places, ticktext=names)
    if view.log_y:
        places, names = _ticks([y for s in view.series for y in (*s.low, *s.high)])
        figure.update_yaxes(type="log", tickvals=places, ticktext=names)
    spec: dict[str, Any] = figure.to_plotly_json()
    return spec


def _errors(s: Series) -> dict[str, Any]:
    above, below = (np.abs(np.subtract(edge, s.y)).tolist() for edge in (s.high, s.low))
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "color": "rgba(128,128,128,0.9)"}


def _ticks(values: list[float]) -> tuple[list[float], list[str]]:
    """Places on a logarithmic axis that are round for a reader, and what they are called there."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    low, high = min(values), max(values)
    decades = np.log10(high / low)
    if decades < 1:
        places: Any = MaxNLocator(8).tick_values(low, high)
    else:
        digits = (1, 2, 5) if decades < 3 else (1,)
        places = np.multiply.outer(10.0 ** np.arange(np.floor(np.log10(low)), np.ceil(np.log10(high)) + 1), digits).ravel()
    shown = [float(place) for place in places if low / 1.1 <= place <= high * 1.1]
    thousands = EngFormatter(sep="")
    return shown, [f"{place:g}" if place < 1000 else thousands(place) for place in shown]


def draw(chart: Chart, view: View, picture: Path) -> None:
    """Draw the view as a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for s in view.series:
        colour, symbol = COLOURS[s.rank % len(COLOURS)], list(SYMBOLS.values())[s.rank % len(SYMBOLS)]
        label = textwrap.fill(s.label, 28).replace("$", r"\$")  # matplotlib takes names for a subset of TeX
        if view.bars:
            errors = np.abs(np.subtract([s.low, s.high], s.y))
            bar = axes.barh([label], s.y, color=colour, xerr=errors, ecolor="grey")
            axes.bar_label(bar, [view.show(y) for y in s.y], padding=3)
        else:
            axes.fill_between(s.x, s.low, s.high, color=colour, alpha=0.18, linewidth=0)
            axes.plot(s.x, s.y, color=colour, marker=symbol, label=label, markersize=5)
    if view.log_x:
        axes.set_xscale("log")
        axes.set_xticks(*_ticks([x for s in view.series for x in s.x]))
        axes.minorticks_off()
    if view.log_y:
        axes.set_yscale("log")
        axes.set_yticks(*_ticks([y for s in view.series for y in (*s.low, *s.high)]))
        axes.minorticks_off()
    if view.bars:
        axes.invert_yaxis()
        axes.margins(x=0.15)
    else:
        axes.legend(fontsize="small")
    axes.set(xlabel=view.x_title, ylabel=view.y_title, title=chart.title)
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


def pictures(drawn: Sequence[Chart], folder: Path) -> dict[str, list[Path]]:
    """Draw every view of every chart into `folder`; the files, by the keys of the charts."""
    files = {}
    for chart in drawn:
        names = [
            chart.key + (f"_{view.name.replace(' ', '_').replace(chr(39), '')}" if view.name else "") for view in chart.views
        ]
        files[chart.key] = [folder / f"{name}.png" for name in names]
        for view, file in zip(chart.views, files[chart.key], strict=True):
            draw(chart, view, file)
    return files
