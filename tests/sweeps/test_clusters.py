"""Sweeps and runs on a cluster: a real Slurm of two nodes on this machine, with jobs cancelled and nodes that go down."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers import PROJECT, weights_hash

pytestmark = pytest.mark.slow

TRAIN = str(PROJECT / "src" / "train.py")
SMALL = ["data=text", "data.path=fox.txt", "model.hidden_size=16", "regime=stateful8", "logger=none"]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment in which Slurm's commands work."""
    if os.getuid() != 0 or shutil.which("apt-get") is None:
        pytest.skip("to install and start Slurm, root and apt-get are needed")
    if shutil.which("slurmctld") is None:
        packages = ["apt-get", "install", "-y", "--no-install-recommends", "slurm-wlm", "slurmctld", "slurmd", "munge"]
        if subprocess.run(packages, capture_output=True).returncode:
            pytest.skip("Debian's packages of Slurm cannot be installed here")
    folder = tmp_path_factory.mktemp("slurm")
    for name in ("slurmctld", "slurmd"):
        subprocess.run(["pkill", "-x", name])
    started = subprocess.run(["bash", str(PROJECT / "tests" / "slurm_up.sh"), str(folder)], capture_output=True, text=True)
    assert started.returncode == 0, started.stdout + started.stderr
    yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "MASTER_ADDR": "127.0.0.1", "OMP_NUM_THREADS": "1"}
    for name in ("slurmctld", "slurmd"):
        subprocess.run(["pkill", "-x", name])


