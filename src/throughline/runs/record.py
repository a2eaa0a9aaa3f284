"""The files that a run writes and reports read: `summary.json` and `metrics.csv`, one schema for both sides."""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, field, fields
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError

FORMAT = 2
"""The format of `summary.json` and `metrics.csv`."""

AXES = ("step", "epoch", "tokens", "updates", "seconds")
"""The place of a row of `metrics.csv`: batches, epochs and targets trained on, updates made, and seconds of training."""

COLUMNS = (
    *AXES,
    *("train/nll", "train/bpc", "train/grad_norm", "train/tokens_per_second", "train/lr"),
    *("device/utilisation", "device/data_wait", "device/driver_utilisation"),
)
"""The columns of `metrics.csv` before those of the readings; nll is in nats and bpc in bits, both per token."""
VALIDATION = ("val/nll", "val/bpc", "val/ppl", "val/accuracy")
"""The columns of a reading; each reading adds its suffix."""


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class Record:
    """The results of a finished run. In `summary.json` the metrics stand beside the fields.

    Attributes:
        shape: rows and steps of a batch, as given by the regime.
        seconds: the training time; `wall_seconds` is the time of the whole run.
        train_targets: how many targets the training line has.
        limits: the limits of the run; it ended at the first one that it reached.
        positions, flops: the steps of all rows that the model read, and the operations that it needed for them.
        matrix_rate: the measured operations per second of the device.
        label: the regime as folders and the screen call it, `stateful32`; empty in records of earlier versions.
        metrics: by name: `val/nll`, `device/utilisation`, ...
    """

    name: str
    regime: str
    model: str
    seed: int
    shape: tuple[int, int]
    limits: dict[str, float | None]
    epochs: float
    tokens: int
    steps: int
    updates: int
    seconds: float
    wall_seconds: float
    tokens_per_second: float
    train_targets: int
    reset_every: int
    positions: int
    flops: int
    matrix_rate: float
    peak_memory_bytes: int
    parameters: int
    precision: str
    device: str
    devices: int
    data: dict[str, Any]
    versions: dict[str, str]
    label: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    format: int = FORMAT

    def to_plain(self) -> dict[str, Any]:
        """The contents of `summary.json`."""
        values = asdict(self)
        return {**values, **values.pop("metrics"), "shape": list(self.shape)}

    def write(self, folder: Path) -> None:
        """Write `summary.json`; a run with this file counts as finished."""
        atomic.write({folder / "summary.json": (json.dumps(self.to_plain(), indent=2) + "\n").encode()})

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Read `summary.json`.

        Raises:
            UserError: it is damaged, or of another version of throughline.
            OSError: it cannot be read.
        """
        file = folder / "summary.json"
        try:
            values = json.loads(file.read_text())
            if not isinstance(values, dict):
                raise TypeError("no object")
        except (ValueError, TypeError) as error:
            raise UserError(f"unreadable: {type(error).__name__}: {error}") from None
        if values.get("format", 1) != FORMAT:
            raise UserError(f"written by another version of throughline: format {values.get('format', 1)}, not {FORMAT}")
        names = {f.name for f in fields(cls)}
        metrics = {key: value for key, value in values.items() if key not in names}
        try:
            known = {key: value for key, value in values.items() if key in names}
            return TypeAdapter(cls).validate_python({**known, "metrics": metrics})
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(f"unreadable: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def metric_rows(path: Path) -> Iterator[dict[str, str]]:
    """The complete rows of a `metrics.csv`, by its own columns; an incomplete last row is left out.

    Raises:
        UserError: a row holds something other than numbers.
    """
    with path.open(newline="\n", errors="replace") as file:
        reader = csv.DictReader(line for line in file if line.endswith("\n"))
        try:
            for row in reader:
                int(row["step"])
                [float(value) for value in row.values() if value != ""]
                yield row
        except (KeyError, TypeError, ValueError, csv.Error):
            raise UserError(
                f"{path}: line {reader.line_num} is not a row of metrics; repair it, or move the file away"
            ) from None


def metric_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv` as numbers, empty cells left out."""
    return [{key: float(value) for key, value in row.items() if value} for row in metric_rows(path)]
