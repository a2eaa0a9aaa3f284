"""The charts draw the results of the runs, recomputed here from metrics.csv and the checkpoints by other means."""

import json
import re
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pytest

from helpers import FOX_AND_DOG, MEMBERS, RESET, figures, nll_of_checkpoint
from throughline.data.line import Line
from throughline.results.charts import aligned, charts
from throughline.results.comparison import read
from throughline.results.looks import COLOURS, REGIMES, looks
from throughline.results.memory import bytes_for_windows


def specs(report: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="specs">(.*?)</script>', (report / "report.html").read_text())
    assert match
    return {chart["key"]: chart for chart in json.loads(match[1])}


def test_the_loss_curves_are_those_of_metrics_csv(report: Path, sweep: Path) -> None:
    views = specs(report)["loss"]["views"]
    for axis, view in zip(("seconds", "tokens", "step"), views, strict=True):
        lines = {line["label"]: line for line in view["series"]}
        for number, label in enumerate(MEMBERS):
            seeds = [[r for r in figures(sweep / str(n)) if "val/nll" in r] for n in (number, number + 5)]
            assert len(seeds[0]) == len(seeds[1]) >= 3
            column = "tokens" if (axis, label) == ("step", "onestep") else axis  # one update per token
            assert lines[label]["x"] == pytest.approx([fmean([a[column], b[column]]) for a, b in zip(*seeds, strict=True)])
            assert lines[label]["y"] == pytest.approx(
                [fmean([a["val/nll"], b["val/nll"]]) for a, b in zip(*seeds, strict=True)]
            )


def test_bars_and_positions_are_those_of_the_checkpoints(report: Path, sweep: Path, table: list[dict[str, str]]) -> None:
    drawn = specs(report)
    for number, label in enumerate(MEMBERS):
        (bar,) = [bar for bar in drawn["throughput"]["views"][0]["series"] if bar["label"] == label]
        rates = [float(row["tokens_per_second"]) for row in table if row["member"] == label and row["state"] == "finished"]
        assert bar["y"] == pytest.approx([fmean(rates)])
        (line,) = [line for line in drawn["by_position"]["views"][0]["series"] if line["label"] == label]
        assert line["x"] == ["1", "2", "3–4", "5–8", "9–16", "carried"]  # noqa: RUF001
        seeds = []
        for n in (number, number + 5):
            pieces = nll_of_checkpoint(sweep / str(n), FOX_AND_DOG.val, RESET)
            bins = [[nll for piece in pieces for nll in piece[a:b]] for a, b in ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16))]
            seeds.append([*map(fmean, bins), fmean(nll_of_checkpoint(sweep / str(n), FOX_AND_DOG.val, 10**9)[0])])
        assert line["y"] == pytest.approx([fmean(list(pair)) for pair in zip(*seeds, strict=True)], rel=1e-5)


def test_gradient_norms_lie_where_metrics_csv_has_them(report: Path, sweep: Path) -> None:
    """With fewer rows than points, each row is one point."""
    (line,) = [line for line in specs(report)["gradient_norm"]["views"][1]["series"] if line["label"] == "segments"]
    seeds = [[row for row in figures(sweep / str(n)) if "train/grad_norm" in row] for n in (2, 7)]
    assert line["x"] == pytest.approx([fmean([a["tokens"], b["tokens"]]) for a, b in zip(*seeds, strict=True)])
    assert line["y"] == pytest.approx(
        [fmean([a["train/grad_norm"], b["train/grad_norm"]]) for a, b in zip(*seeds, strict=True)]
    )


def curve(*points: tuple[float, float]) -> list[dict[str, float]]:
    """A curve of points (step, value). A step takes two seconds and ten tokens."""
    return [{"step": x, "seconds": 2 * x, "tokens": 10 * x, "updates": x, "nll": y} for x, y in points]


