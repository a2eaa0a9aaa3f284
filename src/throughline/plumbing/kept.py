"""The console of a run, whose text is also kept in a file."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console


class Kept(Console):
    """Prints on the terminal unless it is `quiet`, and keeps what it prints for `console.txt`.

    The folder of a run is its own only once the run begins, so the first lines wait for that.
    """

    def __init__(self, quiet: bool = False) -> None:
        super().__init__(highlight=False, markup=False, soft_wrap=True, quiet=quiet)
        self._copy = Console(file=io.StringIO(), highlight=False, markup=False, soft_wrap=True, width=80)

    def print(self, *objects: Any, **how: Any) -> None:
        super().print(*objects, **how)
        self._copy.print(*objects, **how)
        self._copy.file.flush()

    def keep_in(self, file: Path) -> Callable[[], None]:
        """From now on, add the text to this file, with what was printed before; returns what closes it."""
        before = self._copy.file
        assert isinstance(before, io.StringIO)
        self._copy.file = file.open("a", encoding="utf-8", errors="backslashreplace")
        self._copy.file.write(before.getvalue())
        self._copy.file.flush()
        return self._copy.file.close
