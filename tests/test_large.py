"""Lines larger than memory: an epoch of any regime, and every reading, take no more of it than for a small line.

The files are sparse, so they take no room on the disk.
"""

import json
import os
import subprocess
import sys
import textwrap
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from helpers import PROJECT
from throughline.batches.batch import Batches
from throughline.cautions import alike
from throughline.data.codecs.ids import Ids
from throughline.data.corpus import num_unknown
from throughline.data.line import Line
from throughline.data.shards import Shard, Shards, stamp
from throughline.evaluation.handover import Strips
from throughline.evaluation.measure import ByPosition
from throughline.evaluation.protocol import Evaluation
from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.cache import Cache
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.dynamic import Dynamic
from throughline.evaluation.readings.reset import Reset
from throughline.regimes import Plan, Regime
from throughline.regimes.onestep import Onestep
from throughline.regimes.overlapping import Overlapping
from throughline.regimes.padded import Padded
from throughline.regimes.passed import Passed
from throughline.regimes.random_bptt import RandomBptt
from throughline.regimes.segments import Segments
from throughline.regimes.shuffled_carry import ShuffledCarry
from throughline.regimes.stateful import Stateful
from throughline.regimes.windowed import Windowed
from throughline.settings import targets

REGIMES: list[Regime] = [
    Stateful(),
    Stateful(streams=1, rotate=True),
    Onestep(),
    Windowed(),
    Segments(),
    Padded(),
    ShuffledCarry(),
    RandomBptt(),
    Overlapping(),
    Passed(),
]
READINGS: list[Reading] = [Carried(), Reset(), Dynamic(), Cache()]
MOST = 25 * 2**20
"""More than NumPy's shuffle of 4 million numbers takes, and a thousandth of an array of all positions."""


def zeros(path: Path, size: int) -> Path:
    """A file of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Line:
    """10 GB of ids in two files."""
    folder = tmp_path_factory.mktemp("large")
    files = [zeros(folder / f"{name}.bin", 5 * 10**9) for name in "ab"]
    shards = [Shard(str(file), "<u2", 0, 25 * 10**8, stamp(str(file))) for file in files]
    steps = Shards.of(shards, np.uint16)
    return Line(steps, np.array([len(steps) - 1]))  # type: ignore[arg-type]


def peak(work: Callable[[], object]) -> int:
    """The most memory that was allocated meanwhile, by Python and by NumPy."""
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def read(plan: Plan, line: Line) -> None:
    """Read batches at the beginning, in the middle and at the end."""
    batches = Batches(plan, line)
    for k in (0, 1, len(batches) // 2, len(batches) - 1):
        batch = batches[k]
        assert batch.n_valid > 0
        assert set(batch.targets[batch.scored].tolist()) == {1}  # id 0 is the step 1


def test_every_regime_and_reading_is_here() -> None:
    assert {type(regime) for regime in REGIMES} == set(targets(Regime).values())  # type: ignore[type-abstract]
    assert {type(reading) for reading in READINGS} == set(targets(Reading).values())  # type: ignore[type-abstract]


@pytest.mark.parametrize("regime", REGIMES, ids=lambda regime: regime.label)
def test_an_epoch_of_ten_gigabytes_takes_no_memory(regime: Regime, line: Line) -> None:
    def work() -> None:
        plan = regime.plan(line, 1, 0)
        read(plan, line)
        rows, steps = regime.shape
        own = {Windowed: 64, Onestep: 256, Overlapping: 64 * 32, RandomBptt: 64 * 31.2}
        batches = line.num_targets / own.get(type(regime), rows * steps)
        assert len(plan) == pytest.approx(batches, rel=0.02 if isinstance(regime, RandomBptt) else 1e-6)

    assert peak(work) < MOST


@pytest.mark.parametrize("reading", READINGS, ids=lambda reading: reading.name)
@pytest.mark.parametrize("exact", [False, True])
def test_readings_of_ten_gigabytes_take_no_memory(reading: Reading, exact: bool, line: Line) -> None:
    assert peak(lambda: read(reading.plan(line, Evaluation(), exact), line)) < MOST
    assert peak(lambda: read(reading.plan(line, Evaluation(tokens=100_000), exact), line)) < MOST


def test_nor_does_what_touches_a_whole_line(line: Line) -> None:
    import torch

    def work() -> None:
        assert num_unknown(line, Ids()) == 0
        assert not alike(line.steps, line.steps[:100])
        ByPosition(256, line)
        Strips(lambda *_: None, line, Evaluation(), torch.device("cpu"), lambda *_: None)  # type: ignore[arg-type,return-value]
        whole = Line.end_to_end([line, line])
        assert len(whole.steps) == 10**10
        assert whole.at(np.array([[0, len(line.steps) - 1, len(line.steps), 10**10]])).tolist() == [[1] * 4]

    assert peak(work) < MOST


SETTINGS = {
    "stateful": [],
    "onestep": ["regime=onestep", "model.hidden_size=8"],
    "windowed": ["regime=windowed"],
    "segments": ["regime=segments"],
    "padded": ["regime=padded"],
    "shuffled_carry": ["regime=shuffled_carry"],
    "random_bptt": ["regime=random_bptt"],
    "overlapping": ["regime=overlapping"],
    "passed": ["regime=passed"],
    "dynamic": ["readings=dynamic"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the runs are, with their files; the 10 GB are gone over once."""
    folder = tmp_path_factory.mktemp("runs")
    for name, size in (("val", 2 * 10**5), ("small", 10**7), ("large", 10**10)):
        zeros(folder / f"{name}.bin", size)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_on_ten_gigabytes_takes_200_mb_more_than_one_on_ten_megabytes_at_most(name: str, folder: Path) -> None:
    peaks = []
    for train in ("small.bin", "large.bin"):
        code = f"""
            import re, sys, threading, time
            peak = 0
            def watch():
                global peak
                while True:
                    text = open("/proc/self/status").read()
                    peak = max(peak, int(re.search(r"RssAnon:\\s+(\\d+)", text)[1]))
                    time.sleep(0.005)
            threading.Thread(target=watch, daemon=True).start()
            sys.argv = ["train.py", *{[f"data.path={train}", *SETTINGS[name]]!r}, "data=tokens", "data.val_path=val.bin",
                "data.vocab_size=500", "budget.tokens=5000", "logger=none", "trainer.precision=32-true", "output_root=out"]
            from throughline.commands.train import main
            main()
            print("peak", peak)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(code)],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT / "src")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks.append(int(done.stdout.split()[-1]) * 1024)
    print(json.dumps({name: [peak >> 20 for peak in peaks]}))
    assert peaks[1] - peaks[0] < 200 * 10**6
