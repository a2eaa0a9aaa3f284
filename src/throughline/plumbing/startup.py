"""Start-up: imports large libraries, and silences messages that need no action by the user."""

import gc
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries inside this block, without garbage collection.

    Their objects live forever, and repeated garbage collection takes a fifth of the import time. Afterwards the objects are
    frozen. Without this, a collection in the middle of training would take a quarter of a second.

    After each operation, GNU OpenMP's threads wait for the next one in a loop, by default for milliseconds, and keep others
    from their cores. With a shorter loop nothing was slower. The variable is read once, when PyTorch is imported.
    """
    if "torch" not in sys.modules:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not gc.get_freeze_count():  # only once: a later freeze would also keep the data of a finished run
            gc.freeze()


QUIET_LOGGERS = ("lightning.pytorch", "lightning.fabric")


def quieten() -> None:
    """Silence messages that libraries print on every run; a comment gives the reason for each."""
    for name in QUIET_LOGGERS:  # they list the devices found, and give tips
        logging.getLogger(name).setLevel(logging.ERROR)
    # torch 2.13 deprecates a class that lightning 2.6 still calls
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # a run beside Slurm's commands is not one of its tasks
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    # on a GPU, restarts and bfloat16 need weights that are copied for each batch; a run with restarts took 10 % longer
    warnings.filterwarnings("ignore", message=".*not part of single contiguous chunk of memory.*")
    # a batch is one read from an array in memory; workers do not make that faster
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
