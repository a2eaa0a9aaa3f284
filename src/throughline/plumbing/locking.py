"""Locks that the system releases when their process ends in any way."""

import errno
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)
"""The errors of file systems that cannot lock files."""


def locked(file: Path, seconds: float) -> BaseFileLock:
    """A lock that this process has; a file system that cannot lock gets a file that names its holder.

    Args:
        file: stands for what is locked.
        seconds: how long to wait for another process; -1 waits until it has ended.

    Raises:
        filelock.Timeout: another process has it.
    """
    lock: BaseFileLock = FileLock(file, timeout=seconds)
    try:
        lock.acquire()
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        lock = SoftFileLock(file, timeout=seconds)  # it also notices a holder that is dead
        lock.acquire()
    return lock
