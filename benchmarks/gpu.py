"""What a GPU does with streams, hidden size and precision: python -m benchmarks.gpu. Writes GPU.md.

The first table has whole runs of `python src/train.py`, among them the one of the question: one row, one step per batch. The
others have training steps alone: forward, backward, clipping and AdamW, without Lightning, logging and reading of data.
"""

import csv
import json
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from benchmarks.measurements.environment import OURS, commit, environment, machine
from benchmarks.peers.shakespeare import PROJECT, path
from throughline.batches.batch import Batch
from throughline.model.generator import Generator
from throughline.model.settings import LSTM
from throughline.training.recorded import RecordedStep

RUNS = (
    ("the question: one row, one step", ("regime.streams=1", "regime.bptt=1", "trainer.log_every_n_steps=200")),
    ("one stream", ("regime.streams=1", "regime.bptt=64")),
    ("the defaults", ("regime.streams=64", "regime.bptt=32")),
    ("64 streams", ("regime.streams=64", "regime.bptt=64")),
    ("512 streams", ("regime.streams=512", "regime.bptt=64")),
    ("512 streams, H = 1024", ("regime.streams=512", "regime.bptt=64", "model.hidden_size=1024", "optimizer.lr=0.003")),
)
SECONDS = 6.0
"""What each run trains, and about a second less than it takes NVIDIA's driver to see it all."""
STREAMS, HIDDEN, BPTT = (1, 16, 64, 256, 512, 1024, 4096), (256, 512, 1024, 2048), 64
LARGEST = 2048 * 1024
"""Streams times hidden size of the largest step."""
VOCAB = 66
PRECISIONS = {"float32": None, "TF32": None, "bfloat16": torch.bfloat16}


