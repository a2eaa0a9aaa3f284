"""Runs side by side: what each was told, what came of it, and how that spreads over seeds.

What lies in a run's folder may come from anywhere, so it is read as plain data and believed only where it fits together.
"""

import csv
import json
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from omegaconf import OmegaConf

from throughline.plumbing.errors import UserError


@dataclass(frozen=True)
class Figure:
    """A figure of a run: how it is written, which end of it is the better one, and how it was measured."""

    key: str
    heading: str
    show: Callable[[float], str]
    better: Callable[[Iterable[float]], float] | None
    how: str


FIGURES = (
    Figure(
        "val/nll",
        "nll, carried",
        "{:.4f}".format,
        min,
        "Nats per token of the validation split, read once from beginning to end with the state carried, by the weights at "
        "the end of the run, in the precision that these have.",
    ),
    Figure(
        "val/nll_reset",
        "nll, reset",
        "{:.4f}".format,
        min,
        "The same with the state set to zeros every so many tokens: evaluation.reset_every, 256 unless told otherwise.",
    ),
    Figure("val/bpc", "bpc", "{:.4f}".format, min, "Bits per character, or per event: the carried nll over the log of 2."),
    Figure(
        "tokens_per_second",
        "tokens/s",
        "{:,.0f}".format,
        max,
        "Targets trained on, over seconds of training; validation and checkpoints are not counted in these.",
    ),
    Figure(
        "device/utilisation",
        "utilisation",
        "{:.1%}".format,
        max,
        "Operations that the model needs for the positions it read, padding included, over seconds of training, over the "
        "rate of the fastest matrix product that the device was measured to do in the same precision, before the run or "
        "after it.",
    ),
    Figure(
        "device/data_wait",
        "data wait",
        "{:.1%}".format,
        min,
        "The share of the seconds of training in which the next batch was waited for.",
    ),
    Figure(
        "peak_memory_bytes",
        "peak memory (MiB)",
        lambda value: f"{value / 2**20:,.0f}",
        min,
        "The most memory that the process held, or on a GPU its tensors; libraries and data included, and in a sweep what "
        "the members before have left in it.",
    ),
    Figure(
        "updates",
        "updates",
        "{:,.0f}".format,
        None,
        "Batches over trainer.accumulate_grad_batches; of onestep, tokens.",
    ),
    Figure(
        "seconds_to_worst",
        "seconds to the worst's nll",
        "{:,.3g}".format,
        min,
        "Seconds of training until the carried nll was as low as the one that the worst of all finished runs ended with, "
        "both by validations on the way: between two of them by a straight line, and where the first was that low already, "
        "its time, which may be too long. These may be of a part of the split, evaluation.tokens.",
    ),
    Figure(
        "cost",
        "cost",
        "{:,.1f}x".format,
        min,
        "That time, as a multiple of the shortest one in this table.",
    ),
)
AXES = {"seconds": "seconds of training", "tokens": "tokens trained on", "updates": "updates"}
ABLATION = "shuffled_carry"
"""The regime that nobody would train with: it is shown, and never the best of anything."""
PRIVATE = ("seed", "resume", "output_root", "logger.")
"""Settings in which two runs may differ and still be the same but for chance."""


