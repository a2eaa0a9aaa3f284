"""The commands as a user gives them, each in its own process."""

import csv
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from helpers import PROJECT


def call(*arguments: str, cwd: Path, limit: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script; no file that it writes may grow over `limit` bytes."""
    command = [sys.executable, str(PROJECT / "src" / arguments[0]), *arguments[1:]]
    clean = {k: v for k, v in os.environ.items() if not k.startswith("WANDB_")}
    env = {**clean, "NETRC": "/dev/null", "OMP_NUM_THREADS": "1", **environment}

    def before() -> None:
        if limit is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        preexec_fn=before,
    )


def logged(run: Path, *more: str) -> str:
    """The output of W&B's own program for the files of a run."""
    inspect = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", *more, str(run)]
    shown = subprocess.run(inspect, capture_output=True, text=True, timeout=60)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout


SMALL = ["model.hidden_size=16", "trainer.accelerator=cpu", "data=text", "data.path=fox.txt"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `train.py` on a small text, as a user in another folder would start it."""
    folder = tmp_path_factory.mktemp("scripts")
    (folder / "fox.txt").write_text("the quick brown fox. " * 60)
    where = [f"output_root={folder}/out", "hydra.run.dir=out/run"]
    run = call("train.py", *SMALL, "trainer.max_epochs=3", "regime.streams=4", *where, cwd=folder)
    (folder / "stdout").write_text(run.stdout)
    assert (run.returncode, run.stderr) == (0, "")
    return folder


def test_training_from_any_folder_leaves_a_whole_run(folder: Path) -> None:
    run = folder / "out" / "run"
    names = {path.relative_to(run).as_posix() for path in run.rglob("*") if path.is_file()}
    assert names >= {
        *(".hydra/config.yaml", ".hydra/overrides.yaml", "metrics.csv", "summary.json", "samples.txt", "curve.png"),
        *("checkpoints/last.ckpt", "checkpoints/best.ckpt"),
    }
    assert json.loads((run / "summary.json").read_text())["device"] == "cpu"
    stdout = (folder / "stdout").read_text()
    assert "vocabulary 18" in stdout
    assert "epoch 3: train nll" in stdout
    assert "all files are in out/run\n" in stdout


def test_the_last_lines_count_updates_and_keep_wandb_out(folder: Path) -> None:
    where = f"output_root={folder}/onestep"
    done = call(
        "train.py", *SMALL, "regime=onestep", "regime.updates=8", "budget.tokens=64", "logger=none", where, cwd=folder
    )
    assert "\n64 tokens in 64 updates and " in done.stdout
    (compare,) = (line for line in done.stdout.splitlines() if line.startswith("compare: "))
    assert compare.endswith(f" {where} logger=none") or compare.endswith(f" logger=none {where}")


def test_wandb_without_a_key_goes_offline_and_says_how_to_browse(folder: Path) -> None:
    stdout = (folder / "stdout").read_text()
    assert (
        f"W&B: offline, no key is configured; browse with `wandb leet {folder}/out/wandb`, upload with `wandb sync" in stdout
    )
    runs = list((folder / "out" / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert "lstm16-stateful4-s1-" in runs[0].name
    assert "val/nll" in logged(runs[0], "--summary")


def test_wandb_shows_a_run_of_several_lives_as_one(folder: Path) -> None:
    (folder / "fox2.txt").write_text("the quick brown fox. " * 200)
    small = [*SMALL, "data.path=fox2.txt", "trainer.max_epochs=3", "trainer.log_every_n_steps=3"]
    often = ["regime.streams=4", "regime.bptt=8", "trainer.checkpoint_seconds=0.05", "trainer.val_check_interval=40"]
    command = [*small, *often, f"output_root={folder}/lives", "resume=auto"]
    rows, runs = 0, folder / "lives"  # W&B makes and removes folders beside those of the runs
    for _ in range(2):
        enough = rows + 12  # more than the previous life left, so this one has added rows
        process = subprocess.Popen(
            [sys.executable, str(PROJECT / "src" / "train.py"), *command],
            cwd=folder,
            env={**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
        )
        saved = lambda: any(runs.glob("2*/*/checkpoints/last.ckpt"))  # noqa: E731
        while process.poll() is None and (rows < enough or not saved()):
            rows = sum(len(path.read_text().splitlines()) for path in runs.glob("2*/*/metrics.csv"))
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL, "it was killed before its end"
    assert call("train.py", *command, cwd=folder, WANDB_MODE="offline").returncode == 0
    (run,) = (folder / "lives" / "wandb").glob("offline-run-*")
    history = [record["history"] for line in logged(run).splitlines() if (record := json.loads(line))["type"] == "history"]
    seen = [(row["item"]["_step"], row["item"]["train/nll"]) for row in history if "train/nll" in row["item"]]
    (metrics,) = (folder / "lives").rglob("metrics.csv")
    with metrics.open(newline="") as file:
        wanted = [(int(row["step"]), float(row["train/nll"])) for row in csv.DictReader(file) if row["train/nll"]]
    assert seen == wanted
    assert len(seen) == len({step for step, _ in seen}) > 100


def test_wandb_with_a_key_but_no_server_goes_offline_within_seconds(folder: Path) -> None:
    small = [*SMALL, "trainer.max_epochs=1", "logger.init_timeout=1"]
    where = [f"output_root={folder}/keyed", "hydra.run.dir=keyed/run"]
    secret = "c0ffee" * 6 + "beef"
    nowhere = {"WANDB_API_KEY": secret, "WANDB_BASE_URL": "http://127.0.0.1:9"}
    run = call("train.py", *small, *where, cwd=folder, **nowhere)
    assert (run.returncode, run.stderr) == (0, "")
    assert "W&B: offline, the server did not answer" in run.stdout
    holders = [
        file for file in (folder / "keyed").rglob("*") if file.is_file() and secret in file.read_bytes().decode("latin-1")
    ]
    assert holders == []


def test_what_wandb_will_not_have_is_one_line(folder: Path) -> None:
    small = [*SMALL, "trainer.max_epochs=1", f"output_root={folder}/refused", "hydra.run.dir=refused/run"]
    run = call("train.py", *small, "logger.project=a/b", cwd=folder)
    assert (run.returncode, run.stderr) == (0, "")
    (told,) = (line for line in run.stdout.splitlines() if line.startswith("W&B: "))
    assert told.endswith("; the run continues without it, metrics.csv has everything")
    assert (folder / "refused" / "run" / "summary.json").exists()


class Sweep(NamedTuple):
    """The output of a sweep of four members, and their folders. Two members must fail."""

    run: subprocess.CompletedProcess[str]
    members: list[Path]


@pytest.fixture(scope="module")
def sweep(folder: Path) -> Sweep:
    members = ["-m", "regime=stateful8,segments", "optimizer.lr=1e30,0.01", "hydra.sweep.dir=failing"]
    run = call("train.py", *members, *SMALL, "trainer.max_epochs=3", "logger=none", cwd=folder)
    return Sweep(run, sorted(path.parent for path in (folder / "failing").glob("*/.hydra")))


def test_a_sweep_has_a_folder_for_each_member(sweep: Sweep) -> None:
    assert [member.name for member in sweep.members] == [
        "0-lstm16-stateful8-lr_1e+30-s1",
        "1-lstm16-stateful8-lr_0.01-s1",
        "2-lstm16-segments-lr_1e+30-s1",
        "3-lstm16-segments-lr_0.01-s1",
    ]
    assert [(member / "summary.json").exists() for member in sweep.members] == [False, True, False, True]


def test_a_member_that_fails_is_told_and_stops_no_other(sweep: Sweep) -> None:
    assert sweep.run.returncode == 2
    told = sweep.run.stderr.splitlines()
    assert told[2:] == ["error: 2 of 4 members failed; with resume=auto the same command tries them again"]
    for line, member in zip(told[:2], sweep.members[::2], strict=True):
        assert re.match(rf"failed: failing/{re.escape(member.name)}: epoch \d, batch \d: ", line)
        assert " is not finite" in line
        assert line.removeprefix(f"failed: failing/{member.name}: ") == (member / "failure.txt").read_text().splitlines()[-1]
    assert not any((member / "failure.txt").exists() for member in sweep.members[1::2])


def test_a_sweep_has_a_line_for_each_member_that_begins_or_ends_and_a_table(sweep: Sweep) -> None:
    first, *lines = sweep.run.stdout.splitlines()
    assert first == "sweep: failing"
    begun, ended = lines[:8:2], lines[1:8:2]
    labels = ["stateful8 lr=1e+30", "stateful8 lr=0.01", "segments lr=1e+30", "segments lr=0.01"]
    assert begun == [f"{number} of 4  {label}  begins" for number, label in enumerate(labels, start=1)]
    nll = [json.loads((member / "summary.json").read_text())["val/nll"] for member in sweep.members[1::2]]
    results = ["failed", f"{nll[0]:.4f}  \\d+ s", "failed", f"{nll[1]:.4f}  \\d+ s"]
    for number, (label, result, line) in enumerate(zip(labels, results, ended, strict=True), start=1):
        left = r"(  \(about \d+ (s|min) left\))?" if number < 4 else ""
        assert re.fullmatch(rf"{number} of 4  {re.escape(label)}  {result}{left}", line), line
    table = [re.split(r"  +", line.strip()) for line in lines[9:14]]
    assert table[0] == ["member", "state", "val nll", "over seeds", "tokens/s", "folder"]
    rows = sorted(zip(nll, labels[1::2], ["1-*", "3-*"], strict=True))
    assert [(*row[:3], row[-1]) for row in table[1:3]] == [
        (label, "finished", f"{value:.4f}", folder) for value, label, folder in rows
    ]
    assert sorted(row[0] for row in table[3:]) == sorted(labels[::2])
    assert lines[14] == "folders are in failing"
    assert lines[15] == f"compare:    python {PROJECT}/src/compare.py runs=failing logger=none"
    assert len(lines) == 16
    assert "all files are in failing/1-" in (sweep.members[1] / "console.txt").read_text()


def test_a_sweep_is_compared_though_members_failed(sweep: Sweep, folder: Path) -> None:
    compared = call("compare.py", "runs=failing", "out=report", f"output_root={folder}/compared", cwd=folder)
    assert (compared.returncode, compared.stderr) == (0, "")
    said = compared.stdout.splitlines()
    assert re.match(
        r"(stateful8|segments) lr=0.01 is ahead by \d\S+ nats per token, \d\S+ in perplexity: .* With a single seed", said[0]
    )
    for member in sweep.members[::2]:
        assert f"{member}: failed: {(member / 'failure.txt').read_text().splitlines()[-1]}" in said
    assert said[-2].startswith("W&B: offline, no key is configured; ")
    assert said[-1] == "the comparison is in report/report.html"
    assert {"report.html", "report.md", "runs.csv", "loss_seconds.png"} <= {
        file.name for file in (folder / "report").iterdir()
    }
    (run,) = (folder / "compared" / "wandb").glob("offline-run-*-compare-*")
    summary = json.loads(logged(run, "--summary"))["summary"]
    assert summary["comparison"]["nrows"] == 4
    assert summary["loss_seconds"]["format"] == "png"


def test_comparing_what_is_no_run_is_one_line(folder: Path) -> None:
    run = call("compare.py", "runs=nothing", cwd=folder)
    told = "error: runs=nothing: no such folder; give the folder of a sweep or of a run, or several as [a,b]\n"
    assert (run.returncode, run.stdout, run.stderr) == (2, "", told)


PASSAGE = ["prompt=the quick", "length=30", "seed=1"]


@pytest.fixture(scope="module")
def passage(folder: Path) -> str:
    one = call("generate.py", f"checkpoint={folder}/out/run/checkpoints/last.ckpt", *PASSAGE, cwd=folder)
    assert (one.returncode, one.stderr) == (0, "")
    return one.stdout


def test_generating(folder: Path, passage: str) -> None:
    checkpoint = f"checkpoint={folder}/out/run/checkpoints/last.ckpt"
    assert passage.startswith("the quick")
    assert len(passage) == len("the quick") + 30 + 1
    several = call(
        "generate.py", checkpoint, "prompt=the ", "length=9", "num_sequences=3", "top_k=3", "top_p=0.9", cwd=folder
    )
    assert [line for line in several.stdout.splitlines() if line.startswith("---")] == ["--- 1", "--- 2", "--- 3"]
    unknown = call("generate.py", checkpoint, "prompt=the, (quick)='x': \\", cwd=folder)
    assert unknown.returncode == 2
    assert unknown.stderr.startswith("error: prompt: \"'\", '(', ')', ',', ':', '=', '\\\\' not in the vocabulary")
    assert len(unknown.stderr.splitlines()) == 1
    assert not (folder / ".hydra").exists()


def test_evaluating_gives_the_figures_of_the_summary(folder: Path) -> None:
    checkpoint = f"checkpoint={folder}/out/run/checkpoints/last.ckpt"
    result = call("evaluate.py", checkpoint, "data=text", "data.path=fox.txt", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    printed = dict(line.split(" ") for line in result.stdout.splitlines() if line.startswith("val/"))
    summary = json.loads((folder / "out" / "run" / "summary.json").read_text())
    assert float(printed["val/nll"]) == pytest.approx(summary["val/nll"], abs=1e-5)
    assert float(printed["val/nll_reset"]) == pytest.approx(summary["val/nll_reset"], abs=1e-5)


def test_exporting(folder: Path, passage: str) -> None:
    checkpoint = f"checkpoint={folder}/out/run/checkpoints/last.ckpt"
    result = call("export.py", checkpoint, "out=elsewhere", cwd=folder)
    assert (result.returncode, result.stderr) == (0, "")
    assert [line.split(": ")[0] for line in result.stdout.splitlines()] == [
        *("elsewhere/model.safetensors", "elsewhere/model.json", "elsewhere/model.onnx"),
    ]
    again = call("generate.py", "checkpoint=elsewhere/model.safetensors", *PASSAGE, cwd=folder)
    assert (again.returncode, again.stderr, again.stdout) == (0, "", passage)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["train.py", "regime=statefull"],
            "error: regime=statefull: did you mean stateful? "
            "allowed are onestep, overlapping, padded, passed, random_bptt, segments, shuffled_carry, stateful, stateful1, "
            "stateful128, stateful32, stateful8, windowed",
        ),
        (["train.py", "regime.bptt=abc"], "error: regime.bptt='abc': input should be a valid integer"),
        (["train.py", "model.foo=1"], "error: model.foo: there is no such setting; `--cfg job` shows every key"),
        (
            ["train.py", "budget.second=3"],
            "error: budget.second: there is no such setting; did you mean budget.seconds?",
        ),
        (
            ["train.py", "regimes=padded"],
            "error: regimes: there is no such setting; did you mean regime?",
        ),
        (
            ["train.py", "regime.max_length=3"],
            "error: regime.max_length is a setting of another choice of regime; `--cfg job` shows every key",
        ),
        (
            ["generate.py", "checkpoint=x", "lenght=3"],
            "error: lenght: there is no such setting; did you mean length?",
        ),
        (
            ["train.py", "data=text", "data.path=nowhere"],
            "error: data.path=nowhere: No such file or directory; give a readable file",
        ),
        (["train.py", "hydra.run.dir=/dev/null/x"], "error: /dev/null/x: Not a directory"),
        (["generate.py"], "error: checkpoint is required: give it as checkpoint=..."),
        (["export.py", "checkpoint=x", "tolerance=0"], "error: tolerance=0: input should be greater than 0"),
        (
            ["generate.py", "checkpoint=no.ckpt"],
            "error: checkpoint=no.ckpt: No such file or directory; give a .ckpt file of a run",
        ),
        (
            ["evaluate.py", "checkpoint=x", "evaluation.warmup=-1"],
            "error: evaluation.warmup=-1: input should be greater than or equal to 0",
        ),
    ],
)
def test_bad_input_gets_one_line_and_status_2(arguments: list[str], line: str, tmp_path: Path) -> None:
    extra = (
        [] if arguments[0] != "train.py" or "hydra.run.dir=/dev/null/x" in arguments else [f"hydra.run.dir={tmp_path}/run"]
    )
    result = call(*arguments, *extra, cwd=tmp_path)
    assert (result.stderr.splitlines(), result.returncode) == ([line], 2)
    assert result.stdout in ("", "run: run\n")  # data are read after the first line


def test_a_wrong_config_never_waits_for_torch(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise SystemExit('torch was imported')")
    result = call("train.py", "regime.bptt=0", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert result.stderr == "error: regime.bptt=0: input should be greater than 0\n"
    result = call("train.py", f"hydra.run.dir={tmp_path}/run", cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert "torch was imported" in result.stderr  # a valid config gets to the import


def test_a_disk_without_room_is_one_line_and_older_checkpoints_stay(folder: Path, tmp_path: Path) -> None:
    """With a real limit of the system: no file may grow over half the size of a checkpoint."""
    shutil.copytree(folder / "out" / "run", tmp_path / "run")
    checkpoints = tmp_path / "run" / "checkpoints"
    before = {path.name: path.read_bytes() for path in checkpoints.iterdir()}
    assert {"last.ckpt", "best.ckpt"} <= before.keys()
    command = [*SMALL, "logger=none", "regime.streams=4", f"output_root={tmp_path}", f"hydra.run.dir={tmp_path}/run"]
    limit = len(before["last.ckpt"]) // 2
    full = call("train.py", *command, "trainer.max_epochs=4", "resume=auto", cwd=folder, limit=limit)
    assert full.returncode == 2
    assert full.stderr == (
        f"error: {checkpoints}/last.ckpt: File too large; no checkpoint can be written, the older ones are unchanged\n"
    )
    assert {path.name: path.read_bytes() for path in checkpoints.iterdir()} == before
