"""A search by trials: drawn, trained, and told to a study that several processes share."""

import csv
import io
import shlex
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from filelock import BaseFileLock
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from omegaconf import OmegaConf
from rich.console import Console

from throughline.config import Optuna
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs.folders import shown
from throughline.sweeps import pictures
from throughline.sweeps import study as studies
from throughline.sweeps.grid import Launch, watched
from throughline.sweeps.members import Member, Seen, labelled, seen
from throughline.sweeps.space import Draw, drawn
from throughline.sweeps.table import table
from throughline.sweeps.watch import Pace

BEST = 10
"""The trials in the table at the end."""


def train(
    settings: Optuna,
    draws: Sequence[Draw],
    fixed: Sequence[str],
    sweep: Path,
    launch: Launch,
    check: Callable[[Sequence[str]], object],
    is_group: Callable[[str], bool],
    holds: Callable[[str, str], bool],
    commands: "Commands",
) -> float:
    """Train trials until there are enough.

    Args:
        settings: those of the search.
        draws: what is drawn.
        fixed: the overrides that all trials share.
        sweep: the folder of the search, which other processes may share.
        launch: the launcher.
        check: refuses overrides that no run can have.
        is_group: whether an override of this key chooses a file.
        holds: whether a setting that no trial draws has this value.
        commands: those that are printed at the end.

    Returns:
        The lowest nll.

    Raises:
        UserError: no trial has finished.
    """
    study, console = studies.opened(sweep, settings), Console(highlight=False, markup=False, soft_wrap=True)
    work = _Work(settings, draws, fixed, sweep, study, holds)
    console.print(f"search: {shown(sweep)}")
    pace = Pace(settings.num_members)
    while members := work.taken():
        try:
            for member in members:
                check(member.overrides)
        except Exception as error:
            for member in members:
                work.tell(member, Seen("failed", {}))
            raise _hinted(error, draws) from None
        for member, now in watched(sweep, members, pace, console, launch, after=work.left()):
            work.tell(member, now)
    console.print()
    everyone = [(member, seen(member.folder(sweep))) for member in work.everyone()]
    best = sorted((now.nll, member.number, member) for member, now in everyone if now.state == "finished")
    if not best:
        raise UserError(f"{shown(sweep)}: no trial has finished")
    first = {member.number for _, _, member in best[:BEST]}
    for line in table(sweep, [pair for pair in everyone if pair[0].number in first]):
        console.print(line)
    states = [now.state for _, now in everyone]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    console.print(f"{len(everyone)} trials: {counts}")
    if {"begun", "waiting"} & set(states):
        console.print("another command still trains trials of this search, so the best may change")
    nll, _, member = best[0]
    own = [o for o in member.overrides if not o.lstrip("+~").startswith(OF_THE_SEARCH)]
    file = experiment(OverridesParser.create().parse_overrides(own), nll, is_group)
    atomic.write({sweep / "trials.csv": csv_of(everyone, [draw.key for draw in draws])})
    if file:
        atomic.write({sweep / "experiment" / "best.yaml": file.encode()})
    pictures.draw(study, sweep)
    drawn_values = [o for o in own if o.partition("=")[0] in {draw.key for draw in draws}]
    console.print(f"best:       {commands.train} {shlex.join([*commands.typed, *drawn_values])}".rstrip())
    if file and not commands.own_folder:
        console.print(f"            or {commands.train} -cd {shlex.quote(shown(sweep))} experiment=best")
    console.print(commands.compare)
    return nll


def _hinted(error: Exception, draws: Sequence[Draw]) -> Exception:
    """The error, with a hint if a setting that takes whole numbers was drawn from all numbers."""
    kind = studies.library().distributions.FloatDistribution
    for draw in draws:
        whole = isinstance(error, UserError) and str(error).startswith(f"{draw.key}=") and "valid integer" in str(error)
        if whole and isinstance(draw.distribution, kind):
            return UserError(f"{error}; int(interval(...)) draws whole numbers")
    return error


AGAIN = "resume=auto"
"""Given to every trial, because it may be one that a dead process has begun."""


class Commands(NamedTuple):
    """What is printed at the end of a search.

    Attributes:
        train: the command that trains.
        typed: what a person typed for it that all trials share.
        own_folder: whether that names a folder of a user's own files; Hydra takes only one.
        compare: a line with the command that compares.
    """

    train: str
    typed: list[str]
    own_folder: bool
    compare: str


OF_THE_SEARCH = ("sweep", "launcher", "hydra", "resume=")
"""How overrides begin that a single run does without."""


