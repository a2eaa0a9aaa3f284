"""`src/dashboard.py`: the project's workspace in W&B, a first view for everybody who opens the project there."""

import json
import os
from pathlib import Path
from typing import Any

from pydantic.dataclasses import dataclass

from throughline.commands.compose import launch
from throughline.config import Logger
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError
from throughline.runs.record import ON_AXIS
from throughline.settings import STRICT, PathStr


@dataclass(frozen=True, config=STRICT)
class Dashboard:
    entity: str | None = None
    """None: the owner of the W&B key."""
    logger: Logger = Logger()  # frozen
    out: PathStr = "outputs/workspace.json"
    """The file to write."""


def dashboard(settings: Dashboard) -> None:
    """Write the workspace as JSON to `out`, and also save it in W&B if a key is configured.

    Raises:
        UserError: wandb-workspaces is not installed, W&B refuses, or the file cannot be written.
    """
    import wandb

    project, out = settings.logger.project, Path(settings.out)
    view = workspace(settings.entity or "", project)
    specification = view._to_model().spec.model_dump(by_alias=True, exclude_none=True)
    try:
        atomic.write({out: (json.dumps(specification, indent=2) + "\n").encode()})
    except OSError as error:
        raise UserError(f"{out}: {error.strerror}; give out=FILE") from None
    reason = f"WANDB_MODE={os.environ['WANDB_MODE']}" if "WANDB_MODE" in os.environ else "no key is configured"
    try:
        wandb.setup(wandb.Settings(silent=True))
        if "WANDB_MODE" in os.environ or not wandb.login(prompt=False, verify=False):
            print(
                f"W&B: {reason}, so the workspace is only written to {out}; after `wandb login`, the same "
                f"command saves it in the project {project}. Choose it there by its name, regimes"
            )
            return
        view.entity = settings.entity or wandb.Api().default_entity
        print(f"W&B: {view.save().url}")
    except Exception as error:  # the library passes on every error of its transport
        raise UserError(f"logger: W&B says: {' '.join(str(error).split())}; the workspace is in {out}") from None


def workspace(entity: str, project: str) -> Any:
    """Loss by tokens and seconds, passages, the device and a comparer; runs of training by regime, the best first."""
    try:
        from wandb_workspaces.reports.v2.interface import BarPlot, LinePlot, MediaBrowser, RunComparer
        from wandb_workspaces.workspaces import Config, Ordering, RunsetSettings, Section, Summary, Workspace
    except ImportError as error:
        raise UserError(f"{error.name} is not installed: pip install -e '.[dashboard]'") from None

    def by(axis: str, metric: str, title: str) -> Any:
        return LinePlot(
            title=title, x=ON_AXIS[axis], y=[metric], log_x=True, groupby_aggfunc="mean", groupby_rangefunc="minmax"
        )

    def bars(metric: str, title: str) -> Any:
        return BarPlot(title=title, metrics=[metric], groupby_aggfunc="mean", groupby_rangefunc="minmax")

    loss = [
        by("tokens", "val/nll", "carried nll by tokens"),
        by("seconds", "val/nll", "carried nll by seconds of training"),
        by("tokens", "val/nll_reset", "nll with resets by tokens"),
        by("tokens", "train/grad_norm", "gradient norm by tokens"),
    ]
    device = [
        by("seconds", "device/utilisation", "share of the matrix rate"),
        by("seconds", "device/data_wait", "share of the time waiting for data"),
        bars("tokens_per_second", "tokens per second"),
        bars("peak_memory_bytes", "peak memory in bytes"),
    ]
    shown = ["written/passages", "written/samples", "samples", "curve"]
    return Workspace(
        entity=entity,
        project=project,
        name="regimes",
        sections=[
            Section("Loss", panels=loss, is_open=True),
            Section(
                "Passages",
                panels=[MediaBrowser(title="passages", media_keys=shown)],
                is_open=True,
            ),
            Section("Device", panels=device, is_open=True),
            Section("Differences", panels=[RunComparer(diff_only="split")], is_open=True),
        ],
        runset_settings=RunsetSettings(
            filters="JobType = 'train'",  # not the comparisons
            groupby=[Config("regime.name")],
            order=[Ordering(Summary("val/nll"))],
            pinned_columns=[
                f"summary:{key}" for key in ("val/nll", "val/nll_reset", "tokens_per_second", "device/utilisation")
            ],
        ),
    )


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    launch("dashboard", Dashboard, dashboard, root)