class Spread(NamedTuple):
    """A figure over the seeds: the mean, and the lowest and the highest of them."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(math.fsum(values) / len(values), min(values), max(values))


@dataclass(frozen=True)
class Run:
    """What the folder of a run says.

    Attributes:
        settings: its configuration, flat, by dotted names.
        overrides: what it was told on the command line.
        fault: why it has no figures; empty for a finished run.
        shape, summary, train_targets, figures, curve, by_position, passage: of a finished run; empty where there is a fault.
        shape: rows and steps of a batch.
        train_targets: how many targets its training line has.
        curve: the rows of `metrics.csv`, with `updates` as one more column.
        by_position: (position, nll, targets), ascending.
    """

    folder: Path
    settings: dict[str, Any]
    overrides: list[str]
    fault: str = ""
    shape: tuple[int, int] = (0, 0)
    summary: dict[str, Any] = field(default_factory=dict)
    train_targets: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    by_position: list[tuple[int, float, int]] = field(default_factory=list)
    passage: str = ""

    @property
    def regime(self) -> str:
        return str(self.settings.get("regime._target_", "unknown")).split(".")[-2:][0]

    @property
    def seed(self) -> Any:
        return self.settings.get("seed", "?")

    @property
    def validations(self) -> list[dict[str, float]]:
        return [row for row in self.curve if "val/nll" in row]


class Unfinished(Exception):  # noqa: N818  # it is no error
    """Why a run has no figures."""


def read_run(folder: Path) -> Run:
    """Read the folder of a run; whatever is wrong with it becomes its `fault`, and it then has no figures."""
    run = Run(folder, {}, [])
    try:
        settings = _flat(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=False))
        overrides = [printable(override) for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
        run = replace(run, settings=settings, overrides=overrides)
        return replace(run, **_outcome(folder, settings))
    except Unfinished as why:
        return replace(run, fault=printable(why))
    except Exception as error:  # files can be wrong in more ways than have names
        return replace(run, fault=printable(f"unreadable: {type(error).__name__}: {error}"))


def _outcome(folder: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """What a finished run left, by the names of the attributes of `Run`.

    Raises:
        Unfinished: it failed, or something is not there yet.
    """
    if (folder / "failure.txt").exists():
        lines = (folder / "failure.txt").read_text(errors="replace").strip().split("\n")
        raise Unfinished(f"failed: {lines[-1]}")
    if not (folder / "summary.json").exists():
        raise Unfinished("not finished")
    summary = json.loads((folder / "summary.json").read_text())
    curve = _numbers(folder / "metrics.csv")
    if (curve[-1]["step"], curve[-1]["tokens"]) != (summary["steps"], summary["tokens"]):
        raise Unfinished("not finished: it has gone on since its summary was written")
    per_update = int(settings["trainer.accumulate_grad_batches"])
    by_token = "regime.updates" in settings  # several updates a batch, one for each token
    curve = [{**row, "updates": row["tokens"] if by_token else row["step"] / per_update} for row in curve]
    figures = {figure.key: float(summary[figure.key]) for figure in FIGURES if figure.key in summary}
    figures["updates"] = curve[-1]["updates"]
    driver = [row["device/driver_utilisation"] for row in curve if "device/driver_utilisation" in row]
    if driver:
        figures["device/driver_utilisation"] = math.fsum(driver) / len(driver)
    needed = [figures[key] for key in ("val/nll", "val/nll_reset", "val/bpc", "tokens_per_second", "peak_memory_bytes")]
    if not all(map(math.isfinite, [*needed, curve[-1]["val/nll"], *(row[axis] for row in curve for axis in AXES)])):
        raise Unfinished("failed: its figures are not finite")
    by_position = _numbers(folder / "by_position.csv") if (folder / "by_position.csv").exists() else []
    passage = (folder / "samples.txt").read_text(errors="replace")
    about = {key: printable(summary[key]) for key in ("device", "precision")}
    data = {**summary["data"], "source": printable(summary["data"]["source"]), "vocab": int(summary["data"]["vocab"])}
    versions = {key: printable(summary["versions"][key]) for key in ("python", "torch")}
    limits = {key: float(value) for key, value in summary["limits"].items() if value is not None}
    rows = settings.get("regime.streams", settings.get("regime.batch_size", 0))
    steps = settings.get("regime.bptt", settings.get("regime.steps", settings.get("regime.max_length", 0)))
    return {
        "shape": (int(rows), int(steps)),
        "summary": {**summary, **about, "data": data, "versions": versions, "limits": limits},
        "train_targets": round(summary["tokens"] / float(summary["epochs"])),
        "figures": figures,
        "curve": curve,
        "by_position": [(int(row["position"]), row["nll"], int(row["targets"])) for row in by_position],
        "passage": passage,
    }


def _numbers(file: Path) -> list[dict[str, float]]:
    with file.open(newline="") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]


def printable(text: Any, most: int = 500) -> str:
    """One line of text, at most so long, that no terminal takes for a command."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return line if len(line) <= most else line[: most - 3] + "..."


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    return {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{name}.").items()}


def _tokens_sha256(run: Run) -> str:
    return printable(run.summary["data"]["tokens_sha256"])


@dataclass(frozen=True)
class Member:
    """Runs that differ in nothing but the seed."""

    label: str
    runs: list[Run]

    @property
    def regime(self) -> str:
        return self.runs[0].regime

    @cached_property
    def settings(self) -> dict[str, Any]:
        return {k: v for k, v in self.runs[0].settings.items() if not k.startswith(PRIVATE)}

    @cached_property
    def finished(self) -> list[Run]:
        return [run for run in self.runs if not run.fault]

    @property
    def faults(self) -> list[Run]:
        return [run for run in self.runs if run.fault]

    def figure(self, key: str) -> Spread | None:
        """Over the finished runs; None where one of them does not have it."""
        values = [run.figures.get(key, math.nan) for run in self.finished]
        return Spread.of(values) if values and all(map(math.isfinite, values)) else None

    @property
    def nll(self) -> Spread:
        return Spread.of([run.figures["val/nll"] for run in self.finished])

    def nll_at(self, tokens: float) -> Spread | None:
        """The carried nll on the way, where so many tokens had been read: between two validations by a straight line.

        None where a run had more tokens than that behind it when it was first validated.
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
        return self.finished[0].shape


@dataclass(frozen=True)
class Comparison:
    """Members in the order of their carried nll, those without a finished run last.

    Attributes:
        worst: the highest carried nll that a finished run ended with, by its last validation on the way.
        budget: what all runs were given, in words; empty where they were not given the same.
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
    def runs(self) -> list[Run]:
        return [run for member in self.members for run in member.runs]

    def best(self, figure: Figure) -> float | None:
        """The best mean of a figure, where it has a better end and there is something to be better than."""
        means = [
            spread.mean
            for member in self.finished
            if member.regime != ABLATION and (spread := member.figure(figure.key)) is not None
        ]
        return figure.better(means) if figure.better and len(means) > 1 else None

    def differences(self) -> dict[str, list[str]]:
        """The settings in which members differ, with the value of each member."""
        keys = sorted({key for member in self.members for key in member.settings} - {"regime._target_"})
        values = {key: [str(member.settings.get(key, "")) for member in self.members] for key in keys}
        return {key: row for key, row in values.items() if len(set(row)) > 1}


def read(folders: Sequence[str | Path]) -> Comparison:
    """Compare all runs in and under `folders`.

    Raises:
        UserError: there are none, none is finished, or they are of different data.
    """
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"runs={folder}: no such folder; give that of a sweep or of a run, or several as [a,b]")
    found = {file.parent.parent.resolve() for folder in folders for file in Path(folder).rglob(".hydra/config.yaml")}
    if not found:
        raise UserError(f"runs={', '.join(map(str, folders))}: no run lies there; give the folder of a sweep or of a run")
    runs = [read_run(folder) for folder in sorted(found, key=_natural)]
    finished = [run for run in runs if not run.fault]
    if not finished:
        lines = [f"{run.folder}: {run.fault}" for run in runs]
        raise UserError("\n".join(["runs: none of these is finished, so there is nothing to compare:", *lines]))
    if len({_tokens_sha256(run) for run in finished}) > 1:
        sources = Counter(f"{run.summary['data']['source']} {_tokens_sha256(run)[:12]}" for run in finished)
        told = "; ".join(f"{source} ({n} runs)" for source, n in sources.items())
        raise UserError(f"runs: of different data, whose nll cannot be compared: {told}")
    worst = max(run.validations[-1]["val/nll"] for run in finished)
    for run in finished:
        run.figures["seconds_to_worst"] = _seconds_to(run, worst)
    members = _members(runs)
    shortest = min(spread.mean for member in members if (spread := member.figure("seconds_to_worst")))
    for run in finished:
        run.figures["cost"] = run.figures["seconds_to_worst"] / shortest
    members.sort(key=lambda member: member.nll.mean if member.finished else math.inf)
    return Comparison(members, worst, _budget(finished), _cautions(members, finished))


