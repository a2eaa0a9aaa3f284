"""One run, read from its folder.

The files may come from anywhere, so they are read as plain data and accepted only if they fit together.
"""

import csv
import io
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import content, printable, text, yaml_values
from throughline.results.metrics import AXES
from throughline.runs.record import AS_IT_LEARNED, LARGE_FILE, SMALL_FILE, Record, metric_numbers
from throughline.settings import word

LONGEST_LINE = 500
"""How many characters of a name, a fault or an override are shown."""
LARGEST = 1e100
"""Numbers beyond this are as good as infinite: sums of many numbers below it are finite."""


@dataclass(frozen=True)
class Run:
    """The contents of the folder of a run.

    Attributes:
        settings: its configuration, flat, by dotted names; all texts are printable, here and in the record.
        overrides: the overrides of its command line.
        fault: the reason why it has no metrics; empty for a finished run.
        record: the record of a finished run; an unfinished run also has no metrics, curve, positions and passage.
        metrics: those of its record, and others that are computed from its files or from a comparison with other runs.
        curve: the rows of `metrics.csv`, without numbers that are not finite.
        by_position: (position, nll, targets), ascending.
        passage, picture: what it generated at its end: a text, or frames as a picture (PNG).
    """

    folder: Path
    settings: dict[str, Any]
    overrides: list[str]
    fault: str = ""
    record: Record | None = None
    metrics: dict[str, float] = field(default_factory=dict)
    curve: list[dict[str, float]] = field(default_factory=list)
    by_position: list[tuple[int, float, int]] = field(default_factory=list)
    passage: str = ""
    picture: bytes = b""

    @property
    def regime(self) -> str:
        return self.record.regime if self.record else str(self.settings.get("regime", "unknown"))

    @property
    def finished(self) -> Record:
        """The record of a run that has no fault."""
        assert self.record is not None, self.fault
        return self.record

    @property
    def seed(self) -> int | str:
        return self.record.seed if self.record else str(self.settings.get("seed", "?"))

    @property
    def where(self) -> str:
        """The folder as text."""
        return printable(self.folder)

    @property
    def validations(self) -> list[dict[str, float]]:
        return [row for row in self.curve if "val/nll" in row]


class Unfinished(Exception):  # noqa: N818  # it is not an error
    """The reason why a run has no metrics."""


def read_run(folder: Path) -> Run:
    """Read the folder of a run; anything wrong with it becomes its `fault`, and the run then has no metrics."""
    run = Run(folder, {}, [])
    try:
        settings = yaml_values(folder / ".hydra" / "config.yaml", SMALL_FILE)
        if not isinstance(settings, dict):
            raise UserError(".hydra/config.yaml: not a configuration")
        run = replace(run, settings=_flat(settings))
        overrides = yaml_values(folder / ".hydra" / "overrides.yaml", SMALL_FILE)
        if not isinstance(overrides, list) or not all(isinstance(override, str) for override in overrides):
            raise UserError(".hydra/overrides.yaml: not a list of overrides")
        run = replace(run, overrides=[printable(override, LONGEST_LINE) for override in overrides])
        return _finished(run)
    except Unfinished as why:
        return replace(run, fault=printable(why, LONGEST_LINE))
    except UserError as why:
        return replace(run, fault=printable(str(why).removeprefix(printable(f"{folder}/")), LONGEST_LINE))
    except Exception as error:  # a file can be wrong in more ways than can be listed
        return replace(run, fault=printable(f"unreadable: {type(error).__name__}: {error}", LONGEST_LINE))


