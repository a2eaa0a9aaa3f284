"""The memory of windows: cut out as arrays, and as throughline reads them."""

import tracemalloc

import numpy as np

from throughline.batches.batch import Batches
from throughline.data.line import Line
from throughline.regimes.windowed import Windowed

WINDOWS = (16, 32, 64, 128, 256, 512, 1024)
"""The steps of a window."""
MOST = 10**8
"""How many steps a line and a batch may have for a measurement. With more of them it would take gigabytes."""


def bytes_of_windows(num_targets: int, vocab: int, batch_size: int) -> tuple[list[int], dict[str, list[int]]]:
    """The steps of windows that fit the line, and for each the bytes of all windows, by the way to hold them."""
    steps = [T for T in WINDOWS if num_targets > T]
    sizes = {
        "one-hot windows (computed)": [4 * vocab * T * (num_targets + 1 - T) for T in steps],
        "windows of ids (computed)": [8 * T * (num_targets + 1 - T) for T in steps],
    }
    if num_targets + batch_size * WINDOWS[-1] <= MOST:
        line = Line.of([np.zeros(num_targets + 1, np.min_scalar_type(vocab - 1))])
        sizes["throughline (measured)"] = [line.steps.nbytes + bytes_for_windows(line, T, batch_size) for T in steps]
    return steps, sizes


def bytes_for_windows(line: Line, steps: int, batch_size: int) -> int:
    """The peak memory to plan an epoch of all windows of a line and to read one batch of them, without the line itself."""
    tracemalloc.start()
    try:
        Batches(Windowed(steps=steps, batch_size=batch_size).plan(line, seed=0, epoch=0), line)[0]
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
