"""Threads that share the rows against threads that share each product: python -m benchmarks.measurements.threads.

Also `trainer.threads=auto`, and other load on the machine; then the speed of one thread by the number of its rows: from this
follows what more cores would do.
"""

import os
import subprocess
import sys
from statistics import median

from benchmarks.measurements.programs import needed, training_run

SECONDS, ROUNDS = 6, 3
CORES, ROWS = (2, 4, 8, 16), 64


def tokens_per_second(*settings: str) -> float:
    """The speed of the default with these settings."""
    with training_run(f"budget.seconds={SECONDS}", *settings) as (summary, _):
        return float(summary["tokens_per_second"])


def compared(choices: dict[str, tuple[str, ...]]) -> dict[str, float]:
    """The median speed of each choice; they take turns."""
    speeds: dict[str, list[float]] = {name: [] for name in choices}
    for _ in range(ROUNDS):
        for name, settings in choices.items():
            speeds[name].append(tokens_per_second(*settings))
    return {name: median(found) for name, found in speeds.items()}


def main() -> None:
    if needed():
        sys.exit(needed())
    all_threads = f"trainer.threads={os.cpu_count()}"
    choices = {
        "auto": (),
        "all threads share the rows": (all_threads, "trainer.row_shares=2"),
        "all threads share each product": (all_threads, "trainer.row_shares=1"),
        "one thread": ("trainer.threads=1",),
    }
    quiet: dict[str, float] = {}
    print(f"| machine | {' | '.join(choices)} |\n| --- |{' --- |' * len(choices)}")
    for load in (0, os.cpu_count() or 1):
        busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
        try:
            found = compared(choices)
        finally:
            for process in busy:
                process.kill()
                process.wait()
        name = f"{load} busy processes" if load else "quiet"
        print(f"| {name} | {' | '.join(f'{speed:,.0f}' for speed in found.values())} |", flush=True)
        quiet = quiet or found  # the first
    alone = compared({str(n): ("trainer.threads=1", f"regime.streams={ROWS // n}") for n in CORES})
    # Amdahl: what one and all threads take gives the part of a step that more threads do not shorten.
    one, many, threads = 1 / quiet["one thread"], 1 / quiet["all threads share each product"], os.cpu_count() or 1
    fixed = max(0.0, (threads * many - one) / max(1, threads - 1))
    print("\n| cores | rows of a part | one thread with them | shared rows, at most | shared products, at most |")
    print("| --- | --- | --- | --- | --- |")
    for n in CORES:
        speed = alone[str(n)]
        print(f"| {n} | {ROWS // n} | {speed:,.0f} | {n * speed:,.0f} | {1 / (fixed + (one - fixed) / n):,.0f} |")


if __name__ == "__main__":
    main()
