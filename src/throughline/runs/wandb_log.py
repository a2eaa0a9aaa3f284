"""Runs and comparisons in W&B."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import WandbLogger
from rich.console import Console

from throughline.config import Config
from throughline.config import Logger as LoggerSettings
from throughline.plumbing.errors import UserError
from throughline.runs.record import Record, metric_rows


class WandbRows(WandbLogger):
    """Logs each row at its own step. Lightning's logger does not, and W&B accepts only one row per step."""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        if "tokens" in metrics:
            self.experiment.log(metrics, step=step)
        else:  # of a user's callback, which counts steps differently: it goes with the next row
            self.experiment.log(metrics, commit=False)

    def replay(self, metrics: Path) -> None:
        """Log the rows that an earlier part of the run left in `metrics.csv`, and delete W&B's local files of that part.

        A killed run has written rows after its last checkpoint, and the resumed run writes them again. No server is there to
        tell them apart, so one whole history replaces the several pieces.
        """
        run = self.experiment
        if run.starting_step > 0:  # the server already has them
            return
        for row in metric_rows(metrics):
            self.log_metrics({key: float(value) for key, value in row.items() if value and key != "step"}, int(row["step"]))
        here = Path(run.dir).parent
        for earlier in here.parent.glob(f"offline-run-*-{run.id}"):
            if earlier != here:
                shutil.rmtree(earlier)


def wandb_logger(config: Config, output_dir: Path, fingerprint: dict[str, Any], console: Console) -> WandbRows:
    """A W&B run that never blocks and never asks: online if a key is configured and the server answers, else offline.

    Args:
        config: its plain form becomes the run's config.
        output_dir: the run's id is made from its name and this folder, so a resumed run continues the same W&B run.
        fingerprint: identifies the data.
        console: shows one line about the W&B run.
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
    """Log a comparison as its own run: the table, with its header as the first row, and the pictures.

    Args:
        settings: the settings of the logger.
        root: the folder that contains the runs.
        folder: the folder of the comparison; the id is made from it.
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
    """Begin a run of W&B, or continue the one with the same id, and print one line with its address or its mode."""
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
        raise UserError(f"logger: W&B says: {' '.join(str(error).split())}; logger=none works without W&B") from None
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


def log_ending(logger: WandbLogger, record: Record, passage: str, curve: Path) -> None:
    """Log the results of a finished run, and close the W&B run so that another can begin in this process."""
    import wandb

    run = logger.experiment
    run.log(
        {
            "samples": wandb.Table(["tokens", "passage"], [[record.tokens, passage]]),
            "curve": wandb.Image(str(curve)),
        }
    )
    run.summary.update({key: value for key, value in record.to_plain().items() if not isinstance(value, dict | list)})
    run.finish()
