"""Tells on the terminal how the members of a sweep begin and end."""

import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from rich.console import Console

from throughline.runs.folders import shown
from throughline.sweeps.members import Member, Seen, seen

UNKNOWN = ("it has ended without a word", "it has not begun")
EVERY = 0.5
"""Seconds from one look at the folders to the next."""


@dataclass
class Pace:
    """How fast the members of a sweep end.

    Attributes:
        total: how many members there are.
        took: the seconds of each that has ended.
        most_at_once: how many were trained at the same time.
    """

    total: int
    took: list[float] = field(default_factory=list)
    most_at_once: int = 1

    def left(self, members: int) -> str:
        """The time that so many members likely need; empty if nobody knows."""
        if not members or not any(self.took):
            return ""
        seconds = sum(self.took) / len(self.took) * members / min(self.most_at_once, members)
        unit, name = next((unit, name) for unit, name in ((3600, "h"), (60, "min"), (1, "s")) if seconds > unit or unit == 1)
        return f"  (about {seconds / unit:.{int(name == 'h')}f} {name} left)"


class Watch:
    """Looks at the folders of members while a launcher runs them, here or on other machines, and prints a line for each
    that begins and each that ends; failures go to stderr.

    Args:
        sweep: the folder of the sweep.
        members: those that are launched.
        pace: of the whole sweep.
        after: how many members come after these.
    """

    def __init__(self, sweep: Path, members: Sequence[Member], pace: Pace, console: Console, after: int) -> None:
        self.sweep, self.members, self.pace, self.console, self.after = sweep, members, pace, console, after
        self.errors: dict[int, str] = {}
        """Why members failed, where only their launcher knows: before they had a folder."""
        self._before = {member.number: seen(member.folder(sweep)) for member in members}
        self._began: dict[int, float] = {}
        self._ended: dict[int, Seen] = {}
        self._over, self._looking = threading.Event(), threading.Lock()
        self._thread = threading.Thread(target=self._look_again_and_again, daemon=True, name="watch")

    def __enter__(self) -> Self:
        before = sum(now.state == "finished" for now in self._before.values())
        if before:
            self.console.print(f"{before} of {self.pace.total} members have already finished")
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()
        self.look(last=error is None)

    @property
    def begun(self) -> bool:
        """Whether any member has begun."""
        return bool(self._began)

    def open(self, member: Member) -> bool:
        """Whether the member has begun, or may begin, and has not been seen to end."""
        return member.number not in self._ended

    def ended(self, member: Member) -> Seen:
        """What the member had come to when it ended."""
        return self._ended.get(member.number, Seen("waiting", {}))

    def _look_again_and_again(self) -> None:
        while not self._over.wait(EVERY):
            self.look()

    def look(self, last: bool = False) -> None:
        """Print what has changed; after the `last` look, nothing changes any more."""
        with self._looking:
            self._look(last)

    def _look(self, last: bool) -> None:
        for member in self.members:
            if member.number in self._ended:
                continue
            before = self._before[member.number]
            now = seen(member.folder(self.sweep), before)
            if now.state == "waiting" and not last:
                continue
            changed = now.marks != before.marks or before.state == "waiting"
            if changed and member.number not in self._began and now.state != "waiting":
                self._begin(member, before)
            if last or (changed and now.state in ("finished", "failed", "pruned")):
                self._end(member, now, changed)

    def _begin(self, member: Member, before: Seen) -> None:
        self._began[member.number] = time.monotonic()
        self.pace.most_at_once = max(self.pace.most_at_once, len(self._began.keys() - self._ended.keys()))
        how = "begins" if before.state == "waiting" else "continues" if before.state == "begun" else "begins again"
        self._say(member, how)

    def _end(self, member: Member, now: Seen, changed: bool) -> None:
        error = self.errors.get(member.number, "")
        if error and not changed:  # refused before it began again: what its folder shows is of an earlier try
            now = replace(now, state="failed", why=error)
        if now.state in ("waiting", "begun", "failed"):
            why = now.why or self.errors.get(member.number) or UNKNOWN[now.state == "waiting"]
            now = replace(now, state="failed", why=why)
            folder = member.folder(self.sweep)
            print(f"failed: {shown(folder or self.sweep)}: {now.why}", file=sys.stderr, flush=True)
        self._ended[member.number] = now
        if now.state == "finished" and not changed:
            return
        began = self._began.get(member.number)
        took = now.seconds or (0.0 if began is None else time.monotonic() - began)
        self.pace.took.append(took)
        results = {"finished": f"{now.nll:.4f}  {took:,.0f} s", "pruned": f"pruned: {now.why}"}
        self._say(
            member, f"{results.get(now.state, 'failed')}{self.pace.left(self.after + len(self.members) - len(self._ended))}"
        )

    def _say(self, member: Member, what: str) -> None:
        number = f"{member.number + 1} of {self.pace.total}"
        self.console.print("  ".join(part for part in (number, member.label, what) if part))
