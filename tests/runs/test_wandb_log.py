"""Trouble of W&B never reaches a run: each test breaks W&B in another way."""

import errno
import gc
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image
from rich.console import Console
from wandb.sdk.lib.module import unset_globals

from helpers import SMALL, column, config, fox, run, without_times
from throughline.commands.train import member_name
from throughline.config import Logger
from throughline.plumbing.errors import UserError
from throughline.runs import wandb_log
from throughline.runs.wandb_log import WandbRows, log_comparison
from throughline.training.learner import Learner
from wandb_server import helpers_alive

# W&B does not wait for a helper process that was killed, and Python says so when the object is collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

LOGGED = ("logger.name=wandb", "trainer.max_epochs=1", "trainer.log_every_n_steps=2", "regime.streams=4", "regime.bptt=16")
WITHOUT = "; the run continues without it, metrics.csv has everything"


@pytest.fixture(scope="module")
def wanted(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, str]]:
    """The rows of a run that leaves W&B out."""
    folder = tmp_path_factory.mktemp("without")
    run(fox(), folder, *LOGGED[1:])
    return without_times(folder)


@pytest.fixture(autouse=True)
def curve(monkeypatch: pytest.MonkeyPatch) -> None:
    """A picture takes time to draw, so here it is a single point."""
    monkeypatch.setattr("throughline.training.run.draw_curve", lambda _, path, *__: Image.new("RGB", (1, 1)).save(path))


@pytest.fixture(autouse=True)
def no_run_before() -> Iterator[None]:
    """A run of W&B that has failed stays the current one until the next begins."""
    yield
    unset_globals()
    gc.collect()


def said(folder: Path) -> list[str]:
    """The lines about W&B, and any line of a traceback."""
    lines = (folder / "terminal.txt").read_text().splitlines()
    return [line for line in lines if line.startswith(("W&B", "Traceback", "wandb"))]


def raising(error: BaseException) -> Callable[..., Any]:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


def hanging(*_: Any, **__: Any) -> None:
    threading.Event().wait()


FULL = OSError(errno.ENOSPC, "No space left on device")
FAULTS: dict[str, tuple[str, Any, str]] = {
    "setup raises": ("wandb.setup", raising(RuntimeError("no\nservice")), "RuntimeError: no service"),
    "init raises an error": ("wandb.init", raising(wandb.errors.UsageError("no")), "UsageError: no"),
    "init raises anything": ("wandb.init", raising(KeyError("no")), "KeyError: 'no'"),
    "init exits": ("wandb.init", raising(SystemExit(3)), "SystemExit: 3"),
    "init hangs": ("wandb.init", hanging, "TimeoutError: no answer for 1 s"),
    "metrics cannot be defined": ("wandb.Run.define_metric", raising(FULL), f"OSError: {FULL}"),
    "the disk is full": ("wandb.Run.log", raising(FULL), f"OSError: {FULL}"),
    "log hangs": ("wandb.Run.log", hanging, "TimeoutError: no answer for 1 s"),
    "a picture cannot be written": ("wandb.Image", raising(FULL), f"OSError: {FULL}"),
    "finish raises": ("wandb.Run.finish", raising(ConnectionResetError("gone")), "ConnectionResetError: gone"),
    "finish hangs": ("wandb.Run.finish", hanging, "TimeoutError: no answer for 1 s"),
    "the helper ended badly": ("wandb.teardown", raising(SystemExit(-9)), "SystemExit: -9"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_run_ends_normally_with_one_line(
    fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wanted: list[Any]
) -> None:
    name, failing, what = FAULTS[fault]
    with monkeypatch.context() as patch:
        patch.setattr(name, failing)
        if failing is hanging:
            patch.setattr(wandb_log, "PATIENCE", 1.0 - Logger().init_timeout)
        run(fox(), tmp_path, *LOGGED)
    told = said(tmp_path)
    assert told[-1] == f"W&B: {what}{WITHOUT}"
    assert [line.split(",")[0] for line in told[:-1]] in ([], ["W&B: offline"])
    assert without_times(tmp_path) == wanted
    assert (tmp_path / "summary.json").exists()
    assert capfd.readouterr() == ("", "")
    wandb.teardown()


def test_a_mode_that_does_not_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[Any]) -> None:
    monkeypatch.setenv("WANDB_MODE", "garbage")
    run(fox(), tmp_path, *LOGGED)
    (told,) = said(tmp_path)
    assert told.startswith("W&B: ValidationError: ")
    assert told.endswith(WITHOUT)
    assert without_times(tmp_path) == wanted


def test_a_run_with_wandb_disabled_says_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    run(fox(), tmp_path, *LOGGED)
    assert said(tmp_path) == ["W&B: disabled, WANDB_MODE=disabled"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGABRT, signal.SIGSTOP])
