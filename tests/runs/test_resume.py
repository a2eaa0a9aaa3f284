"""A run that is killed and resumed ends with the same weights, bit for bit, as an uninterrupted run."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console

from helpers import (
    QUICK,
    RECORD,
    REGIMES,
    SEQUENCES,
    SMALL,
    column,
    config,
    corpus_of,
    fox,
    names,
    run,
    run_as_from_hydra,
    run_with_kills,
    summary_of,
    weights_hash,
    without_times,
)
from throughline.data.corpus import Corpus
from throughline.plumbing.errors import UserError
from throughline.runs import checkpoint
from throughline.runs.folders import finished_folder, refuse_other_run, run_folder, sweep_folder
from throughline.runs.record import Record
from throughline.training.run import train

Alone = Callable[..., Path]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Alone:
    """The folder of an uninterrupted, finished run of the corpus, made once for all tests with the same settings."""

    @cache
    def finished(*overrides: str) -> Path:
        folder = tmp_path_factory.mktemp("alone")
        run(fox(), folder, *overrides)
        return folder

    return finished


@pytest.mark.parametrize("regime", REGIMES)
def test_a_killed_run_goes_on_bit_for_bit(regime: str, corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = (f"regime={regime}", *REGIMES[regime], *QUICK, "trainer.val_check_interval=7")
    kills = [("on_train_batch_end", 20), ("on_train_batch_end", 3), ("on_validation_batch_end", 2)]
    run_with_kills(corpus, tmp_path / "killed", kills, *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(alone(*chosen))
    assert without_times(tmp_path / "killed") == without_times(alone(*chosen))


@pytest.mark.parametrize("way", SEQUENCES)
def test_a_killed_run_on_sequences_goes_on_bit_for_bit(way: str, tmp_path: Path) -> None:
    chosen = (*SEQUENCES[way], *QUICK, "trainer.val_check_interval=7")
    (tmp_path / "alone").mkdir()
    run(names(), tmp_path / "alone", *chosen)
    kills = [("on_train_batch_end", 20), ("on_train_batch_end", 3), ("on_validation_batch_end", 1)]
    run_with_kills(names(), tmp_path / "killed", kills, *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(tmp_path / "alone")
    assert without_times(tmp_path / "killed") == without_times(tmp_path / "alone")
    assert summary_of(tmp_path / "killed")["val/sequence_nll"] > 0


@pytest.mark.parametrize("batch", [1, 16, 17, 18, 33, 34, 35])
def test_a_kill_around_the_end_of_an_epoch(batch: int, corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)  # 17 batches per epoch
    assert len(column(alone(*chosen), "val/nll")) == 3
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", batch)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(alone(*chosen))
    assert without_times(tmp_path / "killed") == without_times(alone(*chosen))


def test_accumulated_gradients_are_not_lost(corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "trainer.accumulate_grad_batches=3")
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", n) for n in (5, 6, 20)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(alone(*chosen))


def test_float64_goes_on_without_rounding(corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK, "trainer.precision=64-true")
    run_with_kills(corpus, tmp_path / "killed", [("on_train_batch_end", 20)], *chosen)
    assert weights_hash(tmp_path / "killed") == weights_hash(alone(*chosen))


def test_loader_workers_may_change_between_lives(corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    folder = tmp_path / "killed"
    workers = (*chosen, "trainer.num_workers=2")
    run_with_kills(corpus, folder, [("on_train_batch_end", 21)], *workers, last_life=("trainer.num_workers=0",))
    assert weights_hash(folder) == weights_hash(alone(*chosen))


def test_a_finished_run_is_not_trained_further(corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    shutil.copytree(alone(*chosen), tmp_path, dirs_exist_ok=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    before = weights_hash(tmp_path)
    again = run(corpus, tmp_path, *chosen, "resume=must")
    assert weights_hash(tmp_path) == before
    assert (again["tokens"], again["steps"], again["val/nll"]) == (summary["tokens"], summary["steps"], summary["val/nll"])
    (tmp_path / "summary.json").write_text("[")  # damaged, so the run writes its ending again
    once_more = run(corpus, tmp_path, *chosen, "resume=auto")
    assert {**once_more, "seconds": 0} == {**summary_of(tmp_path), "seconds": 0}
    assert (weights_hash(tmp_path), once_more["val/nll"]) == (before, summary["val/nll"])
    longer = run(corpus, tmp_path, *chosen, "resume=auto", "trainer.max_epochs=4")
    assert longer["tokens"] == summary["tokens"] // 3 * 4


def test_a_finished_run_whose_result_was_changed_ends_once_more(corpus: Corpus, tmp_path: Path) -> None:
    folder, chosen = tmp_path / "run", ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")
    run_as_from_hydra(corpus, folder, *chosen)
    passage, rows = ((folder / name).read_bytes() for name in ("samples.txt", "metrics.csv"))
    (folder / "samples.txt").write_text("Something else", encoding="utf-8")
    (folder / "metrics.csv").write_bytes(rows.replace(b"1", b"2"))
    assert Record.read(folder).changed(folder) == "metrics.csv is not as the run left it"
    run(corpus, folder, *chosen, "resume=auto")
    assert Record.read(folder).changed(folder) == ""
    assert [(folder / name).read_bytes() for name in ("samples.txt", "metrics.csv")] == [passage, rows]
    assert "metrics.csv: not as the run left it; its rows were restored" in (folder / "terminal.txt").read_text("utf-8")


def test_a_damaged_newest_checkpoint_is_named_and_the_one_before_is_used(
    corpus: Corpus, tmp_path: Path, alone: Alone
) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    shutil.copytree(alone(*chosen), tmp_path, dirs_exist_ok=True)
    before, last = weights_hash(tmp_path), tmp_path / "checkpoints" / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    run(corpus, tmp_path, *chosen, "resume=auto")
    terminal = (tmp_path / "terminal.txt").read_text()
    assert f"{last}: damaged, its checksum does not match" in terminal
    assert f"resume: continuing from {tmp_path / 'checkpoints' / 'previous.ckpt'}" in terminal
    assert weights_hash(tmp_path) == before


def test_auto_says_that_it_starts_anew_and_must_refuses(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^resume=must: no checkpoint in \S+; resume=auto would start from the beginning$"):
        run(corpus, tmp_path, *QUICK, "resume=must")
    run(corpus, tmp_path, "trainer.max_epochs=1", "resume=auto")
    assert "resume: no checkpoint to continue from, starting from the beginning" in (tmp_path / "terminal.txt").read_text()
    with pytest.raises(UserError, match=r"^no/such.ckpt: No such file or directory"):
        run(corpus, tmp_path, "resume=no/such.ckpt")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("regime.bptt=8", "resume: regime.bptt is 8 here and 16 in "),
        ("regime.streams=5", "resume: regime.streams is 5 here and 4 in "),
        ("model.hidden_size=17", "resume: model.hidden_size is 17 here and 16 in "),
        ("seed=2", "resume: seed is 2 here and 1 in "),
        ("optimizer.lr=0.5", "resume: optimizer.lr is 0.5 here and 0.01 in "),
        ("trainer.precision=64-true", "resume: trainer.precision is '64-true' here and '32-true' in "),
        ("trainer.threads=3", "resume: trainer.threads is 3 here and 1 in "),
    ],
)
def test_another_run_is_refused_by_the_field_that_differs(override: str, line: str, corpus: Corpus, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1", "trainer.precision=32-true")
    folder = alone(*chosen)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "terminal.txt"}
    with pytest.raises(UserError) as error:
        run(corpus, folder, *chosen, override, "resume=auto")
    last = folder / "checkpoints" / "last.ckpt"
    way = f"to begin another run with the weights of this one, give init_from={last}"
    if override.startswith("optimizer"):
        way = "to change it in the middle of the run, give resume=FILE resume_with=[optimizer.lr]"
    assert str(error.value).splitlines() == [line + str(last), way]
    other = corpus_of("the quick brown fizz. " * 50, "the quick brown fox. " * 5)
    with pytest.raises(
        UserError,
        match=r"resume: data.tokens_sha256 is '\w+' here .*\n.*data.vocab_sha256 .* or its table is another",
    ):
        run(other, folder, *chosen, "resume=auto")
    assert len(before) > 5
    assert {file: file.read_bytes() for file in before} == before


def test_the_rate_and_the_schedule_may_change_in_the_middle_of_a_run(corpus: Corpus, tmp_path: Path) -> None:
    """The first part is that of the old settings, the second that of the new ones, and the summary says so."""
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.threads=1")
    run(corpus, tmp_path / "first", *chosen, "trainer.max_epochs=2")
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    new = ("optimizer.lr=0.001", "schedule=constant")
    changed = (*chosen, *new, f"resume={last}", "resume_with=[optimizer.lr,schedule]")
    record = run(corpus, tmp_path / "second", *chosen, "trainer.max_epochs=4", *changed)
    tokens = 2 * corpus.train.num_targets
    assert record["changes"] == [
        {"tokens": tokens, "setting": "optimizer.lr", "before": 0.01, "after": 0.001},
        {"tokens": tokens, "setting": "schedule.name", "before": "cosine", "after": "constant"},
        {"tokens": tokens, "setting": "schedule.warmup", "before": 0.02, "after": 0.0},
    ]
    rates = column(tmp_path / "second", "train/lr")
    assert rates[-1] == 0.001
    assert max(rates) > 0.004
    said = (tmp_path / "second" / "terminal.txt").read_text()
    assert f"resume: from {tokens:,} tokens on, optimizer.lr is 0.001 instead of 0.01\n" in said
    again = run(corpus, tmp_path / "second", *chosen, *new, "trainer.max_epochs=5", "resume=auto")
    assert again["changes"] == record["changes"]


@pytest.mark.parametrize(
    ("given", "line"),
    [
        (("resume_with=[seed]",), "resume_with=seed: cannot change in the middle of a run; allowed are optimizer.lr"),
        (("resume_with=[optimizer.name]",), "resume_with=optimizer.name: cannot change in the middle of a run; "),
        (("resume_with=[schedule]",), "resume_with=schedule: is for resume=FILE, whose run it changes; give it"),
    ],
)
def test_what_cannot_change_is_one_line(given: tuple[str, ...], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}"):
        config(*given)


def test_a_change_that_changes_nothing_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")
    run(corpus, tmp_path / "first", *chosen)
    last = tmp_path / "first" / "checkpoints" / "last.ckpt"
    with pytest.raises(UserError, match=r"^resume_with=schedule: is as in "):
        run(corpus, tmp_path / "second", *chosen, f"resume={last}", "resume_with=[schedule]")


LIMITS = {"tokens": None, "seconds": None, "max_epochs": 5}


def past(root: Path, name: str, overrides: str, *files: str, epochs: int | None = None) -> str:
    """The folder of an earlier run, with a record if it ended after so many epochs."""
    for file in (".hydra/overrides.yaml", *files):
        (root / name / file).parent.mkdir(parents=True, exist_ok=True)
        (root / name / file).write_text(overrides, encoding="utf-8")
    if epochs is not None:
        replace(RECORD, limits={**LIMITS, "max_epochs": epochs}).write(root / name)
    return str(root / name)


def test_the_folder_is_that_of_the_newest_unfinished_run_of_the_same_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = "- seed=1\n- resume=auto\n"
    past(tmp_path, "2026-01-01/a", mine, "checkpoints/last.ckpt")
    newest = past(tmp_path, "2026-01-02/b", "- seed=1\n", "checkpoints/last.ckpt")
    past(tmp_path, "2026-01-03/c", mine, "checkpoints/last.ckpt", epochs=5)
    past(tmp_path, "2026-01-03/d", mine, "checkpoints/last.ckpt", epochs=9)
    past(tmp_path, "2026-01-04/e", mine)
    past(tmp_path, "2026-01-05/f", "- seed=2\n", "checkpoints/last.ckpt")
    for number, damaged in enumerate(("- [", "", "\0", "a: b\n", "- 1\n", "- &a seed=1\n", "- ${oc.env:SEED}\n")):
        past(tmp_path, f"2026-01-06/{number}", damaged, "checkpoints/last.ckpt")
    for name, make in (("pipe", os.mkfifo), ("folder", Path.mkdir)):  # a pipe would be waited for
        file = Path(past(tmp_path, f"2026-01-06/{name}", "", "checkpoints/last.ckpt"), ".hydra", "overrides.yaml")
        file.unlink()
        make(file)
    monkeypatch.setenv("SEED", "seed=1")
    overrides = ["seed=1", "resume=auto"]
    assert run_folder("new", str(tmp_path), "auto", overrides, LIMITS) == newest
    assert run_folder("new", str(tmp_path), "must", overrides, LIMITS) == newest
    assert run_folder("new", str(tmp_path), "none", overrides, LIMITS) == "new"
    assert run_folder("new", str(tmp_path), "auto", ["seed=3", "resume=auto"], LIMITS) == "new"
    assert run_folder("new", str(tmp_path), f"{newest}/checkpoints/last.ckpt", overrides, LIMITS) == "new"
    assert run_folder("new", str(tmp_path), newest, ["seed=7"], LIMITS) == newest
    with pytest.raises(UserError, match=r"/e: no run with a checkpoint is there; give the folder of a run, or a "):
        run_folder("new", str(tmp_path), str(tmp_path / "2026-01-04" / "e"), overrides, LIMITS)


def test_a_finished_run_is_continued_at_larger_limits_of_the_same_kind(tmp_path: Path) -> None:
    ended = past(tmp_path, "2026-01-01/a", "- seed=1\n- trainer.max_epochs=5\n", "checkpoints/last.ckpt", epochs=5)
    command = ["trainer.max_epochs=8", "seed=1", "resume=auto"]
    assert run_folder("new", str(tmp_path), "auto", [command[1], command[0]], {**LIMITS, "max_epochs": 8}) == ended
    assert run_folder("new", str(tmp_path), "auto", command[1:], {**LIMITS, "max_epochs": 8}) == ended
    for other in ({"max_epochs": 5}, {"max_epochs": 4}, {"max_epochs": 8, "tokens": 99}, {"max_epochs": None, "tokens": 99}):
        assert run_folder("new", str(tmp_path), "auto", command[1:], {**LIMITS, **other}) == "new"
    assert finished_folder(str(tmp_path), command[1:], LIMITS) == Path(ended)
    assert finished_folder(str(tmp_path), command[1:], {**LIMITS, "max_epochs": 8}) is None


def test_the_folder_of_a_sweep_is_the_newest_with_a_member_that_began(tmp_path: Path) -> None:
    def sweep(name: str, overrides: str, *members: str) -> str:
        folder = tmp_path / "multirun" / "2026-01-01" / name
        for member in members:
            past(folder, member, "", "checkpoints/last.ckpt")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "multirun.yaml").write_text(f"hydra: {{overrides: {{task: {overrides}}}}}", encoding="utf-8")
        return str(folder)

    mine = ["seed=1,2", "resume=must"]
    with pytest.raises(UserError, match=r"^resume=must: no sweep of this command is in \S+/multirun; resume=auto "):
        sweep_folder("new", str(tmp_path), "must", mine)
    newest = sweep("b", "['seed=1,2', budget.tokens=9, resume=auto]", "0-lstm-s1")
    sweep("c", "['seed=1,2']")
    sweep("d", "['seed=1,2,3']", "0-lstm-s1")
    assert sweep_folder("new", str(tmp_path), "must", mine) == newest
    assert sweep_folder("new", str(tmp_path), "auto", mine) == newest
    assert sweep_folder("new", str(tmp_path), newest, ["seed=9"]) == newest
    assert sweep_folder("new", str(tmp_path), "none", mine) == "new"
    with pytest.raises(UserError, match=r"/b: the folder of a sweep; its command needs -m$"):
        run_folder("new", str(tmp_path), newest, mine, LIMITS)


@pytest.mark.parametrize("resume", ["none", "auto"])
def test_a_new_run_does_not_begin_in_the_folder_of_another(
    resume: str, corpus: Corpus, tmp_path: Path, alone: Alone
) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1", "trainer.precision=32-true")
    shutil.copytree(alone(*chosen), tmp_path, dirs_exist_ok=True)
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "overrides.yaml").write_text("- seed=7\n", encoding="utf-8")
    if resume == "auto":
        shutil.rmtree(tmp_path / "checkpoints")
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    with pytest.raises(UserError, match=r": already holds a run \(.hydra\); resume=auto continues it, a new"):
        refuse_other_run(tmp_path, ["seed=8", "resume=auto"], resume == "auto")
    if resume == "none":
        with pytest.raises(UserError, match=r": already holds a run"):
            train(config(*SMALL, *chosen), corpus, tmp_path, console=Console(quiet=True))
    else:
        refuse_other_run(tmp_path, ["seed=7", "resume=auto"], True)
    assert {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file() and file.name != ".lock"} == {
        file: content for file, content in before.items() if file.name != ".lock"
    }


def test_a_validation_before_any_training_shows_no_train_nll(corpus: Corpus, tmp_path: Path) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "schedule=constant")
    run_with_kills(corpus, tmp_path, [("on_validation_batch_end", 1)], *chosen, "budget.tokens=1049", last_life=None)
    run(corpus, tmp_path, *chosen, "budget.tokens=2098", "resume=auto")
    lines = [line for line in (tmp_path / "terminal.txt").read_text().splitlines() if line.startswith("epoch ")]
    assert [line[:18] for line in lines] == ["epoch 1: val nll 2", "epoch 2: train nll"]


def test_a_validation_that_was_ended_is_made_again(corpus: Corpus, tmp_path: Path, alone: Alone) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", *QUICK)
    folder = tmp_path / "killed"
    for _ in range(2):
        run_with_kills(corpus, folder, [("on_validation_batch_end", 1)], *chosen, last_life=None)
        assert len(column(folder, "val/nll")) == 0
        saved = checkpoint.read(folder / "checkpoints" / "last.ckpt")
        assert (saved["callbacks"]["Spending"]["batches"], saved["callbacks"]["Checkpoints"]["validating"]) == (17, True)
    run(corpus, folder, *chosen, "resume=auto")
    assert weights_hash(folder) == weights_hash(alone(*chosen))
    assert without_times(folder) == without_times(alone(*chosen))


def test_what_auto_became_stays_when_the_machine_changes(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")
    monkeypatch.setattr("throughline.training.machine._cpu_multiplies_bfloat16", lambda: True)
    run(corpus, tmp_path, *chosen)
    monkeypatch.setattr("throughline.training.machine._cpu_multiplies_bfloat16", lambda: False)
    torch.set_num_threads(2)
    try:
        longer = run(corpus, tmp_path, *chosen[:2], "trainer.max_epochs=2", "resume=auto")
    finally:
        torch.set_num_threads(1)
    assert longer["precision"] == "bf16-mixed"
    identity = checkpoint.read(tmp_path / "checkpoints" / "last.ckpt")["throughline"]["identity"]
    assert (identity["trainer.precision"], identity["trainer.threads"]) == ("bf16-mixed", 1)


@pytest.mark.parametrize("resume", ["auto", "must", "FILE"])
def test_a_run_of_another_version_is_refused_by_name_and_left_as_it_is(
    resume: str, corpus: Corpus, tmp_path: Path, alone: Alone
) -> None:
    chosen = ("regime.streams=4", "regime.bptt=16", "trainer.max_epochs=1")
    shutil.copytree(alone(*chosen), tmp_path, dirs_exist_ok=True)
    last = tmp_path / "checkpoints" / "last.ckpt"
    content = checkpoint.read(last)
    checkpoint.write({**content, "throughline": {**content["throughline"], "format": 1}}, last)
    before = last.read_bytes()
    with pytest.raises(UserError) as error:
        run(corpus, tmp_path, *chosen, f"resume={last if resume == 'FILE' else resume}")
    line = f"{last}: written by another version of throughline, in format 1; this one reads 2; resume=none starts a new run"
    assert str(error.value) == line
    assert last.read_bytes() == before
