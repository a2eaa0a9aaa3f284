"""A Lightning logger that writes `metrics.csv`."""

import csv
import io
import zlib
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor

from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs.record import COLUMNS, UNITS, VALIDATION

MOST_BYTES = 2**30
"""The most bytes of a `metrics.csv`: some six million rows."""


class CSVLogger(Logger):
    """Appends each row to `metrics.csv` at once; the columns are fixed from the start.

    The rows are also kept here, and a checkpoint holds them: whatever happens to the file, the curve has no holes.
    Lightning's own logger deletes the file when a run resumes in its folder, and rewrites all of it for each new column.

    Attributes:
        restored: whether the file lacked rows of the checkpoint, or had others in their place.
    """

    def __init__(
        self,
        path: Path,
        readings: Iterable[Reading] = (Carried(), Reset()),
        rows: bytes = b"",
        units: Collection[str] = UNITS,
    ) -> None:
        """Continue after `rows`, those of the checkpoint; the run will repeat the batches of later rows of the file.

        Args:
            units: what the head gives beside the nll; there are no columns for others.
        """
        super().__init__()
        self.path = path
        every = [*COLUMNS, *(f"{name}{reading.suffix}" for reading in readings for name in VALIDATION)]
        absent = tuple(f"/{unit}" for unit in UNITS if unit not in units)
        self.columns = [column for column in every if not any(unit in column for unit in absent)]
        rows = rows or self._line(dict(zip(self.columns, self.columns, strict=True)))
        if rows.split(b"\n", 1)[0].decode().split(",") != self.columns:
            rows = self._with_columns(rows)
        self.rows = bytearray(rows)
        self.restored = False
        with suppress(OSError):  # there is no such file, or none that can be read
            self.restored = not path.read_bytes().startswith(self.rows)
        atomic.write({path: bytes(self.rows)})

    def packed(self) -> Tensor:
        """The rows for a checkpoint, compressed: a uint8 tensor."""
        return torch.frombuffer(bytearray(zlib.compress(self.rows, level=1)), dtype=torch.uint8)

    @staticmethod
    def unpacked(rows: Tensor) -> bytes:
        """The rows in a checkpoint.

        Raises:
            UserError: they are not rows of metrics.
        """
        unpacking = zlib.decompressobj()
        try:
            content = unpacking.decompress(bytes(rows.numpy()), MOST_BYTES)
        except (zlib.error, TypeError, AttributeError):
            raise UserError("its rows of metrics are damaged") from None
        if not unpacking.eof:
            raise UserError(f"its rows of metrics have more than {MOST_BYTES:,} bytes, or are damaged")
        return content

    def _line(self, row: Mapping[str, Any]) -> bytes:
        text = io.StringIO()
        csv.DictWriter(text, self.columns, extrasaction="ignore", lineterminator="\n").writerow(row)
        return text.getvalue().encode()

    def _with_columns(self, rows: bytes) -> bytes:
        """The rows with the columns of this run: its readings may differ from those of the run that it resumes."""
        header = self._line(dict(zip(self.columns, self.columns, strict=True)))
        return header + b"".join(self._line(row) for row in csv.DictReader(io.StringIO(rows.decode())))

    def _write(self, row: Mapping[str, Any]) -> None:
        line = self._line(row)
        self.rows += line
        try:
            with self.path.open("r+b") as file:  # not "ab", which would make a new file without the earlier rows
                file.seek(0, io.SEEK_END)
                file.write(line)
        except FileNotFoundError:  # somebody has removed it
            atomic.write({self.path: bytes(self.rows)})

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        if "tokens" in metrics:  # rows of a user's callbacks have no place on the axes
            self._write({**metrics, "step": step})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: a command keeps the configuration beside the file, in `.hydra/config.yaml`."""
