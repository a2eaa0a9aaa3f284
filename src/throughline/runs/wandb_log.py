"""Runs and comparisons in W&B, whose trouble never reaches them."""

import hashlib
import logging
import math
import os
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from lightning.pytorch.loggers import WandbLogger
from rich.console import Console

from throughline.config import Config
from throughline.config import Logger as LoggerSettings
from throughline.plumbing.errors import Pruned, UserError
from throughline.runs.record import ON_AXIS, Record, metric_rows

T = TypeVar("T")

PATIENCE = 60.0
"""Seconds that a use of W&B may take, in addition to `logger.init_timeout`. W&B itself may wait for ever."""


class Wandb:
    """A run of W&B, used through `attempt` alone: the first failure is told in one line, and from then on nothing is done.

    Args:
        console: shows that line.
        without: how the work goes on without W&B; the end of the line.
        limit: the seconds after which a use counts as failed.
    """

    def __init__(self, console: Console, without: str, limit: float) -> None:
        self.console = console
        self.without = without
        self.limit = limit
        self.works = True
        self.run: Any = None

    def attempt(self, use: Callable[[], T]) -> T | None:
        """What `use` returns; None if W&B has failed."""
        if not self.works:
            return None
        try:
            return _bounded(use, self.limit)
        except (Exception, SystemExit) as error:  # W&B leaves by `sys.exit` if its helper process did not end well
            self.works = False
            what = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
            self.console.print(f"W&B: {what}; {self.without}", highlight=False, markup=False, soft_wrap=True)
            with suppress(Exception, SystemExit):
                _bounded(_teardown, min(self.limit, 5))  # the next run in this process begins with a new helper process
            return None


def _bounded(use: Callable[[], T], seconds: float) -> T:
    """What `use` returns or raises, in a thread that is left behind if it takes longer.

    Raises:
        TimeoutError: it takes longer.
    """
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(use())
        except BaseException as error:  # raised in the thread that waits
            outcome.set_exception(error)

    Thread(target=work, daemon=True, name="wandb").start()
    try:
        return outcome.result(seconds)
    except TimeoutError:
        if outcome.done():
            raise
        raise TimeoutError(f"no answer for {seconds:.0f} s") from None


def _teardown() -> None:
    import wandb

    wandb.teardown()


class Guarded:
    """Stands for an object of W&B: its attributes, its methods, and the objects that they return are used by `attempt`."""

    def __init__(self, wandb: Wandb, thing: Any) -> None:
        vars(self).update(_wandb=wandb, _thing=thing)

    def _use(self, use: Callable[[], Any]) -> Any:
        value = self._wandb.attempt(use)
        if not self._wandb.works:
            return self  # so that whatever is asked of the result does nothing either
        return Guarded(self._wandb, value) if callable(value) or type(value).__module__.startswith("wandb") else value

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copying, pickling and printing
            raise AttributeError(name)
        if name == "watch":
            raise UserError("logger: W&B's `watch` is not allowed, because a failure of its hooks would end the training")
        return self._use(lambda: getattr(self._thing, name))

    def __setattr__(self, name: str, value: Any) -> None:
        self._use(lambda: setattr(self._thing, name, value))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._use(lambda: self._thing(*args, **kwargs))

    def __getitem__(self, key: Any) -> Any:
        return self._use(lambda: self._thing[key])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._use(lambda: self._thing.__setitem__(key, value))