def _seconds_to(run: Run, nll: float) -> float:
    """When the carried nll of a run, which ended no higher, was down at `nll`."""
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
    labels = [_label(member, unnamed) for member in unnamed]
    for place, label in enumerate(labels):
        if label in labels[:place]:  # cut off, or two settings of which the last parts of the names are alike
            labels[place] = f"{label} ({place})"
    return [Member(label, member.runs) for label, member in zip(labels, unnamed, strict=True)]


def _label(member: Member, members: list[Member]) -> str:
    """The regime, and what tells the member from others of the same one."""
    others = [other.settings for other in members if other.regime == member.regime]
    keys = {key for settings in others for key in settings}
    differing = sorted(key for key in keys if len({str(settings.get(key)) for settings in others}) > 1)
    told = [f"{key.split('.')[-1]}={member.settings.get(key)}" for key in differing]
    return printable(" ".join([member.regime, *told]), most=60)


def _budget(runs: list[Run]) -> str:
    names = {"seconds": "{:,g} seconds of training", "tokens": "{:,.0f} tokens", "max_epochs": "{:,.0f} epochs"}
    limits = [run.summary["limits"] for run in runs]
    if any(other != limits[0] for other in limits):
        return ""
    return ", or at most ".join(name.format(limits[0][key]) for key, name in names.items() if key in limits[0])


