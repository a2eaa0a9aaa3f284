"""Starts a command: signals are heard before anything large is imported."""

import importlib
import io
import os
import sys
from functools import partial
from pathlib import Path

from throughline.plumbing import stopping


def run(name: str, root: Path | None = None) -> None:
    """Run the command `name`.

    Args:
        name: the name of its module.
        root: the folder that contains `outputs/`; None is the current one.
    """
    if sys.getfilesystemencoding() != "utf-8":  # in an ASCII locale, for example: every file and every argument is UTF-8
        os.environ.setdefault("PYTHONIOENCODING", sys.stdout.encoding)  # the terminal shows no more than before
        os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that cannot show a character gets an escape
            stream.reconfigure(errors="backslashreplace")
    try:
        with stopping.heard():
            importlib.import_module(f"throughline.commands.{name}").main(root)
    except stopping.Stopped as stopped:
        if not stopped.told:
            print(f"{stopped.number.name}: stopped", file=sys.stderr)
        raise
    finally:
        stopping.end_at_once()


train, prepare, evaluate, generate, score, export, compare, dashboard = (
    partial(run, name) for name in ("train", "prepare", "evaluate", "generate", "score", "export", "compare", "dashboard")
)
