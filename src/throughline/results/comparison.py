"""Runs side by side: members that differ in nothing but the seed, their spread over seeds, and cautions."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import printable
from throughline.results.metrics import Metric
from throughline.results.run import Run, read_run

ABLATION = "shuffled_carry"
"""The regime that nobody would train with. It is shown, but never marked as the best."""
PRIVATE = ("seed", "resume", "output_root", "logger.", "tags", "task_name")
"""Settings in which two runs of the same member may differ."""
TRACES = {".hydra", "summary.json"}
"""The entries that tell a folder of a run from others, whatever they are, so that a damaged run is not passed over."""


class Spread(NamedTuple):
    """A metric over the seeds: the mean, and the lowest and the highest of them."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(math.fsum(values) / len(values), min(values), max(values))


@dataclass(frozen=True)
class Member:
    """Runs that differ in nothing but the seed."""

    label: str
    runs: list[Run]

    @property
    def regime(self) -> str:
        return self.runs[0].regime

    @property
    def regime_label(self) -> str:
        """The regime as folders and the screen call it, if a run has finished."""
        return (self.finished[0].finished.label if self.finished else "") or self.regime

    @cached_property
    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in self.runs[0].settings.items() if not k.startswith(PRIVATE)}

    @cached_property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if not run.fault]

    @property
    def faults(self) -> list[Run]:
        return [run for run in self.runs if run.fault]

    def metric(self, key: str) -> Spread | None:
        """A metric over the finished runs; None if one of them does not have it."""
        values = [run.metrics.get(key, math.nan) for run in self.finished]
        return Spread.of(values) if values and all(map(math.isfinite, values)) else None

    @property
    def nll(self) -> Spread:
        return Spread.of([run.metrics["val/nll"] for run in self.finished])

    def nll_at(self, tokens: float) -> Spread | None:
        """The carried nll during training after `tokens` tokens, on a straight line between two validations.

        None if a run had already read more tokens at its first validation.
        """
        ways = [run.validations for run in self.finished]
        if any(tokens < way[0]["tokens"] for way in ways):
            return None
        return Spread.of(
            [float(np.interp(tokens, [row["tokens"] for row in w], [row["val/nll"] for row in w])) for w in ways]
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and steps of a batch."""
        return self.finished[0].finished.shape


@dataclass(frozen=True)
class Comparison:
    """Members in the order of their carried nll, those without a finished run last.

    Attributes:
        worst: the highest carried nll at the end of a finished run, by its last validation during training.
        budget: the budget of all runs, in words; empty if they had different budgets.
        cautions: what to keep in mind when comparing them.
    """

    members: list[Member]
    worst: float
    budget: str
    cautions: list[str]

    @property
    def finished(self) -> list[Member]:
        return [member for member in self.members if member.finished]

    @property
    def step(self) -> str:
        """What a step of the data is called."""
        return self.finished[0].finished[0].finished.step

    @property
    def runs(self) -> list[Run]:
        return [run for member in self.members for run in member.runs]

    def best(self, metric: Metric) -> float | None:
        """The best mean of a metric; None if it has no better direction, or if seeds do not tell it from the others."""
        found = [
            (spread, len(member.finished))
            for member in self.finished
            if member.regime != ABLATION and (spread := member.metric(metric.key)) is not None
        ]
        if metric.better is None or len(found) < 2:
            return None
        best = metric.better(spread.mean for spread, _ in found)
        (own, seeds), *_ = (pair for pair in found if pair[0].mean == best)
        apart = all(s.high < own.low or s.low > own.high for s, _ in found if s.mean != best)
        return best if apart and seeds > 1 else None

    def differences(self) -> dict[str, list[str]]:
        """The settings in which members differ, with the value of each member; lost settings differ from none."""
        keys = sorted({key for member in self.members for key in member.settings} - {"regime"})
        values = {key: [str(member.settings.get(key, "")) for member in self.members] for key in keys}
        known = [bool(member.settings) for member in self.members]
        return {key: row for key, row in values.items() if len(set(compress(row, known))) > 1}


def read(folders: Sequence[str | Path]) -> Comparison:
    """Compare all runs in and under `folders`.

    Raises:
        UserError: there are no runs, none is finished, or they were trained on different data.
    """
    each = read_each(folders)
    if len(each) > 1:
        finished = [run for one in each for member in one.finished for run in member.finished]
        sources = Counter(f"{run.finished.data['source']} {run.finished.data['tokens_sha256'][:12]}" for run in finished)
        different = "; ".join(f"{source} ({n} run{'s' * (n > 1)})" for source, n in sources.items())
        codecs = len({run.finished.data["vocab_sha256"] for run in finished}) > 1
        unlike = "on different data or with different codecs" if codecs else "on different data"
        told = f"runs: trained {unlike}, so their nll per step cannot be compared: {different}"
        raise UserError("; ".join([told, *filter(None, [per_word(each)])]))
    return each[0]


def read_each(folders: Sequence[str | Path]) -> list[Comparison]:
    """Compare all runs in and under `folders`, those on the same data with each other, in the order of the folders.

    A run that has not finished is shown among those that read the same data settings.

    Raises:
        UserError: there are no runs, or none is finished.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(
                f"runs={printable(folder)}: no such folder; give the folder of a sweep or of a run, or several as [a,b]"
            )
    found = {run.resolve() for folder in folders for run in _runs_under(Path(folder))}
    if not found:
        given = printable(", ".join(map(str, folders)))
        raise UserError(f"runs={given}: no run is there; give the folder of a sweep or of a run")
    runs = [read_run(folder) for folder in sorted(found, key=_natural)]
    if all(run.fault for run in runs):
        lines = [f"{run.where}: {run.fault}" for run in runs]
        raise UserError("\n".join(["runs: none of these is finished, so there is nothing to compare:", *lines]))
    by_data: dict[str, list[Run]] = {}
    for run in runs:
        if not run.fault:
            by_data.setdefault(run.finished.data["tokens_sha256"], []).append(run)
    like = {_data_settings(run): data for data, group in reversed(by_data.items()) for run in group}
    for run in runs:
        if run.fault:
            by_data[like.get(_data_settings(run), next(iter(by_data)))].append(run)
    return [_compared(sorted(group, key=lambda run: _natural(run.folder))) for group in by_data.values()]


def _data_settings(run: Run) -> str:
    """The settings that decide what a run reads."""
    kept = {key: value for key, value in run.settings.items() if key.split(".")[0] in ("data", "codec", "data_limit")}
    return json.dumps(kept, sort_keys=True, default=str)


def _compared(runs: list[Run]) -> Comparison:
    finished = [run for run in runs if not run.fault]
    worst = max(run.validations[-1]["val/nll"] for run in finished)
    for run in finished:
        run.metrics["seconds_to_worst"] = _seconds_to(run, worst)
    members = _members(runs)
    shortest = min(spread.mean for member in members if (spread := member.metric("seconds_to_worst")))
    for run in finished:
        run.metrics["cost"] = run.metrics["seconds_to_worst"] / shortest if shortest > 0 else math.nan
    members.sort(key=lambda member: member.nll.mean if member.finished else math.inf)
    return Comparison(members, worst, _budget(finished), _cautions(members, finished))


def per_word(each: Sequence[Comparison]) -> str:
    """A line with the perplexity per word of runs on one text by different codecs; empty if one of them has none."""
    finished = [run for one in each for member in one.finished for run in member.finished]
    if len({run.finished.data["source"] for run in finished}) > 1 or len(each) == 1:
        return ""
    by_word = _by_word(finished)
    return f"their perplexity per word can: {', '.join(by_word)}" if by_word else ""


def _by_word(runs: list[Run]) -> list[str]:
    """The perplexity per word of each run, the lowest first; empty if one of them has none.

    A rare word is `<unk>` to words, which is easier to predict than its letters.
    """
    nll = {
        f"{run.where} ({run.settings.get('codec')})": run.metrics.get(
            "val/word_nll", run.metrics["val/nll"] if run.settings.get("codec") == "words" else math.inf
        )
        for run in runs
    }
    lowest = sorted(nll.items(), key=lambda pair: pair[1])
    return [f"{name} {math.exp(value):,.1f}" for name, value in lowest] if max(nll.values()) < 100 else []


def _runs_under(folder: Path) -> Iterator[Path]:
    """The folders of runs in and under a folder; links are not followed."""
    left = [folder]
    while left:
        here = left.pop()
        try:
            entries = [*here.iterdir()]
            left += [entry for entry in entries if not entry.is_symlink() and entry.is_dir()]
        except OSError:
            continue
        if TRACES & {entry.name for entry in entries}:
            yield here


def _seconds_to(run: Run, nll: float) -> float:
    """The seconds until the carried nll of a run fell to `nll`; the run must end no higher."""
    way = run.validations
    reached = next(place for place, row in enumerate(way) if row["val/nll"] <= nll)
    if reached == 0:
        return way[0]["seconds"]
    falling = way[reached], way[reached - 1]
    return float(np.interp(nll, [row["val/nll"] for row in falling], [row["seconds"] for row in falling]))


def _natural(folder: Path) -> list[tuple[int, str]]:
    """The members of a sweep by number: 2 before 10."""
    return [(int(part.split("-")[0]) if part.split("-")[0].isdecimal() else -1, part) for part in folder.parts]


def _members(runs: list[Run]) -> list[Member]:
    alike: dict[str, list[Run]] = {}
    for run in runs:
        settings = {key: value for key, value in run.settings.items() if not key.startswith(PRIVATE)}
        alike.setdefault(json.dumps(settings, sort_keys=True, default=str), []).append(run)
    unnamed = [Member("", group) for group in alike.values()]
    members: dict[str, Member] = {}
    for member in unnamed:
        label, number = _label(member, unnamed), 1
        while (name := label if number == 1 else f"{label} ({number})") in members:  # it was cut off, or settings end alike
            number += 1
        members[name] = Member(name, member.runs)
    return [*members.values()]


def _label(member: Member, members: list[Member]) -> str:
    """The regime, and the settings in which the member differs from others of the same regime."""
    others = [other for other in members if other.regime == member.regime]
    keys = {key for other in others for key in other.settings}
    differing = {key for key in keys if len({str(other.settings.get(key)) for other in others}) > 1}
    differing = {key for key in differing if not _said_by_label(key, others)}
    # Where classes differ, their names are enough: the settings below them are not shown.
    shown = sorted(key for key in differing if not any(key.startswith(f"{other}.") for other in differing))
    parts = [f"{key.split('.')[-1]}={member.settings.get(key)}" for key in shown]
    return printable(" ".join([member.regime_label, *parts]), most=60)


def _said_by_label(key: str, members: list[Member]) -> bool:
    """Whether the labels of a regime differ exactly where a setting of it does: `stateful8` has 8 streams."""
    if not key.startswith("regime."):
        return False
    pairs = {(member.regime_label, str(member.settings.get(key))) for member in members}
    return len(pairs) == len({label for label, _ in pairs}) == len({value for _, value in pairs})


def _budget(runs: list[Run]) -> str:
    names = {"seconds": "{:,g} seconds of training", "tokens": "{:,.0f} tokens", "max_epochs": "{:,.0f} epochs"}
    limits = [_limits(run) for run in runs]
    if any(other != limits[0] for other in limits):
        return ""
    return ", or at most ".join(name.format(limits[0][key]) for key, name in names.items() if key in limits[0])


def _limits(run: Run) -> dict[str, float]:
    return {key: value for key, value in run.finished.limits.items() if value is not None}


UNLIKE_SPEEDS = 1.3
"""How many times as many tokens one seed may read as another in equal seconds without a word."""


def _most_by_least(member: Member) -> float:
    read = [run.finished.tokens for run in member.finished]
    return max(read) / min(read)


def _cautions(members: list[Member], finished: list[Run]) -> list[str]:
    cautions = []
    faults = [run for member in members for run in member.faults]
    if faults:
        cautions.append(
            f"{len(faults)} of {len(faults) + len(finished)} runs have no metrics, because they failed or are not finished."
        )
    if not _budget(finished):
        cautions.append("The runs had different budgets, so their final losses are no fair comparison of their regimes.")
    few = [member.label for member in members if len({run.seed for run in member.finished}) == 1]
    if len(few) > 1 and len(few) == sum(bool(member.finished) for member in members):
        cautions.append("Only one seed each, so the results may be chance.")
    elif few:
        more = f" and {len(few) - 5} others" if len(few) > 5 else ""
        cautions.append(f"Only one seed, so the result may be chance: {', '.join(few[:5])}{more}.")
    if len({run.finished.reset_every for run in finished}) > 1:
        cautions.append("evaluation.reset_every differs, so the nll with resets cannot be compared.")
    for key in ("evaluation.tokens", "evaluation.streams", "evaluation.warmup"):
        if len({str(run.settings.get(key)) for run in finished}) > 1:
            cautions.append(f"{key} differs, so the curves and the values from them were not measured alike.")
    if {*_limits(finished[0])} == {"seconds"} and _budget(finished):
        unlike = [m for m in members if len(m.finished) > 1 and _most_by_least(m) > UNLIKE_SPEEDS]
        if unlike:
            told = ", ".join(f"{m.label} {_most_by_least(m):.1f} times" for m in unlike[:3])
            cautions.append(
                f"In equal seconds, one seed read more tokens than another: {told}. The machine was busy, so these losses "
                "are rough. budget.tokens does not depend on that."
            )
    read = [run.finished.tokens for run in finished]
    if {*_limits(finished[0])} == {"tokens"} and _budget(finished) and max(read) > 1.02 * min(read):
        cautions.append(f"A run ends with a whole batch, so the runs read between {min(read):,} and {max(read):,} tokens.")
    for key in ("device", "devices", "precision", "versions", "parameters"):
        values = sorted({printable(getattr(run.finished, key)) for run in finished})
        if len(values) > 1:
            cautions.append(f"{key} differs between the runs: {', '.join(values)}.")
    for precision in sorted({run.finished.precision for run in finished}):
        alike = [run.finished for run in finished if run.finished.precision == precision]
        rates = [record.matrix_rate for record in alike]
        if rates and max(rates) > 1.25 * min(rates):
            cautions.append(
                f"In {precision} the device's measured matrix rate was between {min(rates):.3g} and {max(rates):.3g} "
                "operations per second. Either it was slowed down at times, or there were several devices, so speeds and "
                "utilisation are rough."
            )
    return cautions