class WandbRows(WandbLogger):
    """Logs each row at its own step. Lightning's logger does not, and W&B accepts only one row per step."""

    def __init__(self, wandb: Wandb, root: Path) -> None:
        super().__init__(experiment=Guarded(wandb, wandb.run))  # type: ignore[arg-type]
        self.wandb = wandb
        self.root = root
        self.best = math.inf
        self.tables = True
        self._step = 0

    @property
    def experiment(self) -> Any:
        return self._experiment

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        metrics = {ON_AXIS.get(name, name): value for name, value in metrics.items()}
        if ON_AXIS["tokens"] in metrics:
            self._step = step or 0
            if (nll := metrics.get("val/nll", math.inf)) < self.best:
                self.best = nll
                self.wandb.attempt(lambda: self.wandb.run.summary.update({"best/val/nll": nll}))
            self.wandb.attempt(lambda: self.wandb.run.log(metrics, step=step))
        else:  # of a user's callback, which counts steps differently: it goes with the next row
            self.wandb.attempt(lambda: self.wandb.run.log(metrics, commit=False))

    def log_passages(self, rows: list[tuple[int, str]]) -> None:
        """Log the passages on the way, all of them: the table grows."""

        def log() -> None:
            import wandb

            try:
                table = wandb.Table(["tokens", "passage"], [list(row) for row in rows])
                self.wandb.run.log({"written/passages": table}, step=self._step)
            except (wandb.Error, OSError):
                raise
            except Exception as error:  # W&B asks its server about tables, and may not understand the answer; metrics go on
                self.tables = False
                what = textwrap.shorten(f"{type(error).__name__}: {error}", 200, placeholder=" ...")
                self.wandb.console.print(f"W&B: no table of passages, {what}", highlight=False, markup=False, soft_wrap=True)

        if self.tables:
            self.wandb.attempt(log)

    def replay(self, metrics: Path) -> None:
        """Log the rows that an earlier part of the run left in `metrics.csv`, and delete W&B's local files of that part.

        A killed run has written rows after its last checkpoint, and the resumed run writes them again. No server is there to
        tell them apart, so one whole history replaces the several pieces.
        """
        if self.wandb.attempt(lambda: self.wandb.run.starting_step) != 0:  # otherwise the server already has them
            return
        for row in metric_rows(metrics):
            self.log_metrics({key: float(value) for key, value in row.items() if value and key != "step"}, int(row["step"]))
        self.wandb.attempt(lambda: _delete_earlier(self.root / "wandb", self.wandb.run))


def _delete_earlier(place: Path, run: Any) -> None:
    """Delete the folders in `place` that W&B has made offline for this run before; symbolic links are not followed."""
    for folder in place.glob("offline-run-*"):
        if (
            re.fullmatch(rf"offline-run-\d{{8}}_\d{{6}}-{re.escape(run.id)}", folder.name)
            and folder.resolve() != Path(run.dir).parent.resolve()
            and folder.resolve() == place.parent.resolve() / place.name / folder.name
            and (folder / f"run-{run.id}.wandb").is_file()
        ):
            shutil.rmtree(folder)


@contextmanager
def wandb_logger(
    config: Config, folder: Path, fingerprint: dict[str, Any], console: Console, run_id: str
) -> Iterator[WandbRows]:
    """A W&B run that never stops the training: online if a key is configured and the server answers, else offline.

    Args:
        config: its plain form becomes the run's config.
        folder: the folder of the run; it is part of the name.
        fingerprint: identifies the data.
        console: shows one line about the W&B run, and one if W&B fails.
        run_id: a random word of the run's own; a resumed run that gives it again continues the same W&B run.
    """
    with _begun(
        config.logger,
        config.output_root,
        console,
        "the run continues without it, metrics.csv has everything",
        id=(os.environ.get("WANDB_SWEEP_ID") and os.environ.get("WANDB_RUN_ID"))  # of an agent's own
        or f"{config.name}-{run_id}",
        name=config.logger.run_name or f"{config.regime.label}-{config.model.name}-s{config.seed}",
        job_type="train",
        tags=list(dict.fromkeys([*config.tags, config.regime.name, config.model.name])),
        config={**config.to_plain(), "fingerprint": fingerprint},
    ) as wandb:
        for axis in ON_AXIS.values():  # no charts of their own
            wandb.attempt(lambda axis=axis: wandb.run.define_metric(axis, hidden=True))  # type: ignore[misc]
        for group in ("train/*", "val/*", "device/*"):
            wandb.attempt(lambda group=group: wandb.run.define_metric(group, step_metric=ON_AXIS["tokens"]))  # type: ignore[misc]
        yield WandbRows(wandb, Path(config.output_root))


def log_ending(
    logger: WandbRows, record: Record, passage: str, pictures: list[Path], folder: Path, artifact: str = "none"
) -> None:
    """Log the results of a finished run: pictures by their names, the text of its terminal, and a checkpoint if asked.

    Args:
        folder: that of the run.
        artifact: the name of the checkpoint that is kept as a versioned file; "none" for none.
    """
    run = logger.wandb.run

    def log() -> None:
        import wandb

        samples = wandb.Table(["tokens", "passage"], [[record.tokens, passage]])
        run.log({"written/samples": samples, **{picture.stem: wandb.Image(str(picture)) for picture in pictures}})
        run.summary.update({key: value for key, value in record.to_plain().items() if not isinstance(value, dict | list)})
        if (folder / "console.txt").exists():
            output = Path(run.dir) / "output.log"  # where the page of a run shows what its terminal has shown
            shutil.copyfile(folder / "console.txt", output)
            run.save(str(output), base_path=run.dir, policy="end")
        if (file := folder / "checkpoints" / f"{artifact}.ckpt").exists():
            kept = wandb.Artifact(f"{run.id}-{artifact}", type="model", metadata={"val/nll": record.metrics["val/nll"]})
            kept.add_file(str(file))
            run.log_artifact(kept)

    logger.wandb.attempt(log)


