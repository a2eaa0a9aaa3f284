"""Launchers of several processes, such as torchrun, mpirun and srun."""

import os

from throughline.plumbing.errors import UserError

RANKS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK")
"""Variables that are not 0 in all but one of several processes; libraries take such a process for a helper of another."""
SIZES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")
"""Variables that count the processes. SLURM_NTASKS is not among them: a batch script has it, too, and runs once."""


def refuse_foreign_launcher() -> None:
    """Refuse to be one of several processes that a launcher has started: each would do the whole work, in the same folder.

    Raises:
        UserError: a launcher started several processes.
    """
    found = [(name, "0") for name in RANKS] + [(name, "1") for name in SIZES]
    for name, alone in found:
        if os.environ.get(name, alone) not in (alone, ""):
            raise UserError(
                f"{name}={os.environ[name]}: a launcher has started several processes; start one, "
                "and give trainer.devices=N to train with N: it starts the others"
            )
