"""Launchers of several processes, such as torchrun, mpirun and srun."""

import os
from typing import Literal, NamedTuple

from throughline.plumbing.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""Variables that are not 0 in all but one of several processes; libraries take such a process for a helper of another."""
SIZES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Variables that count the processes. SLURM_NTASKS is not among them: a batch script has it, too, and runs once."""


class Launched(NamedTuple):
    """One of several processes that a launcher has started to train together.

    Attributes:
        by: the launcher.
        rank: the number of the process; the first one has the folder, the terminal and the loggers.
        processes: how many there are, on all nodes.
        nodes: on how many machines.
    """

    by: Literal["torchrun", "srun"]
    rank: int
    processes: int
    nodes: int


def launched() -> Launched | None:
    """What torchrun or srun has started this process for; None if it is alone."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        rank, processes = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        found = Launched("torchrun", rank, processes, processes // int(os.environ["LOCAL_WORLD_SIZE"]))
    elif "SLURM_STEP_NUM_TASKS" in os.environ:
        nodes = int(os.environ.get("SLURM_STEP_NUM_NODES", "1"))
        found = Launched("srun", int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_STEP_NUM_TASKS"]), nodes)
    else:
        return None
    return found if found.processes > 1 else None


def refuse_foreign_launcher(training: bool = False) -> None:
    """Refuse to be one of several processes that a launcher has started: each would do the whole work, in the same folder.

    Args:
        training: whether several processes may train together; torchrun and srun start them so that they find each other.

    Raises:
        UserError: a launcher started several processes.
    """
    if training and launched() is not None:
        return
    found = [(name, "0") for name in RANKS] + [(name, "1") for name in SIZES]
    for name, alone in found:
        if os.environ.get(name, alone) not in (alone, ""):
            raise UserError(
                f"{name}={os.environ[name]}: a launcher has started several processes; start one, "
                "and give trainer.devices=N to train with N: it starts the others"
            )
