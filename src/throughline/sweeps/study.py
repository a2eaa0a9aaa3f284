"""A study of Optuna in a file that several processes and machines share, none of which can damage it by its death."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import BaseFileLock, Timeout

from throughline.config import Optuna
from throughline.plumbing.errors import UserError
from throughline.plumbing.locking import locked

FILE = "study.journal"
NAME = "search"


def library() -> Any:
    """Optuna, without its messages.

    Raises:
        UserError: it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UserError("sweep=optuna needs optuna, which is not installed: pip install -e '.[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna


def opened(sweep: Path, settings: Optuna) -> Any:
    """The study in the folder of a search; a new one if there is none.

    Args:
        sweep: the folder.
        settings: those of the search.
    """
    optuna = library()
    from optuna.storages.journal import JournalFileBackend

    file = sweep / FILE
    pruner = optuna.pruners.MedianPruner(n_startup_trials=settings.startup) if settings.prune else optuna.pruners.NopPruner()
    try:
        storage = optuna.storages.JournalStorage(JournalFileBackend(str(file), Lock(file)))  # type: ignore[arg-type]
        return optuna.create_study(
            study_name=NAME, storage=storage, pruner=pruner, direction="minimize", load_if_exists=True
        )
    except (ValueError, KeyError, TypeError) as error:
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
        raise UserError(f"{file}: is no study of this version ({what}); give another folder") from None


class Lock:
    """A lock of a journal that the system releases when its process ends: Optuna's own would stay for half a minute."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self._lock: BaseFileLock | None = None

    def acquire(self) -> bool:
        self._lock = locked(self.journal.with_suffix(".lock"), -1)
        _without_torn_line(self.journal)
        return True

    def release(self) -> None:
        assert self._lock is not None
        self._lock.release()


def _without_torn_line(file: Path) -> None:
    """Cut off a last line that has no end: a process was killed while it wrote it."""
    if not file.exists() or not file.stat().st_size:
        return
    with file.open("rb+") as journal:
        journal.seek(-1, os.SEEK_END)
        if journal.read(1) != b"\n":
            journal.seek(0)
            whole = journal.read()
            journal.truncate(whole.rfind(b"\n") + 1)


@contextmanager
def alone(sweep: Path) -> Iterator[None]:
    """While the body runs, no other process takes a trial."""
    lock = locked(sweep / ".search.lock", -1)
    try:
        yield
    finally:
        lock.release()


def claimed(sweep: Path, number: int) -> BaseFileLock | None:
    """A lock on a trial, which this process holds until it ends; None if another one works on it."""
    folder = sweep / ".trials"
    folder.mkdir(exist_ok=True)
    try:
        own = locked(folder / f"{number}.lock", 0)
    except Timeout:
        return None
    for run in sweep.glob(f"{number}-*"):
        try:
            locked(run / ".lock", 0).release()  # a launcher may train it elsewhere, after its command has died
        except Timeout:
            own.release()
            return None
    return own


class Reports:
    """Tells the study how a trial goes on, at each validation.

    Args:
        sweep: the folder of the search.
        number: the trial.
        settings: those of the search.
    """

    def __init__(self, sweep: Path, number: int, settings: Optuna) -> None:
        optuna = library()
        study = opened(sweep, settings)
        trials = study.get_trials(deepcopy=False)
        self.trial = optuna.trial.Trial(study, trials[number]._trial_id)

    def hopeless(self, check: int, nll: float) -> str:
        """Why the trial should end; empty if it should go on.

        Args:
            check: the number of this validation; that of others at the same share of the budget is the same.
            nll: what it found.
        """
        self.trial.report(nll if math.isfinite(nll) else 1e30, check)
        return f"val nll {nll:.4f} at check {check} is above the median" if self.trial.should_prune() else ""
