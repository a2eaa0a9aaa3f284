"""A life: work in another process, which may be ended at any moment; it notes its phase."""

import contextlib
import mmap
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from throughline.commands import start
from throughline.config import Config
from throughline.runs import checkpoint
from throughline.training import run as training
from throughline.training.commit import Commit
from throughline.training.saving import Checkpoints
from throughline.training.spending import Spending

PHASES = ("starting", "training", "validating", "saving", "ending", "concluding")
phase = mmap.mmap(-1, 1)
"""The phase of the life in progress, as an index of `PHASES`; shared with it."""


def watch_phases() -> None:
    """Make the training code note its phase."""
    for owner, name, index, only_within in (
        (Config, "read", 0, False),
        (Spending, "on_train_start", 1, False),
        (Commit, "on_train_batch_end", 1, False),
        (Spending, "on_validation_start", 2, False),
        (checkpoint, "write", 3, True),
        (Checkpoints, "on_train_end", 4, False),
        (training, "conclude", 5, False),
    ):
        setattr(owner, name, noting(getattr(owner, name), index, only_within))


def noting(function: Callable[..., Any], index: int, only_within: bool) -> Callable[..., Any]:
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        before, phase[0] = phase[0], index
        result = function(*args, **kwargs)
        if only_within:
            phase[0] = before
        return result

    return wrapped


def life(work: Callable[[], Any], seconds: float | None) -> bool:
    """Do the work in another process, and kill it after `seconds`. Returns whether it reached its end."""
    ended = Ended(*_live(work, seconds, signal.SIGKILL, patience=0.0))
    if ended.status == -signal.SIGKILL and seconds is not None:
        return False
    if ended.status != 0:
        raise SystemExit("a life ended with an error; it has printed the error")
    return True


class Ended(NamedTuple):
    """How a life ended: its exit status, or the negative number of the signal that killed it."""

    status: int
    seconds: float
    """From the signal, or from the start if none was sent, to its end."""
    phase: str
    """The phase in which the signal came."""
    sent: bool


def command(
    folder: Path, name: str, *arguments: str, sent: signal.Signals | None = None, after: float = 60.0
) -> tuple[Ended, str, str]:
    """Run a command in another process, in `folder`, and send it a signal; returns its end, its stdout and its stderr."""

    def work() -> None:
        os.chdir(folder)
        for number, file in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), number)
        sys.argv = [f"{name}.py", *arguments]
        start.run(name, folder)

    ended = Ended(*_live(work, after, sent or signal.SIGKILL, patience=30.0 if sent else 0.0))
    return ended, *((folder / file).read_text("utf-8") for file in ("stdout", "stderr"))


def _live(work: Callable[[], Any], seconds: float | None, number: signal.Signals, patience: float) -> Any:
    phase[0] = 0
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)  # so that loader workers die with it
        status = 0
        try:
            work()
        except SystemExit as error:
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        except BaseException:
            traceback.print_exc()
            status = 1
        with contextlib.suppress(OSError):
            sys.stdout.flush()
        os._exit(status)
    with contextlib.suppress(PermissionError, ProcessLookupError):  # it has already done so itself, or ended
        os.setpgid(pid, pid)
    began = since = time.monotonic()
    came, sent = PHASES[phase[0]], False
    while True:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status), time.monotonic() - since, came, sent
        now = time.monotonic()
        if seconds is not None and not sent and now - began > seconds:
            came, since, sent = PHASES[phase[0]], now, True
            os.killpg(pid, number)
        elif sent and now - since > patience:
            os.killpg(pid, signal.SIGKILL)
        time.sleep(0.0005)
