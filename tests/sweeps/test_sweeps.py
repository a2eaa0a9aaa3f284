"""What the terminal shows of a sweep is what its folders hold, whoever trains the members."""

import io
import itertools
import math
import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from helpers import FOX_AND_DOG, run_as_from_hydra
from hydra_plugins import throughline_submitit
from throughline.plumbing import stopping
from throughline.plumbing.errors import UserError
from throughline.runs.record import Record
from throughline.sweeps import grid, watch
from throughline.sweeps.grid import refuse_failures, watched
from throughline.sweeps.members import Member, Seen, members, seen
from throughline.sweeps.table import table
from throughline.sweeps.watch import Pace

OVERRIDES = [["data=text", "regime=stateful", "seed=1", "optimizer.lr=0.1", "+hydra.x=1"]]
OVERRIDES += [["data=text", "regime=segments", "seed=1", "optimizer.lr=0.1", "+hydra.x=2"]]
OVERRIDES += [["data=text", "regime=segments", "seed=2", "optimizer.lr=0.1", "+hydra.x=3"]]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done") / "run"
    run_as_from_hydra(FOX_AND_DOG, folder, "trainer.max_epochs=1")
    return folder


def test_members_are_labelled_by_what_differs() -> None:
    assert members(OVERRIDES, first=4) == [
        Member(4, tuple(OVERRIDES[0]), "stateful seed=1"),
        Member(5, tuple(OVERRIDES[1]), "segments seed=1"),
        Member(6, tuple(OVERRIDES[2]), "segments seed=2"),
    ]
    (alone,) = members([["regime=segments", "model.hidden_size=8"]])
    assert alone.label == ""
    assert members([]) == []


def test_a_folder_shows_its_state(tmp_path: Path, done: Path) -> None:
    assert seen(None).state == "waiting"
    folder = tmp_path / "0-run"
    folder.mkdir()
    assert seen(folder).state == "begun"
    shutil.copytree(done, folder, dirs_exist_ok=True)
    record, now = Record.read(done), seen(folder)
    assert (now.state, now.nll, now.seconds) == ("finished", record.metrics["val/nll"], record.wall_seconds)
    assert set(now.marks) == {"summary.json", ".hydra/config.yaml"}
    (folder / "failure.txt").write_text("Traceback\nValueError: no\n")
    assert (seen(folder).state, seen(folder).why) == ("failed", "ValueError: no")
    (folder / "failure.txt").write_text("pruned: 2.1 at check 3\n")
    assert (seen(folder).state, seen(folder).why) == ("pruned", "2.1 at check 3")
    (folder / "failure.txt").unlink()
    (folder / "summary.json").write_text("{}")
    assert seen(folder).state == "failed"


