"""Writes files as a whole: each holds its old or its new content, even if the machine stops at any moment."""

import contextlib
import errno
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from throughline.plumbing import stopping

NO_LINKS = (errno.EPERM, errno.EACCES, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS, errno.ENOENT)
"""The errors of file systems without hard links (FAT, many network file systems), or with none left for a file; ENOENT comes
where another process has just replaced the file."""
NO_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS)
"""The errors of file systems that keep no promise about when a file is on disk."""


def write(contents: Mapping[Path, bytes | memoryview], keep: Mapping[Path, Path] | None = None) -> None:
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


def _write(contents: Mapping[Path, bytes | memoryview], keep: Mapping[Path, Path]) -> None:
    unique = _unique()
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
            fsync_folder(parent)
    finally:  # a link may be left after a success as well: `rename` does nothing if both are one file already
        for temporary in (*temporaries.values(), *links.values()):
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def opened(path: Path, mode: Literal["x", "xb"], **text: str) -> Iterator[IO[Any]]:
    """Open a file, of any size, that takes the place of `path` when it is closed; after an error `path` is as before.

    Args:
        path: in a folder that exists; behind a link, the file to which it points is replaced.
        mode: "xb" for bytes.
        text: the encoding of text, and its errors.

    Raises:
        OSError: it cannot be written, or it is there and is not a regular file.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "not a regular file")
    temporary = path.with_name(f"{path.name}.{_unique()}")
    try:
        with temporary.open(mode, **text) as file:  # type: ignore[call-overload]  # both modes are allowed
            yield file
            file.flush()
            fsync(file.fileno())
        temporary.replace(path)
        fsync_folder(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def _unique() -> str:
    """The ending of a temporary file; two processes may write the same file."""
    return f"{os.getpid()}-{secrets.token_hex(4)}.tmp"


def _write_new(path: Path, content: bytes | memoryview) -> None:
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        fsync(file.fileno())


def fsync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    number = os.open(folder, os.O_RDONLY)
    try:
        fsync(number)
    finally:
        os.close(number)


def fsync(number: int) -> None:
    """Wait until an open file is on disk."""
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
