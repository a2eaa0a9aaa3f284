"""Trains for an hour at full speed and watches memory and open files: `make soak`, or `python tests/soak.py SECONDS`.

After a twelfth of the time, everything that happens repeatedly has happened. From then on, memory must not grow by more than
one hundredth, and the number of open files must not grow by more than one.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from helpers import PROJECT, resident_bytes


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        overrides = (f"budget.seconds={seconds}", "trainer.checkpoint_seconds=30", f"output_root={folder}")
        command = [sys.executable, str(PROJECT / "src" / "train.py"), *overrides]
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        began, samples = time.monotonic(), []
        while run.poll() is None:
            time.sleep(min(10, seconds / 60))
            try:
                files = len(list(Path(f"/proc/{run.pid}/fd").iterdir()))
                samples.append((time.monotonic() - began, resident_bytes(run.pid), files))
            except (FileNotFoundError, IndexError):  # the run has just ended
                break
        if run.wait() != 0:
            raise SystemExit(f"the run ended with status {run.returncode}")
    # The time after training, with an exact evaluation, is not part of the soak.
    samples = [sample for sample in samples if sample[0] < seconds]
    table = Table("minute", "resident MiB", "open files")
    step = max(1, len(samples) // 12)
    for elapsed, memory, files in [*samples[::step], samples[-1]]:
        table.add_row(f"{elapsed / 60:.1f}", f"{memory / 2**20:.1f}", str(files))
    later = [(memory, files) for elapsed, memory, files in samples if elapsed >= seconds / 12]
    medians = [
        sorted(memory for memory, _ in part)[len(part) // 2] for part in (later[: step // 2 + 1], later[-step // 2 - 1 :])
    ]
    growth = medians[1] / medians[0] - 1
    handles = sorted({files for _, files in later})
    Console(width=80).print(table)
    print(f"memory grew by {growth:+.2%} after the first twelfth; open files: {handles}")
    sys.exit(growth > 0.01 or handles[-1] - handles[0] > 1)


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 3600)
