"""Where a run's figures go: always `metrics.csv`, and W&B where it is wanted."""

import csv
import hashlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import Logger, WandbLogger
from rich.console import Console

from throughline.config import Config
from throughline.config import Logger as LoggerSettings
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError

COLUMNS = (
    *("step", "epoch", "tokens", "seconds"),
    *("train/nll", "train/bpc", "train/grad_norm", "train/tokens_per_second", "train/lr"),
    *("device/utilisation", "device/data_wait", "device/driver_utilisation"),
    *("val/nll", "val/bpc", "val/ppl", "val/accuracy"),
    *("val/nll_reset", "val/bpc_reset", "val/ppl_reset", "val/accuracy_reset"),
)
"""Of `metrics.csv`, and the names of the figures everywhere: nll in nats and bpc in bits, both per token."""


class CSVLogger(Logger):
    """Appends each row to `metrics.csv` at once, under columns that are known from the start.

    Lightning's own deletes the file when a run goes on in its folder, and rewrites all of it for each new column.
    """

    def __init__(self, path: Path, steps: int = 0) -> None:
        """Go on after `steps`: rows beyond are of batches that the run does again, and a torn last one is of no use.

        Raises:
            UserError: a row of the file is no row of figures.
        """
        super().__init__()
        self.path = path
        content = io.StringIO()
        table = csv.DictWriter(content, COLUMNS, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        if steps and path.exists():
            table.writerows(row for row in metric_rows(path) if int(row["step"]) <= steps)
        atomic.write({path: content.getvalue().encode()})

    def _write(self, row: dict[str, Any]) -> None:
        with self.path.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(row)

    @property
    def name(self) -> str:
        return "csv"

    @property
    def version(self) -> str:
        return ""

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self._write({**metrics, "step": step})

    def log_hyperparams(self, *_: Any, **__: Any) -> None:
        """The configuration lies beside the file, in `.hydra/config.yaml`."""


def metric_rows(path: Path) -> Iterator[dict[str, str]]:
    """The whole rows of a `metrics.csv`, under the columns that it has.

    Raises:
        UserError: a row is no row of figures.
    """
    with path.open(newline="\n", errors="replace") as file:
        reader = csv.DictReader(line for line in file if line.endswith("\n"))
        try:
            for row in reader:
                int(row["step"])
                [float(figure) for figure in row.values() if figure != ""]
                yield row
        except (KeyError, TypeError, ValueError, csv.Error):
            raise UserError(
                f"{path}: line {reader.line_num} is no row of figures; mend it, or move the file away and go on without"
            ) from None


class WandbRows(WandbLogger):
    """Logs each row at its own step, which Lightning's does not: of a step that W&B has already, it takes no second row."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        self.experiment.log(metrics, step=step)

    def replay(self, metrics: Path) -> None:
        """Log what an earlier life of the run has left in `metrics.csv`, and drop what of it W&B kept here.

        A life that was killed has written some rows that are not in its last checkpoint, and the next one writes them
        again; so without a server to tell them apart, one whole history takes the place of several pieces.
        """
        run = self.experiment
        if run.starting_step > 0:  # a server has them
            return
        for row in metric_rows(metrics):
            self.log_metrics({key: float(value) for key, value in row.items() if value and key != "step"}, int(row["step"]))
        here = Path(run.dir).parent
        for earlier in here.parent.glob(f"offline-run-*-{run.id}"):
            if earlier != here:
                shutil.rmtree(earlier)


def wandb_logger(config: Config, output_dir: Path, fingerprint: dict[str, Any], console: Console) -> WandbRows:
    """A W&B run that never blocks and never asks: online where a key is configured and the server answers, else offline.

    Args:
        config: its plain form becomes the run's config.
        output_dir: the run's id is made from its name and this folder, so that a run that goes on finds itself again.
        fingerprint: what identifies the data.
        console: where one line says what became of it.
    """
    run = _begin_run(
        config.logger,
        config.output_root,
        console,
        id=_id(config.name, output_dir, config.output_root),
        job_type="train",
        tags=[config.model.name, config.regime.name, *config.logger.tags],
        config={**config.to_plain(), "fingerprint": fingerprint},
    )
    for axis in ("tokens", "seconds"):
        run.define_metric(axis)
    for group in ("train/*", "val/*", "device/*"):
        run.define_metric(group, step_metric="tokens")
    return WandbRows(experiment=run)


def log_comparison(
    settings: LoggerSettings, root: str, folder: Path, table: list[list[Any]], pictures: list[Path], console: Console
) -> None:
    """Log a comparison as a run of its own: the table, whose first row is its head, and the pictures.

    Args:
        settings: of the logger.
        root: where runs are kept.
        folder: where the comparison lies, from which its id is made.
    """
    import wandb

    run = _begin_run(settings, root, console, id=_id("compare", folder, root), job_type="compare", tags=settings.tags)
    head, *rows = table
    images = {picture.stem: wandb.Image(str(picture)) for picture in pictures}
    run.log({"comparison": wandb.Table(columns=head, data=rows), **images})
    run.finish()


def _id(name: str, folder: Path, root: str) -> str:
    return f"{name}-{hashlib.sha256(os.path.relpath(folder, root).encode()).hexdigest()[:6]}"


def _begin_run(logger: LoggerSettings, root: str, console: Console, **about: Any) -> Any:
    """Begin a run of W&B, or go on with the one of the same id, and say in one line where it is."""
    import wandb

    settings: dict[str, Any] = {**about, "resume": "allow", "project": logger.project, "group": logger.group, "dir": root}
    wandb.setup(wandb.Settings(silent=True))
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    reason = f"WANDB_MODE={mode}" if "WANDB_MODE" in os.environ else "no key is configured"
    try:
        quiet = wandb.Settings(init_timeout=logger.init_timeout, silent=True, console="off")
        if "WANDB_MODE" not in os.environ and wandb.login(prompt=False, verify=False):
            mode = "online"
        try:
            run = wandb.init(mode=mode, settings=quiet, **settings)
        except wandb.errors.CommError as error:
            wandb.teardown()  # the service that failed still holds the run's id
            mode, reason = "offline", f"the server did not answer ({type(error).__name__})"
            run = wandb.init(mode=mode, settings=quiet, **settings)
    except (wandb.errors.Error, ValueError) as error:
        raise UserError(f"logger: W&B says: {' '.join(str(error).split())}; logger=none does without") from None
    if mode == "disabled":
        console.print("W&B: disabled, WANDB_MODE=disabled")
    elif mode == "online":
        console.print(f"W&B: {run.url}", highlight=False, markup=False, soft_wrap=True)
    else:
        console.print(
            f"W&B: offline, {reason}; browse with `wandb leet {Path(root) / 'wandb'}`, "
            f"upload with `wandb sync {Path(run.dir).parent}`",
            highlight=False,
            markup=False,
            soft_wrap=True,
        )
    return run


def log_ending(logger: WandbLogger, summary: dict[str, Any], passage: str, curve: Path) -> None:
    """Log what a finished run leaves, and close the W&B run so that another may begin in this process."""
    import wandb

    run = logger.experiment
    run.log(
        {
            "samples": wandb.Table(["tokens", "passage"], [[summary["tokens"], passage]]),
            "curve": wandb.Image(str(curve)),
        }
    )
    run.summary.update({key: value for key, value in summary.items() if not isinstance(value, dict)})
    run.finish()


def draw_curve(metrics: Path, picture: Path, title: str) -> None:
    """Draw the training and validation loss of `metrics.csv` against tokens and against seconds."""
    from matplotlib.figure import Figure

    rows = list(metric_rows(metrics))
    figure = Figure(figsize=(10, 4), layout="constrained")
    halves = zip(figure.subplots(1, 2, sharey=True), ("tokens", "seconds"), ("tokens", "training time (s)"), strict=True)
    for axes, axis, unit in halves:
        for column, label, style in (
            ("train/nll", "train", "-"),
            ("val/nll", "validation, carried", "o-"),
            ("val/nll_reset", "validation, from zeros", "o--"),
        ):
            points = [(float(row[axis]), float(row[column])) for row in rows if row[column]]
            axes.plot(*zip(*points, strict=True), style, label=label, markersize=4)
        axes.set_xlabel(unit)
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("nll (nats per token)")
    figure.axes[0].legend()
    figure.suptitle(title)
    figure.savefig(picture, dpi=120)
