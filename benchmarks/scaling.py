"""How speed, memory and learning scale: python -m benchmarks.scaling [--quick]. Writes SCALING.md and its picture.

One setting at a time differs from the defaults. Every point is a whole run of `python src/train.py` in its own process, with
the same seconds of training. All points run in random order, and each repeat has another order, because the machine has fast
and slow minutes. Utilisation is the share of the matrix rate that is measured right before and right after the run.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure as Drawing

from benchmarks.measurements.duel import Worker
from benchmarks.measurements.environment import OURS, commit, environment, machine, versions
from benchmarks.measurements.programs import QUICK, fast_precision, needed, peer, train_command
from benchmarks.measurements.using import highest_mib
from benchmarks.peers.shakespeare import PROJECT, path


@dataclass(frozen=True)
class Axis:
    """One setting that varies.

    Attributes:
        key: its key in the configuration; "corpus" repeats the training text instead.
        values: its values.
        learns: whether the validation loss after equal seconds is meaningful for it.
    """

    name: str
    key: str
    values: tuple[int, ...]
    learns: bool


AXES = (
    Axis("streams", "regime.streams", tuple(2**k for k in range(10)), learns=True),
    Axis("bptt", "regime.bptt", tuple(2**k for k in range(11)), learns=True),
    Axis("hidden size", "model.hidden_size", (64, 128, 256, 512, 1024, 2048), learns=False),
    Axis("corpus size", "corpus", (1, 2, 5, 10, 20), learns=False),
)


@dataclass(frozen=True)
class Point:
    """The measurements of one run; `nll` is the carried validation loss."""

    tokens_per_second: float
    mib: float
    utilisation: float
    nll: float

    @classmethod
    def median(cls, runs: list["Point"]) -> "Point":
        columns = ([getattr(run, name) for run in runs] for name in cls.__dataclass_fields__)
        return cls(*(statistics.median(column) for column in columns))


Curve = dict[int, list[Point]]
"""The repeats of each value of one axis."""


def run(axis: Axis, value: int, seconds: float, matmul: Worker) -> Point:
    """Train once, and measure the machine's matrix rate before and after."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = path().read_text(encoding="utf-8")
        cut = int(len(text) * 0.9)
        (folder / "train.txt").write_text(text[:cut] * (value if axis.key == "corpus" else 1))
        (folder / "val.txt").write_text(text[cut:] if axis.learns else text[cut : cut + 5000])  # only a loss needs all of it
        command = [
            *train_command(name, folder / "train.txt"),
            f"data.val_path={folder}/val.txt",
            f"budget.seconds={seconds}",
            f"trainer.val_check_interval={10**9}",
            *([] if axis.key == "corpus" else [f"{axis.key}={value}"]),
        ]
        rates = [matmul.slice()["tokens_per_second"]]
        with subprocess.Popen(command, env=environment(OURS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            mib = highest_mib(process)
            if process.returncode:
                assert process.stderr is not None
                raise RuntimeError(process.stderr.read().decode().strip().splitlines()[-1])
        rates.append(matmul.slice()["tokens_per_second"])
        summary: dict[str, Any] = json.loads((folder / "run" / "summary.json").read_text())
    flops_per_second = summary["flops"] / summary["seconds"]
    utilisation = 100 * flops_per_second / statistics.mean(rates)
    return Point(summary["tokens_per_second"], mib, utilisation, summary["val/nll"])


def measure(seconds: float, repeats: int) -> dict[str, Curve]:
    curves: dict[str, Curve] = {axis.name: {} for axis in AXES}
    with Worker([*peer(QUICK, "matmul", "--precision", fast_precision()), "--seconds", "0.5"]) as matmul:
        for repeat in range(repeats):
            points = [(axis, value) for axis in AXES for value in axis.values]
            random.Random(repeat).shuffle(points)
            for axis, value in points:
                point = run(axis, value, seconds, matmul)
                curves[axis.name].setdefault(value, []).append(point)
                print(axis.name, value, point, file=sys.stderr, flush=True)
    return {name: dict(sorted(curve.items())) for name, curve in curves.items()}


def enough(curve: Curve, share: float = 0.9) -> int:
    """The smallest value whose tokens per second are at least `share` of the highest."""
    speeds = {value: Point.median(runs).tokens_per_second for value, runs in curve.items()}
    return min(value for value, speed in speeds.items() if speed >= share * max(speeds.values()))


def findings(curves: dict[str, Curve]) -> str:
    """The findings, as sentences with the measured numbers."""
    lines = []
    for name in ("streams", "bptt"):
        medians = {value: Point.median(runs) for value, runs in curves[name].items()}
        least, most = min(medians), max(medians)
        best = min(medians, key=lambda value: medians[value].nll)
        times = medians[most].tokens_per_second / medians[least].tokens_per_second
        lines.append(
            f"- **{name}**: from {least} to {most}, tokens/s go up {times:,.1f} times and memory from "
            f"{medians[least].mib:,.0f} to {medians[most].mib:,.0f} MiB. The smallest value with nine tenths of the "
            f"highest tokens/s is {enough(curves[name])}. The lowest loss after equal seconds is that of {best}: "
            f"{medians[best].nll:.3f}. It is {medians[least].nll:.3f} with {least} and {medians[most].nll:.3f} with {most}."
        )
    hidden = {value: Point.median(runs) for value, runs in curves["hidden size"].items()}
    lines.append(
        "- **hidden size**: training uses this share of the matrix rate: "
        + ", ".join(f"{point.utilisation:.0f} % at {value}" for value, point in hidden.items())
        + "."
    )
    corpus = {value: Point.median(runs) for value, runs in curves["corpus size"].items()}
    least, most = min(corpus), max(corpus)
    more, speed = (
        (corpus[most].mib / corpus[least].mib - 1),
        corpus[most].tokens_per_second / corpus[least].tokens_per_second,
    )
    lines.append(f"- **corpus size**: {most} times the text takes {more:+.1%} memory. It has {speed:.2f} times the speed.")
    streams, bptt = enough(curves["streams"]), enough(curves["bptt"])
    lines.append(
        f"\nFor speed alone, start with about {streams} streams and a bptt of about {bptt}. More of either costs memory. "
        "It also costs updates, because each update then follows more tokens. The loss after equal seconds shows the total "
        "effect. A longer bptt also lets the gradient travel further; more streams never do that. More "
        "streams make each strip shorter, and every epoch starts all strips from zeros."
    )
    return "\n".join(lines)


def table(name: str, curve: Curve, learns: bool) -> str:
    lines = [[name, "tokens/s", "spread", "peak MiB", "utilisation", *(["val nll"] if learns else [])]]
    lines.append(["---"] * len(lines[0]))
    for value, runs in curve.items():
        point, speeds = Point.median(runs), [run.tokens_per_second for run in runs]
        spread = f"{min(speeds):,.0f} to {max(speeds):,.0f} ({len(speeds)})" if len(speeds) > 1 else ""
        cells = [str(value), f"{point.tokens_per_second:,.0f}", spread, f"{point.mib:,.0f}", f"{point.utilisation:.1f} %"]
        lines.append([*cells, *([f"{point.nll:.4f}"] if learns else [])])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def draw(curves: dict[str, Curve], picture: Path) -> None:
    rows: tuple[tuple[str, Callable[[Point], float]], ...] = (
        ("tokens/s", lambda point: point.tokens_per_second),
        ("peak memory (MiB)", lambda point: point.mib),
        ("utilisation (%)", lambda point: point.utilisation),
        ("val nll after equal seconds", lambda point: point.nll),
    )
    drawing = Drawing(figsize=(14, 11), layout="constrained")
    grid = drawing.subplots(len(rows), len(AXES), squeeze=False, sharex="col")
    for axis, column in zip(AXES, grid.T, strict=True):
        for (label, figure), axes in zip(rows, column, strict=True):
            axes.set_xscale("log", base=2)
            axes.grid(alpha=0.3)
            if label == "tokens/s":
                axes.set_yscale("log")
            if label.startswith("val") and not axis.learns:
                axes.set_axis_off()
                continue
            curve = curves[axis.name]
            axes.plot(list(curve), [figure(Point.median(runs)) for runs in curve.values()], "o-", markersize=4)
            for value, runs in curve.items():
                axes.plot([value] * len(runs), [figure(run) for run in runs], "_", color="black")
            axes.set_ylabel(label)
            axes.tick_params(labelbottom=True)
        column[0].set_title(axis.name)
    drawing.savefig(picture, dpi=90)


TEXT = """# Scaling

From `make scaling{quick}`. Every point is a run of `python src/train.py` for {seconds:g} s of training, {repeats} time(s),
with tinyshakespeare and the defaults (LSTM(256), 64 streams, bptt 32, {precision}). Only one setting differs from them.
Machine: {machine}.
{versions}.
throughline at {commit}.

![scaling](SCALING.png)

## How to choose streams and bptt

{findings}

## Tables

{tables}"""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--quick", action="store_true", help="run each point once, for 6 s")
    arguments = options.parse_args()
    if needed():
        sys.exit(f"error: {needed()}")
    seconds, repeats = (6.0, 1) if arguments.quick else (20.0, 2)
    curves = measure(seconds, repeats)
    words = {"findings": findings(curves), "precision": fast_precision()}
    words |= {"machine": machine(), "versions": versions(), "commit": commit()}
    tables = "\n".join(table(axis.name, curves[axis.name], axis.learns) for axis in AXES)
    quick = " QUICK=1" if arguments.quick else ""
    text = TEXT.format(quick=quick, seconds=seconds, repeats=repeats, tables=tables, **words)
    (PROJECT / "benchmarks" / "SCALING.md").write_text(text)
    draw(curves, PROJECT / "benchmarks" / "SCALING.png")


if __name__ == "__main__":
    main()
