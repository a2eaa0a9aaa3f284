"""`src/train.py`: trains a generator; its settings are in `throughline.config`."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig
from rich.console import Console

from throughline.commands.compose import composed, load
from throughline.config import Config
from throughline.plumbing.errors import noted_failure, one_line_errors
from throughline.plumbing.progress import progress
from throughline.plumbing.startup import large_imports
from throughline.runs.folders import finished_folder, shown

if TYPE_CHECKING:
    from throughline.training.run import Run


def train(cfg: DictConfig) -> None:
    """Train as composed, in the folder that Hydra has made."""
    hydra = HydraConfig.get()
    sweep, folder = hydra.mode == RunMode.MULTIRUN, Path(hydra.runtime.output_dir)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    # Hydra keeps the error of a member of a sweep, runs the other members, and raises the error at the end.
    with nullcontext() if sweep else one_line_errors(), noted_failure(folder, announce=sweep):
        config = load(cfg, Config)
        console.print(f"run: {shown(folder)}")
        before = None if sweep or config.resume != "auto" else finished_folder(config.output_root, hydra.overrides.task)
        if before and not (folder / "checkpoints").exists():
            console.print(
                f"resume: the same command already finished in {shown(before)}; this is a new run. {further(config, before)}"
            )
        with progress("reading data", console):
            corpus = config.read()
        with large_imports():  # takes seconds, so it waits until config and data are checked
            from throughline.training import run

        finished = run.train(config, corpus, folder, console=console)
        for line in next_steps(finished, config, sweep):
            console.print(line)


def next_steps(run: "Run", config: Config, sweep: bool) -> Iterator[str]:
    """Lines with the next commands, ready to be copied."""
    where = [a for a in sys.argv[1:] if a.startswith("output_root=")]  # W&B's runs lie there, too
    compare = f"compare:    {command('compare')} {shlex.join([f'runs={shown(run.folder.parent)}', *where])}"
    if sweep:
        yield compare
        return
    best, last = (run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    checkpoint = shlex.quote(shown(best if best.exists() else last))
    yield f"generate:   {command('generate')}{own_parts()} checkpoint={checkpoint}"
    yield compare
    yield further(config, run.folder)


def further(config: Config, folder: Path) -> str:
    """A line with the command that trains a finished run for longer: by twice every limit that it has."""
    limits = {f"{'trainer' if key == 'max_epochs' else 'budget'}.{key}": value for key, value in config.limits.items()}
    longer = [f"{key}={2 * value:.12g}" for key, value in limits.items() if value]
    kept = [a for a in sys.argv[1:] if a.partition("=")[0] not in ("resume", "hydra.run.dir", *limits)]
    checkpoint = f"resume={shown(folder / 'checkpoints' / 'last.ckpt')}"
    return f"train on:   {command('train')} {shlex.join([*kept, checkpoint, *longer])}"


def command(name: str) -> str:
    """The command line of the command `name`, in the form in which this program was called."""
    program = Path(sys.argv[0])
    if program.suffix != ".py":
        return f"throughline-{name}"
    return f"python {shlex.quote(str(program.with_name(f'{name}.py')))}"


def own_parts() -> str:
    """The arguments without which a checkpoint of a user's own classes cannot be read; empty where there are none."""
    arguments, option = sys.argv[1:], ("-cd", "--config-dir")
    before = ["", *arguments]
    folders = [a for a, b in zip(arguments, before, strict=False) if a.partition("=")[0] in option or b in option]
    choices = [a for a in arguments if a.partition("=")[0] in ("model", "codec", "head")]
    return f" {shlex.join([*folders, *choices])}" if folders else ""


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    composed("train", Config, train, root)