def train(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, by: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the command, by a launcher."""
    return subprocess.run([*by, sys.executable, TRAIN, *arguments], cwd=cwd, env=env, capture_output=True, text=True)


def until(true: Callable[[], object], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.2)


def test_a_sweep_survives_cancelled_jobs_requeued_jobs_and_nodes_that_go_down(slurm: dict[str, str], tmp_path: Path) -> None:
    """Nothing is missing or doubled in the end, and every weight is that of an undisturbed sweep."""
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 400)
    sweep = ["-m", "seed=1,2,3,4", *SMALL, "budget.tokens=600000", "trainer.checkpoint_seconds=1", "trainer.threads=1"]
    jobs = ["launcher=slurm", "hydra.launcher.cpus_per_task=1", "hydra.sweep.dir=cluster", "resume=auto"]

    def asked(*command: str) -> str:
        return subprocess.run(command, env=slurm, capture_output=True, text=True, check=True).stdout

    first = subprocess.Popen([sys.executable, TRAIN, *sweep, *jobs], cwd=tmp_path, env=slurm, stdout=subprocess.DEVNULL)
    until(lambda: len(list((tmp_path / "cluster").glob("*/checkpoints/last.ckpt"))) == 4)
    running = sorted(asked("squeue", "-h", "-r", "-t", "R", "-o", "%i").split())
    assert len(running) == 4
    asked("scancel", running[0])
    asked("scontrol", "requeue", running[1])
    asked("scontrol", "update", "nodename=n2", "state=down", "reason=test")
    time.sleep(2)
    # It may have come back by itself, and then this command fails.
    subprocess.run(["scontrol", "update", "nodename=n2", "state=resume"], env=slurm, capture_output=True)
    first.send_signal(signal.SIGKILL)  # the command dies as well; its jobs go on
    first.wait()
    second = train(*sweep, *jobs, cwd=tmp_path, env=slurm)
    assert (second.returncode, second.stderr) == (0, ""), second.stdout
    alone = subprocess.run(
        [sys.executable, TRAIN, *sweep, "hydra.sweep.dir=alone"], cwd=tmp_path, capture_output=True, text=True
    )
    assert alone.returncode == 0, alone.stderr
    names = {path.name for path in (tmp_path / "alone").glob("[0-9]-*")}
    assert names == {path.name for path in (tmp_path / "cluster").glob("[0-9]-*")}
    assert len(names) == 4
    for name in names:
        assert weights_hash(tmp_path / "cluster" / name) == weights_hash(tmp_path / "alone" / name)
        tables = [rows(tmp_path / kind / name) for kind in ("cluster", "alone")]
        assert [row["step"] for row in tables[0]] == [row["step"] for row in tables[1]]
        assert [row["val/nll"] for row in tables[0]] == [row["val/nll"] for row in tables[1]]


def ray_task() -> int:
    """The process of a member that Ray runs; Ray's processes are not those of the command."""
    named = {file.parent.name: file.read_bytes() for file in Path("/proc").glob("[0-9]*/cmdline")}
    return next(int(pid) for pid, name in named.items() if name.startswith(b"ray::_run_job"))


def busiest(parent: int) -> int:
    """The process below this one that has used most of the processor."""
    told = subprocess.run(["ps", "-e", "-o", "pid=,ppid=,cputimes="], capture_output=True, text=True, check=True).stdout
    table = [tuple(map(int, line.split())) for line in told.splitlines()]
    below = {parent}
    for _ in table:
        below |= {pid for pid, of, _ in table if of in below}
    return max((used, pid) for pid, _, used in table if pid in below - {parent})[1]


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


EXACT = [*SMALL, "regime.bptt=16", "trainer.max_epochs=3", "trainer.precision=64-true", "trainer.log_every_n_steps=5"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in one process."""
    folder = tmp_path_factory.mktemp("alone")
    (folder / "fox.txt").write_text("the quick brown fox. " * 200)
    subprocess.run([sys.executable, TRAIN, *EXACT, "hydra.run.dir=run"], cwd=folder, check=True, capture_output=True)
    return folder


def assert_equal(folder: Path, alone: Path) -> None:
    mine, yours = rows(folder), rows(alone / "run")
    assert len(mine) == len(yours) > 20
    for key in ("train/nll", "val/nll", "train/grad_norm"):
        for a, b in zip(mine, yours, strict=True):
            assert bool(a[key]) == bool(b[key])
            assert not a[key] or float(a[key]) == pytest.approx(float(b[key]), abs=1e-12)
    assert json.loads((folder / "summary.json").read_text())["devices"] == 2


def test_torchrun_on_two_machines_trains_as_one_process(alone: Path) -> None:
    run = (
        "-m",
        "torch.distributed.run",
        "--nnodes=2",
        "--nproc-per-node=1",
        "--master-addr=127.0.0.1",
        "--master-port=29517",
    )
    command = (TRAIN, *EXACT, "trainer.num_nodes=2", "hydra.run.dir=two")
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    both = [
        subprocess.Popen([sys.executable, *run, f"--node-rank={rank}", *command], cwd=alone, env=env, text=True, **pipes)
        for rank in range(2)
    ]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert said[1][0] == ""  # one terminal, one folder
    assert said[0][0].count("all files are in two") == 1
    assert_equal(alone / "two", alone)


def test_srun_on_two_nodes_trains_as_one_process(alone: Path, slurm: dict[str, str]) -> None:
    srun = ("srun", "--nodes=2", "--ntasks-per-node=1", "--kill-on-bad-exit=1")
    done = train(*EXACT, "trainer.num_nodes=2", "hydra.run.dir=srun", cwd=alone, env=slurm, by=srun)
    assert done.returncode == 0, done.stderr
    assert_equal(alone / "srun", alone)
    wrong = train(*EXACT, "trainer.devices=4", "hydra.run.dir=wrong", cwd=alone, env=slurm, by=srun)
    assert wrong.returncode != 0
    told = "srun has started 2 processes on 2 machines; give trainer.devices=1 trainer.num_nodes=2"
    assert f"error: trainer.devices=4 trainer.num_nodes=1: {told}\n" in wrong.stderr
    assert not (alone / "wrong").exists()


def test_a_member_of_a_sweep_on_two_nodes(alone: Path, slurm: dict[str, str]) -> None:
    nodes = ["launcher=slurm", "hydra.launcher.nodes=2", "hydra.launcher.cpus_per_task=1", "trainer.num_nodes=2"]
    done = train("-m", *EXACT, *nodes, "hydra.sweep.dir=sweep", cwd=alone, env=slurm)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    (member,) = (alone / "sweep").glob("0-*")
    assert_equal(member, alone)


def test_other_launchers_of_sweeps(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 100)
    for launcher in ("joblib", "submitit_local"):
        where = (f"launcher={launcher}", f"hydra.sweep.dir={launcher}")
        done = train("-m", "seed=1,2,3", *SMALL, "budget.tokens=20000", *where, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        lines = done.stdout.splitlines()
        assert sum(line.endswith("begins") for line in lines) == 3
        assert any(line.startswith("all     3 finished ") for line in lines)
        assert len({weights_hash(folder) for folder in (tmp_path / launcher).glob("[0-9]-*")}) == 3


def test_a_member_whose_time_is_over_is_queued_again_and_goes_on(slurm: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 1000)
    sweep = ["-m", "seed=1", *SMALL, "model.hidden_size=128", "trainer.threads=1", "budget.tokens=600000"]
    limit = ["hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45", "hydra.launcher.cpus_per_task=1"]
    done = train(*sweep, "launcher=slurm", *limit, "hydra.sweep.dir=cluster", cwd=tmp_path, env=slurm)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    jobs = subprocess.run(["scontrol", "show", "job"], env=slurm, capture_output=True, text=True, check=True).stdout
    restarts = [int(part.partition("=")[2]) for part in jobs.split() if part.startswith("Restarts=")]
    assert max(restarts) >= 1
    assert train(*sweep, "hydra.sweep.dir=alone", cwd=tmp_path).returncode == 0
    (cluster,), (alone,) = ([*(tmp_path / kind).glob("0-*")] for kind in ("cluster", "alone"))
    assert weights_hash(cluster) == weights_hash(alone)
    assert [row["step"] for row in rows(cluster)] == [row["step"] for row in rows(alone)]


@pytest.mark.parametrize(
    ("launcher", "said_once"),
    [
        ("joblib", "the launcher has given up"),
        ("ray", "the task will be retried"),
        ("submitit_local", "its process has ended without a word"),
    ],
)
def test_a_killed_member_stops_no_other(launcher: str, said_once: str, tmp_path: Path) -> None:
    """A pool or a task that is lost is begun again; a job that is lost has failed, and the same command tries it again."""
    if launcher == "ray":
        pytest.importorskip("ray", reason="ray is not installed: pip install -e '.[ray]'")
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 100)
    sweep = [
        "-m",
        "seed=1,2,3",
        *SMALL,
        "budget.tokens=300000",
        "trainer.checkpoint_seconds=1",
        "trainer.threads=1",
        "resume=auto",
    ]
    where = [f"launcher={launcher}", "hydra.sweep.dir=sweep"]
    with (tmp_path / "said.txt").open("w") as said:
        first = subprocess.Popen([sys.executable, TRAIN, *sweep, *where], cwd=tmp_path, stdout=said, stderr=said)
        until(lambda: [*(tmp_path / "sweep").glob("[0-9]-*/checkpoints/last.ckpt")])
        os.kill(ray_task() if launcher == "ray" else busiest(first.pid), signal.SIGKILL)
        status = first.wait()
    told = (tmp_path / "said.txt").read_text()
    assert status == (2 if launcher == "submitit_local" else 0), told
    assert told.count(said_once) == 1
    if status:
        assert "1 of 3 members failed" in told
        again = train(*sweep, *where, cwd=tmp_path)
        assert (again.returncode, again.stderr) == (0, ""), again.stdout
    assert train(*sweep, "hydra.sweep.dir=alone", cwd=tmp_path).returncode == 0
    members = [sorted((tmp_path / kind).glob("[0-9]-*")) for kind in ("sweep", "alone")]
    assert [folder.name for folder in members[0]] == [folder.name for folder in members[1]]
    assert len({*map(weights_hash, members[0])}) == 3
    assert [*map(weights_hash, members[0])] == [*map(weights_hash, members[1])]
