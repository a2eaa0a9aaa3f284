"""Writes the report of a comparison: a page in one file, the same in Markdown, pictures, and a tidy table."""

import base64
import csv
import html
import io
import math
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.results.answers import SEEDS_NEEDED, UNSUPPORTED, answers
from throughline.results.charts import Chart, charts, nll_format
from throughline.results.comparison import ABLATION, Comparison, Member
from throughline.results.drawing import for_page, pictures
from throughline.results.looks import looks
from throughline.results.metrics import METRICS, Metric
from throughline.results.run import picture
from throughline.runs.record import SEARCH_PICTURES

SHORT = ("val/nll", "tokens_per_second", "cost")
"""The columns that a reader needs first."""
SCRIPT = Path(__file__).parent / "charts.js"


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
            folder / "report.html": rendered(
                "report.html.jinja", script=SCRIPT.read_text(encoding="utf-8"), **values
            ).encode(),
            folder / "report.md": rendered("report.md.jinja", **values).encode(),
            folder / "runs.csv": _csv(tidy(comparison)).encode(),
        }
    )
    return [file for of_chart in files.values() for file in of_chart]


def data_of(comparison: Comparison) -> str:
    """The data of a comparison and their codec, in words."""
    run = comparison.finished[0].finished[0]
    codec = run.settings.get("codec")
    return f"{run.finished.data['source']}{f', by {codec}' if codec else ''}"


def parts(each: Sequence[Comparison]) -> list[str]:
    """The folder of each comparison, below that of the report; a single one has none of its own."""
    if len(each) == 1:
        return ["."]
    names = ["".join(c if c.isalnum() or c in "._-" else "_" for c in Path(data_of(one)).name)[:40] for one in each]
    return [f"{number}-{name}" for number, name in enumerate(names, start=1)]


def write_index(each: Sequence[Comparison], parts: Sequence[str], per_word: str, folder: Path) -> None:
    """Write the page before those of several data sets: an answer and a short table for each.

    Raises:
        OSError: the folder cannot be written.
    """
    sections = [
        {
            "data": data_of(one),
            "headline": headline(one),
            "page": f"{part}/report.html",
            "columns": [column for column in columns(one) if column.key in SHORT],
            "rows": [_row(one, member) for member in one.members],
        }
        for one, part in zip(each, parts, strict=True)
    ]
    html = rendered("index.html.jinja", sections=sections, per_word=per_word)
    atomic.write({folder / "report.html": html.encode()})


def page_values(comparison: Comparison, drawn: list[Chart], files: dict[str, list[Path]]) -> dict[str, Any]:
    """All contents of the page, as plain values."""
    parent = os.path.commonpath([run.folder.parent for run in comparison.runs])
    search = _of_a_search(Path(parent))
    return {
        "comparison": comparison,
        "headline": headline(comparison),
        "columns": columns(comparison),
        "table": [_row(comparison, member) for member in comparison.members],
        "answers": answers(comparison),
        "unsupported": UNSUPPORTED,
        "all_keys": [metric.key for metric in columns(comparison)],
        "seeds_needed": SEEDS_NEEDED,
        "charts": [
            {"chart": chart, "views": chart.views, "files": [file.name for file in files[chart.key]]} for chart in drawn
        ],
        "specs": [
            {
                "key": chart.key,
                "of_members": chart.of_members,
                "view": 0,
                "views": [for_page(view) for view in chart.views],
            }
            for chart in drawn
        ],
        "colours": {label: look.colour for label, look in looks(comparison.finished).items()},
        "question": question(comparison),
        "search": search,
        "next_step": next_step(comparison, bool(search)),
        "short": [metric.key for metric in columns(comparison) if metric.key in SHORT],
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


def _of_a_search(folder: Path) -> list[bytes]:
    """The pictures that a search has left beside its trials."""
    found = []
    for name in SEARCH_PICTURES:
        with suppress(UserError):  # there is none, or it is no picture
            found.append(picture(folder / name))
    return found


def question(comparison: Comparison) -> str:
    """What the page answers."""
    regimes = {member.regime for member in comparison.finished}
    return "Which regime trains best?" if len(regimes) > 1 else "Which settings train best?"


def headline(comparison: Comparison) -> str:
    """The answer in a sentence or two."""
    best, *others = [member for member in comparison.finished if member.regime != ABLATION] or comparison.finished
    budget = f"after {comparison.budget} each" if comparison.budget else "after different budgets"
    show = nll_format(comparison)
    ended = f"{show(best.nll.mean)} nats per {comparison.step} {budget}"
    if not others:
        return f"{best.label} ended with a carried nll of {ended}; there is nothing to compare it with."
    tied = [member.label for member in others if member.nll.low <= best.nll.high]
    if tied:
        return (
            f"No clear winner: {best.label} has the lowest loss, {ended}, but its seeds overlap with those of "
            f"{', '.join(tied)}."
        )
    gap = others[0].nll.mean - best.nll.mean
    of_symbols = best.finished[0].metrics.get("val/ppl") is not None
    share = f", {1 - math.exp(-gap):.1%} in perplexity" if of_symbols else ""
    wins = f"{show(gap)} nats per {comparison.step}{share}: {ended}, and {show(others[0].nll.mean)} of {others[0].label}."
    if min(len(member.finished) for member in (best, others[0])) < 2:
        return f"{best.label} is ahead by {wins} With a single seed this may be chance."
    return f"{best.label} wins by {wins}"


def next_step(comparison: Comparison, of_a_search: bool) -> str:
    """What to run next."""
    best, *others = comparison.finished
    seeds = {run.seed for member in comparison.finished for run in member.finished if isinstance(run.seed, int)}
    overlaps = any(member.nll.low <= best.nll.high for member in others)
    if others and (overlaps or min(len(member.finished) for member in comparison.finished) < SEEDS_NEEDED):
        first = max(seeds, default=0) + 1
        more = ",".join(map(str, range(first, first + SEEDS_NEEDED)))
        if of_a_search:
            return (
                f"To see whether the best is chance, train it with other seeds: -m -cd FOLDER experiment=best seed={more}."
            )
        return f"More seeds tell more: give the same command seed={more}, and compare both folders, runs=[A,B]."
    return f"{best.label} may learn more with a larger budget; train.py printed the command for it at the end of each run."


def columns(comparison: Comparison) -> list[Metric]:
    """The metrics that a member has: frames have no bits per symbol, and symbols no nll without the first frame."""
    return [metric for metric in METRICS if any(member.metric(metric.key) for member in comparison.finished)]


def _row(comparison: Comparison, member: Member) -> dict[str, Any]:
    """A member in the table: a cell per metric, each with the mean, the range over the seeds, and whether it is the best."""
    cells = []
    for metric in columns(comparison):
        spread = member.metric(metric.key)
        if spread is None:
            cells.append({"key": metric.key, "mean": "unknown", "seeds": "", "best": False})
        else:
            show = nll_format(comparison) if metric.key == "val/nll" else metric.show
            seeds = f"{show(spread.low)}–{show(spread.high)}" if len(member.finished) > 1 else ""  # noqa: RUF001
            best = spread.mean == comparison.best(metric)
            cells.append({"key": metric.key, "mean": show(spread.mean), "seeds": seeds, "best": best})
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


def rendered(template: str, **values: Any) -> str:
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
