"""How charts are drawn: by plotly for the page, and by matplotlib as pictures."""

import html
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from throughline.results.charts import Chart, Series, View

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6bb1", "#999999", "#b2182b", "#66a61e")
"""The colours of members, in their order. Most people who do not see all colours can distinguish them, on white or black."""
SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "x": "X", "cross": "P", "star": "*"}
"""The symbols of members, so that colour is never the only difference: plotly's names, and matplotlib's. There are seven, so
that the eleventh member, which has the colour of the first, has another symbol."""


def for_plotly(view: View) -> dict[str, Any]:
    """The view as the data and layout of plotly; the page sets the colours of text and grid lines."""
    import plotly.graph_objects as go

    figure = go.Figure(layout={"template": None, "uirevision": "same", "showlegend": False, "bargap": 0.35})
    for s in view.series:
        colour, symbol = COLOURS[s.rank % len(COLOURS)], list(SYMBOLS)[s.rank % len(SYMBOLS)]
        label = html.escape(s.label, quote=False).replace("$", "&#36;")  # plotly reads names as HTML or TeX
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
                insidetextanchor="start",  # where the line of the seeds does not cross it
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
        colour, symbol = COLOURS[s.rank % len(COLOURS)], list(SYMBOLS.values())[s.rank % len(SYMBOLS)]
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
