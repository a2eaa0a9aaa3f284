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
            corpus = config.data.read(config.codec)
        with large_imports():  # takes seconds, so it waits until config and data are checked
            from throughline.training import run

        finished = run.train(config, corpus, folder, console=console)
        for line in next_steps(finished, config, sweep):
            console.print(line)


def next_steps(run: "Run", config: Config, sweep: bool) -> Iterator[str]:
    """Lines with the next commands, ready to be copied."""
    if sweep:
        yield f"compare:    {command('compare')} runs={shlex.quote(shown(run.folder.parent))}"
        return
    yield f"generate:   {command('generate')} checkpoint={shlex.quote(shown(run.folder / 'checkpoints' / 'best.ckpt'))}"
    yield f"compare:    {command('compare')} runs={shlex.quote(shown(run.folder.parent))}"
    yield further(config, run.folder)


def further(config: Config, folder: Path) -> str:
    """A line with the command that trains a finished run for longer."""
    longer = {
        f"budget.{key}": 2 * value
        for key, value in (("tokens", config.budget.tokens), ("seconds", config.budget.seconds))
        if value
    }
    longer = longer or {"trainer.max_epochs": 2 * (config.max_epochs or 0)}
    kept = [a for a in sys.argv[1:] if a.partition("=")[0] not in ("resume", "trainer.max_epochs", *longer)]
    checkpoint = f"resume={shown(folder / 'checkpoints' / 'last.ckpt')}"
    words = [
        *kept,
        checkpoint,
        *(f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in longer.items()),
    ]
    return f"train on:   {command('train')} {shlex.join(words)}"


def command(name: str) -> str:
    """The command line of the command `name`, in the form in which this program was called."""
    program = Path(sys.argv[0])
    return f"python {program.with_name(f'{name}.py')}" if program.suffix == ".py" else f"throughline-{name}"


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    composed("train", train, root)
