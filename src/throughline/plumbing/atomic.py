"""Writes files as a whole: each holds its old or its new content, even if the machine stops at any moment."""

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path

NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.ENOSYS)
"""The errors of file systems without hard links: FAT, and many network file systems."""


def write(contents: Mapping[Path, bytes], keep: Mapping[Path, Path] | None = None) -> None:
    """Write files of one folder so that each path holds its old or its new content; none changes before all are on disk.

    The temporary files lie in the same folder, because only a rename within one file system is atomic.

    Args:
        contents: the new contents by path.
        keep: for some of the paths, the path under which the previous file is kept.

    Raises:
        OSError: the folder cannot be written, or is full; no temporary file is left.
    """
    temporaries = {path: path.with_name(f"{path.name}.tmp") for path in contents}
    try:
        for path, temporary in temporaries.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(contents[path])
                file.flush()
                os.fsync(file.fileno())
        for path, kept in (keep or {}).items():
            if path.exists():
                link = kept.with_name(f"{kept.name}.tmp")
                link.unlink(missing_ok=True)
                try:
                    link.hardlink_to(path)  # not a rename, so that `path` always has a file
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    link.write_bytes(path.read_bytes())
                link.replace(kept)
        for path, temporary in temporaries.items():
            temporary.replace(path)
        for parent in {path.parent for path in contents}:
            folder = os.open(parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError:
        for temporary in temporaries.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
        raise


def clear(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder; nobody else may write there now."""
    for temporary in folder.glob("*.tmp"):
        temporary.unlink(missing_ok=True)