def test_a_helper_that_dies_ends_only_itself(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], wanted: list[Any]
) -> None:
    """SIGABRT makes a Go program print all its stacks. A stopped helper answers nothing, so the end waits for it."""
    struck: list[int] = []
    original = WandbRows.log_metrics

    def striking(self: WandbRows, metrics: Any, step: int | None = None) -> None:
        original(self, metrics, step)
        if not struck:
            struck.extend(helpers_alive())
            self.wandb.limit = 1.0
            os.kill(struck[0], number)

    with monkeypatch.context() as patch:
        patch.setattr(WandbRows, "log_metrics", striking)
        first = tmp_path / "first"
        first.mkdir()
        run(fox(), first, *LOGGED)
    assert len(struck) == 1
    if number == signal.SIGSTOP:
        os.kill(struck[0], signal.SIGKILL)
    begun, failed = said(first)
    assert begun.startswith("W&B: offline, WANDB_MODE=offline; browse with ")
    assert re.fullmatch(rf"W&B: (ConnectionResetError|BrokenPipeError|TimeoutError): .*{WITHOUT}", failed)
    assert without_times(first) == wanted

    second = tmp_path / "second"  # as the next member of a sweep
    second.mkdir()
    run(fox(), second, *LOGGED)
    assert [line[:12] for line in said(second)] == ["W&B: offline"]
    assert capfd.readouterr() == ("", "")


def test_a_run_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    before = (sys.exit, sys.excepthook, {number: signal.getsignal(number) for number in signal.valid_signals()})
    run(fox(), tmp_path, *LOGGED)
    assert (sys.exit, sys.excepthook, {number: signal.getsignal(number) for number in signal.valid_signals()}) == before
    assert wandb.run is None
    assert "WANDB_SERVICE" not in os.environ
    assert helpers_alive() == []
    assert [os.get_inheritable(number) for number in (1, 2)] == [True, True]


def test_a_run_that_fails_is_ended_as_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int | None] = []
    finish = wandb.Run.finish
    monkeypatch.setattr(wandb.Run, "finish", lambda self, exit_code=None: (codes.append(exit_code), finish(self, exit_code)))
    monkeypatch.setattr(Learner, "training_step", raising(KeyboardInterrupt()))
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        run(fox(), tmp_path, *LOGGED)
    assert codes == [1]
    assert wandb.run is None
    assert helpers_alive() == []


def logger(folder: Path, run_id: str, console: Console | None = None) -> Any:
    settings = wandb_settings(folder)
    return wandb_log.wandb_logger(settings, folder, {}, console or Console(quiet=True), run_id)


def wandb_settings(folder: Path) -> Any:
    return replace(config(*SMALL, *LOGGED), output_root=str(folder))


def offline_run(folder: Path, run_id: str) -> Path:
    """A folder as W&B leaves it."""
    made = folder / "wandb" / f"offline-run-20260101_000000-{run_id}"
    made.mkdir(parents=True)
    (made / f"run-{run_id}.wandb").touch()
    return made


def test_only_the_earlier_parts_of_the_same_run_are_deleted(tmp_path: Path) -> None:
    root = tmp_path / "root"
    with logger(root, "0123") as rows_of_run:
        run_id = rows_of_run.wandb.run.id
        mine = offline_run(root, run_id)
        others = [offline_run(root, f"x-{run_id}"), offline_run(root, f"{run_id}4"), offline_run(tmp_path, run_id)]
        (root / "wandb" / f"offline-run-{run_id}").mkdir()
        empty = root / "wandb" / f"offline-run-20260102_000000-{run_id}"
        empty.mkdir()
        (root / "wandb" / f"offline-run-20260103_000000-{run_id}").symlink_to(others[2])
        (tmp_path / "metrics.csv").write_text("step,tokens,train/nll\n1,10,2.5\n")
        before = set((root / "wandb").iterdir())
        rows_of_run.replay(tmp_path / "metrics.csv")
        assert before - set((root / "wandb").iterdir()) == {mine}
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "wandb").symlink_to(tmp_path / "wandb")
    with logger(linked, "0123") as rows_of_run:
        rows_of_run.replay(tmp_path / "metrics.csv")
    assert all((other / next(iter(other.iterdir())).name).exists() for other in others)


def test_ids_are_those_of_the_caller_and_names_can_be_read(tmp_path: Path) -> None:
    with logger(tmp_path / "2026-01-01" / "00-00-00-lstm16-stateful4-s1", "0123456789abcdef") as rows_of_run:
        assert rows_of_run.wandb.run.id == "lstm16-stateful4-s1-0123456789abcdef"
        assert rows_of_run.wandb.run.name == "stateful4-lstm16-s1"
        assert rows_of_run.version == "lstm16-stateful4-s1-0123456789abcdef"


def test_what_lightning_and_callbacks_ask_of_a_logger_does_nothing_once_wandb_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with logger(tmp_path, "0123", Console(width=200)) as lightning:
        experiment = lightning.experiment
        experiment.config.update({"a": 1})
        experiment.summary["b"] = 2
        assert (experiment.config["a"], experiment.summary["b"]) == (1, 2)
        with pytest.raises(UserError, match="watch"):
            lightning.watch(None)
        monkeypatch.setattr(wandb.Run, "log", raising(FULL))
        lightning.log_text("x", ["y"], [["z"]])
        lightning.log_metrics({"tokens": 1.0}, 1)
        lightning.log_hyperparams({"c": 3})
        lightning.log_graph(None)
        lightning.save()
        lightning.after_save_checkpoint(None)
        lightning.finalize("success")
        experiment.config.update({"a": 2})
        experiment.summary["b"] = 3
        experiment.notes = "text"
        experiment.anything[0].at_all(1)
        lightning.use_artifact("x")
        assert f"{lightning.version}" != ""
    assert [line for line in capsys.readouterr().out.splitlines() if "offline" not in line] == [
        f"W&B: OSError: {FULL}{WITHOUT}"
    ]


