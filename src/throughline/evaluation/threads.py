"""How many threads PyTorch works in.

GNU OpenMP's threads wait for each other in a loop, some hundred times per step. With other work on the same cores, several
threads are therefore many times slower than one.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

SECONDS, ROUNDS = 0.5, 7
"""How long the choice may take after the first steps, and how many steps it needs at most in each number of threads."""


def fastest_threads(step: Callable[[], object]) -> int:
    """The number of threads, one or all that PyTorch has, in which `step` is faster now; both take turns."""
    most = torch.get_num_threads()
    if most == 1:
        return 1
    seconds: dict[int, list[float]] = {most: [], 1: []}
    try:
        for threads in seconds:  # the first step also allocates
            _timed(step, threads)
        until = time.perf_counter() + SECONDS
        while len(seconds[1]) < ROUNDS and (not seconds[1] or time.perf_counter() < until):
            for threads, times in seconds.items():
                times.append(_timed(step, threads))
    finally:
        torch.set_num_threads(most)
    return min(seconds, key=lambda threads: statistics.median(seconds[threads]))


def waits_are_short() -> bool:
    """Whether threads that wait do so for a short time only.

    Commands shorten it before they import PyTorch (see `throughline.plumbing.startup`); a notebook may have imported it.
    """
    return sys.platform == "linux" and "GOMP_SPINCOUNT" in os.environ


def _timed(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


@contextmanager
def in_threads(threads: int) -> Iterator[None]:
    """Work in so many threads, and then in as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
