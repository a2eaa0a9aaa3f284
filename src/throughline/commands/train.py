"""`src/train.py`: trains a generator; its settings are in `throughline.config`."""

import logging
import math
import os
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from throughline.commands.arguments import read_options
from throughline.commands.compose import composed, load, own_folders, own_folders_of, typed, without_hydra
from throughline.config import Config, Optuna, Sweep
from throughline.plumbing import atomic
from throughline.plumbing.errors import UserError, one_line_errors
from throughline.plumbing.kept import Kept
from throughline.plumbing.launchers import launched
from throughline.plumbing.progress import progress
from throughline.plumbing.startup import large_imports, quieten
from throughline.runs import folders
from throughline.runs.folders import shown
from throughline.settings import word
from throughline.sweeps.members import labelled

if TYPE_CHECKING:
    from lightning.pytorch import Callback

    from throughline.data.corpus import Corpus
    from throughline.training.run import Run


def run_folder(new: str, *, _root_: DictConfig) -> str:
    """The folder of a run (see `throughline.runs.folders.run_folder`)."""
    overrides, resume = list(_root_.hydra.overrides.task), str(_root_.resume)
    limits = {} if resume == "none" else load(without_hydra(_root_), Config, own_folders_of(_root_.hydra)).limits
    return folders.run_folder(new, _root_.output_root, resume, overrides, limits)


OmegaConf.register_new_resolver("run_folder", run_folder, replace=True)
# Cached: Hydra resolves this once per sweep and once per member, and a member's overrides no longer identify the sweep.
OmegaConf.register_new_resolver("sweep_folder", folders.sweep_folder, replace=True, use_cache=True)


def train(cfg: DictConfig) -> float:
    """Train as composed, in the folder that Hydra has made, and return the carried nll, which a sweeper may minimise."""
    hydra = HydraConfig.get()
    if is_helper():  # of a member of a sweep, which several processes train
        join_first(own_folders())
        return math.nan
    sweep, folder = hydra.mode == RunMode.MULTIRUN, Path(hydra.runtime.output_dir)
    # Hydra keeps the error of a member of a sweep, and runs the other members.
    with nullcontext() if sweep else one_line_errors(), ExitStack() as ending:
        if launched() is not None:  # so that the other processes hear of whatever is refused
            from throughline.training.processes import leading

            ending.enter_context(leading())
        ending.callback(folders.remove_empty, folder)
        console = Kept(quiet=sweep)  # a sweep has a line for each member
        config = load(cfg, Config)
        if not sweep:
            refuse_many(config, str(hydra.runtime.choices.get("hydra/launcher", "basic")))
        overrides = list(hydra.overrides.task)
        if config.tune is None:
            console.print(f"run: {folders.shown(folder)}")
        if not sweep and config.resume == "auto" and not (folder / "checkpoints").exists():
            before = folders.finished_folder(config.output_root, overrides, config.limits)
            if before:
                console.print(
                    f"resume: the same command already finished in {folders.shown(before)}; this is a new run. "
                    f"{further(config, before)}"
                )
        queued_again = os.environ.get("SLURM_RESTART_COUNT", "0") != "0"
        if sweep and (config.resume == "must" or Path(config.resume).is_dir() or queued_again):
            config = replace(config, resume="auto")  # the sweep is there; a member may not have begun
        elif Path(config.resume).is_dir():
            config = replace(config, resume="must")
        with progress("reading data", console):
            if config.init_from is None:
                corpus = config.read()
                config.suited(corpus.codec)  # refused before torch is imported
            else:
                with large_imports():
                    from throughline.runs import initial
                _, corpus, _ = initial.read(config)
        if config.tune is not None:
            return tuned(config, corpus, console, sweep)
        if sweep:
            logger = config.logger
            group = logger.group or "/".join(folder.absolute().parent.parts[-2:])
            name = logger.run_name or member_name(config, overrides, set(hydra.sweeper.get("swept", ())))
            config = replace(config, logger=replace(logger, group=group, run_name=name))
        if corpus.prepared is not None:
            console.print(f"data: read from {folders.shown(Path(corpus.prepared.folder))}")
        with large_imports():  # takes seconds, so it waits until config and data are checked
            from throughline.training import run

        def begin(new: bool) -> None:
            if new:
                folders.refuse_other_run(folder, overrides, config.resume == "auto")
            written = {"config": cfg, "overrides": overrides, "hydra": HydraConfig.instance().cfg}
            files = {folder / ".hydra" / f"{name}.yaml": OmegaConf.to_yaml(value) for name, value in written.items()}
            atomic.write({file: text.encode("utf-8", "surrogateescape") for file, text in files.items()})
            ending.enter_context(messages_in(folder / "train.log"))
            ending.callback(console.keep_in(folder / "console.txt"))

        callbacks = pruning(config.sweep, folder, hydra.job.num) if sweep else []
        finished = run.train(config, corpus, folder, callbacks=callbacks, console=console, begin=begin)
        for line in next_steps(finished, config, sweep):
            console.print(line)
        return finished.record.metrics["val/nll"]


