"""The two Python environments in which the programs run, and the machine."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from benchmarks.peers.shakespeare import PROJECT

OURS = Path(sys.executable)
PEERS = PROJECT / "benchmarks" / ".venv" / "bin" / "python"


def environment(python: Path) -> dict[str, str]:
    """The variables for a program of either environment. The peers get the same allocator tuning as throughline.

    `PYTHONPATH` contains the project's root, because the programs start as modules from there.
    """
    if python == PEERS:
        tuning = {"MALLOC_MMAP_THRESHOLD_": 2**30, "MALLOC_TRIM_THRESHOLD_": 2**31 - 1, "MALLOC_TOP_PAD_": 2**28}
        return {**os.environ, "PYTHONPATH": str(PROJECT), **{name: str(value) for name, value in tuning.items()}}
    return {**os.environ, "PYTHONPATH": f"{PROJECT / 'src'}{os.pathsep}{PROJECT}", "COLUMNS": "200"}


def machine() -> str:
    """One line that describes the machine."""
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", cpuinfo)
    extensions = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if re.search(rf"\b{flag}\b", cpuinfo)]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = name[1] if name else platform.processor()
    return f"{cpu}, {cores} cores ({', '.join(extensions)}), {memory:.0f} GiB, {platform.system()} {platform.release()}"


def machine_and_torch() -> str:
    """One line that describes the machine and the version of PyTorch."""
    return f"{machine()}, PyTorch {metadata.version('torch')}"


def versions() -> str:
    """The important packages of both environments, in one line."""
    asked = {
        OURS: ("torch", "lightning", "hydra-core"),
        PEERS: ("keras", "tensorflow-cpu", "tensorflow", "jax", "jaxlib", "torch"),
    }
    lines = []
    for python, packages in asked.items():
        if not python.exists():
            continue
        code = (
            "import importlib.metadata as m, platform, sys\n"
            "found = {d.name.lower().replace('_', '-'): d.version for d in m.distributions()}\n"
            "print('Python', platform.python_version(), *(f'{p} {found[p]}' for p in sys.argv[1:] if p in found), sep=', ')"
        )
        said = subprocess.run([str(python), "-c", code, *packages], capture_output=True, text=True, check=True)
        lines.append(said.stdout.strip().replace("Python, ", "Python ", 1))
    return "; peers: ".join(lines)


def commit() -> str:
    """The commit of throughline that is measured; `-dirty` says that code was changed since."""
    said = subprocess.run(["git", "describe", "--always"], cwd=PROJECT, capture_output=True, text=True)
    if said.returncode:
        return "unknown"
    changed = subprocess.run(["git", "diff", "--quiet", "HEAD", "--", "*.py", "conf"], cwd=PROJECT).returncode
    return said.stdout.strip() + "-dirty" * changed