def launched(
    sweep: Path, work: Callable[[Member], Any], some: list[Member], total: int = 3
) -> tuple[list[str], list[tuple[Member, Seen]]]:
    """The lines that are printed while a launcher does this work for each member, and what became of them."""
    said = io.StringIO()

    def launch(overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        assert [list(each) for each in overrides] == [list(member.overrides) for member in some]
        assert first == some[0].number
        return [work(member) for member in some]

    results = watched(sweep, some, Pace(total), Console(file=said, width=200), launch, after=0)
    return said.getvalue().splitlines(), results


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the watch look only when this is called, in its own thread, so that every look is certain."""
    ask, answered = threading.Event(), threading.Event()
    monkeypatch.setattr(watch, "EVERY", 0.001)
    look = watch.Watch._look

    def when_asked(self: watch.Watch, last: bool = False) -> None:
        if last or not self._thread.is_alive():
            look(self, last)
        elif ask.is_set():
            ask.clear()
            look(self, last)
            answered.set()

    monkeypatch.setattr(watch.Watch, "_look", when_asked)

    def now() -> None:
        answered.clear()
        ask.set()
        assert answered.wait(20)

    return now


def test_a_line_for_each_that_begins_or_ends(
    tmp_path: Path, done: Path, looked: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    some = members(OVERRIDES)

    def work(member: Member) -> None:
        looked()
        folder = tmp_path / f"{member.number}-run"
        folder.mkdir()
        looked()
        if member.number == 1:
            (folder / "failure.txt").write_text("out of memory")
        else:
            shutil.copytree(done, folder, dirs_exist_ok=True)
        looked()
        looked()

    lines, results = launched(tmp_path, work, some)
    record = Record.read(done)
    end = f"{record.metrics['val/nll']:.4f}  {record.wall_seconds:.0f} s"
    assert [line.partition("  (about")[0] for line in lines] == [
        *("1 of 3  stateful seed=1  begins", f"1 of 3  stateful seed=1  {end}"),
        *("2 of 3  segments seed=1  begins", "2 of 3  segments seed=1  failed"),
        *("3 of 3  segments seed=2  begins", f"3 of 3  segments seed=2  {end}"),
    ]
    assert "(about" in lines[1]
    assert "(about" not in lines[-1]
    assert capsys.readouterr().err == f"failed: {tmp_path}/1-run: out of memory\n"
    assert [now.state for _, now in results] == ["finished", "failed", "finished"]
    with pytest.raises(UserError, match=r"^1 of 3 members failed; with resume=auto "):
        refuse_failures(results)
    refuse_failures([results[0], results[2]])


def test_what_was_there_before_is_not_taken_for_new(
    tmp_path: Path, done: Path, looked: Callable[[], None], capsys: pytest.CaptureFixture[str]
) -> None:
    some = members(OVERRIDES)
    for member in some[:2]:
        shutil.copytree(done, tmp_path / f"{member.number}-run")
    (tmp_path / "2-run").mkdir()
    before = Record.read(done)

    def work(member: Member) -> None:
        looked()
        if member.number == 1:  # it goes on to a larger budget
            folder = tmp_path / "1-run"
            (folder / "summary.json").unlink()
            looked()
            Record.read(done).write(folder)
            looked()
        if member.number == 2:
            (tmp_path / "2-run" / "failure.txt").write_text("no")
            looked()

    lines, results = launched(tmp_path, work, some)
    nll = f"{before.metrics['val/nll']:.4f}"
    assert [line.partition("  (about")[0] for line in lines] == [
        "2 of 3 members have already finished",
        "2 of 3  segments seed=1  begins again",
        f"2 of 3  segments seed=1  {nll}  {before.wall_seconds:.0f} s",
        "3 of 3  segments seed=2  continues",
        "3 of 3  segments seed=2  failed",
    ]
    assert [now.state for _, now in results] == ["finished", "finished", "failed"]
    assert capsys.readouterr().err.endswith("2-run: no\n")


class Failed:
    """What Hydra's launchers return for a member that failed."""

    def __init__(self, error: BaseException) -> None:
        self._return_value = error


def test_a_member_without_a_folder_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = members(OVERRIDES[:2])
    errors = {0: UserError("data.path=x: No such file"), 1: RuntimeError()}
    lines, results = launched(tmp_path, lambda member: Failed(errors[member.number]), some, total=2)
    assert lines == ["1 of 2  stateful  failed", "2 of 2  segments  failed"]
    assert [now.why for _, now in results] == ["data.path=x: No such file", "RuntimeError"]
    assert [line.rpartition(f"{tmp_path}: ")[2] for line in capsys.readouterr().err.splitlines()] == [
        "data.path=x: No such file",
        "RuntimeError",
    ]


class Pool:
    """A launcher that trains side by side, and gives up all members when one of its processes is killed.

    Args:
        kills: how often this happens; each time one member has failed and one has ended before.
    """

    def __init__(self, sweep: Path, done: Path, kills: int) -> None:
        self.sweep, self.done, self.kills = sweep, done, kills
        self.launched: list[tuple[int, list[str]]] = []

    def __call__(self, overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        numbers = range(first, first + len(overrides))
        for number, each in zip(numbers, overrides, strict=True):
            self.launched.append((number, [o for o in each if o.startswith("resume")]))
            folder = self.sweep / f"{number}-run"
            folder.mkdir(exist_ok=True)
            if self.kills and number == 3:
                (folder / "failure.txt").write_text("out of memory")
            elif not self.kills or number == 1:
                shutil.copytree(self.done, folder, dirs_exist_ok=True)
        if self.kills:
            self.kills -= 1
            raise RuntimeError("A worker process\nwas killed")
        return [None for _ in numbers]


def test_members_of_a_launcher_that_gave_up_go_on(tmp_path: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some, said = members([["data=text", f"seed={seed}"] for seed in range(6)]), io.StringIO()
    pool = Pool(tmp_path, done, kills=1)
    results = watched(tmp_path, some, Pace(6), Console(file=said, width=200), pool, after=0)
    again = [(number, ["resume=auto"]) for number in (0, 2, 4, 5)]  # neither who has ended nor who has failed
    assert pool.launched == [*((number, []) for number in range(6)), *again]
    assert [now.state for _, now in results] == [*["finished"] * 3, "failed", *["finished"] * 2]
    told = "the launcher has given up (RuntimeError: A worker process was killed); 4 members continue"
    assert told in said.getvalue().splitlines()
    assert capsys.readouterr().err == f"failed: {tmp_path}/3-run: out of memory\n"


def test_a_launcher_that_always_gives_up_is_left(tmp_path: Path, done: Path, capsys: pytest.CaptureFixture[str]) -> None:
    some = members([["data=text", f"seed={seed}"] for seed in range(3)])
    pool = Pool(tmp_path, done, kills=100)
    results = watched(tmp_path, some, Pace(3), Console(quiet=True), pool, after=0)
    assert 100 - pool.kills == 2 * grid.AGAIN + 1  # members 0 and 2 do not lie side by side
    assert [now.state for _, now in results] == ["failed", "finished", "failed"]
    assert capsys.readouterr().err.splitlines() == [
        f"failed: {tmp_path}/{number}-run: RuntimeError: A worker process was killed" for number in (0, 2)
    ]


def test_a_launcher_that_cannot_begin_is_not_asked_again(tmp_path: Path, done: Path) -> None:
    asked: list[int] = []

    def launch(overrides: Sequence[Sequence[str]], first: int) -> list[Any]:
        asked.append(first)
        raise ValueError("n_jobs == 0 has no meaning")

    results = watched(tmp_path, members(OVERRIDES), Pace(3), Console(quiet=True), launch, after=0)
    assert asked == [0]
    assert {(now.state, now.why) for _, now in results} == {("failed", "ValueError: n_jobs == 0 has no meaning")}


def test_the_time_left_counts_all_members() -> None:
    pace = Pace(9)
    assert pace.left(5) == ""
    pace.took += [10.0, 20.0]
    assert pace.left(5) == "  (about 1 min left)"
    pace.most_at_once = 3
    assert pace.left(6) == "  (about 30 s left)"
    assert pace.left(1) == "  (about 15 s left)"
    assert pace.left(0) == ""


def test_a_signal_stops_a_sweep_with_one_line(tmp_path: Path) -> None:
    def work(member: Member) -> None:
        raise stopping.Stopped(15)

    said = io.StringIO()
    console = Console(file=said, width=200)
    with pytest.raises(stopping.Stopped) as stopped:
        watched(tmp_path, members(OVERRIDES), Pace(3), console, lambda some, _: [work(m) for m in some], after=0)  # type: ignore[arg-type]
    assert stopped.value.told
    assert said.getvalue() == "SIGTERM: the sweep is stopped; resume=auto continues it\n"


def test_the_table_puts_seeds_together_and_the_best_first(tmp_path: Path) -> None:
    three = members([["regime=a", "seed=1"], ["regime=b", "seed=1"], ["regime=b", "seed=2"], ["regime=c", "seed=1"]])
    results = [
        Seen("finished", {}, 2.5, 10.0, 1500.0),
        Seen("finished", {}, 2.25, 10.0, 1000.0),
        Seen("finished", {}, 2.0, 10.0, 3000.0),
        Seen("pruned", {}, math.nan, 1.0, 0.0, "late"),
    ]
    assert list(table(tmp_path, list(zip(three, results, strict=True)))) == [
        "member  state       val nll  over seeds        tokens/s  folder",
        "b       2 finished   2.1250  2.0000 to 2.2500     2,000  1-* 2-*",
        "a       finished     2.5000                       1,500  0-*",
        "c       pruned                                           3-*",
        f"folders are in {tmp_path}",
    ]


def test_a_member_that_is_refused_is_not_taken_for_finished(
    tmp_path: Path, done: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What its folder shows is of an earlier try."""
    some = members(OVERRIDES[:2])
    for member in some:
        shutil.copytree(done, tmp_path / f"{member.number}-run")
    (tmp_path / "1-run" / "failure.txt").write_text("an old reason")
    lines, results = launched(tmp_path, lambda member: Failed(UserError("resume: other data")), some, total=2)
    assert [line.partition("  (about")[0] for line in lines] == [
        "1 of 2 members have already finished",
        "1 of 2  stateful  failed",
        "2 of 2  segments  failed",
    ]
    assert [(now.state, now.why) for _, now in results] == [("failed", "resume: other data")] * 2


SUBMITTING = '{"jobs": {}, "submitting": ["train-ab", [1, 2]]}'


@pytest.mark.parametrize(
    ("file", "ending", "waited"),
    [
        ('{"jobs": {"0": "7_0"}, "submitting": null}', [{"7_0": "train"}, {"7_0": "train", "9_4": "0"}, {"9_4": "0"}], 2),
        ('{"jobs": {"3": "7_0"}, "submitting": null}', [{"7_0": "train"}], 0),  # of a member that is not wanted
        (SUBMITTING, [{"7_1": "train-ab"}, {}], 1),
        ("", [], 0),  # no file, so nothing is asked
    ],
)
def test_a_sweep_waits_for_its_jobs_that_are_ending(
    file: str, ending: list[dict[str, str]], waited: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a job may be queued again, and then no other takes its place."""
    answers, sleeps = iter(ending), list[float]()
    after = {"7_0": "train-ab", "7_1": "train-ab"}
    monkeypatch.setattr(throughline_submitit, "_queued", lambda *states: next(answers, {}) if states else after)
    monkeypatch.setattr(throughline_submitit.time, "sleep", sleeps.append)
    if file:
        (tmp_path / "jobs.json").write_text(file)
    jobs = throughline_submitit.Jobs.read(tmp_path / "jobs.json", range(3))
    assert len(sleeps) == waited
    assert jobs.alive == ({number: f"7_{number - 1}" for number in (1, 2)} if file == SUBMITTING else jobs.ids)


def test_a_job_that_hangs_while_it_ends_is_watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(0, 25)
    monkeypatch.setattr(throughline_submitit, "_queued", lambda *states: {"7_0": "train"})
    monkeypatch.setattr(throughline_submitit.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(throughline_submitit.time, "sleep", lambda seconds: None)
    (tmp_path / "jobs.json").write_text('{"jobs": {"0": "7_0"}, "submitting": null}')
    assert throughline_submitit.Jobs.read(tmp_path / "jobs.json", range(1)).alive == {0: "7_0"}
    assert next(clock) == 100
