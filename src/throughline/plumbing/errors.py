"""Errors that a user can correct, reported in one line each."""

import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class UserError(Exception):
    """Bad input: each line names the mistake, its place, and the allowed values."""


NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""The errors for a full disk, a reached quota, a file that is too large, and a read-only file system."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print bad input as lines on stderr and exit with status 2; other errors keep their traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints and exits by itself, with status 1
    from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except UserError as error:
        _exit(str(error).splitlines())
    except MissingConfigException as error:
        allowed = f": allowed are {', '.join(error.options)}" if error.options else ": no such config"
        _exit([str(error.missing_cfg_file).replace("/", "=") + allowed])
    except ConfigCompositionException as error:
        _exit([str(error).splitlines()[0].rstrip(".") + "; `--cfg job` shows every key"])
    except (HydraException, OmegaConfBaseException) as error:
        told = _user_error(error)
        _exit([" ".join(str(error).split())] if told is None else str(told).splitlines())
    except ValueError as error:
        if "Config group override" not in str(error):
            raise
        _exit(["a group of choices cannot be null or empty: give one of the names that `--help` lists"])
    except BrokenPipeError:  # the reader of our output, for example `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.filename is not None:
            _exit([f"{error.filename}: {error.strerror}"])
        if error.errno not in NO_ROOM:
            raise
        _exit([f"writing failed: {error.strerror}; files saved earlier are unchanged"])


def _user_error(error: BaseException | None) -> UserError | None:
    """The user's error behind the error of a library, which it raised when a value of the configuration was computed."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


def _exit(lines: list[str]) -> None:
    for line in lines:
        print(f"error: {line}", file=sys.stderr)
    sys.exit(2)


@contextmanager
def noted_failure(folder: Path) -> Iterator[None]:
    """Record in `folder` why a run failed, for those who look there later."""
    (folder / "failure.txt").unlink(missing_ok=True)  # left by an earlier try
    try:
        yield
    except Exception as error:
        why = str(error) if isinstance(error, UserError) else traceback.format_exc()
        with suppress(OSError):  # the disk may be full, and the failure itself is what counts
            (folder / "failure.txt").write_text(why.strip() + "\n", encoding="utf-8", errors="backslashreplace")
        raise


def verbatim(argv: list[str], key: str) -> list[str]:
    """Quote the value of `key=value` among the arguments, so that Hydra takes it literally, including spaces and signs."""
    return [f"{key}={_quoted(arg.removeprefix(f'{key}='))}" if arg.startswith(f"{key}=") else arg for arg in argv]


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
