"""The files that a run writes and reports read: `summary.json` and `metrics.csv`, one schema for both sides."""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.plumbing.reading import content, json_values, printable

FORMAT = 2
"""The format of `summary.json` and `metrics.csv`."""

AXES = ("step", "epoch", "tokens", "updates", "seconds")
"""The place of a row of `metrics.csv`: batches, epochs and targets trained on, updates made, and seconds of training."""
ON_AXIS = {name: f"x/{name}" for name in AXES if name != "step"}
"""Their names in W&B, which come last in lists: the terminal browser shows them as charts of their own."""

COLUMNS = (
    *AXES,
    *("train/nll", "train/bpc", "train/grad_norm", "train/tokens_per_second", "train/lr"),
    *("device/utilisation", "device/data_wait", "device/driver_utilisation"),
)
"""The columns of `metrics.csv` before those of the readings; nll is in nats and bpc in bits, both per token."""
VALIDATION = ("val/nll", "val/bpc", "val/ppl", "val/accuracy")
"""The columns of a reading; each reading adds its suffix."""

UNITS = ("bpc", "ppl", "accuracy")
"""What a head may give beside the nll; frames have no bits per symbol and no perplexity."""

SMALL_FILE, LARGE_FILE = 2**22, 2**30
"""How many bytes a report reads of a file: settings, a summary and texts are small, tables can be large."""

Kept = Literal[
    "metrics.csv",
    "by_position.csv",
    "samples.txt",
    "samples.npy",
    "samples.png",
    ".hydra/config.yaml",
    ".hydra/overrides.yaml",
]
"""The files of a result, apart from `summary.json`."""

SEARCH_PICTURES = ("history.png", "importance.png")
"""What a search leaves in its folder, beside its trials, for the report."""

AS_IT_LEARNED = "--- passages on the way, from first to last ---"
"""The line in `samples.txt` after the passage that was generated at the end."""

Count = Annotated[int, Field(ge=0, le=10**15)]
Operations = Annotated[int, Field(ge=0, le=10**30)]
Amount = Annotated[float, Field(ge=0, le=1e100)]


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
        init_from: the file of the model whose weights the run began with, and its sha256; empty without one.
        changes: settings that changed in the middle of the run: after how many tokens, which, from what, to what.
        metrics: by name: `val/nll`, `device/utilisation`, ...
        files: the sha256 of the files of the result when the run ended; none in records of earlier versions.
    """

    name: str
    regime: str
    model: str
    seed: int
    shape: tuple[Count, Count]
    limits: dict[str, float | None]
    epochs: Amount
    tokens: Count
    steps: Count
    updates: Count
    seconds: Amount
    wall_seconds: Amount
    tokens_per_second: Amount
    train_targets: Count
    reset_every: Count
    positions: Count
    flops: Operations
    matrix_rate: Amount
    peak_memory_bytes: Count
    parameters: Count
    precision: str
    device: str
    devices: Count
    data: dict[str, Any]
    versions: dict[str, str]
    label: str = ""
    init_from: dict[str, str] = field(default_factory=dict)
    changes: list[dict[str, str | int | float | bool | None]] = field(default_factory=list)
    metrics: dict[str, float] = field(default_factory=dict)
    files: dict[Kept, str] = field(default_factory=dict)
    format: int = FORMAT

    def to_plain(self) -> dict[str, Any]:
        """The contents of `summary.json`, without its seal: `files` and `sha256`."""
        values = asdict(self)
        del values["files"]
        return {**values, **values.pop("metrics"), "shape": list(self.shape)}

    def write(self, folder: Path) -> "Record":
        """Write `summary.json`; a run with this file counts as finished. Returns the record with the seal of the files."""
        files = {name: _digest(folder / name) for name in get_args(Kept) if (folder / name).is_file()}
        values = sealed({**self.to_plain(), "files": files})
        atomic.write({folder / "summary.json": (json.dumps(values, indent=2) + "\n").encode()})
        return replace(self, files=files)

    def changed(self, folder: Path) -> str:
        """What is wrong with the first of these files that is not as the run left it; empty if all are."""
        for name, digest in self.files.items():
            if not (folder / name).exists():
                return f"{name} is missing"
            if hashlib.sha256(content(folder / name, LARGE_FILE)).hexdigest() != digest:
                return f"{name} is not as the run left it"
        return ""

    @property
    def step(self) -> str:
        """What one step is called."""
        return "token" if self.data.get("steps", "ids") == "ids" else "frame"

    @classmethod
    def read(cls, folder: Path) -> "Record":
        """Read `summary.json`.

        Raises:
            UserError: it cannot be read, it is damaged, or of another version of throughline.
        """
        file = folder / "summary.json"
        values = json_values(file, SMALL_FILE)
        if not isinstance(values, dict):
            raise UserError(printable(f"{file}: not an object"))
        if values.get("format", 1) != FORMAT:
            other = printable(values.get("format", 1), most=20)
            raise UserError(f"written by another version of throughline: format {other}, not {FORMAT}")
        seal = values.pop("sha256", None)
        if (seal is not None or "files" in values) and seal != sealed(values)["sha256"]:
            raise UserError("damaged: summary.json is not as the run left it")
        names = {f.name for f in fields(cls)}
        metrics = {key: value for key, value in values.items() if key not in names}
        known = {key: value for key, value in values.items() if key in names}
        try:
            return TypeAdapter(cls).validate_json(json.dumps({**known, "metrics": metrics}), strict=True)
        except ValidationError as error:
            first = error.errors()[0]
            raise UserError(printable(f"unreadable: {'.'.join(map(str, first['loc']))}: {first['msg']}")) from None


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """The contents of a summary with `sha256`, the checksum of all others; numbers count by their value."""
    return {**values, "sha256": hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def metric_rows(path: Path) -> Iterator[dict[str, str]]:
    """The complete rows of a `metrics.csv`, by its own columns; an incomplete last row is left out.

    Raises:
        UserError: it cannot be read, or a row holds something other than numbers.
    """
    complete = content(path, LARGE_FILE).rpartition(b"\n")[0]
    reader = csv.DictReader(f"{line}\n" for line in complete.decode("utf-8", "replace").split("\n"))
    try:
        if len(set(reader.fieldnames or ())) < len(reader.fieldnames or ()):
            raise ValueError("a column is there twice")
        for row in reader:
            int(row["step"])
            [float(value) for value in row.values() if value != ""]
            yield row
    except (KeyError, TypeError, ValueError, csv.Error):
        raise UserError(
            f"{printable(path)}: line {reader.line_num} is not a row of metrics; repair it, or move the file away"
        ) from None


def metric_numbers(path: Path) -> list[dict[str, float]]:
    """The rows of a `metrics.csv` as numbers, empty cells left out."""
    return [{key: float(value) for key, value in row.items() if value} for row in metric_rows(path)]
