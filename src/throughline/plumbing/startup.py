"""What happens before the work: large libraries are imported, and kept from saying what asks nothing of the user."""

import gc
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import large libraries inside this block, without garbage collection.

    Their objects live forever, and looking through them again and again takes a fifth of the import time. Afterwards they
    are frozen: a collection in the middle of training would otherwise take a quarter of a second.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not gc.get_freeze_count():  # only once: later the data of a finished run would be kept as well
            gc.freeze()


QUIET_LOGGERS = ("lightning.pytorch", "lightning.fabric")


def quieten() -> None:
    """Silence the messages that libraries print on every run; each has its reason."""
    for name in QUIET_LOGGERS:  # which devices were found, which tips there are
        logging.getLogger(name).setLevel(logging.ERROR)
    # torch 2.13 deprecates a class that lightning 2.6 still calls
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    # a batch is one slice of an array in memory, which no worker makes faster
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