def _cautions(members: list[Member], finished: list[Run]) -> list[str]:
    told = []
    faults = [run for member in members for run in member.faults]
    if faults:
        told.append(f"{len(faults)} of {len(faults) + len(finished)} runs have no figures: they failed or are not finished.")
    if not _budget(finished):
        told.append("The runs were not given equal budgets, so what they ended with says little about their regimes.")
    few = [member.label for member in members if len({run.seed for run in member.finished}) == 1]
    if few:
        told.append(f"One seed only, so chance cannot be told from merit: {', '.join(few)}.")
    if len({run.summary.get("reset_every") for run in finished}) > 1:
        told.append("evaluation.reset_every differs, so the nll with resets cannot be compared.")
    for key in ("evaluation.tokens", "evaluation.streams", "evaluation.warmup"):
        if len({str(run.settings.get(key)) for run in finished}) > 1:
            told.append(f"{key} differs, so the curves, and what is read off them, were not measured alike.")
    read = [run.summary["tokens"] for run in finished]
    if {*finished[0].summary["limits"]} == {"tokens"} and _budget(finished) and max(read) > 1.02 * min(read):
        told.append(f"Batches are whole, so the runs read between {min(read):,} and {max(read):,} tokens.")
    for key in ("device", "devices", "precision", "versions", "parameters"):
        values = sorted({printable(run.summary.get(key)) for run in finished})
        if len(values) > 1:
            told.append(f"{key} differs between the runs: {', '.join(values)}.")
    for precision in sorted({run.summary["precision"] for run in finished}):
        alike = [run.summary for run in finished if run.summary["precision"] == precision]
        rates = [float(summary["matrix_rate"]) for summary in alike if "matrix_rate" in summary]
        if rates and max(rates) > 1.25 * min(rates):
            told.append(
                f"In {precision} the device was measured at between {min(rates):.3g} and {max(rates):.3g} operations a "
                "second: it was slowed down at times, or there are several, so speeds and utilisation are rough."
            )
    return told
