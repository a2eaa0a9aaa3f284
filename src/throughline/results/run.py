"""One run, read from its folder.

The files may come from anywhere, so they are read as plain data and accepted only if they fit together.
"""

import csv
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from throughline.plumbing.errors import UserError
from throughline.results.metrics import AXES
from throughline.runs.record import Record, metric_numbers
from throughline.settings import word


@dataclass(frozen=True)
class Run:
    """The contents of the folder of a run.

    Attributes:
        settings: its configuration, flat, by dotted names.
        overrides: the overrides of its command line.
        fault: the reason why it has no metrics; empty for a finished run.
        record: the record of a finished run; an unfinished run also has no metrics, curve, positions and passage.
        metrics: those of its record, and others that are computed from its files or from a comparison with other runs.
        curve: the rows of `metrics.csv`.
        by_position: (position, nll, targets), ascending.
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

    @property
    def regime(self) -> str:
        return self.record.regime if self.record else str(self.settings.get("regime", "unknown"))

    @property
    def finished(self) -> Record:
        """The record of a run that has no fault."""
        assert self.record is not None, self.fault
        return self.record

    @property
    def seed(self) -> Any:
        return self.settings.get("seed", "?")

    @property
    def validations(self) -> list[dict[str, float]]:
        return [row for row in self.curve if "val/nll" in row]


class Unfinished(Exception):  # noqa: N818  # it is not an error
    """The reason why a run has no metrics."""


def read_run(folder: Path) -> Run:
    """Read the folder of a run; anything wrong with it becomes its `fault`, and the run then has no metrics."""
    run = Run(folder, {}, [])
    try:
        settings = _flat(OmegaConf.to_container(OmegaConf.load(folder / ".hydra" / "config.yaml"), resolve=False))
        overrides = [printable(override) for override in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
        run = replace(run, settings=settings, overrides=overrides)
        return _finished(run)
    except (Unfinished, UserError) as why:
        return replace(run, fault=printable(why))
    except Exception as error:  # a file can be wrong in more ways than can be listed
        return replace(run, fault=printable(f"unreadable: {type(error).__name__}: {error}"))


def _finished(run: Run) -> Run:
    """The run with the contents of its files.

    Raises:
        Unfinished: it failed, or something is not there yet.
        UserError: a file is damaged, or of another version.
    """
    folder = run.folder
    if (folder / "failure.txt").exists():
        lines = (folder / "failure.txt").read_text(errors="replace").strip().split("\n")
        raise Unfinished(f"failed: {lines[-1]}")
    if not (folder / "summary.json").exists():
        raise Unfinished("not finished")
    record = _printable_record(Record.read(folder))
    curve = metric_numbers(folder / "metrics.csv")
    if (curve[-1]["step"], curve[-1]["tokens"]) != (record.steps, record.tokens):
        raise Unfinished("not finished: it was resumed after its summary was written")
    metrics = {key: float(getattr(record, key, math.nan)) for key in ("tokens_per_second", "peak_memory_bytes", "updates")}
    metrics |= record.metrics
    driver = [row["device/driver_utilisation"] for row in curve if "device/driver_utilisation" in row]
    if driver:
        metrics["device/driver_utilisation"] = math.fsum(driver) / len(driver)
    needed = [metrics[key] for key in ("val/nll", "val/nll_reset", "tokens_per_second", "peak_memory_bytes")]
    if not all(map(math.isfinite, [*needed, curve[-1]["val/nll"], *(row[axis] for row in curve for axis in AXES)])):
        raise Unfinished("failed: its metrics are not finite")
    positions = _numbers(folder / "by_position.csv") if (folder / "by_position.csv").exists() else []
    return replace(
        run,
        record=record,
        metrics=metrics,
        curve=curve,
        by_position=[(int(row["position"]), row["nll"], int(row["targets"])) for row in positions],
        passage=(folder / "samples.txt").read_text(errors="replace"),
    )


def _printable_record(record: Record) -> Record:
    """The record with texts that a terminal or a page shows as text and nothing else."""
    texts: dict[str, Any] = {
        key: printable(getattr(record, key)) for key in ("name", "label", "regime", "model", "device", "precision")
    }
    data = {**record.data, "source": printable(record.data["source"]), "vocab": int(record.data["vocab"])}
    versions = {key: printable(record.versions[key]) for key in ("python", "torch")}
    return replace(record, **texts, data=data, versions=versions)


def _numbers(file: Path) -> list[dict[str, float]]:
    with file.open(newline="") as lines:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(lines)]


def printable(text: Any, most: int = 500) -> str:
    """One line of text, at most `most` characters long, in which a terminal finds no command."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return line if len(line) <= most else line[: most - 3] + "..."


def _flat(node: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(node, dict):
        return {prefix.rstrip("."): node}
    flat = {key: value for name, part in node.items() for key, value in _flat(part, f"{prefix}{name}.").items()}
    classes = {key for key in flat if key.endswith("._target_")}
    # The class of a group is shown as its word, under the name of the group.
    return {key.removesuffix("._target_"): word(str(v)) if key in classes else v for key, v in flat.items()}
