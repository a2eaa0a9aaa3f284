"""Writes files as a whole: each holds its old or its new content, even if the machine stops at any moment."""

import contextlib
import errno
import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from throughline.plumbing import stopping

NO_LINKS = (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT)
"""The errors of file systems without hard links (FAT, many network file systems), or with none left for a file; ENOENT comes
where another process has just replaced the file."""
NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""The errors of file systems that keep no promise about when a file is on disk."""


def write(contents: Mapping[Path, bytes], keep: Mapping[Path, Path] | None = None) -> None:
    """Write files of one folder so that each path holds its old or its new content; none changes before all are on disk.

    The temporary files lie in the same folder, because only a rename within one file system is atomic.

    Args:
        contents: the new contents by path.
        keep: for some of the paths, the path under which the previous file is kept.

    Raises:
        OSError: the folder cannot be written, or is full; no temporary file is left.
    """
    with stopping.waiting():
        _write(contents, keep or {})


def _write(contents: Mapping[Path, bytes], keep: Mapping[Path, Path]) -> None:
    unique = f"{os.getpid()}-{secrets.token_hex(4)}.tmp"  # two processes may write the same file
    temporaries = {path: path.with_name(f"{path.name}.{unique}") for path in contents}
    links = {path: kept.with_name(f"{kept.name}.{unique}") for path, kept in keep.items()}
    try:
        for path, temporary in temporaries.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _write_new(temporary, contents[path])
        for path, kept in keep.items():
            if path.exists():
                link = links[path]
                try:
                    link.hardlink_to(path)  # not a rename, so that `path` always has a file
                except OSError as error:
                    if error.errno not in NO_LINKS:
                        raise
                    _write_new(link, path.read_bytes())
                link.replace(kept)
        for path, temporary in temporaries.items():
            temporary.replace(path)
        for parent in {path.parent for path in contents}:
            folder = os.open(parent, os.O_RDONLY)
            try:
                _fsync(folder)
            finally:
                os.close(folder)
    finally:  # a link may be left after a success as well: `rename` does nothing if both are one file already
        for temporary in (*temporaries.values(), *links.values()):
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _write_new(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        _fsync(file.fileno())


def _fsync(number: int) -> None:
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise


def clear(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in a folder; nobody else may write there now."""
    for temporary in folder.glob("*.tmp"):
        if temporary.is_symlink() or not temporary.is_dir():
            temporary.unlink(missing_ok=True)
