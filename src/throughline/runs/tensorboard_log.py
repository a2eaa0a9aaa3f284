"""Events for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger

from throughline.plumbing.errors import UserError
from throughline.runs.record import metric_rows


class TensorBoardRows(TensorBoardLogger):
    """Logs each row at its own step, by the names of `metrics.csv`."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        for key, value in metrics.items():
            self.experiment.add_scalar(key, value, step)

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """Do nothing: a command keeps the configuration beside the events, in `.hydra/config.yaml`."""


def tensorboard_logger(folder: Path) -> TensorBoardRows:
    """The logger of a run, which begins with the rows that an earlier part of it left in `metrics.csv`.

    Raises:
        UserError: TensorBoard is not installed.
    """
    for file in (folder / "tensorboard").glob("events.out.tfevents.*"):  # a killed run has written rows that come again
        file.unlink()
    try:
        logger = TensorBoardRows(folder, name="tensorboard", version="")
    except ModuleNotFoundError:
        raise UserError("logger.tensorboard: TensorBoard is not installed: pip install -e '.[tensorboard]'") from None
    for row in metric_rows(folder / "metrics.csv"):
        logger.log_metrics({key: float(value) for key, value in row.items() if value and key != "step"}, int(row["step"]))
    return logger
