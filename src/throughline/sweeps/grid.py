"""A sweep over all combinations of values: trains its members, and reports."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.runs.folders import shown
from throughline.sweeps.members import Member, Seen, members
from throughline.sweeps.table import table
from throughline.sweeps.watch import Pace, Watch

Launch = Callable[[Sequence[Sequence[str]], int], Sequence[Any]]
"""Runs members with these overrides, the first of which has this number, and returns what Hydra knows of each at its end."""


def train(batches: Sequence[Sequence[Sequence[str]]], sweep: Path, launch: Launch, compare: str) -> list[float]:
    """Train the members of all batches, one batch after the other.

    Args:
        batches: the overrides of each member; a launcher gets a batch at once.
        sweep: the folder of the sweep.
        launch: the launcher.
        compare: a line with the command that compares the runs of its folder.

    Returns:
        The nll of each member; nan if it has none.

    Raises:
        UserError: a member failed. All others were trained.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    everyone = members([overrides for batch in batches for overrides in batch])
    console.print(f"sweep: {shown(sweep)}")
    results: list[tuple[Member, Seen]] = []
    pace = Pace(len(everyone))
    for batch in batches:
        some = everyone[len(results) : len(results) + len(batch)]
        results += watched(sweep, some, pace, console, launch, after=len(everyone) - len(results) - len(batch))
    console.print()
    for line in table(sweep, results):
        console.print(line)
    console.print(compare)
    refuse_failures(results)
    return [now.nll for _, now in results]


def watched(
    sweep: Path, some: Sequence[Member], pace: Pace, console: Console, launch: Launch, after: int
) -> list[tuple[Member, Seen]]:
    """Launch members, with a line for each that begins or ends, and return what became of them.

    Args:
        pace: of the whole sweep.
        after: how many members come after these.
    """
    watch = Watch(sweep, some, pace, console, after)
    try:
        with watch:
            _launched(some, watch, launch, console)
    except stopping.Stopped as stopped:
        console.print(f"{stopped.number.name}: the sweep is stopped; resume=auto continues it")
        stopped.told = True
        raise
    return [(member, watch.ended(member)) for member in some]


AGAIN = 3
"""How often a launcher may give up before the members that it has not trained count as failed."""


def _launched(some: Sequence[Member], watch: Watch, launch: Launch, console: Console) -> None:
    """Launch members; those that a launcher gives up, because one of its processes was killed, are launched again."""
    left, more = [list(some)], list[str]()
    for tries in range(1 + AGAIN):
        why = ""
        for each in left:
            try:
                returns = launch([[*member.overrides, *more] for member in each], each[0].number)
                watch.errors |= {member.number: _error(result) for member, result in zip(each, returns, strict=False)}
            except UserError:
                raise
            except Exception as error:
                why = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
                watch.look()
                watch.errors |= {member.number: why for member in each if watch.open(member)}
        left = _consecutive([member for member in some if watch.open(member)])
        if not why or not left or tries == AGAIN or not watch.begun:
            return
        console.print(f"the launcher has given up ({why}); {sum(map(len, left))} members continue")
        more = ["resume=auto"]


def _consecutive(members: Sequence[Member]) -> list[list[Member]]:
    """Members in groups of consecutive numbers, because a launcher counts on from the first."""
    groups: list[list[Member]] = []
    for member in members:
        if groups and member.number == groups[-1][-1].number + 1:
            groups[-1].append(member)
        else:
            groups.append([member])
    return groups


def _error(result: Any) -> str:
    """Why a member failed, as Hydra has kept it; empty if it did not."""
    error = getattr(result, "_return_value", None)
    return (str(error).strip().splitlines() or [type(error).__name__])[-1] if isinstance(error, BaseException) else ""


def refuse_failures(results: Sequence[tuple[Member, Seen]]) -> None:
    """Let the command fail if a member has.

    Raises:
        UserError: a member failed.
    """
    failed = sum(now.state not in ("finished", "pruned") for _, now in results)
    if failed:
        raise UserError(f"{failed} of {len(results)} members failed; with resume=auto the same command tries them again")
