"""The machine of a run: its devices, its fast precision, its memory, and the state of its process."""

import contextlib
import ctypes
import gc
import logging
import os
import platform
import random
import resource
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from throughline.config import Precision, Trainer
from throughline.evaluation.measure import best_device
from throughline.plumbing.errors import UserError
from throughline.plumbing.startup import QUIET_LOGGERS, quieten
from throughline.training.internals import onednn_multiplies

BFLOAT16_FROM = 1e10
"""The operations of a time step from which on a GPU trains faster in bfloat16 than in TF32; measured on an H200."""

CPUINFO = Path("/proc/cpuinfo")
"""The file in which Linux lists the features of the processor."""


@contextlib.contextmanager
def process_as_before() -> Iterator[None]:
    """Restore everything that training sets in the process, because a notebook continues with other work.

    Only `keep_freed_memory` cannot be undone; it costs no more than memory.
    """
    levels = {name: logging.getLogger(name).level for name in (*QUIET_LOGGERS, "lightning.pytorch.utilities.rank_zero")}
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}  # PyTorch's loader sets SIGCHLD's
    variables = {key: os.environ.get(key) for key in ("PL_GLOBAL_SEED", "PL_SEED_WORKERS")}
    threads, denormals, matmul = torch.get_num_threads(), flushes_denormals(), torch.get_float32_matmul_precision()
    onednn = torch.backends.mkldnn.enabled
    numpy_state, python_state = np.random.get_state(), random.getstate()
    in_main_thread = threading.current_thread() is threading.main_thread()  # Python sets handlers only there
    try:
        # A GPU that nobody has used has no seed to keep, and asking for it would take memory there.
        gpus = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []  # type: ignore[no-untyped-call]
        with torch.random.fork_rng(gpus), warnings.catch_warnings():
            yield
    finally:
        np.random.set_state(numpy_state)
        random.setstate(python_state)
        torch.set_num_threads(threads)
        set_flush_denormal(denormals)
        torch.set_float32_matmul_precision(matmul)
        torch.backends.mkldnn.enabled = onednn
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        for key, value in variables.items():
            os.environ.pop(key, None)
            if value is not None:
                os.environ[key] = value
        for number, handler in handlers.items():
            if in_main_thread and handler is not None and signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def set_flush_denormal(mode: bool) -> None:
    """Treat denormal numbers as zero in all threads of this process, or no longer.

    PyTorch sets it for the calling thread alone. The threads that it has started keep theirs, so they are released here. New
    ones are started when they are needed, and inherit it.
    """
    torch.set_flush_denormal(mode)
    maps = Path("/proc/self/maps")
    loaded = maps.read_text(encoding="utf-8").splitlines() if maps.exists() else []
    for library in {line.split()[-1] for line in loaded if "libgomp" in line}:
        with contextlib.suppress(OSError, AttributeError):  # before OpenMP 5.0 there was no such call
            ctypes.CDLL(library).omp_pause_resource_all(2)  # omp_pause_hard


def flushes_denormals() -> bool:
    """Whether PyTorch treats denormal numbers as zero in this thread."""
    return bool((torch.tensor(1e-39) * 1.0).item() == 0.0)


def prepare_process() -> None:
    """Prepare a process for training: few log messages, kept memory, no denormals."""
    quieten()
    keep_freed_memory()
    if torch.cuda.is_available():
        torch.set_float32_matmul_precision("high")  # TF32, as cuDNN's LSTM has it by default; float32 is 3 to 8 times slower
    set_flush_denormal(True)  # Adam's moments for rare symbols decay to denormals, which are slow


def precision(wanted: Precision | Literal["auto"], accelerator: str, work: float = 0.0) -> Precision:
    """The precision to train in: with "auto" bfloat16 where it is faster, else float32.

    Args:
        work: the operations of a time step of all rows. A GPU that waits for the next one gains nothing by fewer digits.
    """
    if wanted != "auto":
        return wanted
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "bf16-mixed" if work >= BFLOAT16_FROM and torch.cuda.is_bf16_supported() else "32-true"
    return "bf16-mixed" if accelerator in ("auto", "cpu") and _cpu_multiplies_bfloat16() else "32-true"


def _cpu_multiplies_bfloat16() -> bool:
    # Elsewhere PyTorch emulates it, several times slower than float32.
    return CPUINFO.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(CPUINFO.read_text(encoding="utf-8").split())


def use_onednn_where_it_can(precision: str) -> None:
    """Leave an LSTM in bfloat16 to PyTorch's own kernels on processors on which oneDNN fails, those without AVX-512."""
    torch.backends.mkldnn.enabled = precision != "bf16-mixed" or onednn_multiplies(precision)  # type: ignore[assignment]


def on_cpu(settings: Trainer) -> bool:
    """Whether training is on a CPU."""
    return settings.accelerator == "cpu" or (settings.accelerator == "auto" and best_device().type == "cpu")


def refuse_absent_device(settings: Trainer) -> None:
    """Refuse devices that are not there.

    Raises:
        UserError: there is no such accelerator, there are fewer GPUs than asked for, or rows are to be shared on one.
    """
    accelerator = settings.accelerator
    available: dict[str, Callable[[], bool]] = {"gpu": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if accelerator in available and not available[accelerator]():
        raise UserError(
            f"trainer.accelerator={accelerator}: there is none here that torch can use; allowed are auto and cpu"
        )
    shares = settings.row_shares
    if shares not in ("auto", 1) and not on_cpu(settings):
        raise UserError(f"trainer.row_shares={shares}: is for a CPU; leave it out, or give trainer.accelerator=cpu")
    gpus = torch.cuda.device_count()
    if accelerator in ("auto", "gpu") and 0 < gpus < settings.devices:
        raise UserError(f"trainer.devices={settings.devices}: allowed are up to {gpus}, the number of GPUs here")


def keep_freed_memory() -> None:
    """Keep freed blocks in the process: glibc would return them at each step, and to get them back costs up to a third."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # as malloc.h numbers them
    for option, value in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        mallopt(option, value)


def begin_peak_memory() -> None:
    """Forget the peaks of earlier runs in this process, as in a sweep, and release the memory that they left."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # only Linux can reset the peak
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory_bytes(device: torch.device) -> int:
    """The peak memory of the run: on the GPU if it trained on one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text(encoding="utf-8").split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, for the whole life of the process
