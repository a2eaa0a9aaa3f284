"""A bar appears on a terminal when work takes its time, and nowhere else."""

import io
import time

import pytest
from rich.console import Console

from throughline.plumbing import progress
from throughline.plumbing.progress import progress as shown


def worked(terminal: bool, seconds: float) -> str:
    """Everything that a piece of work in two halves writes."""
    output = io.StringIO()
    with shown("reading data", Console(file=output, force_terminal=terminal, width=100)) as work:
        work.advance(0, 8)
        work.advance(4)
        time.sleep(seconds)
    return output.getvalue()


def test_long_work_shows_a_bar_with_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.05)
    said = worked(terminal=True, seconds=0.4)
    assert "reading data" in said
    assert " 50%" in said
    assert worked(terminal=False, seconds=0.2) == ""


def test_short_work_shows_nothing() -> None:
    assert "reading data" not in worked(terminal=True, seconds=0.0)


def test_an_error_passes_and_the_bar_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.01)
    console = Console(file=io.StringIO(), force_terminal=True)
    with pytest.raises(ZeroDivisionError), shown("dividing", console):
        time.sleep(1 / (time.sleep(0.05) or 0))
    with shown("again", console):  # rich refuses a second bar while one is there
        time.sleep(0.05)
