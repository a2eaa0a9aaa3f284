"""A search draws, trains, prunes and tells; its study outlives every process, and no trial is lost or made twice."""

import csv
import io
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from helpers import FOX_AND_DOG, PROJECT, config, run_as_from_hydra
from throughline.commands.compare import Compare, compare
from throughline.config import Optuna
from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.plumbing.locking import locked
from throughline.runs.record import Record
from throughline.sweeps import search
from throughline.sweeps.members import seen
from throughline.sweeps.space import Draw, drawn, draws
from throughline.sweeps.study import Lock, Reports, claimed, opened

PARSER = OverridesParser.create()
SPACE = {
    "regime": "choice(stateful,segments)",
    "regime.streams": {"when": "regime=stateful", "values": "tag(log,int(interval(8,128)))"},
    "optimizer.lr": "tag(log,interval(1e-3,1e-1))",
    "model.dropout": "interval(0,0.5)",
    "model.hidden_size": "range(16,65,16)",
}


def read(*typed: str, space: dict[str, Any] = SPACE) -> list[Draw]:
    return draws(space, PARSER.parse_overrides(list(typed)), PARSER)


def test_the_command_line_adds_to_the_space_and_takes_out_of_it() -> None:
    assert [draw.key for draw in read()] == ["regime", *[*SPACE][2:], "regime.streams"]  # what asks comes last
    assert {draw.key: draw.when for draw in read() if draw.when} == {"regime.streams": ("regime", "stateful")}
    assert [draw.key for draw in read("model.dropout=0.1", "seed=1,2", "optimizer.lr=0.1,0.2")] == [
        *("regime", "model.hidden_size", "seed", "optimizer.lr", "regime.streams")
    ]