def _finished(run: Run) -> Run:
    """The run with the contents of its files.

    Raises:
        Unfinished: it failed, or something is not there yet.
        UserError: a file is damaged, or of another version.
    """
    folder = run.folder
    if (folder / "failure.txt").exists():
        lines = content(folder / "failure.txt", SMALL_FILE).decode("utf-8", "replace").strip().split("\n")
        raise Unfinished(f"failed: {lines[-1]}")
    if not (folder / "summary.json").exists():
        raise Unfinished("not finished")
    record = _printable_record(Record.read(folder))
    curve = [_finite(row) for row in metric_numbers(folder / "metrics.csv")]
    if not curve:
        raise UserError("metrics.csv: no rows")
    if (curve[-1].get("step"), curve[-1].get("tokens")) != (record.steps, record.tokens):
        raise Unfinished("not finished: it was resumed after its summary was written")
    changed = record.changed(folder)
    if changed:
        raise UserError(f"damaged: {changed}")
    metrics = {key: float(getattr(record, key)) for key in ("tokens_per_second", "peak_memory_bytes", "updates")}
    metrics |= _finite(record.metrics)
    driver = [row["device/driver_utilisation"] for row in curve if "device/driver_utilisation" in row]
    if driver:
        metrics["device/driver_utilisation"] = math.fsum(driver) / len(driver)
    placed = all(row.keys() >= {"step", *AXES} for row in curve)
    if not (placed and metrics.keys() >= {"val/nll", "val/nll_reset"} and "val/nll" in curve[-1]):
        raise Unfinished("failed: its metrics are not finite")
    return replace(
        run,
        record=record,
        metrics=metrics,
        curve=curve,
        by_position=_by_position(folder / "by_position.csv") if (folder / "by_position.csv").exists() else [],
        passage="" if record.step == "frame" else _passage(folder / "samples.txt"),
        picture=picture(folder / "samples.png") if record.step == "frame" else b"",
    )


def _finite(numbers: Mapping[str, float]) -> dict[str, float]:
    """The numbers that can be compared and drawn."""
    return {key: value for key, value in numbers.items() if abs(value) <= LARGEST}


def _printable_record(record: Record) -> Record:
    """The record with texts that a terminal or a page shows as text and nothing else.

    Raises:
        UserError: what a report needs to know of the training is not there.
    """
    data, versions = record.data, record.versions
    words = data.get("source"), data.get("tokens_sha256"), versions.get("python"), versions.get("torch")
    sizes = data.get("vocab"), *record.shape, record.tokens, record.train_targets
    if not all(isinstance(said, str) for said in words) or not all(type(n) is int and 0 < n <= 10**15 for n in sizes):
        raise UserError("summary.json: data, versions, shape, tokens or train_targets are not those of a run")
    names = ("name", "label", "regime", "model", "device", "precision")
    texts: dict[str, Any] = {key: printable(getattr(record, key), LONGEST_LINE) for key in names}
    shown = {key: printable(data[key], LONGEST_LINE) for key in ("source", "tokens_sha256")}
    told = {key: printable(value, LONGEST_LINE) for key, value in versions.items()}
    return replace(record, **texts, data={**data, **shown}, versions=told)


def _by_position(file: Path) -> list[tuple[int, float, int]]:
    """The rows of `by_position.csv`.

    Raises:
        UserError: they are not those of the positions 1, 2, ...
    """
    table = csv.reader(io.StringIO(text(file, LARGE_FILE), newline=""))
    try:
        if next(table) != ["position", "nll", "targets"]:
            raise ValueError
        rows = [(int(position), float(nll), int(targets)) for position, nll, targets in table]
    except (ValueError, StopIteration, csv.Error):
        raise UserError("by_position.csv: not a table of losses by position") from None
    if not all(row[0] == k and abs(row[1]) <= LARGEST and row[2] > 0 for k, row in enumerate(rows, start=1)):
        raise UserError("by_position.csv: not a table of losses by position")
    return rows


def _passage(file: Path) -> str:
    """The last text in `samples.txt`, with its lines and tabs, but nothing else that a page would not show."""
    last, _, _ = content(file, LARGE_FILE).decode("utf-8", "replace").partition(f"\n{AS_IT_LEARNED}\n")
    lines = last.split("\n")
    return "\n".join("\t".join(map(printable, line.split("\t"))) for line in lines)


def picture(file: Path) -> bytes:
    """A picture in a file.

    Raises:
        UserError: it is none.
    """
    found = content(file, SMALL_FILE)
    if not found.startswith(b"\x89PNG\r\n\x1a\n"):
        raise UserError(f"{file.name}: not a picture")
    return found


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix.rstrip("."): printable(node) if isinstance(node, str) else node}
    flat = {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{printable(name)}.").items()}
    classes = {key for key in flat if key.endswith("._target_")}
    # The class of a group is shown as its word, under the name of the group.
    return {key.removesuffix("._target_"): word(str(v)) if key in classes else v for key, v in flat.items()}
