"""Rows on other things that a user notices: starting, memory, generation."""

import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.measurements.environment import OURS, environment
from benchmarks.measurements.figures import Figure, Row, once
from benchmarks.measurements.programs import Effort, own_line, train_command
from benchmarks.peers.shakespeare import PROJECT, path


def start(effort: Effort) -> list[Row]:
    """How long a user waits for the help text, for an error message, and for the first training step."""
    script, repeats = str(PROJECT / "src" / "train.py"), 2 if effort.quick else 7

    def wall(*arguments: str, status: int) -> Figure:
        times = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            done = subprocess.run([str(OURS), script, *arguments], env=environment(OURS), capture_output=True)
            times.append(time.perf_counter() - began)
            if done.returncode != status:
                raise RuntimeError(f"exit status {done.returncode} instead of {status}: {done.stderr.decode()[-200:]}")
        return Figure.of([times[1:]])  # the first call reads the files from the disk

    help_, refusal = wall("--help", status=0), wall("model.hidden_size=-5", status=2)
    first = Figure.of([[seconds_to_first_step() for _ in range(repeats)]])
    rows = []
    for what, figure, limit in (
        ("`python src/train.py --help`", help_, 1.0),
        ("`python src/train.py model.hidden_size=-5`, refused", refusal, 1.0),
        ("first training step after start", first, 6.0),
    ):
        rows.append(Row(what, f"{figure.value:.2f} s", "", figure, "s", at_most=limit))
    return rows


def seconds_to_first_step() -> float:
    """From the start of the process to the first row of `metrics.csv`."""
    with tempfile.TemporaryDirectory() as folder:
        metrics = Path(folder) / "run" / "metrics.csv"
        command = [*train_command(folder), "trainer.log_every_n_steps=1", "budget.tokens=2048"]
        began = time.perf_counter()
        with subprocess.Popen(command, env=environment(OURS), stdout=subprocess.DEVNULL) as process:
            while not (metrics.exists() and metrics.read_text().count("\n") > 1):
                if process.poll():
                    raise RuntimeError(f"exit status {process.returncode}")
                time.sleep(0.005)
            seconds = time.perf_counter() - began
            process.terminate()
        return seconds


def memory(effort: Effort) -> list[Row]:
    """Whether memory grows with the corpus, or with the length of windows at equal tokens per batch."""
    repeats = 1 if effort.quick else 3
    budget = f"budget.tokens={100_000 if effort.quick else 200_000}"
    with tempfile.TemporaryDirectory() as folder:
        tenfold = Path(folder) / "tenfold.txt"
        tenfold.write_text(path().read_text() * 10)
        corpus = growth((path(), budget), (tenfold, budget), repeats)
    windowed = ("regime=windowed", "regime.stride=64", "regime.loss=all", budget)
    short = (path(), *windowed, "regime.steps=64", "regime.batch_size=40")
    long = (path(), *windowed, "regime.steps=640", "regime.batch_size=4")
    windows = growth(short, long, repeats)
    note = "The peak resident memory of the process of `src/train.py`, sampled from outside every 10 ms."
    return [
        Row("memory: corpus x 10", f"{corpus[0]:.0f} -> {corpus[1]:.0f} MiB", "", corpus[2], "%", at_most=5.0, note=note),
        Row(
            "memory: windows x 10",
            f"{windows[0]:.0f} -> {windows[1]:.0f} MiB",
            "",
            windows[2],
            "%",
            at_most=5.0,
            note="`regime=windowed`, 40 windows of 64 steps compared with 4 of 640: the same number of tokens per batch.",
        ),
    ]


def growth(small: tuple[Any, ...], large: tuple[Any, ...], repeats: int) -> tuple[float, float, Figure]:
    """The MiB of both, and the percentage by which the second is larger."""
    pairs = [[peak_mib(text, *overrides) for text, *overrides in (small, large)] for _ in range(repeats)]
    percent = Figure.of([[(after / before - 1) * 100 for before, after in pairs]])
    return statistics.median(p[0] for p in pairs), statistics.median(p[1] for p in pairs), percent


def peak_mib(text: Path, *overrides: str) -> float:
    """The peak memory of a training run, including the reading of the corpus."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*train_command(folder, text), *overrides]
        with subprocess.Popen(command, env=environment(OURS), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            peak = highest_mib(process)
            if process.returncode:
                assert process.stderr is not None
                raise RuntimeError(process.stderr.read().decode().strip().splitlines()[-1])
        return peak


def highest_mib(process: subprocess.Popen[Any]) -> float:
    """Watch a process to its end. Its last high-water mark is not enough, because a run may reset it."""
    status, highest = Path(f"/proc/{process.pid}/status"), 0.0
    while process.poll() is None:
        try:
            found = status.read_text(encoding="utf-8").split("VmHWM:")
        except OSError:
            break
        if len(found) > 1:
            highest = max(highest, int(found[1].split()[0]) / 1024)
        time.sleep(0.01)
    process.wait()
    return highest


def generation(effort: Effort) -> list[Row]:
    """Characters per second, sampling included."""
    repeats = 2 if effort.quick else 7
    rates = own_line([str(OURS), "-m", "benchmarks.measurements.generation", "--repeats", str(repeats)])
    return [
        Row(
            f"generation: {what}",
            f"{rates[key]:,.0f} characters/s",
            figure=once(rates[key]),
            unit="/s",
            at_least=target,
            note=f"`benchmarks/measurements/generation.py`: LSTM(256), the median of {repeats} repeats.",
        )
        for what, key, target in (("one sequence", "one_sequence", 15_000), ("64 at once", "64_at_once", 200_000))
    ]
