"""Chooses the folder of a run or a sweep: a new one, or that of an earlier one that it resumes."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import yaml_values

LARGEST_FILE = 2**22
"""How many bytes a file with the overrides of a command may have."""


def run_folder(new: str, root: str, resume: str, overrides: Sequence[str]) -> str:
    """The folder of a run: with `auto` and `must` that of the latest unfinished run of the same command, else `new`.

    A run that resumes from a file also gets a new folder, so the run that wrote the file stays unchanged.
    """
    if resume not in ("auto", "must"):
        return new
    begun = (folder for folder in _runs_of(root, overrides) if (folder / "checkpoints").exists())
    return str(next((folder for folder in begun if not (folder / "summary.json").exists()), new))


def finished_folder(root: str, overrides: Sequence[str]) -> Path | None:
    """The folder of the latest finished run of the same command."""
    return next((folder for folder in _runs_of(root, overrides) if (folder / "summary.json").exists()), None)


def _runs_of(root: str, overrides: Sequence[str]) -> Iterator[Path]:
    """The folders of the runs by the same command, the latest first."""
    asked = _apart_from_resume(overrides)
    for file in sorted(Path(root).glob("[0-9]*/*/.hydra/overrides.yaml"), reverse=True):
        if _command(file) == asked:
            yield file.parent.parent


def shown(path: Path) -> str:
    """The path as a user would type it: relative if it is below the current folder."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def sweep_folder(new: str, root: str, resume: str, overrides: Sequence[str]) -> str:
    """The folder of a sweep: with `auto` that of the latest sweep by the same command, whose members resume, else `new`."""
    if resume != "auto":
        return new
    asked = _apart_from_resume(overrides)
    for file in sorted(Path(root).glob("multirun/*/*/multirun.yaml"), reverse=True):
        if _command(file, "hydra", "overrides", "task") == asked:
            return str(file.parent)
    return new


def _command(file: Path, *keys: str) -> list[str] | None:
    """The overrides that started a run or a sweep, found in the file under these keys; None if it is damaged."""
    try:
        saved: Any = yaml_values(file, LARGEST_FILE)
    except UserError:
        return None
    for key in keys:
        saved = saved.get(key) if isinstance(saved, dict) else None
    if not isinstance(saved, list) or not all(isinstance(override, str) for override in saved):
        return None
    return _apart_from_resume(saved)


def _apart_from_resume(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not override.startswith("resume=")]
