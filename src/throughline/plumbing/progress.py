"""A progress bar for work that takes longer than a second."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

QUIET_SECONDS = 1.0
"""How long work takes before a bar is shown."""


class Work:
    """A piece of work; its total may be unknown."""

    def __init__(self, bar: Progress, what: str) -> None:
        self._bar, self._total = bar, 0
        self._task = bar.add_task(what, total=None)

    def advance(self, done: int, more: int = 0) -> None:
        """Count `done` more as finished, and add `more` to the total."""
        self._total += more
        self._bar.update(self._task, advance=done, total=self._total or None)


_shown: ContextVar[Work | None] = ContextVar("shown", default=None)


def advance(done: int, more: int = 0) -> None:
    """Count work in the bar that is shown; so what reads files need not know whether, and by whom, a bar is shown."""
    work = _shown.get()
    if work is not None:
        work.advance(done, more)


@contextmanager
def progress(what: str, console: Console) -> Iterator[Work]:
    """Show a bar while the body runs: only on a terminal, and only after `QUIET_SECONDS`."""
    columns = TextColumn("{task.description}"), BarColumn(bar_width=30), TaskProgressColumn(), TimeRemainingColumn()
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    timer = threading.Timer(QUIET_SECONDS, bar.start)
    timer.daemon = True
    if not bar.disable:
        timer.start()
    work = Work(bar, what)
    before = _shown.set(work)
    try:
        yield work
    finally:
        _shown.reset(before)
        timer.cancel()
        if not bar.disable:
            timer.join()  # otherwise it might start the bar after the stop below
        bar.stop()
