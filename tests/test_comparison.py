"""What a comparison says is what its runs left, recomputed here from metrics.csv and the checkpoints by other means."""

import csv
import itertools
import json
import math
import re
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from conftest import PROJECT
from test_config import config
from test_training import SMALL, run
from throughline.config import CompareConfig
from throughline.data.corpus import Corpus, Line
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.results.answers import UNSUPPORTED, answers
from throughline.results.charts import bytes_for_windows
from throughline.results.comparison import FIGURES, Comparison, Member, Run, Spread, read
from throughline.results.page import _headline, compare
from throughline.runs.checkpoint import load_generator

RESET = 16
MEMBERS = {
    "stateful streams=2": ("regime.streams=2", "regime.bptt=8"),
    "stateful streams=8": ("regime.streams=8", "regime.bptt=8"),
    "segments": ("regime=segments", "regime.steps=8", "regime.batch_size=8"),
    "windowed": ("regime=windowed", "regime.steps=8", "regime.batch_size=16"),
    "onestep": ("regime=onestep", "regime.updates=8"),
}
FOX = Corpus.of(
    ["the quick brown fox. " * 40], ["the quick brown dog! " * 5], {"source": "fox & dog", "bytes": 945, "sha256": "0" * 64}
)
HOSTILE = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>"


def train(folder: Path, corpus: Corpus, *overrides: str) -> dict[str, Any]:
    """A run with its configuration beside it, as Hydra would leave it."""
    (folder / ".hydra").mkdir(parents=True)
    with initialize_config_dir(str(PROJECT / "conf"), version_base="1.3"):
        OmegaConf.save(compose("train", overrides=[*SMALL, *overrides]), folder / ".hydra" / "config.yaml")
    OmegaConf.save(OmegaConf.create(list(overrides)), folder / ".hydra" / "overrides.yaml")
    return run(corpus, folder, *overrides)


@cache  # so that two modules of tests share it
def compared(base: Path) -> Path:
    """The folder of a comparison of five members of two seeds, and of runs that failed, are not finished, are damaged."""
    folder = base / "sweep"
    common = ("budget.tokens=600", "trainer.val_checks=3", "trainer.log_every_n_steps=2", f"evaluation.reset_every={RESET}")
    number = 0
    for seed in (1, 2):
        for overrides in MEMBERS.values():
            train(folder / str(number), FOX, *overrides, *common, f"seed={seed}", "evaluation.warmup=4")
            number += 1
    (folder / "0" / "samples.txt").write_text(HOSTILE)
    for name, seed in (("failed", 3), ("half", 4), ("damaged", 5)):
        shutil.copytree(folder / "2", folder / name)
        settings = folder / name / ".hydra" / "config.yaml"
        settings.write_text(settings.read_text().replace("seed: 1", f"seed: {seed}"))
    (folder / "failed" / "failure.txt").write_text(f"Traceback\nepoch 1, batch 2: {HOSTILE}\n")
    (folder / "half" / "summary.json").unlink()
    (folder / "damaged" / "summary.json").write_text((folder / "2" / "summary.json").read_text()[:-40])
    compare(config(f"runs={folder}", "logger=none", name="compare", cls=CompareConfig))
    return folder / "comparison"


@pytest.fixture
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compared(tmp_path_factory.getbasetemp())


@pytest.fixture
def sweep(report: Path) -> Path:
    return report.parent


@pytest.fixture
def fox() -> Corpus:
    return FOX


