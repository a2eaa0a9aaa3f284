"""Imports large libraries without looking for garbage among what stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def large_imports() -> Iterator[None]:
    """Import within it: what an import makes stays, and looking through it again and again takes a fifth of its time.

    Nor is it looked through later, when a quarter of a second would be lost in the midst of training.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        if not gc.get_freeze_count():  # only once: later on, what a run has left would be kept, too
            gc.freeze()