class _Work:
    """The trials that this process takes."""

    def __init__(
        self,
        settings: Optuna,
        draws: Sequence[Draw],
        fixed: Sequence[str],
        sweep: Path,
        study: Any,
        holds: Callable[[str, str], bool],
    ) -> None:
        self.settings, self.draws, self.sweep, self.study, self.holds = settings, draws, sweep, study, holds
        self.fixed = [*fixed, AGAIN]
        self.began = time.monotonic()
        self._claims: dict[int, BaseFileLock] = {}

    def taken(self) -> list[Member]:
        """Trials that dead processes have left, or new ones, up to `parallel`; none if there are enough."""
        optuna = studies.library()
        with studies.alone(self.sweep):
            trials = self.study.get_trials(deepcopy=False)
            if lost := self._lost(trials):
                return lost
            late = self.settings.seconds is not None and time.monotonic() - self.began > self.settings.seconds
            count = 0 if late else min(self.settings.parallel, self.settings.num_members - len(trials))
            members = []
            for _ in range(count):
                self._sample(len(self.study.get_trials(deepcopy=False)))
                trial = self.study.ask()
                claim = studies.claimed(self.sweep, trial.number)
                assert claim is not None, "nobody else knows of it yet"
                self._claims[trial.number] = claim
                try:
                    members.append(self._member(trial))
                except Exception:
                    self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
                    raise
            return members

    def _lost(self, trials: Sequence[Any]) -> list[Member]:
        """Trials that nobody works on, of consecutive numbers, because a launcher counts on from the first."""
        optuna = studies.library()
        members: list[Member] = []
        for trial in trials:
            if len(members) == self.settings.parallel or (members and trial.number > members[-1].number + 1):
                break
            running = trial.state == optuna.trial.TrialState.RUNNING
            if running and (claim := studies.claimed(self.sweep, trial.number)) is not None:
                self._claims[trial.number] = claim
                self._sample(trial.number)  # its process may have died before all was drawn
                members.append(self._member(optuna.trial.Trial(self.study, trial._trial_id)))
        return members

    def _sample(self, number: int) -> None:
        """Draw as is right for a trial: this depends on the trials before, and not on the process that draws."""
        self.study.sampler = studies.library().samplers.TPESampler(
            seed=self.settings.seed + number, n_startup_trials=self.settings.startup, constant_liar=True
        )

    def left(self) -> int:
        """The trials that nobody has taken yet."""
        return self.settings.num_members - len(self.study.get_trials(deepcopy=False))

    def _member(self, trial: Any) -> Member:
        overrides = drawn(trial, self.draws, self.fixed, self.holds)
        trial.set_user_attr("overrides", overrides)
        return self._labelled(trial.number, overrides)

    def _labelled(self, number: int, overrides: Sequence[str]) -> Member:
        keys = {draw.key for draw in self.draws}
        return Member(number, tuple(overrides), labelled(o for o in overrides if o.partition("=")[0] in keys))

    def everyone(self) -> list[Member]:
        """The trials of all processes."""
        trials = self.study.get_trials(deepcopy=False)
        return [self._labelled(t.number, t.user_attrs["overrides"]) for t in trials if "overrides" in t.user_attrs]

    def tell(self, member: Member, now: Seen) -> None:
        """Tell the study what became of a trial, and let go of it."""
        state = studies.library().trial.TrialState
        if now.state == "finished":
            self.study.tell(member.number, now.nll, skip_if_finished=True)
        else:
            ended = state.PRUNED if now.state == "pruned" else state.FAIL
            self.study.tell(member.number, state=ended, skip_if_finished=True)
        self._claims.pop(member.number).release()


PRESETS = ("experiment", "debug")
"""Groups of files that choose others, so that no file of theirs can hold their choice."""


def experiment(overrides: Sequence[Override], nll: float, is_group: Callable[[str], bool]) -> str:
    """The best settings as a file for `experiment=`; empty if no such file can hold them."""
    if any(o.key_or_group in PRESETS or o.is_delete() or o.package for o in overrides):
        return ""
    groups = [{f"override /{o.key_or_group}": _plain(o.value())} for o in overrides if is_group(o.key_or_group)]
    whole = OmegaConf.create({"defaults": groups} if groups else {})
    for override in overrides:
        if not is_group(override.key_or_group):
            OmegaConf.update(whole, override.key_or_group, _plain(override.value()), force_add=True)
    return f"# @package _global_\n# Found by a search: val nll {nll:.4f}.\n{OmegaConf.to_yaml(whole)}"


def _plain(value: Any) -> Any:
    """A value of an override without the quotes that only Hydra's grammar needs."""
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, list):
        return [_plain(part) for part in value]
    return {str(_plain(key)): _plain(part) for key, part in value.items()} if isinstance(value, dict) else value


def csv_of(everyone: Sequence[tuple[Member, Seen]], keys: Sequence[str]) -> bytes:
    """A row per trial, with a column for each setting that is drawn, which is empty where it was not."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trial", "state", "val_nll", "seconds", *keys])
    for member, now in everyone:
        values = dict(override.partition("=")[::2] for override in member.overrides)
        nll = f"{now.nll:.6g}" if now.state == "finished" else ""
        rows.writerow([member.number, now.state, nll, f"{now.seconds:.1f}", *(values.get(key, "") for key in keys)])
    return text.getvalue().encode()
