"""What a run finds and sets on the machine: devices, the precision that is fast, memory."""

import contextlib
import ctypes
import gc
import platform
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch

from throughline.config import Precision, Trainer
from throughline.plumbing.errors import UserError
from throughline.plumbing.startup import quieten

CPUINFO = Path("/proc/cpuinfo")
"""Where Linux lists what the processor can do."""


def prepare_process() -> None:
    """Set what a training process needs."""
    quieten()
    keep_freed_memory()
    torch.set_flush_denormal(True)  # Adam's moments for rare symbols decay to denormals, which are slow


def precision(wanted: Precision | Literal["auto"], accelerator: str) -> Precision:
    """The precision to train in: with "auto" bfloat16 on a CPU that multiplies it faster, else float32."""
    if wanted != "auto":
        return wanted
    if accelerator in ("auto", "gpu") and torch.cuda.is_available():
        return "32-true"  # cuDNN's LSTM has run in float16 under bfloat16 autocast, which would need a gradient scaler
    return "bf16-mixed" if accelerator in ("auto", "cpu") and _cpu_multiplies_bfloat16() else "32-true"


def _cpu_multiplies_bfloat16() -> bool:
    # Elsewhere PyTorch emulates it, several times slower than float32.
    return CPUINFO.exists() and not {"avx512_bf16", "amx_bf16"}.isdisjoint(CPUINFO.read_text().split())


def refuse_absent_device(settings: Trainer) -> None:
    """Refuse devices that are not there.

    Raises:
        UserError: there is no such accelerator, or there are fewer GPUs than asked for.
    """
    accelerator = settings.accelerator
    available: dict[str, Callable[[], bool]] = {"gpu": torch.cuda.is_available, "mps": torch.backends.mps.is_available}
    if accelerator in available and not available[accelerator]():
        raise UserError(
            f"trainer.accelerator={accelerator}: there is none here that torch can use; allowed are auto and cpu"
        )
    gpus = torch.cuda.device_count()
    if accelerator in ("auto", "gpu") and 0 < gpus < settings.devices:
        raise UserError(f"trainer.devices={settings.devices}: allowed are up to {gpus}, the GPUs that are here")


def keep_freed_memory() -> None:
    """Keep freed blocks in the process: glibc hands them back each step, and faulting them in again costs up to a third."""
    if platform.libc_ver()[0] != "glibc":
        return
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # as malloc.h numbers them
    for option, value in ((mmap_threshold, 2**30), (trim_threshold, 2**31 - 1), (top_pad, 2**28)):
        mallopt(option, value)


def begin_peak_memory() -> None:
    """Forget the peaks of earlier runs in this process, as in a sweep, and release what they left."""
    gc.collect()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with contextlib.suppress(OSError):  # only Linux can forget
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory_bytes(device: torch.device) -> int:
    """The most memory that the run held: on the GPU where it trained on one, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    if status.exists():
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # in bytes on macOS, since the process began