@pytest.fixture
def table(report: Path) -> list[dict[str, str]]:
    with (report / "runs.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def metrics(folder: Path) -> list[dict[str, float]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [{key: float(value) for key, value in row.items() if value} for row in csv.DictReader(file)]


def nll_of_checkpoint(folder: Path, line: Line, reset_every: int) -> list[list[float]]:
    """By hand: the nll of every target of the line, a list for each piece that begins from zeros."""
    model, _ = load_generator(folder / "checkpoints" / "last.ckpt")
    tokens = torch.from_numpy(line.tokens.astype(np.int64))
    pieces = [
        (tokens[i : i + reset_every], tokens[i + 1 : i + 1 + reset_every]) for i in range(0, line.targets, reset_every)
    ]
    with torch.no_grad():
        return [
            F.cross_entropy(model(inputs[None, : len(targets)])[0][0], targets, reduction="none").tolist()
            for inputs, targets in pieces
        ]


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def specs(report: Path) -> dict[str, Any]:
    match = re.search(r'<script type="application/json" id="specs">(.*?)</script>', (report / "report.html").read_text())
    assert match
    return {chart["key"]: chart for chart in json.loads(match[1])}


def test_every_figure_of_a_run_is_the_one_in_its_files(table: list[dict[str, str]], sweep: Path, fox: Corpus) -> None:
    finished = [row for row in table if row["state"] == "finished"]
    assert sorted(Path(row["folder"]).name for row in finished) == [str(number) for number in range(10)]
    worst = max(next(row["val/nll"] for row in metrics(sweep / str(n))[::-1] if "val/nll" in row) for n in range(10))
    until = {n: seconds_to(worst, [row for row in metrics(sweep / str(n)) if "val/nll" in row]) for n in range(10)}
    assert len(set(until.values())) == 10
    for row in finished:
        folder = sweep / Path(row["folder"]).name
        number, rows = int(folder.name), metrics(folder)
        label, seed = list(MEMBERS)[number % 5], 1 + number // 5
        assert (row["member"], row["seed"]) == (label, str(seed))
        told = {key: float(row[key]) for key in ("tokens", "seconds", *(figure.key for figure in FIGURES))}

        carried = mean(nll_of_checkpoint(folder, fox.val, 10**9)[0])
        assert told["val/nll"] == pytest.approx(carried, rel=1e-5)
        assert told["val/bpc"] == pytest.approx(carried / math.log(2), rel=1e-5)
        reset = [nll for piece in nll_of_checkpoint(folder, fox.val, RESET) for nll in piece]
        assert told["val/nll_reset"] == pytest.approx(mean(reset), rel=1e-5)

        last = rows[-1]
        assert (told["tokens"], told["updates"]) == (last["tokens"], last["tokens" if label == "onestep" else "step"])
        assert told["seconds"] == pytest.approx(last["seconds"], abs=0.02)  # the display and a checkpoint lie between
        assert told["tokens_per_second"] == pytest.approx(last["tokens"] / told["seconds"])
        H, E, V = 16, 8, len(fox.vocab)  # noqa: N806
        work, chains = positions(config(*SMALL, *MEMBERS[label]).regime, fox.train, seed, int(last["step"]))
        rate = json.loads((folder / "device.json").read_text())["flops_per_second"]
        busy = (work * 6 * (4 * H * E + 4 * H * H + V * H) - chains * 2 * 4 * H * H) / rate
        assert told["device/utilisation"] == pytest.approx(busy / told["seconds"])
        training = [row for row in rows if "train/nll" in row]
        tokens = np.diff([0.0, *(row["tokens"] for row in training)])
        spans = tokens / [row["train/tokens_per_second"] for row in training]
        waited = sum(spans * [row["device/data_wait"] for row in training])
        assert told["device/data_wait"] == pytest.approx(waited / told["seconds"], rel=0.05)
        assert told["peak_memory_bytes"] == json.loads((folder / "summary.json").read_text())["peak_memory_bytes"]

        assert told["seconds_to_worst"] == pytest.approx(until[number])
        shortest = min(mean([until[n], until[n + 5]]) for n in range(5))
        assert told["cost"] == pytest.approx(until[number] / shortest)


def seconds_to(nll: float, way: list[dict[str, float]]) -> float:
    """Where the polygon through the validations first comes down to `nll`."""
    for before, after in itertools.pairwise([way[0], *way]):
        if after["val/nll"] <= nll:
            fall = before["val/nll"] - after["val/nll"]
            share = (before["val/nll"] - nll) / fall if fall else 1.0
            return before["seconds"] + share * (after["seconds"] - before["seconds"])
    raise AssertionError


def positions(regime: Regime, line: Line, seed: int, steps: int) -> tuple[int, int]:
    """How many positions and chains the first `steps` batches have, over as many epochs as it takes."""
    counted, chains, epoch = 0, 0, 0
    while steps:
        plan = regime.plan(line, seed, epoch)
        cuts = [plan[k] for k in range(min(steps, len(plan)))]
        sizes = [(len(cut.start), int(cut.length.max())) for cut in cuts]
        counted += sum(rows * longest for rows, longest in sizes)
        chains += sum(rows * longest if regime.update_every_token else rows for rows, longest in sizes)
        steps, epoch = steps - len(cuts), epoch + 1
    return counted, chains


def test_the_page_shows_means_over_the_seeds(report: Path, table: list[dict[str, str]]) -> None:
    page = (report / "report.html").read_text()
    body = page[page.index('<table id="figures">') : page.index("</tbody>")]
    shown = {re.sub(r"\s*<.*", "", row, flags=re.DOTALL): row for row in body.split('<th scope="row">')[1:]}
    assert list(shown) == sorted(
        MEMBERS, key=lambda m: mean([float(r["val/nll"]) for r in table if r["member"] == m and r["val/nll"]])
    )
    for label in MEMBERS:
        cells = re.findall(r"<td[^>]*>([^<]*)<small>([^<]*)–([^<]*)</small></td>", shown[label])  # noqa: RUF001
        for cell, figure in zip(cells, FIGURES, strict=True):
            values = [float(row[figure.key]) for row in table if row["member"] == label and row["state"] == "finished"]
            assert cell == tuple(figure.show(value) for value in (mean(values), min(values), max(values)))


def test_the_loss_curves_are_those_of_metrics_csv(report: Path, sweep: Path) -> None:
    views = specs(report)["loss"]["views"]
    for axis, view in zip(("seconds", "tokens", "step"), views, strict=True):
        lines = {trace["name"]: trace for trace in view["data"] if trace.get("customdata")}
        for number, label in enumerate(MEMBERS):
            seeds = [[r for r in metrics(sweep / str(n)) if "val/nll" in r] for n in (number, number + 5)]
            assert len(seeds[0]) == len(seeds[1]) >= 3
            column = "tokens" if (axis, label) == ("step", "onestep") else axis  # an update each
            assert lines[label]["x"] == pytest.approx([mean([a[column], b[column]]) for a, b in zip(*seeds, strict=True)])
            assert lines[label]["y"] == pytest.approx(
                [mean([a["val/nll"], b["val/nll"]]) for a, b in zip(*seeds, strict=True)]
            )


def test_bars_and_positions_are_those_of_the_checkpoints(
    report: Path, sweep: Path, fox: Corpus, table: list[dict[str, str]]
) -> None:
    drawn = specs(report)
    for number, label in enumerate(MEMBERS):
        (bar,) = [trace for trace in drawn["throughput"]["views"][0]["data"] if trace["name"] == label]
        rates = [float(row["tokens_per_second"]) for row in table if row["member"] == label and row["state"] == "finished"]
        assert bar["x"] == pytest.approx([mean(rates)])
        (line,) = [t for t in drawn["by_position"]["views"][0]["data"] if t["name"] == label and t.get("customdata")]
        assert line["x"] == ["1", "2", "3–4", "5–8", "9–16", "carried"]  # noqa: RUF001
        seeds = []
        for n in (number, number + 5):
            pieces = nll_of_checkpoint(sweep / str(n), fox.val, RESET)
            bins = [[nll for piece in pieces for nll in piece[a:b]] for a, b in ((0, 1), (1, 2), (2, 4), (4, 8), (8, 16))]
            seeds.append([*map(mean, bins), mean(nll_of_checkpoint(sweep / str(n), fox.val, 10**9)[0])])
        assert line["y"] == pytest.approx([mean(list(pair)) for pair in zip(*seeds, strict=True)], rel=1e-5)


def test_gradient_norms_lie_where_metrics_csv_has_them(report: Path, sweep: Path) -> None:
    """With fewer rows than points each row is a point."""
    (line,) = [
        t for t in specs(report)["gradient_norm"]["views"][1]["data"] if t["name"] == "segments" and t.get("customdata")
    ]
    seeds = [[row for row in metrics(sweep / str(n)) if "train/grad_norm" in row] for n in (2, 7)]
    assert line["x"] == pytest.approx([mean([a["tokens"], b["tokens"]]) for a, b in zip(*seeds, strict=True)])
    assert line["y"] == pytest.approx(
        [mean([a["train/grad_norm"], b["train/grad_norm"]]) for a, b in zip(*seeds, strict=True)]
    )


def test_memory_is_computed_for_naive_windows_and_measured_for_ours(
    report: Path, fox: Corpus, table: list[dict[str, str]]
) -> None:
    naive, ids, ours, whole = specs(report)["memory"]["views"][0]["data"]
    samples, V = len(fox.train.tokens), len(fox.vocab)  # noqa: N806
    assert naive["x"] == ids["x"] == ours["x"] == [16, 32, 64, 128, 256, 512]
    assert naive["y"] == [4 * V * T * (samples - T) for T in naive["x"]]
    assert ids["y"] == [8 * T * (samples - T) for T in ids["x"]]
    assert all(y < 10 * samples + 64 * 3 * 8 * 16 * T for T, y in zip(ours["x"], ours["y"], strict=True))
    peaks = [float(row["peak_memory_bytes"]) for row in table if row["member"] == "windowed"]
    assert (whole["x"], whole["y"]) == ([8], [pytest.approx(mean(peaks))])


def test_memory_for_windows_is_what_numpy_takes() -> None:
    line = Line.of([np.zeros(100_001, np.uint8)])
    order = 100_000 * np.dtype(np.uint32).itemsize
    taken = bytes_for_windows(line, steps=10, batch_size=4)
    assert order < taken < 3 * order


def test_what_is_not_finished_shows_as_such_and_never_as_a_number(report: Path, table: list[dict[str, str]]) -> None:
    broken = {Path(row["folder"]).name: row for row in table if row["state"] != "finished"}
    states = {name: row["state"] for name, row in broken.items()}
    assert states["failed"] == f"failed: epoch 1, batch 2: {HOSTILE}"
    assert states["half"] == "not finished"
    assert states["damaged"].startswith("unreadable: JSONDecodeError: ")
    for row in broken.values():
        assert [row[key] for key in ("tokens", "seconds", *(figure.key for figure in FIGURES))] == [""] * (2 + len(FIGURES))
        assert row["member"] == "segments"
    page = (report / "report.html").read_text()
    assert "seed 4 not finished" in page
    assert "3 of 13 runs have no figures" in page


def test_a_run_that_has_gone_on_is_not_finished(sweep: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):
        shutil.copytree(sweep / name, tmp_path / name)
    with (tmp_path / "0" / "metrics.csv").open("a") as file:
        file.write("999,2.0,5000,9.0,1.0\n")
    (broken,) = [run for run in read([tmp_path]).runs if run.fault]
    assert (broken.folder.name, broken.fault) == ("0", "not finished: it has gone on since its summary was written")


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_figures_that_are_not_finite_are_no_figures(sweep: Path, tmp_path: Path, value: str) -> None:
    for name in ("0", "1"):
        shutil.copytree(sweep / name, tmp_path / name)
    summary = json.loads((tmp_path / "0" / "summary.json").read_text())
    (tmp_path / "0" / "summary.json").write_text(json.dumps({**summary, "val/nll": float(value)}))
    (broken,) = [run for run in read([tmp_path]).runs if run.fault]
    assert (broken.folder.name, broken.fault, broken.figures) == ("0", "failed: its figures are not finite", {})


def test_nothing_from_a_run_is_taken_for_more_than_text(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert page.count("alert(1)") == 3  # a passage, a failure in the table, and once more among the runs
    assert "<script>alert" not in page
    assert "<img" not in page
    markdown = (report / "report.md").read_text()
    assert "<script" not in markdown.replace(f"    {HOSTILE}", "")  # the passage is a block of code


def test_several_folders_and_what_cannot_be_compared(sweep: Path, fox: Corpus, tmp_path: Path) -> None:
    both = read([sweep / "0", sweep / "5", sweep / "0"])
    assert [member.label for member in both.members] == ["stateful"]
    assert len(both.runs) == 2
    with pytest.raises(UserError, match=r"^runs=.*/nothing: no such folder; give that of a sweep or of a run"):
        read([tmp_path / "nothing"])
    with pytest.raises(UserError, match=r"^runs=.*: no run lies there"):
        read([tmp_path])
    with pytest.raises(UserError, match=r"^runs: none of these is finished.*\n.*/half: not finished$"):
        read([sweep / "half"])
    other = Corpus.of(["another text. " * 40], ["another text. " * 5], {"source": "other", "bytes": 1, "sha256": "1"})
    train(tmp_path / "other", other, "budget.tokens=100")
    with pytest.raises(UserError, match=r"^runs: of different data, whose nll cannot be compared: fox & dog .*; other "):
        read([sweep / "0", tmp_path / "other"])


def test_pictures_and_markdown_lie_beside_the_page(report: Path) -> None:
    markdown = (report / "report.md").read_text()
    named = re.findall(r"!\[[^]]*\]\(([^)]*)\)", markdown)
    assert len(named) == 11
    assert sorted(named) == sorted(file.name for file in report.glob("*.png"))
    assert all((report / name).read_bytes().startswith(b"\x89PNG") for name in named)


def fake(regime: str, nlls: list[float], seconds: float = 60.0, updates: float = 1000.0, **settings: Any) -> Member:
    """A member whose seeds ended with these losses."""
    runs = []
    for seed, nll in enumerate(nlls):
        figures = {figure.key: 1.0 for figure in FIGURES} | {
            "val/nll": nll,
            "tokens_per_second": 100.0 * settings.get("streams", 1),
            "updates": updates,
        }
        flat = {f"regime.{key}": value for key, value in settings.items()} | {"seed": seed}
        curve = [{"tokens": 10.0, "val/nll": 4.0}, {"tokens": 100.0, "val/nll": nll, "train/grad_norm": 0.5}]
        summary = {"tokens": 100, "positions": 6400 if regime == "windowed" else 100, "seconds": seconds}
        shape = settings.get("streams", settings.get("batch_size", 0)), settings.get("bptt", settings.get("steps", 0))
        told = {"regime._target_": f"throughline.regimes.{regime}.X", **flat}
        runs.append(Run(Path(), told, [], "", shape, summary, 1000, figures, curve))
    return Member(regime + "".join(f" {value}" for value in settings.values()), runs)


def fakes(*members: Member, budget: str = "60 seconds") -> Comparison:
    return Comparison(sorted(members, key=lambda member: member.nll.mean), 4.0, budget, [])


BETTER, WORSE, AMONG = [1.50, 1.51, 1.52], [1.60, 1.61, 1.62], [1.515, 1.55, 1.56]


@pytest.mark.parametrize(
    ("stateful", "segments", "budget", "verdict", "told"),
    [
        (BETTER, WORSE, "60 seconds", "Yes.", "was 0.100 nats a token better than"),
        (WORSE, BETTER, "60 seconds", "No, not on these data.", "was 0.100 nats a token worse than"),
        (BETTER, AMONG, "60 seconds", UNSUPPORTED, "cannot be told by its seeds from"),
        (
            BETTER[:2],
            WORSE,
            "60 seconds",
            UNSUPPORTED,
            "was, with too few seeds to prove it, 0.105 nats a token better than",
        ),
        (BETTER, WORSE, "", UNSUPPORTED, "was, with another budget, 0.100 nats a token better than"),
    ],
)
def test_an_answer_is_given_only_where_the_seeds_support_it(
    stateful: list[float], segments: list[float], budget: str, verdict: str, told: str
) -> None:
    both = fakes(
        fake("stateful", stateful, streams=32, bptt=64), fake("segments", segments, batch_size=32, steps=64), budget=budget
    )
    carrying, _, _, accepted = answers(both)
    assert carrying.verdict == verdict
    assert told in carrying.text
    assert told in accepted.text
    assert (accepted.verdict == UNSUPPORTED) == (verdict == UNSUPPORTED)


def test_members_that_were_told_more_than_another_regime_settle_nothing() -> None:
    stateful, segments = fake("stateful", BETTER, streams=32, bptt=64), fake("segments", WORSE, batch_size=32, steps=64)
    for run_ in segments.runs:
        run_.settings["optimizer.lr"] = 0.1
    carrying, _, _, accepted = answers(fakes(stateful, segments))
    assert carrying.verdict == accepted.verdict == UNSUPPORTED
    assert "was, told another optimizer.lr, 0.100 nats a token better than" in carrying.text


def test_members_that_are_not_finished_settle_nothing() -> None:
    stateful, segments = fake("stateful", BETTER, streams=32, bptt=64), fake("segments", WORSE, batch_size=32, steps=64)
    segments.runs.append(replace(segments.runs[0], fault="not finished"))
    carrying, *_ = answers(fakes(stateful, segments))
    assert carrying.verdict == UNSUPPORTED
    assert "was, as far as runs are finished, 0.100 nats a token better than" in carrying.text


def test_the_ablation_is_never_the_best() -> None:
    both = fakes(fake("shuffled_carry", BETTER, streams=32, bptt=64), fake("stateful", WORSE, streams=32, bptt=64))
    assert both.members[0].regime == "shuffled_carry"
    assert both.best(FIGURES[0]) is None
    assert _headline(both).startswith("stateful 32 64 ended with a carried nll of 1.610")


def test_a_beginning_answers_nothing() -> None:
    begun = fake("stateful", BETTER, streams=32, bptt=64, updates=99), fake("segments", WORSE, batch_size=32, steps=64)
    carrying, _, _, accepted = answers(fakes(*begun))
    assert carrying.verdict == accepted.verdict == UNSUPPORTED
    assert "was, after no more than 99 updates, 0.100 nats a token better than" in carrying.text


def test_a_rival_that_takes_more_time_for_the_same_is_told_of() -> None:
    members = fake("stateful", WORSE, streams=8, bptt=64), fake("windowed", BETTER, seconds=120.0, steps=64)
    *_, accepted = answers(fakes(*members))
    assert accepted.verdict == "One that does not win here."
    assert "But windowed 64 trained for 120 s, and stateful 8 64 for 60 s." in accepted.text
    *_, alike = answers(fakes(members[0], fake("windowed", BETTER, steps=64)))
    assert " trained for " not in alike.text


def test_questions_about_members_that_are_not_there_are_not_answered() -> None:
    assert [answer.verdict for answer in answers(fakes(fake("padded", WORSE)))] == [UNSUPPORTED] * 4
    assert (
        answers(fakes(fake("padded", WORSE)))[0].text
        == "That needs finished runs of stateful and segments; those here are of padded."
    )


def test_one_step_is_judged_at_equal_tokens_only() -> None:
    members = [fake("onestep", WORSE, streams=1, bptt=1), fake("stateful", BETTER, streams=32, bptt=64)]
    _, alike, _, _ = answers(fakes(*members))
    assert alike.verdict == "Much of what each token could teach."
    assert alike.text.startswith(
        "With 100 tokens each, onestep 1 1 (1.610, 1.600 to 1.620 over 3 runs) was 0.100 nats a token worse"
    )
    for longer in members[1].runs:
        longer.curve.append({"tokens": 1000.0, "val/nll": 1.2})
    _, unlike, _, _ = answers(fakes(*members))
    assert unlike.verdict == UNSUPPORTED
    assert unlike.text.startswith("When each had read 100 tokens, ")
    for longer in members[1].runs:
        del longer.curve[:2]  # so that the first validation comes after what `onestep` has read
    _, unlike, _, _ = answers(fakes(*members))
    assert unlike.verdict == UNSUPPORTED
    assert unlike.text.startswith("onestep 1 1 had read 100 tokens at its end, and others had read more")


def test_more_streams_are_compared_with_fewer_of_the_same() -> None:
    members = [fake("stateful", BETTER, streams=n, bptt=64) for n in (8, 1, 32)]
    _, _, busy, _ = answers(
        fakes(*members, fake("stateful", WORSE, streams=128, bptt=16), fake("windowed", WORSE, steps=64))
    )
    assert busy.verdict == "By more streams."
    assert "read as 1, 8 and 32 streams side by side: 100, 800 and 3,200 tokens a second." in busy.text
    assert "with 64 steps of the network for each token" in busy.text
    _, _, busy, _ = answers(fakes(*(fake("stateful", BETTER[:2], streams=n, bptt=64) for n in (1, 32))))
    assert busy.verdict == UNSUPPORTED


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
