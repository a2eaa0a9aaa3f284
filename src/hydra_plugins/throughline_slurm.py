"""Members of a sweep as Slurm jobs that outlive the command that submitted them."""

import importlib.util
import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, JobStatus

EVERY = 5.0
"""Seconds from one look at the queue to the next. Slurm asks for patience: a look takes a lock of the whole cluster."""
GRACE = 30.0
"""Seconds until a job that has left the queue without a result counts as lost: file systems of clusters are slow."""
SOURCES = str(Path(__file__).parents[1])

if TYPE_CHECKING or importlib.util.find_spec("hydra_plugins.hydra_submitit_launcher"):
    from hydra_plugins.hydra_submitit_launcher.config import BaseQueueConf
    from hydra_plugins.hydra_submitit_launcher.submitit_launcher import SlurmLauncher

    class Slurm(SlurmLauncher):  # type: ignore[misc]  # submitit's launcher has no types
        """As Hydra's launcher, but jobs that fail, are cancelled or are lost stop no other, and no accounting is needed.

        The jobs are written down in the folder of the sweep. A command that resumes it watches those that are still there,
        instead of submitting their members twice.
        """

        def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
            import submitit

            from throughline.plumbing.errors import UserError

            if shutil.which("sbatch") is None:
                raise UserError(
                    "launcher=slurm: this machine has no sbatch; start it where Slurm is, or give launcher=joblib"
                )
            logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns of every look without accounting
            # A job imports what this command has imported, also from a checkout that is not installed.
            os.environ["PYTHONPATH"] = os.pathsep.join([SOURCES, *filter(None, [os.environ.get("PYTHONPATH")])])
            numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
            file = Path(self.config.hydra.sweep.dir) / ".submitit" / "jobs.json"
            file.parent.mkdir(parents=True, exist_ok=True)
            written = {int(n): id for n, id in json.loads(file.read_text()).items()} if file.exists() else {}
            there = _queued()
            ids = {number: id for number, id in written.items() if number in numbers and id in there}
            new = [(number, each) for number, each in zip(numbers, job_overrides, strict=True) if number not in ids]
            if new:
                states = [(list(each), "hydra.sweep.dir", n, f"job_id_for_{n}", Singleton.get_state()) for n, each in new]
                jobs = self._executor().map_array(self, *zip(*states, strict=True))
                ids |= {number: job.job_id for (number, _), job in zip(new, jobs, strict=True)}
                file.write_text(json.dumps(written | ids))
            folder = self.params["submitit_folder"]
            return _results({number: submitit.SlurmJob(folder, ids[number], [0]) for number in numbers})

        def _executor(self) -> Any:
            import submitit

            folder, times = self.params["submitit_folder"], self.params["max_num_timeout"]
            executor = submitit.AutoExecutor(cluster="slurm", folder=folder, slurm_max_num_timeout=times)
            given = {key: value for key, value in self.params.items() if key not in ("submitit_folder", "max_num_timeout")}
            shared = BaseQueueConf.__dataclass_fields__
            executor.update_parameters(**{key if key in shared else f"slurm_{key}": v for key, v in given.items()})
            return executor


def _queued() -> set[str]:
    """The jobs of this user that wait or run."""
    asked = subprocess.run(["squeue", "--me", "-h", "-r", "-o", "%i"], capture_output=True, text=True, check=True)
    return set(asked.stdout.split())


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
    error = job.exception()
    if error is None:
        found: JobReturn = job.result()
        return found
    parts = str(error).split("-" * 22)  # submitit puts the traceback between two lines
    return _failed((parts[1 if len(parts) > 2 else 0].strip().splitlines() or [""])[-1])


def _failed(why: str) -> JobReturn:
    return JobReturn(_return_value=RuntimeError(why), status=JobStatus.FAILED)