@pytest.mark.parametrize(
    ("space", "line"),
    [
        ({}, r"^sweep\.space: there is nothing to search; give several values, for example optimizer\.lr='interval"),
        ({"seed": 1}, r"^sweep\.space\.seed=1: a single value; give choice\(\.\.\.\) or interval\(\.\.\.\)$"),
        ({"seed": "choice(1"}, r"^sweep\.space\.seed=choice\(1: cannot be read; give choice\(\.\.\.\) or"),
    ],
)
def test_a_space_that_cannot_be_meant(space: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        read(space=space)


def test_a_condition_needs_two_parts() -> None:
    with pytest.raises(ValueError, match=r"space\.a=\{'when': 'b'\}: give \{when: KEY=VALUE, values: \.\.\.\}"):
        Optuna(space={"a": {"when": "b"}})


def test_what_is_drawn_lies_in_the_space() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    streams, rates = [], []
    for _ in range(200):
        fixed, chosen, *rest = drawn(study.ask(), read(), ["data=text"], lambda key, value: False)
        assert fixed == "data=text"
        values = dict(override.split("=") for override in rest)
        assert chosen in ("regime=stateful", "regime=segments")
        assert ("regime.streams" in values) == (chosen == "regime=stateful")
        if "regime.streams" in values:
            streams.append(int(values["regime.streams"]))
        rates.append(float(values["optimizer.lr"]))
        assert 0 <= float(values["model.dropout"]) <= 0.5
        assert values["model.hidden_size"] in ("16", "32", "48", "64")
    assert 8 <= min(streams) < 16 < 64 < max(streams) <= 128
    assert 70 < sum(rate < 1e-2 for rate in rates) < 130  # half of them, because the scale is logarithmic


SETTINGS = Optuna(n_trials=6, startup=2)


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "run"
    run_as_from_hydra(FOX_AND_DOG, folder, "trainer.max_epochs=1")
    return folder


class Launcher:
    """Makes folders as runs leave them, whose nll is the distance of the rate from 0.03; some trials end otherwise.

    Args:
        sweep: where they are made.
        record: a finished run.
        ends: what happens in the trial of a number.
    """

    def __init__(self, sweep: Path, record: Path, ends: dict[int, Callable[[Path], Any]] = {}) -> None:  # noqa: B006
        self.sweep, self.record, self.ends = sweep, record, ends
        self.launched: list[tuple[int, Sequence[str]]] = []

    def __call__(self, members: Sequence[Sequence[str]], first: int) -> list[Any]:
        for number, overrides in enumerate(members, start=first):
            self.launched.append((number, overrides))
            folder = self.sweep / f"{number}-run"
            folder.mkdir(exist_ok=True)
            if number in self.ends:
                self.ends[number](folder)
                continue
            shutil.copytree(self.record, folder, dirs_exist_ok=True)
            (rate,) = (float(o.partition("=")[2]) for o in overrides if o.startswith("optimizer.lr="))
            done = Record.read(self.record)
            metrics = {**done.metrics, "val/nll": abs(math.log(rate / 0.03))}
            replace(done, metrics=metrics).write(folder)
        return [None] * len(members)


FIXED = (r"data.path='it\'s: 1.txt'", "callbacks=[ema]", "seed=010", "task_name='2024_1'")
"""What Hydra's grammar and YAML write in different ways."""


def searched(sweep: Path, launcher: Launcher, settings: Optuna = SETTINGS, **space: Any) -> float:
    sweep.mkdir(exist_ok=True)
    found = draws({"optimizer.lr": "tag(log,interval(1e-3,1e-1))", **space}, [], PARSER)
    is_group = lambda key: key in ("data", "regime", "callbacks")  # noqa: E731
    fixed = ["data=text", "model.hidden_size=8", "sweep=optuna", "launcher=slurm", "++hydra.x=[1]", *FIXED]
    commands = search.Commands("train", ["data=text", "model.hidden_size=8"], False, "compare")
    never = lambda key, value: False  # noqa: E731
    return search.train(settings, found, fixed, sweep, launcher, lambda _: None, is_group, never, commands)


def test_a_search_ends_with_its_best_settings(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    launcher = Launcher(tmp_path / "s", record, {2: lambda folder: (folder / "failure.txt").write_text("out of memory")})
    lowest = searched(tmp_path / "s", launcher, regime="choice(stateful,segments)")
    assert [number for number, _ in launcher.launched] == [*range(6)]
    ends = {number: seen(tmp_path / "s" / f"{number}-run") for number in range(6)}
    assert [now.state for now in ends.values()] == [*["finished"] * 2, "failed", *["finished"] * 3]
    assert lowest == min(now.nll for now in ends.values() if now.state == "finished")
    best = next(overrides for number, overrides in launcher.launched if ends[number].nll == lowest)
    rate, regime = (next(o.partition("=")[2] for o in best if o.startswith(f"{key}=")) for key in ("optimizer.lr", "regime"))
    told = capsys.readouterr().out
    assert "6 trials: 5 finished, 1 failed\n" in told
    assert f"best:       train data=text model.hidden_size=8 optimizer.lr={rate} regime={regime}\n" in told
    assert f"            or train -cd {tmp_path}/s experiment=best\n" in told
    assert yaml.safe_load((tmp_path / "s" / "experiment" / "best.yaml").read_text()) == {
        "defaults": [{"override /data": "text"}, {"override /callbacks": ["ema"]}, {"override /regime": regime}],
        "data": {"path": "it's: 1.txt"},
        "seed": "010",
        "task_name": "2024_1",
        "model": {"hidden_size": 8},
        "optimizer": {"lr": float(rate)},
    }
    rows = list(csv.DictReader(io.StringIO((tmp_path / "s" / "trials.csv").read_text())))
    assert [(int(row["trial"]), row["state"]) for row in rows] == [(number, now.state) for number, now in ends.items()]
    assert [float(row["val_nll"]) for row in rows if row["state"] == "finished"] == pytest.approx(
        [now.nll for now in ends.values() if now.state == "finished"], rel=1e-5
    )
    for row, (_, overrides) in zip(rows, launcher.launched, strict=True):
        assert {f"{key}={row[key]}" for key in ("optimizer.lr", "regime")} <= {*overrides}
    states = [trial.state.name for trial in opened(tmp_path / "s", SETTINGS).get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "FAIL", *["COMPLETE"] * 3]
    for name in ("history.png", "importance.png"):
        assert (tmp_path / "s" / name).read_bytes().startswith(b"\x89PNG")


def test_a_stopped_search_goes_on_as_if_it_had_not_been(record: Path, tmp_path: Path) -> None:
    alone = Launcher(tmp_path / "alone", record)
    searched(tmp_path / "alone", alone)

    def stop(folder: Path) -> None:
        raise stopping.Stopped(15)

    first, second = Launcher(tmp_path / "s", record, {3: stop}), Launcher(tmp_path / "s", record)
    with pytest.raises(stopping.Stopped):
        searched(tmp_path / "s", first)
    searched(tmp_path / "s", second)
    assert [number for number, _ in first.launched] == [0, 1, 2, 3]
    assert [number for number, _ in second.launched] == [3, 4, 5]
    assert first.launched[3] == second.launched[0]  # the very same trial
    assert "resume=auto" in second.launched[0][1]
    assert [*first.launched[:3], *second.launched] == alone.launched


def test_trials_of_a_living_process_are_left_to_it(record: Path, tmp_path: Path) -> None:
    """Another process asks, dies, and only then its trial is taken."""
    sweep = tmp_path / "s"
    sweep.mkdir()
    code = (
        "import sys; from pathlib import Path; from throughline.config import Optuna\n"
        "from throughline.sweeps.study import opened, claimed\n"
        f"sweep = Path({str(sweep)!r}); study = opened(sweep, Optuna()); trial = study.ask(); lock = claimed(sweep, 0)\n"
        "print(trial.suggest_float('optimizer.lr', 1e-3, 1e-1, log=True), flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    other = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True)
    assert other.stdout is not None
    rate = float(other.stdout.readline())
    launcher = Launcher(sweep, record)
    searched(sweep, launcher, replace(SETTINGS, n_trials=3))
    assert [number for number, _ in launcher.launched] == [1, 2]
    other.kill()
    other.communicate()
    searched(sweep, launcher, replace(SETTINGS, n_trials=3))
    assert [number for number, _ in launcher.launched] == [1, 2, 0]
    assert f"optimizer.lr={rate:.6g}" in launcher.launched[2][1]
    assert len(opened(sweep, SETTINGS).get_trials()) == 3


def test_a_trial_whose_run_still_trains_elsewhere_is_left_alone(tmp_path: Path) -> None:
    run = tmp_path / "0-run"
    run.mkdir()
    lock = locked(run / ".lock", 0)
    code = (
        f"from pathlib import Path; from throughline.sweeps.study import claimed; print(claimed(Path({str(tmp_path)!r}), 0))"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    asked = [sys.executable, "-c", code]
    assert subprocess.run(asked, capture_output=True, text=True, env=env, check=True).stdout == "None\n"
    lock.release()
    assert subprocess.run(asked, capture_output=True, text=True, env=env, check=True).stdout != "None\n"


def test_several_trials_at_once_have_numbers_in_a_row(record: Path, tmp_path: Path) -> None:
    batches: list[tuple[int, int]] = []
    launcher = Launcher(tmp_path / "s", record)

    def launch(members: Sequence[Sequence[str]], first: int) -> list[Any]:
        batches.append((first, len(members)))
        return launcher(members, first)

    searched(tmp_path / "s", launch, replace(SETTINGS, n_trials=5, parallel=2))  # type: ignore[arg-type]
    assert batches == [(0, 2), (2, 2), (4, 1)]


def test_trials_that_were_lost_together_are_taken_up_together(record: Path, tmp_path: Path) -> None:
    def stop(folder: Path) -> None:
        raise stopping.Stopped(15)

    settings, batches = replace(SETTINGS, parallel=2), list[tuple[int, int]]()
    alone = Launcher(tmp_path / "alone", record)
    searched(tmp_path / "alone", alone, settings)
    first, second = Launcher(tmp_path / "s", record, {2: stop}), Launcher(tmp_path / "s", record)
    with pytest.raises(stopping.Stopped):
        searched(tmp_path / "s", first, settings)

    def launch(members: Sequence[Sequence[str]], number: int) -> list[Any]:
        batches.append((number, len(members)))
        return second(members, number)

    searched(tmp_path / "s", launch, settings)  # type: ignore[arg-type]
    assert batches == [(2, 2), (4, 2)]
    assert [*first.launched[:2], *second.launched] == alone.launched


def test_a_trial_whose_process_died_before_it_drew_is_drawn_the_same(record: Path, tmp_path: Path) -> None:
    alone, again = Launcher(tmp_path / "alone", record), Launcher(tmp_path / "s", record)
    searched(tmp_path / "alone", alone)
    (tmp_path / "s").mkdir()
    opened(tmp_path / "s", SETTINGS).ask()
    searched(tmp_path / "s", again)
    assert again.launched == alone.launched


def test_no_further_trial_begins_after_the_time(record: Path, tmp_path: Path) -> None:
    launcher = Launcher(tmp_path / "s", record)
    searched(tmp_path / "s", launcher, replace(SETTINGS, n_trials=1000, seconds=1.0))
    assert 0 < len(launcher.launched) < 1000


def test_wrong_settings_end_the_search(record: Path, tmp_path: Path) -> None:
    def check(overrides: Sequence[str]) -> None:
        raise UserError("model.dropout=2: no")

    found = draws({"model.dropout": "interval(2,3)"}, [], PARSER)
    never: Any = lambda *_: False  # noqa: E731
    no_commands = search.Commands("", [], False, "")
    with pytest.raises(UserError, match=r"^model\.dropout=2: no$"):
        search.train(SETTINGS, found, [], tmp_path, Launcher(tmp_path, record), check, never, never, no_commands)
    assert [trial.state.name for trial in opened(tmp_path, SETTINGS).get_trials()] == ["FAIL"]


def test_real_numbers_for_a_whole_one_are_told_how_to_draw(tmp_path: Path) -> None:
    found, never = draws({"regime.bptt": "interval(2.5,3.5)"}, [], PARSER), lambda *_: False
    line = "regime.bptt=2.7: input should be a valid integer"

    def check(overrides: Sequence[str]) -> None:
        raise UserError(line)

    commands = search.Commands("", [], False, "")
    with pytest.raises(UserError) as error:
        search.train(SETTINGS, found, [], tmp_path, Launcher(tmp_path, tmp_path), check, never, never, commands)
    assert str(error.value) == f"{line}; int(interval(...)) draws whole numbers"


def test_a_trial_above_the_median_is_hopeless(tmp_path: Path) -> None:
    study = opened(tmp_path, SETTINGS)
    for nll in (2.0, 2.4, 2.2):
        trial = study.ask()
        report = Reports(tmp_path, trial.number, SETTINGS)
        assert report.hopeless(1, nll + 1) == ""  # the first two are never pruned, and the third is at the median
        if nll != 2.2:
            study.tell(trial, nll)
    late = Reports(tmp_path, study.ask().number, SETTINGS)
    assert late.hopeless(1, 3.5) == "val nll 3.5000 at check 1 is above the median"
    never = Reports(tmp_path, study.ask().number, replace(SETTINGS, prune=False))
    assert never.hopeless(1, 99.0) == ""
    assert Reports(tmp_path, study.ask().number, SETTINGS).hopeless(1, math.nan).startswith("val nll nan at check 1 ")


@given(cut=st.integers(1, 400))
def test_a_journal_with_a_torn_end_loses_only_that_line(cut: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("torn")
    study = opened(folder, SETTINGS)
    for nll in (1.0, 2.0, 3.0):
        study.tell(study.ask(), nll)
    file = folder / "study.journal"
    whole = file.read_bytes()
    lines = whole.splitlines(keepends=True)
    kept = whole[: max(len(whole) - cut, len(b"".join(lines[:2])))]  # the lines that make the study stay
    file.write_bytes(kept)
    again = opened(folder, SETTINGS)
    assert file.read_bytes().startswith(kept[: kept.rfind(b"\n") + 1])
    before = len(again.get_trials())
    again.tell(again.ask(), 0.5)
    assert opened(folder, SETTINGS).best_value == 0.5
    assert len(opened(folder, SETTINGS).get_trials()) == before + 1 <= 4


def test_a_lock_is_free_when_its_process_is_dead(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from throughline.sweeps.study import Lock\n"
        f"Lock(Path({str(tmp_path / 'study.journal')!r})).acquire(); os._exit(9)"
    )
    env = {**os.environ, "PYTHONPATH": str(PROJECT / "src")}
    assert subprocess.run([sys.executable, "-c", code], env=env).returncode == 9
    lock = Lock(tmp_path / "study.journal")
    assert lock.acquire()
    lock.release()


def test_the_file_of_the_search_composes() -> None:
    settings = config("sweep=optuna", "sweep.n_trials=3").sweep
    assert isinstance(settings, Optuna)
    assert settings.n_trials == 3
    assert settings.space is not None
    assert len(draws(settings.space, [], PARSER)) == len(settings.space) >= 5
    assert config().sweep is None


def test_a_search_by_the_command(tmp_path: Path) -> None:
    (tmp_path / "fox.txt").write_text("the quick brown fox. " * 100)
    command = ["-m", "sweep=optuna", "sweep.n_trials=4", "sweep.startup=1", "sweep.space=null", "logger=none"]
    command += ["optimizer.lr=tag(log,interval(1e-3,1e-1))", "regime=stateful8,segments", "model.hidden_size=8"]
    command += ["data=text", "data.path=fox.txt", "budget.tokens=4000", "trainer.val_checks=2", "hydra.sweep.dir=found"]
    done = subprocess.run(
        [sys.executable, str(PROJECT / "src" / "train.py"), *command], cwd=tmp_path, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert not list((tmp_path / "found").glob("*dropout*"))
    states = [seen(folder).state for folder in sorted((tmp_path / "found").glob("[0-9]-*"))]
    assert len(states) == 4
    assert set(states) <= {"finished", "pruned"}
    reported = [len(trial.intermediate_values) for trial in opened(tmp_path / "found", SETTINGS).get_trials()]
    assert all(1 <= count <= 3 for count in reported)
    compare(config(f"runs={tmp_path}/found", "logger=none", name="compare", cls=Compare))
    page = (tmp_path / "found" / "comparison" / "report.html").read_text()
    assert page.count('alt="the search"') == 1 + (tmp_path / "found" / "importance.png").exists()
    best = next(line for line in done.stdout.splitlines() if "-cd found experiment=best" in line)
    assert best.startswith("            or python ")
    cfg = subprocess.run(
        [sys.executable, str(PROJECT / "src" / "train.py"), *["-cd", "found", "experiment=best", "--cfg", "job"]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "tokens: 4000" in cfg.stdout
    assert claimed(tmp_path / "found", 0) is not None


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ("tag(log,interval(0,0.1))", r"^x=tag\(log,interval\(0,0\.1\)\): nothing can be drawn from it, because "),
        ("interval(0.1,0.001)", r"^x=interval\(0\.1,0\.001\): nothing can be drawn from it, because "),
        ("interval(0.1,inf)", r"^x=interval\(0\.1,inf\): nothing can be drawn from it, because an end is not finite$"),
    ],
)
def test_nothing_is_drawn_from_what_is_no_range(values: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        read(f"x={values}")


def test_choices_are_the_same_in_every_process() -> None:
    assert read("x=shuffle(3,1,2)", space={})[0].distribution.choices == ("1", "2", "3")


@pytest.mark.parametrize(("usual", "drawn_too"), [("stateful", True), ("segments", False)])
def test_a_condition_also_holds_for_what_is_not_drawn(usual: str, drawn_too: bool) -> None:
    space = {"regime.bptt": {"when": "regime=stateful", "values": "choice(8,16)"}}
    holds = lambda key, value: (key, value) == ("regime", usual)  # noqa: E731
    overrides = drawn(optuna.create_study().ask(), read(space=space), [], holds)
    assert bool(overrides) == drawn_too
    typed = drawn(optuna.create_study().ask(), read("regime=stateful,segments", space=space), [], holds)
    assert ("regime=stateful" in typed) == any(override.startswith("regime.bptt=") for override in typed)


def test_a_search_goes_on_with_the_values_that_it_began_with(record: Path, tmp_path: Path) -> None:
    searched(tmp_path / "s", Launcher(tmp_path / "s", record), replace(SETTINGS, n_trials=2), **{"model.dropout": "0.1,0.2"})
    with pytest.raises(UserError, match=r"^model\.dropout: this search has drawn from other values before; give it another"):
        searched(tmp_path / "s", Launcher(tmp_path / "s", record), **{"model.dropout": "0.1,0.3"})
    states = [trial.state.name for trial in opened(tmp_path / "s", SETTINGS).get_trials()]
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]  # nothing waits for ever


def test_a_journal_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "study.journal").write_text("garbage\n")
    with pytest.raises(UserError, match=r"study\.journal: is no study of this version \(JSONDecodeError: .*; give another"):
        opened(tmp_path, SETTINGS)
