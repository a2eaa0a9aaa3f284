"""A Lightning logger that writes `metrics.csv`."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger

from throughline.evaluation.readings import Reading
from throughline.evaluation.readings.carried import Carried
from throughline.evaluation.readings.reset import Reset
from throughline.plumbing import atomic
from throughline.runs.record import COLUMNS, VALIDATION, metric_rows


class CSVLogger(Logger):
    """Appends each row to `metrics.csv` at once; the columns are fixed from the start.

    Lightning's own logger deletes the file when a run resumes in its folder, and rewrites all of it for each new column.
    """

    def __init__(self, path: Path, steps: int = 0, readings: Iterable[Reading] = (Carried(), Reset())) -> None:
        """Continue the file after `steps`: later rows belong to batches that the run will repeat.

        Raises:
            UserError: a row of the file holds something other than numbers.
        """
        super().__init__()
        self.path = path
        self.columns = [*COLUMNS, *(f"{name}{reading.suffix}" for reading in readings for name in VALIDATION)]
        content = io.StringIO()
        table = csv.DictWriter(content, self.columns, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        if steps and path.exists():
            table.writerows(row for row in metric_rows(path) if int(row["step"]) <= steps)
        atomic.write({path: content.getvalue().encode()})

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns, extrasaction="ignore", lineterminator="\n").writerow(row)

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
