"""The folder of a run or a sweep: a new one, or that of an earlier one that it resumes; and its lock."""

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import Timeout

from throughline.plumbing.errors import UserError
from throughline.plumbing.locking import locked
from throughline.plumbing.reading import yaml_values
from throughline.runs.record import Record

Limits = Mapping[str, float | None]

LIMITS = ("budget.tokens=", "budget.seconds=", "trainer.max_epochs=")
"""The overrides in which a run may differ from the one that it continues, besides `resume=`."""
OF_A_RUN = (".hydra", "checkpoints", "metrics.csv", "summary.json")
"""What lies in the folder of a run; a new run does not begin where one of these is."""
LARGEST_FILE = 2**22
"""How many bytes a file with the overrides of a command may have."""


def run_folder(new: str, root: str, resume: str, overrides: Sequence[str], limits: Limits) -> str:
    """The folder of a run.

    With `auto` and `must`, that of the latest run of the same command that is unfinished, or that ended at smaller limits.
    With the folder of a run, that folder. Else `new`, also for a run that resumes from a file: the run that wrote it stays.

    Raises:
        UserError: `resume` is a folder without a run.
    """
    if Path(resume).is_dir():
        if (Path(resume) / "multirun.yaml").exists():
            raise UserError(f"resume={resume}: the folder of a sweep; its command needs -m")
        if not _begun(Path(resume)):
            raise UserError(f"resume={resume}: no run with a checkpoint is there; give the folder of a run, or a .ckpt file")
        return resume
    if resume in ("auto", "must"):
        for folder in _runs_of(root, overrides):
            if _begun(folder) and _goes_on(folder, limits):
                return str(folder)
    return new


def finished_folder(root: str, overrides: Sequence[str], limits: Limits) -> Path | None:
    """The folder of the latest finished run of the same command with these limits."""
    return next((folder for folder in _runs_of(root, overrides) if _limits(folder) == limits), None)


def sweep_folder(new: str, root: str, resume: object, overrides: Sequence[str]) -> str:
    """The folder of a sweep: with `auto` and `must` that of the latest one of the same command, or the given one, or `new`.

    Raises:
        UserError: there must be one, and there is none.
    """
    resume = str(resume)  # a command line may give a number
    if Path(resume).is_dir():
        return resume
    if resume not in ("none", "auto", "must") and not Path(resume).exists():
        raise UserError(f"resume={resume}: no such file or directory; give the folder of a sweep, auto, or must")
    if resume in ("auto", "must"):
        for file in sorted(Path(root).glob("multirun/*/*/multirun.yaml"), reverse=True):
            if _command(file, "hydra", "overrides", "task") == _apart(overrides) and _has_members(file.parent):
                return str(file.parent)
    if resume == "must":
        raise UserError(
            f"resume=must: no sweep of this command is in {Path(root) / 'multirun'}; resume=auto would begin one"
        )
    return new


def _has_members(sweep: Path) -> bool:
    """Whether members have folders, jobs or trials, though none may have a checkpoint yet."""
    return (sweep / "study.journal").exists() or any(path.is_dir() for path in sweep.iterdir())


def refuse_other_sweep(sweep: Path, overrides: Sequence[str]) -> None:
    """Refuse to continue a sweep by another command: a member would be taken for the one of its number.

    Raises:
        UserError: the folder holds another sweep.
    """
    file = sweep / "multirun.yaml"
    if file.exists() and _command(file, "hydra", "overrides", "task") not in (None, _apart(overrides)):
        raise UserError(f"{shown(sweep)}: holds the sweep of another command; give that command, or another folder")


def _begun(folder: Path) -> bool:
    return any((folder / "checkpoints" / name).exists() for name in ("last.ckpt", "previous.ckpt"))


def _limits(folder: Path) -> Limits | None:
    """The limits of the finished run in `folder`; None if there is none."""
    try:
        return Record.read(folder).limits
    except (UserError, OSError):
        return None


def _goes_on(folder: Path, limits: Limits) -> bool:
    """Whether the run in `folder` is unfinished, or has ended at limits of the same kind that were smaller."""
    before = _limits(folder)
    if before is None:
        return True
    pairs = [(before.get(key), limit) for key, limit in limits.items()]
    alike = all((a is None) == (b is None) for a, b in pairs)
    return alike and before != limits and all(a <= b for a, b in pairs if a is not None and b is not None)


def _runs_of(root: str, overrides: Sequence[str]) -> Iterator[Path]:
    """The folders of the runs by the same command, the latest first."""
    asked = _apart(overrides)
    for file in sorted(Path(root).glob("[0-9]*/*/.hydra/overrides.yaml"), reverse=True):
        if _command(file) == asked:
            yield file.parent.parent


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
    return _apart(saved)


def _apart(overrides: Any) -> list[str]:
    """The overrides apart from `resume=` and the limits; those that a sweep changes stay."""
    return [o for o in overrides if not o.startswith("resume=") and not (o.startswith(LIMITS) and "," not in o)]


def refuse_other_run(folder: Path, overrides: Sequence[str] | None, resumes: bool) -> None:
    """Refuse to begin a run in the folder of another one.

    Args:
        folder: the folder.
        overrides: those of the command; None for a run without a command.
        resumes: whether the run may begin anew where an earlier life of it has left no checkpoint.

    Raises:
        UserError: another run is there.
    """
    there = [name for name in OF_A_RUN if (folder / name).exists()]
    mine = overrides is None or _command(folder / ".hydra" / "overrides.yaml") in (None, _apart(overrides))
    if there and not (resumes and mine):
        raise UserError(
            f"{folder}: already holds a run ({there[0]}); resume=auto continues it, a new run needs another folder"
        )


@contextlib.contextmanager
def held(folder: Path, what: str = "trains") -> Iterator[None]:
    """Hold a folder alone; the system releases it when the process ends in any way. If it stays empty, it is removed.

    Raises:
        UserError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with locked(folder / ".lock", 0):
            try:
                yield
            finally:
                if [path.name for path in folder.glob("*")] == [".lock"]:
                    (folder / ".lock").unlink()
    except Timeout:
        raise UserError(f"{folder}: another process {what} here; resume=none starts a new run") from None
    finally:
        remove_empty(folder)


def remove_empty(folder: Path) -> None:
    """Remove a folder without content, then its date's folder if that is empty, too: a refused start leaves nothing."""
    with contextlib.suppress(OSError):
        folder.rmdir()
        for parent in folder.parents:
            if not re.fullmatch(r"\d{4}-\d\d-\d\d|multirun", parent.name):
                break
            parent.rmdir()


def shown(path: Path) -> str:
    """The path as a user would type it: relative if it is below the current folder."""
    path = path.absolute()
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