def tuned(config: Config, corpus: "Corpus", console: Kept, sweep: bool) -> float:
    """Find a setting, and print the command that trains with it.

    Raises:
        UserError: it is asked of a sweep, or cannot be found.
    """
    if sweep:
        raise UserError(f"tune={config.tune}: finds a setting for one run; leave out -m")
    with large_imports():
        from throughline.training.tuning import tune
    quieten()
    found = tune(config, corpus, console)
    keys = [part.partition("=")[0] for part in found.split()]
    kept = [a for a in typed if a.partition("=")[0] not in ("tune", *keys)]
    console.print(" ".join(["take:      ", command("train"), *([shlex.join(kept)] if kept else []), found]))
    return math.nan


def member_name(config: Config, overrides: list[str], swept: set[str]) -> str:
    """The name of a member of a sweep in W&B: what differs comes first, because lists cut off the end of a name."""
    differing = [labelled([o]) for o in overrides if o.partition("=")[0] in swept - {"seed"}]
    others = {"regime": config.regime.label, "model": config.model.name}
    return "-".join([*differing, *(name for key, name in others.items() if key not in swept), f"s{config.seed}"])


def refuse_many(config: Config, launcher: str) -> None:
    """Refuse what is for many runs and would do nothing for one.

    Raises:
        UserError: something is.
    """
    for key, value in (("sweep", word(type(config.sweep))), ("launcher", launcher)):
        if value not in ("none_type", "basic"):
            raise UserError(f"{key}={value}: needs -m, which trains many members")


def pruning(search: Sweep | None, folder: Path, trial: int) -> "list[Callback]":
    """What ends a trial of a search early, if it should."""
    if not isinstance(search, Optuna):
        return []
    from throughline.sweeps.study import Reports
    from throughline.training.pruning import Pruning

    return [Pruning(Reports(folder.parent, trial, search).hopeless)]


@contextmanager
def messages_in(file: Path) -> Iterator[None]:
    """Keep the messages of libraries in a file: the terminal is for the run itself."""
    handler = logging.FileHandler(file, encoding="utf-8", errors="backslashreplace", delay=True)
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(name)s][%(levelname)s] %(message)s"))
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    try:
        yield
    finally:
        root.setLevel(level)
        root.removeHandler(handler)
        handler.close()


BY_HEART = 0.1
"""The nll below which a network knows a text by heart: it gives each symbol nine tenths of the probability."""


def next_steps(run: "Run", config: Config, sweep: bool) -> Iterator[str]:
    """Lines with the next commands, ready to be copied."""
    if sweep:
        return
    if config.data_limit is not None and run.codec.steps == "ids":
        nll = run.record.metrics["val/nll"]
        verdict = "yes" if nll < BY_HEART else "no, so something keeps it from learning, or it needs more epochs"
        yield f"by heart:   {verdict} (val nll {nll:.4f}; below {BY_HEART} is yes)"
    if (run.folder / "profile.txt").exists():
        yield f"profile:    {shown(run.folder / 'profile.txt')}, and trace.json.gz for Chrome or Perfetto"
    best, last = (run.folder / "checkpoints" / name for name in ("best.ckpt", "last.ckpt"))
    checkpoint = shlex.quote(shown(best if best.exists() else last))
    array = "" if run.codec.steps == "ids" else f" length={config.sampling.length} out=new.npy"
    yield f"generate:   {command('generate')}{own_parts()} checkpoint={checkpoint}{array}"
    yield compare(run.folder.parent)
    yield further(config, run.folder)


def compare(folder: Path) -> str:
    """A line with the command that compares the runs in a folder."""
    same = [a for a in typed if a.startswith("output_root=") or a == "logger=none"]  # where W&B's runs lie, if there are any
    return f"compare:    {command('compare')} {shlex.join([f'runs={shown(folder)}', *same])}"


def further(config: Config, folder: Path) -> str:
    """A line with the command that trains a finished run for longer: by twice every limit that it has."""
    limits = {f"{'trainer' if key == 'max_epochs' else 'budget'}.{key}": value for key, value in config.limits.items()}
    longer = [f"{key}={2 * value:.12g}" for key, value in limits.items() if value]
    kept = [a for a in typed if a.partition("=")[0] not in ("resume", "hydra.run.dir", *limits)]
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
    arguments, option = typed, ("-cd", "--config-dir")
    before = ["", *arguments]
    folders = [a for a, b in zip(arguments, before, strict=False) if a.partition("=")[0] in option or b in option]
    choices = [a for a in arguments if a.partition("=")[0] in ("model", "codec", "head")]
    return f" {shlex.join([*folders, *choices])}" if folders else ""


def main(root: Path | None = None) -> None:
    """Run the command; `root` is the folder that contains `outputs/`, by default the current one."""
    if launched() is not None:
        with one_line_errors():
            options = read_options(sys.argv[1:])
            if options.multirun:
                raise UserError(
                    "-m: makes many runs, and a launcher has started this one; launcher=slurm gives each its processes"
                )
        if is_helper():
            join_first([Path(options.config_dir)] if options.config_dir else [])
            return
    composed("train", Config, train, root)


def is_helper() -> bool:
    """Whether this is one of several processes, and not the first, which alone composes settings and has a folder."""
    launch = launched()
    return launch is not None and launch.rank > 0


def join_first(folders: Sequence[Path]) -> None:
    """Train as the first process says."""
    with one_line_errors():
        with large_imports():
            from throughline.training import run
        run.join(folders)
