"""Writes the report of a comparison: a page in one file, the same in Markdown, pictures, and a tidy table."""

import base64
import csv
import html
import io
import os
import shlex
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from throughline.plumbing import atomic
from throughline.plumbing.reading import printable
from throughline.results.answers import SEEDS_NEEDED, answers
from throughline.results.charts import Chart, charts
from throughline.results.comparison import ABLATION, Comparison, Member
from throughline.results.drawing import COLOURS, for_plotly, pictures
from throughline.results.metrics import METRICS, Metric


def write(comparison: Comparison, folder: Path) -> list[Path]:
    """Write the report into a folder: page, Markdown, table and pictures; returns the pictures.

    Raises:
        OSError: the folder cannot be written.
    """
    drawn = charts(comparison)
    folder.mkdir(parents=True, exist_ok=True)
    files = pictures(drawn, folder)
    values = page_values(comparison, drawn, files)
    atomic.write(
        {
            folder / "report.html": _rendered("report.html.jinja", plotly=_plotly(), **values).encode(),
            folder / "report.md": _rendered("report.md.jinja", **values).encode(),
            folder / "runs.csv": _csv(tidy(comparison)).encode(),
        }
    )
    return [file for of_chart in files.values() for file in of_chart]


def page_values(comparison: Comparison, drawn: list[Chart], files: dict[str, list[Path]]) -> dict[str, Any]:
    """All contents of the page, as plain values."""
    parent = os.path.commonpath([run.folder.parent for run in comparison.runs])
    return {
        "comparison": comparison,
        "headline": headline(comparison),
        "columns": columns(comparison),
        "table": [_row(comparison, member) for member in comparison.members],
        "answers": answers(comparison),
        "seeds_needed": SEEDS_NEEDED,
        "charts": [
            {"chart": chart, "views": chart.views, "files": [file.name for file in files[chart.key]]} for chart in drawn
        ],
        "specs": [
            {
                "key": chart.key,
                "of_members": chart.of_members,
                "bars": chart.views[0].bars,
                "view": 0,
                "views": [for_plotly(view) for view in chart.views],
            }
            for chart in drawn
        ],
        "colours": {member.label: COLOURS[rank % len(COLOURS)] for rank, member in enumerate(comparison.finished)},
        "passages": [(member.label, member.finished[0]) for member in comparison.finished],
        "differences": comparison.differences(),
        "parent": printable(os.path.relpath(parent)),
        "runs": [
            {
                "folder": printable(os.path.relpath(run.folder, parent)),
                "member": member.label,
                "seed": run.seed,
                "state": run.fault or "finished",
                "command": shlex.join(["python", "src/train.py", *run.overrides]),
            }
            for member in comparison.members
            for run in member.runs
        ],
        "first": comparison.finished[0].finished[0].finished,
    }


def headline(comparison: Comparison) -> str:
    best, *others = [member for member in comparison.finished if member.regime != ABLATION] or comparison.finished
    budget = f"after {comparison.budget} each" if comparison.budget else "after different budgets"
    if not others:
        return (
            f"{best.label} ended with a carried nll of {best.nll.mean:.3f}, {budget}; there is nothing to compare it with."
        )
    tied = [member.label for member in others if member.nll.low <= best.nll.high]
    if tied:
        return (
            f"{best.label} has the lowest carried nll, {best.nll.mean:.3f} nats per {comparison.step}, {budget}. But its "
            f"range over the seeds overlaps with that of {', '.join(tied)}."
        )
    gap = others[0].nll.mean - best.nll.mean
    return (
        f"{best.label} has the lowest carried nll, {best.nll.mean:.3f} nats per {comparison.step}, {budget}. "
        f"This is {gap:.3f} less than {others[0].label}."
    )


def columns(comparison: Comparison) -> list[Metric]:
    """The metrics that a member has: frames have no bits per symbol, and symbols no nll without the first frame."""
    return [metric for metric in METRICS if any(member.metric(metric.key) for member in comparison.finished)]


def _row(comparison: Comparison, member: Member) -> dict[str, Any]:
    """A member in the table: a cell per metric, each with the mean, the range over the seeds, and whether it is the best."""
    cells = []
    for metric in columns(comparison):
        spread = member.metric(metric.key)
        if spread is None:
            cells.append({"mean": "unknown", "seeds": "", "best": False})
        else:
            seeds = f"{metric.show(spread.low)}–{metric.show(spread.high)}" if len(member.finished) > 1 else ""  # noqa: RUF001
            cells.append({"mean": metric.show(spread.mean), "seeds": seeds, "best": spread.mean == comparison.best(metric)})
    seeds = f"seed{'s' * (len(member.finished) > 1)} {', '.join(str(run.seed) for run in member.finished)}"
    return {
        "label": member.label,
        "seeds": [seeds] if member.finished else [],
        "faults": [f"seed {run.seed} {run.fault}" for run in member.faults],
        "cells": cells if member.finished else [],
    }


def tidy(comparison: Comparison) -> list[list[Any]]:
    """A header and one row per run: its name, its state, its metrics if it is finished, and the settings that differ."""
    keys, differing = [metric.key for metric in columns(comparison)], list(comparison.differences())
    rows: list[list[Any]] = [["folder", "member", "regime", "seed", "state", "tokens", "seconds", *keys, *differing]]
    for member in comparison.members:
        for run in member.runs:
            what = [printable(os.path.relpath(run.folder)), member.label, run.regime, str(run.seed), run.fault or "finished"]
            spent = [run.record.tokens, run.record.seconds] if run.record else [None, None]
            metrics = [run.metrics.get(key) for key in keys]
            rows.append([*what, *spent, *metrics, *(str(run.settings.get(key, "")) for key in differing)])
    return rows


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([[_inert(cell) for cell in row] for row in rows])
    return text.getvalue()


def _inert(cell: Any) -> Any:
    """A cell that a spreadsheet does not take for a formula: such a text begins with an apostrophe."""
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        try:
            float(cell)
        except ValueError:
            return f"'{cell}"
    return cell


def _plotly() -> str:
    from plotly.offline import get_plotlyjs

    source: str = get_plotlyjs()
    return source


def _rendered(template: str, **values: Any) -> str:
    """A template with every value escaped, because the files of the runs may come from anywhere."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["cell"] = _cell
    environment.filters["base64"] = lambda content: base64.b64encode(content).decode()
    return environment.get_template(template).render(**values)


def _cell(text: Any) -> Markup:
    """Text in one line of Markdown, escaped so that none of it acts as Markdown or HTML."""
    line = " ".join(str(text).split())
    for mark in "\\`*_[]|~#":
        line = line.replace(mark, f"\\{mark}")
    return Markup(html.escape(line, quote=False))