@pytest.mark.parametrize("name", ["wandb.init", "wandb.Table", "wandb.Run.log", "wandb.Run.finish"])
def test_a_comparison_is_made_without_wandb(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(name, raising(FULL))
    with (tmp_path / "terminal.txt").open("w") as terminal:
        console = Console(file=terminal, width=200)
        log_comparison(Logger(), [], str(tmp_path), tmp_path / "comparison", [["a"], [1]], [], console)
    assert said(tmp_path)[-1] == f"W&B: OSError: {FULL}; the comparison is complete without it"


def test_comparisons_in_different_places_are_different_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids: list[str] = []
    monkeypatch.setattr("wandb.init", lambda **settings: ids.append(settings["id"]))
    monkeypatch.chdir(tmp_path)
    for place in ("a", "b", str(tmp_path / "a")):
        log_comparison(Logger(), [], place, Path(place) / "comparison", [["a"], [1]], [], Console(quiet=True))
    assert ids[0] == ids[2] != ids[1]
    assert all(re.fullmatch("compare-[0-9a-f]{16}", run_id) for run_id in ids)


def test_without_the_logger_wandb_is_not_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # an import raises an error
    run(fox(), tmp_path, "trainer.max_epochs=1")
    assert said(tmp_path) == []


def test_a_library_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wanted: list[Any]) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    run(fox(), tmp_path, *LOGGED)
    assert said(tmp_path) == [f"W&B: ModuleNotFoundError: import of wandb halted; None in sys.modules{WITHOUT}"]
    assert without_times(tmp_path) == wanted


def test_a_run_is_made_for_browsing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, Any] = {}
    logged: list[dict[str, Any]] = []
    files: list[str] = []
    artifacts: list[Any] = []
    hidden: list[str] = []
    updated: dict[str, Any] = {}
    init, log, define = wandb.init, wandb.Run.log, wandb.Run.define_metric
    monkeypatch.setattr(wandb, "init", lambda **given: (asked.update(given), init(**given))[1])
    monkeypatch.setattr(wandb.Run, "log", lambda self, row, **how: (logged.append(row), log(self, row, **how))[1])
    monkeypatch.setattr(wandb.Run, "save", lambda self, path, **how: files.append(Path(path).read_text(encoding="utf-8")))
    monkeypatch.setattr(wandb.Run, "log_artifact", lambda self, artifact: artifacts.append(artifact))

    update = wandb.sdk.wandb_summary.Summary.update
    monkeypatch.setattr(wandb.sdk.wandb_summary.Summary, "update", lambda self, d: (updated.update(d), update(self, d))[1])

    def defined(self: Any, name: str, **how: Any) -> Any:
        hidden.extend([name] if how.get("hidden") else [])
        return define(self, name, **how)

    monkeypatch.setattr(wandb.Run, "define_metric", defined)
    (tmp_path / "console.txt").write_text("what the terminal showed\n")
    named = ("logger.run_name=mine", "logger.notes=why", "tags=[a,b]", "logger.entity=team", "logger.artifact=best")
    run(fox(), tmp_path, *LOGGED, *named, "trainer.max_epochs=3")
    about = {key: asked[key] for key in ("name", "notes", "tags", "entity", "job_type")}
    tags = ["a", "b", "stateful", "lstm16"]
    assert about == {"name": "mine", "notes": "why", "tags": tags, "entity": "team", "job_type": "train"}
    assert hidden == ["x/epoch", "x/tokens", "x/updates", "x/seconds"]
    sizes = [len(row["written/passages"].data) for row in logged if "written/passages" in row]
    assert sizes == [1, 2, 3]  # one table that grows
    lowest = min(row["val/nll"] for row in logged if "val/nll" in row)
    assert asked["id"].startswith("lstm16-stateful4-s1-")
    assert files == ["what the terminal showed\n"]
    (artifact,) = (each for each in artifacts if each.type == "model")
    assert [*artifact.manifest.entries] == ["best.ckpt"]
    assert updated["best/val/nll"] == lowest
    assert updated["val/nll"] == column(tmp_path, "val/nll")[-1]


def test_members_of_a_sweep_are_named_by_what_differs() -> None:
    swept = {"regime", "optimizer.lr", "seed"}
    settings = config("regime=segments", "optimizer.lr=0.1", "seed=2", "model.hidden_size=16")
    overrides = ["regime=segments", "data=text", "optimizer.lr=0.1", "seed=2"]
    assert member_name(settings, overrides, swept) == "segments-lr=0.1-lstm16-s2"
    assert member_name(settings, overrides, {"seed"}) == "segments-lstm16-s2"
