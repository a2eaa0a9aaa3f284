"""Errors that a user can correct, reported in one line each."""

import difflib
import errno
import os
import re
import signal
import sys
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class UserError(Exception):
    """Bad input: each line names the mistake, its place, and the allowed values."""


class Pruned(UserError):  # noqa: N818  # it is no error
    """A search has ended this trial early."""


PRUNED = "pruned: "
"""How its message begins, by which the folder of the trial tells it from a failure."""

NO_ROOM = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS}
"""The errors for a full disk, a reached quota, a file that is too large, and a read-only file system."""


PLUGINS = ("joblib", "submitit", "ray", "rq", "optuna", "ax", "nevergrad")
"""Hydra's plugins that are packages of their own. No other name is advised, because anybody may have taken it."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Print bad input as lines on stderr and exit with status 2; other errors keep their traceback."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # otherwise Hydra prints and exits by itself, with status 1
    from hydra.errors import HydraException, MissingConfigException
    from omegaconf.errors import OmegaConfBaseException

    try:
        yield
    except UserError as error:
        _exit(str(error).splitlines())
    except MissingConfigException as error:
        file = error.missing_cfg_file
        _exit([_in_one_line(error) if file is None else _no_such_choice(file, list(error.options or []))])
    except (HydraException, OmegaConfBaseException) as error:
        told = _user_error(error)
        _exit([_in_one_line(error)] if told is None else str(told).splitlines())
    except (ValueError, RecursionError) as error:
        if not any(frame.f_code.co_name == "load_configuration" for frame, _ in traceback.walk_tb(error.__traceback__)):
            raise  # it does not come from reading YAML files and overrides
        if "Config group override" in str(error):
            _exit(["a group of choices cannot be null or empty: give one of the names that `--help` lists"])
        circle = "YAML files go round in a circle: a value or a defaults list holds itself"
        _exit([circle if isinstance(error, RecursionError) else _in_one_line(error)])
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


def _no_such_choice(file: str, options: list[str]) -> str:
    """A line about a choice that is not there: of a group, or of a plugin of Hydra that is not installed."""
    group, _, choice = file.rpartition("/")
    plugin, kind = choice.partition("_")[0], group.removeprefix("hydra/")
    if kind in ("launcher", "sweeper") and plugin in PLUGINS:
        if choice == "optuna":
            return "hydra/sweeper=optuna: needs an Optuna of 2021; sweep=optuna searches with the present one"
        extras = {"joblib": "launchers", "submitit": "launchers", "ray": "ray"}
        package = f"-e '.[{extras[plugin]}]'" if plugin in extras else f"hydra-{plugin}-{kind}"
        return f"{group}={choice}: not installed: pip install {package}; installed are {', '.join(options)}"
    if file == "data/events":
        return "data=events was replaced: data=table reads .csv (data.symbol=COLUMN), data=array reads .npy"
    if file.startswith("data/") and (group != "data" or "." in choice):
        return f"data={file.removeprefix('data/')}: is no kind of data; give data=text, lines or table, and data.path=FILE"
    if not options:
        return f"{file}: there is no such file of settings"
    meant = did_you_mean(choice, options)
    return f"{group}={choice}: {f'{meant} ' if meant else ''}allowed are {', '.join(options)}"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A question for the likeliest of the known words; empty if none is alike."""
    close = difflib.get_close_matches(word, list(known), n=1, cutoff=0.75)
    return f"did you mean {close[0]}?" if close else ""


def _in_one_line(error: Exception) -> str:
    """What Hydra says, without its hints at its own documentation."""
    several = re.search(r"(?:Ambiguous value for argument|Sweep parameters) '(.*?)'[ \n]", str(error), re.DOTALL)
    if several:
        return f"{several[1]}: several values need -m, which trains with each of them"
    override = getattr(error, "override", None)
    if override is not None:
        return f"{override}: cannot be read as key=value; docs/settings.md lists the keys, and quotes go around odd values"
    cause = error.__cause__
    text = str(cause if isinstance(cause, OSError | UnicodeError) or not str(error) else error)
    return " ".join(re.sub(r"See https?://\S+.*", "", text, flags=re.DOTALL).split())[:500]


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
