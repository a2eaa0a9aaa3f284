"""Members of a sweep as jobs of submitit, of which a killed one stops no other: of this machine, or of Slurm."""

import importlib.util
import json
import logging
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus

from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.locking import locked

EVERY = 5.0
"""Seconds from one look at the queue to the next. Slurm asks for patience: a look takes a lock of the whole cluster."""
ENDING = 60.0
"""Seconds for which a job that is ending is waited for. After SIGTERM, Slurm leaves it its KillWait, by default 30."""
GRACE = 30.0
"""Seconds until a job that has left the queue without a result counts as lost: file systems of clusters are slow."""
SOURCES = str(Path(__file__).parents[1])

if TYPE_CHECKING or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import LocalLauncher, SlurmLauncher

    class Local(LocalLauncher):  # type: ignore[misc]  # submitit's launchers have no types
        """As Hydra's launcher, but waits for all jobs, also if one fails or is killed."""

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            members = list(enumerate(job_overrides, initial_job_idx))
            return [_result(job) for job in _submitted(self, "local", members)]

    class Slurm(SlurmLauncher):  # type: ignore[misc]
        """As Hydra's launcher, but jobs that fail, are cancelled or are lost stop no other, and no accounting is needed.

        The jobs are written down in the folder of the sweep. A command that resumes it watches those that are still there,
        instead of submitting their members twice.
        """

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            import submitit

            if shutil.which("sbatch") is None:
                raise UserError(
                    "launcher=slurm: this machine has no sbatch; start it where Slurm is, or give launcher=joblib"
                )
            logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of every look without accounting
            # A job imports what this command has imported, also from a checkout that is not installed.
            os.environ["PYTHONPATH"] = os.pathsep.join([SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            folder = Path(self.config.hydra.sweep.dir) / ".submitit"
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / "jobs.lock", -1):  # commands that share a search submit one after the other
                jobs = Jobs.read(folder / "jobs.json", numbers)
                ids = {number: id for number, id in jobs.alive.items() if number in numbers}
                new = [(number, each) for number, each in zip(numbers, job_overrides, strict=True) if number not in ids]
                if new:
                    name = f"{self.params['name']}-{secrets.token_hex(4)}"
                    jobs.write(submitting=(name, [number for number, _ in new]))
                    submitted = _submitted(self, "slurm", new, name=name)
                    ids |= {number: job.job_id for (number, _), job in zip(new, submitted, strict=True)}
                    jobs.ids |= ids
                    jobs.write()
            return _results(
                {number: submitit.SlurmJob(self.params["submitit_folder"], ids[number], [0]) for number in numbers}
            )

    def _submitted(launcher: Any, cluster: str, members: Sequence[tuple[int, Sequence[str]]], **more: str) -> list[Any]:
        """The job of each member, as soon as it is submitted; `more` are further parameters of the jobs."""
        import submitit

        given = {**launcher.params, **more}
        of_executor = {f"{cluster}_{key}": given.pop(key) for key in ("max_num_timeout",) if key in given}
        executor = submitit.AutoExecutor(cluster=cluster, folder=given.pop("submitit_folder"), **of_executor)
        shared = BaseQueueConf.__dataclass_fields__
        executor.update_parameters(**{key if key in shared else f"{cluster}_{key}": v for key, v in given.items()})
        state = Singleton.get_state()
        calls = [(list(each), "hydra.sweep.dir", number, f"job_id_for_{number}", state) for number, each in members]
        jobs: list[Any] = executor.map_array(launcher, *zip(*calls, strict=True))
        return jobs


def _queued(*states: str) -> dict[str, str]:
    """The jobs of this user that wait, run or are ending, with their names; or those in these states alone."""
    asked = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i %j", *states], capture_output=True, text=True)
    if asked.returncode:
        raise UserError(f"launcher=slurm: squeue says: {' '.join(asked.stderr.split())[:200] or asked.returncode}")
    return dict(line.split(maxsplit=1) for line in asked.stdout.splitlines())


class Jobs:
    """The jobs of a sweep, as they are written down in its folder.

    Attributes:
        file: where.
        ids: the job of each member that was ever submitted.
        alive: those that wait or run. One that is still ending after a minute is among them.
    """

    def __init__(self, file: Path, ids: dict[int, str], queued: dict[str, str]) -> None:
        self.file, self.ids = file, ids
        self.alive = {number: id for number, id in ids.items() if id in queued}

    @classmethod
    def read(cls, file: Path, wanted: range) -> "Jobs":
        """Read the file; what a command was submitting when it died is looked for in the queue, by its name.

        A job that is ending may leave without a result, or be queued again. So it is waited for, if its member is `wanted`.
        """
        values = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        ids = {int(number): str(id) for number, id in values.get("jobs", {}).items()}
        name, numbers = values.get("submitting") or ("", [])
        meant, end = {ids[number] for number in wanted if number in ids}, time.monotonic() + ENDING
        if not set(wanted).isdisjoint(numbers):
            meant.add(name)
        while meant and time.monotonic() < end and not meant.isdisjoint(chain(*_queued("--states=COMPLETING").items())):
            time.sleep(EVERY)
        queued = _queued()
        found = sorted((id for id, job in queued.items() if job == name), key=lambda id: int(id.partition("_")[2] or 0))
        ids |= dict(zip(numbers, found, strict=False)) if len(found) == len(numbers) else {}
        return cls(file, ids, queued)

    def write(self, submitting: tuple[str, list[int]] | None = None) -> None:
        values = {"jobs": self.ids, "submitting": submitting}
        atomic.write({self.file: json.dumps(values).encode()})


def _results(jobs: dict[int, Any]) -> list[JobReturn]:
    """What Hydra knows of each member at its end; of one whose job is gone, an error."""
    results: dict[int, JobReturn] = {}
    missed: dict[int, float] = {}
    while True:
        there = _queued()
        for number, job in jobs.items():
            if number in results:
                continue
            if job.paths.result_pickle.exists():
                results[number] = _result(job)
            elif job.job_id in there:
                missed.pop(number, None)
            elif time.monotonic() - missed.setdefault(number, time.monotonic()) > GRACE:
                results[number] = _failed(f"its Slurm job {job.job_id} is gone without a result; see {job.paths.stderr}")
        if len(results) == len(jobs):
            return [results[number] for number in sorted(jobs)]
        time.sleep(EVERY)


def _result(job: Any) -> JobReturn:
    """What Hydra knows of a member at the end of its job, for which this waits."""
    from submitit.core.utils import UncompletedJobError

    error = job.exception()
    if error is None:
        found: JobReturn = job.result()
        return found
    if isinstance(error, UncompletedJobError):
        return _failed(f"its process has ended without a word; see {job.paths.stderr}")
    parts = str(error).split("-" * 22)  # submitit puts the traceback between two lines
    return _failed((parts[1 if len(parts) > 2 else 0].strip().splitlines() or [""])[-1])


def _failed(why: str) -> JobReturn:
    return JobReturn(_return_value=RuntimeError(why), status=JobStatus.FAILED)
