"""`trainer.threads=auto` against one thread and all, also under other load: python -m benchmarks.measurements.threads."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

PROJECT = Path(__file__).parents[2]
SECONDS, ROUNDS = 6, 3


def tokens_per_second(threads: str, folder: str) -> float:
    """The speed of the default with so many threads."""
    command = [sys.executable, str(PROJECT / "src" / "train.py"), f"budget.seconds={SECONDS}", f"trainer.threads={threads}"]
    command += ["logger=none", "data.max_bytes=1000000", f"output_root={folder}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"s of training \(([\d,]+) tokens/s\)", said)
    assert found, said
    return float(found[1].replace(",", ""))


def main() -> None:
    """Interleave the choices, quiet and with one busy process per core, and print medians."""
    cores = str(os.cpu_count())
    print("| machine | auto | 1 thread | all threads | auto / best |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        for load in (0, os.cpu_count() or 1):
            busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(load)]
            try:
                speeds: dict[str, list[float]] = {"auto": [], "1": [], cores: []}
                for _ in range(ROUNDS):
                    for threads, found in speeds.items():
                        found.append(tokens_per_second(threads, folder))
            finally:
                for process in busy:
                    process.kill()
                    process.wait()
            auto, one, every = (median(found) for found in speeds.values())
            name = f"{load} busy processes" if load else "quiet"
            print(f"| {name} | {auto:,.0f} | {one:,.0f} | {every:,.0f} | {auto / max(one, every):.2f} |", flush=True)


if __name__ == "__main__":
    main()