def run(chosen: tuple[str, ...]) -> list[str]:
    """Train once; returns the cells of its row."""
    with tempfile.TemporaryDirectory() as name:
        command = [str(OURS), str(PROJECT / "src" / "train.py"), "data=shakespeare", f"data.path={path()}", "logger=none"]
        command += ["trainer.accelerator=gpu", f"budget.seconds={SECONDS}", f"hydra.run.dir={name}", *chosen]
        done = subprocess.run(command, env=environment(OURS), capture_output=True, text=True)
        if done.returncode:
            raise RuntimeError((done.stderr.strip() or done.stdout.strip()).splitlines()[-1])
        record: dict[str, Any] = json.loads(Path(name, "summary.json").read_text(encoding="utf-8"))
        with Path(name, "metrics.csv").open(newline="", encoding="utf-8") as file:
            driver = [float(row["device/driver_utilisation"]) for row in csv.DictReader(file) if row["train/nll"]]
    busy, used = statistics.mean(driver[len(driver) // 4 :]), record["device/utilisation"]
    return [
        f"{record['tokens_per_second']:,.0f}",
        f"{record['updates'] / record['seconds']:,.0f}",
        f"{busy:.0%}",
        f"{used:.2%}",
        record["precision"],
        f"{record['val/nll']:.3f}",
    ]


def seconds_of(step: Callable[[], object], least: float = 0.25) -> float:
    """The mean seconds of a step, measured over `least` seconds after three steps."""
    for _ in range(3):
        step()
    torch.cuda.synchronize()
    done, began = 0, time.perf_counter()
    while time.perf_counter() - began < least:
        step()
        step()
        torch.cuda.synchronize()
        done += 2
    return (time.perf_counter() - began) / done


def training_step(
    hidden: int, rows: int, steps: int, precision: str, restarts: bool = False, recorded: bool = True
) -> Callable[[], None]:
    """A step of training on random ids, with the state carried; recorded as a CUDA graph, or launched kernel by kernel."""
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    torch.set_float32_matmul_precision("highest" if precision == "float32" else "high")
    kind = PRECISIONS[precision]
    generator = Generator(LSTM(hidden_size=hidden), VOCAB).cuda().train()
    parameters = list(generator.parameters())
    optimizer = torch.optim.AdamW(parameters, 1e-3, fused=True)
    ids = torch.randint(1, VOCAB, (rows, steps + 1), device="cuda")
    restart = torch.rand(rows, steps, device="cuda") < 0.01 if restarts else None
    state: tuple[torch.Tensor, ...] | None = None
    reset, scored = torch.zeros(rows, dtype=torch.bool, device="cuda"), torch.ones_like(ids[:, 1:], dtype=torch.bool)
    batch = Batch(ids[:, :-1].clone(), ids[:, 1:].clone(), scored, reset, rows * steps, restart)
    with torch.autocast("cuda", kind, enabled=kind is not None, cache_enabled=False):
        recording = RecordedStep(generator, batch) if recorded else None

    def step() -> None:
        nonlocal state
        if recording is None:
            with torch.autocast("cuda", kind, enabled=kind is not None):
                nll, after = generator.nll(batch.inputs, batch.targets, state, restart)
            state = tuple(s.detach() for s in after)
            nll.mean().backward()  # type: ignore[no-untyped-call]
        else:
            _, state, _ = recording.replay(batch, state, batch.n_valid)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def shapes() -> Iterator[tuple[int, int]]:
    for hidden in HIDDEN:
        yield from ((hidden, rows) for rows in STREAMS if hidden * rows <= LARGEST)


def speeds() -> str:
    """Tokens per second by size and streams, in every precision; in the fastest also with restarts and not recorded."""
    lines = [["H", "streams", *PRECISIONS, "with restarts", "not recorded", "of these"], ["---"] * (5 + len(PRECISIONS))]
    for hidden, rows in shapes():
        by = {name: seconds_of(training_step(hidden, rows, BPTT, name)) for name in PRECISIONS}
        fastest = min(by, key=by.__getitem__)
        by["with restarts"] = seconds_of(training_step(hidden, rows, BPTT, fastest, restarts=True))
        by["not recorded"] = seconds_of(training_step(hidden, rows, BPTT, fastest, recorded=False))
        cells = [f"{rows * BPTT / seconds:,.0f}" for seconds in by.values()]
        lines.append([str(hidden), str(rows), *cells, fastest])
        print(*lines[-1], file=sys.stderr, flush=True)
    return table(lines)


def by_bptt() -> str:
    """Milliseconds of a step by bptt: what an update costs, and what a time step adds."""
    lines = [["bptt", "recorded", "not recorded", "tokens/s"], ["---"] * 4]
    for steps in (1, 4, 16, 64, 256):
        seconds, not_recorded = (seconds_of(training_step(256, 64, steps, "TF32", recorded=r)) for r in (True, False))
        lines.append([str(steps), f"{1000 * seconds:.2f}", f"{1000 * not_recorded:.2f}", f"{64 * steps / seconds:,.0f}"])
        print(*lines[-1], file=sys.stderr, flush=True)
    return table(lines)


def table(lines: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


TEXT = """# One GPU

From `python -m benchmarks.gpu`, on {gpu}, torch {torch}, cuDNN {cudnn}. Host: {machine}. throughline at {commit}.

## The question

Runs of `python src/train.py` on tinyshakespeare, LSTM(256) unless another size is named, {seconds:g} s of training each.
"busy" is what `nvidia-smi` shows: the share of time in which any kernel ran, however little of the GPU it filled. "used" is
the share of the rate of large matrix products in the same precision, measured beside the run.

{runs}
## Tokens per second by streams, hidden size and precision

Training steps alone, bptt {bptt}, vocabulary {vocab}, one layer. "float32" has no TF32. "bfloat16" is autocast with the
LSTM itself in bfloat16. "with restarts" has rows that start from zeros inside a batch (one step in 100), in the precision
that was fastest without. "not recorded" launches the kernels one by one, in that same precision ("of these"), as code
without CUDA graphs does.

{speeds}
## Milliseconds by bptt

LSTM(256), 64 streams, TF32.

{by_bptt}"""


def main() -> None:
    if not torch.cuda.is_available() or not path().exists():
        sys.exit(
            "error: this needs a GPU that PyTorch can use, and tinyshakespeare in the folder that THROUGHLINE_DATA names"
        )
    warnings.filterwarnings("ignore", message=".*not part of single contiguous chunk of memory.*")
    runs = [["", "tokens/s", "updates/s", "busy", "used", "precision", "val nll"], ["---"] * 7]
    for name, chosen in RUNS:
        runs.append([name, *run(chosen)])
        print(*runs[-1], file=sys.stderr, flush=True)
    words = {"gpu": torch.cuda.get_device_name(), "torch": torch.__version__, "cudnn": torch.backends.cudnn.version()}  # type: ignore[no-untyped-call]
    words |= {"machine": machine(), "commit": commit(), "seconds": SECONDS, "bptt": BPTT, "vocab": VOCAB}
    text = TEXT.format(runs=table(runs), by_bptt=by_bptt(), speeds=speeds(), **words)
    (PROJECT / "benchmarks" / "GPU.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