@pytest.mark.parametrize(
    ("curves", "places", "values"),
    [
        ([[(1, 4), (3, 2)], [(1, 6), (3, 4)]], [1, 3], [[4, 2], [6, 4]]),
        ([[(1, 4), (3, 2)], [(1, 6), (2, 5), (3, 3)]], [1, 2, 3], [[4, 3, 2], [6, 5, 3]]),
        ([[(0, 8), (4, 4)], [(1, 6), (2, 5), (6, 1)]], [1, 2, 4], [[7, 6, 4], [6, 5, 3]]),
        ([[(1, 4), (1, 3), (3, 1)], [(1, 6), (2, 5), (3, 3)]], [1, 2, 3], [[3, 2, 1], [6, 5, 3]]),
        ([[(1, 4), (3, 2)], [(2, 9)], [], [(2, 6), (3, 4)]], [2, 3], [[3, 2], [6, 4]]),
        ([[(1, 4)], [(1, 6)]], [1], [[4], [6]]),
        ([[(1, 4)], []], [1], [[4]]),
        ([[(1, 4), (2, 3)], [(2, 6), (3, 5)]], [], []),
        ([[(1, 4), (2, 3)], [(3, 6), (4, 5)]], [], []),
        ([[], []], [], []),
    ],
)
def test_seeds_are_put_at_common_places(curves: Any, places: list[float], values: list[list[float]]) -> None:
    drawn = aligned([curve(*points) for points in curves], "nll")
    assert [line["nll"] for line in drawn] == values
    for line in drawn:
        assert [line[axis] for axis in ("updates", "seconds", "tokens")] == [
            [factor * place for place in places] for factor in (1, 2, 10)
        ]


def test_a_seed_that_is_in_no_line_is_named(sweep: Path) -> None:
    comparison = read([sweep / "0", sweep / "5"])
    (member,) = comparison.members
    lonely, other = member.finished
    lonely.curve[:] = [row for row in lonely.curve if "val/nll" not in row] + lonely.validations[-1:]
    loss = charts(comparison)[1]
    assert loss.caption.endswith(
        " Not in the lines, because they have too little in common with the others: 1 of the 2 seeds of stateful2."
    )
    assert [view.series[0].y for view in loss.views] == [[row["val/nll"] for row in other.validations]] * 3


def test_memory_is_computed_for_naive_windows_and_measured_for_ours(report: Path, table: list[dict[str, str]]) -> None:
    naive, ids, ours, whole = specs(report)["memory"]["views"][0]["series"]
    samples, V = len(FOX_AND_DOG.train.steps), FOX_AND_DOG.codec.size  # noqa: N806
    assert naive["x"] == ids["x"] == ours["x"] == [16, 32, 64, 128, 256, 512]
    assert naive["y"] == [4 * V * T * (samples - T) for T in naive["x"]]
    assert ids["y"] == [8 * T * (samples - T) for T in ids["x"]]
    assert all(y < 10 * samples + 64 * 3 * 8 * 16 * T for T, y in zip(ours["x"], ours["y"], strict=True))
    peaks = [float(row["peak_memory_bytes"]) for row in table if row["member"] == "windowed"]
    assert (whole["x"], whole["y"]) == ([8], [pytest.approx(fmean(peaks))])


def test_memory_for_windows_is_what_numpy_takes() -> None:
    line = Line.of([np.zeros(100_001, np.uint8)])
    order = 100_000 * np.dtype(np.uint32).itemsize
    taken = bytes_for_windows(line, steps=10, batch_size=4)
    assert order < taken < 3 * order


def test_a_regime_has_its_colour_in_every_report(sweep: Path) -> None:
    every = looks(read([sweep]).finished)
    some = looks(read([sweep / n for n in ("1", "2", "6", "7")]).finished)
    assert some.keys() == {"stateful8", "segments"}
    assert some["segments"].colour == every["segments"].colour == REGIMES["segments"]
    shades = {every["stateful2"].colour, every["stateful8"].colour}
    assert REGIMES["stateful"] in shades
    assert len(shades) == 2
    alone = looks(read([sweep / n for n in ("0", "1")]).finished)
    assert {look.colour for look in alone.values()} == set(COLOURS[:2])  # one regime: colours tell its members apart