def log_comparison(
    settings: LoggerSettings,
    tags: list[str],
    root: str,
    folder: Path,
    table: list[list[Any]],
    pictures: list[Path],
    console: Console,
) -> None:
    """Log a comparison as its own run: the table, with its header as the first row, and the pictures.

    Args:
        settings: the settings of the logger.
        tags: words by which it is found.
        root: the folder that contains the runs.
        folder: the folder of the comparison; the id is made from it.
    """
    run_id = f"compare-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]}"
    name = f"compare {'/'.join(folder.absolute().parts[-2:])}"
    without = "the comparison is complete without it"

    def log() -> None:
        import wandb as library

        head, *rows = table
        images = {picture.stem: library.Image(str(picture)) for picture in pictures}
        wandb.run.log({"comparison": library.Table(columns=head, data=rows), **images})

    with _begun(settings, root, console, without, id=run_id, name=name, job_type="compare", tags=tags) as wandb:
        wandb.attempt(log)


@contextmanager
def _begun(logger: LoggerSettings, root: str, console: Console, without: str, **about: Any) -> Iterator[Wandb]:
    """Begin a run of W&B, or continue the one with the same id, and end it afterwards, as failed if there is an error."""
    wandb = Wandb(console, without, PATIENCE + logger.init_timeout)
    with _process_kept():
        began = wandb.attempt(lambda: _begin_run(logger, root, **about))
    if began is not None:
        wandb.run, line = began
        console.print(f"W&B: {line}", highlight=False, markup=False, soft_wrap=True)
    try:
        yield wandb
    except BaseException as error:
        wandb.console = Console(quiet=True)  # the error is what matters
        status = int(not isinstance(error, Pruned))
        wandb.attempt(lambda: wandb.run.finish(exit_code=status))
        raise
    else:
        wandb.attempt(lambda: wandb.run.finish())
    finally:
        wandb.attempt(_teardown)  # otherwise W&B would do it when the process ends, without a limit


@contextmanager
def _process_kept() -> Iterator[None]:
    """Keep the terminal from W&B's helper process, whose crash would fill it, and `sys.exit` and tracebacks from W&B."""
    exits = sys.exit, sys.excepthook
    streams = [number for number in (1, 2) if _inheritable(number)]
    for number in streams:
        os.set_inheritable(number, False)
    try:
        yield
    finally:
        sys.exit, sys.excepthook = exits
        for number in streams:
            os.set_inheritable(number, True)


def _inheritable(number: int) -> bool:
    try:
        return os.get_inheritable(number)
    except OSError:  # closed
        return False


def _begin_run(logger: LoggerSettings, root: str, **about: Any) -> tuple[Any, str]:
    """The run, and its address or its mode."""
    import wandb

    logging.getLogger("wandb").setLevel(logging.CRITICAL + 1)  # on a full disk, its file would be a traceback per message
    settings: dict[str, Any] = {**about, "resume": "allow", "project": logger.project, "group": logger.group, "dir": root}
    settings |= {"entity": logger.entity, "notes": logger.notes}
    wandb.setup(wandb.Settings(silent=True))
    mode: Any = os.environ.get("WANDB_MODE", "offline")
    reason = f"WANDB_MODE={mode}" if "WANDB_MODE" in os.environ else "no key is configured"
    quiet = wandb.Settings(init_timeout=logger.init_timeout, silent=True, console="off")
    if "WANDB_MODE" not in os.environ and wandb.login(prompt=False, verify=False):
        mode = "online"
    try:
        run = wandb.init(mode=mode, settings=quiet, **settings)
    except wandb.errors.CommError as error:
        wandb.teardown()  # the service that failed still holds the run's id
        mode, reason = "offline", f"the server did not answer ({type(error).__name__})"
        run = wandb.init(mode=mode, settings=quiet, **settings)
    if mode == "disabled":
        return run, "disabled, WANDB_MODE=disabled"
    if mode == "online":
        return run, str(run.url)
    here = Path(run.dir).parent
    return run, f"offline, {reason}; browse with `wandb leet {here.parent}`, upload with `wandb sync {here}`"
