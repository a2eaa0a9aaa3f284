"""How charts are drawn: as values for the page, which draws them itself, and by matplotlib as pictures."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from throughline.results.charts import Chart, View
from throughline.results.looks import SYMBOLS


def for_page(view: View) -> dict[str, Any]:
    """The view as plain values for `charts.js`."""
    names = [x for s in view.series for x in s.x] if view.series and isinstance(view.series[0].x[0], str) else None
    return {
        **{key: getattr(view, key) for key in ("name", "x_title", "y_title", "bars", "zero", "log_x", "log_y")},
        "names": None if names is None or view.bars else list(dict.fromkeys(names)),
        "series": [
            {
                **{"label": s.label, "colour": s.look.colour, "dash": s.look.dash, "symbol": s.look.symbol},
                **{"x": s.x, "y": s.y, "low": s.low, "high": s.high, "shown": [view.show(y) for y in s.y]},
                "seeds": [f"{view.show(a)} to {view.show(b)}" for a, b in zip(s.low, s.high, strict=True)],
            }
            for s in view.series
        ],
    }


def _ticks(values: list[float]) -> tuple[list[float], list[str]]:
    """Places on a logarithmic axis that are round numbers, and their labels."""
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
        colour, symbol = s.look.colour, SYMBOLS[s.look.symbol]
        label = textwrap.fill(s.label, 28).replace("$", r"\$")  # matplotlib reads names as a subset of TeX
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
        if not view.zero:
            low, high = min(s.low[0] for s in view.series), max(s.high[0] for s in view.series)
            room = (high - low) or abs(high) or 1.0
            axes.set_xlim(low - 0.25 * room, high + 0.2 * room)
    else:
        axes.legend(fontsize="small")
    axes.set(xlabel=view.x_title, ylabel=view.y_title, title=chart.title)
    axes.grid(alpha=0.3)
    figure.savefig(picture, dpi=120)


def pictures(drawn: Sequence[Chart], folder: Path) -> dict[str, list[Path]]:
    """Draw every view of every chart into `folder`; returns the files by the keys of the charts."""
    files = {}
    for chart in drawn:
        names = [
            chart.key + (f"_{view.name.replace(' ', '_').replace(chr(39), '')}" if view.name else "") for view in chart.views
        ]
        files[chart.key] = [folder / f"{name}.png" for name in names]
        for view, file in zip(chart.views, files[chart.key], strict=True):
            draw(chart, view, file)
    return files
