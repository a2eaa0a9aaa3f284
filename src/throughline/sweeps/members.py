"""The members of a sweep, as their folders show them."""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from throughline.plumbing.errors import PRUNED, UserError
from throughline.plumbing.reading import content, printable
from throughline.runs.record import SMALL_FILE, Record


@dataclass(frozen=True)
class Member:
    """A member of a sweep.

    Attributes:
        number: its place in the sweep, from 0 on; its folder begins with it.
        overrides: those of its command.
        label: the values in which it differs from other members.
    """

    number: int
    overrides: tuple[str, ...]
    label: str

    def folder(self, sweep: Path) -> Path | None:
        """Its folder in the folder of the sweep; None if it has not begun."""
        return next(iter(sorted(sweep.glob(f"{self.number}-*"))), None)


@dataclass(frozen=True)
class Seen:
    """What the folder of a member shows.

    Attributes:
        state: `waiting` without a folder; `begun` if it has neither ended nor failed.
        marks: the times of its files; they change when the member begins again.
        nll, seconds, tokens_per_second: of a finished member.
        why: of one that failed or was pruned.
    """

    state: Literal["waiting", "begun", "finished", "failed", "pruned"]
    marks: Mapping[str, int]
    nll: float = float("nan")
    seconds: float = 0.0
    tokens_per_second: float = 0.0
    why: str = ""


FILES = ("summary.json", "failure.txt", ".hydra/config.yaml")


def seen(folder: Path | None, before: Seen | None = None) -> Seen:
    """What a member's folder shows now.

    Args:
        folder: None is no folder.
        before: what it showed before; its files are not read again while their times are the same.
    """
    if folder is None:
        return Seen("waiting", {})
    marks = {}
    for name in FILES:
        with suppress(OSError):
            marks[name] = (folder / name).stat().st_mtime_ns
    if before is not None and before.state != "waiting" and marks == before.marks:
        return before
    if "failure.txt" in marks:
        with suppress(UserError):
            lines = content(folder / "failure.txt", SMALL_FILE).decode("utf-8", "replace").strip().splitlines()
            why = printable(lines[-1] if lines else "", 500)
            return Seen("pruned" if why.startswith(PRUNED) else "failed", marks, why=why.removeprefix(PRUNED))
    if "summary.json" in marks:
        try:
            record = Record.read(folder)
        except UserError as error:
            return Seen("failed", marks, why=str(error))
        nll = record.metrics.get("val/nll", float("nan"))
        return Seen("finished", marks, nll, record.wall_seconds, record.tokens_per_second)
    return Seen("begun", marks)


def members(overrides: Sequence[Sequence[str]], first: int = 0) -> list[Member]:
    """Members with these overrides, labelled by those in which they differ."""
    alike = set.intersection(*map(set, overrides)) if overrides else set()
    return [
        Member(number, tuple(each), labelled(override for override in each if override not in alike))
        for number, each in enumerate(overrides, start=first)
    ]


def labelled(overrides: Iterable[str]) -> str:
    """`regime=segments` is segments, `optimizer.lr=0.1` is lr=0.1; settings of Hydra are left out."""
    pairs = (override.lstrip("+").partition("=")[::2] for override in overrides)
    return " ".join(
        printable(value if "." not in key and key != "seed" else f"{key.rpartition('.')[2]}={value}", most=40)
        for key, value in pairs
        if not key.startswith("hydra.")
    )
