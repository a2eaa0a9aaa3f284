"""A comparison shows the results of its runs, recomputed here from metrics.csv and the checkpoints by other means."""

import html
import itertools
import json
import math
import re
import shutil
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest

from helpers import (
    FOX_AND_DOG,
    HOSTILE,
    MEMBERS,
    RESET,
    SMALL,
    config,
    corpus_of,
    figures,
    nll_of_checkpoint,
    resealed,
    run_as_from_hydra,
)
from throughline.commands.compare import Compare, compare
from throughline.data.line import Line
from throughline.plumbing.errors import UserError
from throughline.regimes import Regime
from throughline.results.comparison import Spread, read, read_each
from throughline.results.metrics import METRICS


def test_every_figure_of_a_run_is_the_one_in_its_files(table: list[dict[str, str]], sweep: Path) -> None:
    finished = [row for row in table if row["state"] == "finished"]
    assert sorted(Path(row["folder"]).name for row in finished) == [str(number) for number in range(10)]
    worst = max(next(row["val/nll"] for row in figures(sweep / str(n))[::-1] if "val/nll" in row) for n in range(10))
    until = {n: seconds_to(worst, [row for row in figures(sweep / str(n)) if "val/nll" in row]) for n in range(10)}
    assert len(set(until.values())) == 10
    for row in finished:
        folder = sweep / Path(row["folder"]).name
        number, rows = int(folder.name), figures(folder)
        label, seed = list(MEMBERS)[number % 5], 1 + number // 5
        assert (row["member"], row["seed"]) == (label, str(seed))
        told = {
            key: float(row[key]) for key in ("tokens", "seconds", *(figure.key for figure in METRICS if figure.key in row))
        }

        carried = fmean(nll_of_checkpoint(folder, FOX_AND_DOG.val, 10**9)[0])
        assert told["val/nll"] == pytest.approx(carried, rel=1e-5)
        assert told["val/bpc"] == pytest.approx(carried / math.log(2), rel=1e-5)
        reset = [nll for piece in nll_of_checkpoint(folder, FOX_AND_DOG.val, RESET) for nll in piece]
        assert told["val/nll_reset"] == pytest.approx(fmean(reset), rel=1e-5)

        last = rows[-1]
        assert (told["tokens"], told["updates"]) == (last["tokens"], last["tokens" if label == "onestep" else "step"])
        assert told["seconds"] == pytest.approx(last["seconds"], abs=0.02)  # the display and a checkpoint come between
        assert told["tokens_per_second"] == pytest.approx(last["tokens"] / told["seconds"])
        H, E, V = 16, 8, FOX_AND_DOG.codec.size  # noqa: N806
        work, chains = positions(config(*SMALL, *MEMBERS[label]).regime, FOX_AND_DOG.train, seed, int(last["step"]))
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
        shortest = min(fmean([until[n], until[n + 5]]) for n in range(5))
        assert told["cost"] == pytest.approx(until[number] / shortest)


def seconds_to(nll: float, way: list[dict[str, float]]) -> float:
    """The seconds at which the polygon through the validations first reaches `nll`."""
    for before, after in itertools.pairwise([way[0], *way]):
        if after["val/nll"] <= nll:
            fall = before["val/nll"] - after["val/nll"]
            share = (before["val/nll"] - nll) / fall if fall else 1.0
            return before["seconds"] + share * (after["seconds"] - before["seconds"])
    raise AssertionError


def positions(regime: Regime, line: Line, seed: int, steps: int) -> tuple[int, int]:
    """The number of positions and chains in the first `steps` batches, over as many epochs as needed."""
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
    body = page[page.index('<table id="figures">') : page.index("</tbody>", page.index('<table id="figures">'))]
    shown = {re.sub(r"\s*<.*", "", row, flags=re.DOTALL): row for row in body.split('<th scope="row">')[1:]}
    assert list(shown) == sorted(
        MEMBERS, key=lambda m: fmean([float(r["val/nll"]) for r in table if r["member"] == m and r["val/nll"]])
    )
    for label in MEMBERS:
        cells = re.findall(r"<td[^>]*>([^<]*)<small>([^<]*)–([^<]*)</small></td>", shown[label])  # noqa: RUF001
        for cell, figure in zip(cells, [figure for figure in METRICS if figure.key in table[0]], strict=True):
            values = [float(row[figure.key]) for row in table if row["member"] == label and row["state"] == "finished"]
            show = figure.show if figure.key != "val/nll" else "{:.3f}".format  # the seeds allow three digits
            assert cell == tuple(show(value) for value in (fmean(values), min(values), max(values)))


def test_what_is_not_finished_shows_as_such_and_never_as_a_number(report: Path, table: list[dict[str, str]]) -> None:
    broken = {Path(row["folder"]).name: row for row in table if row["state"] != "finished"}
    states = {name: row["state"] for name, row in broken.items()}
    assert states["failed"] == f"failed: epoch 1, batch 2: {HOSTILE}"
    assert states["half"] == "not finished"
    assert states["damaged"].startswith("summary.json: not JSON: ")
    for row in broken.values():
        figures = [figure.key for figure in METRICS if figure.key in row]
        assert len(figures) == len(METRICS) - 1  # all but that of frames
        assert [row[key] for key in ("tokens", "seconds", *figures)] == [""] * (2 + len(figures))
        assert row["member"] == "segments"
    page = (report / "report.html").read_text()
    assert "seed 4 not finished" in page
    assert "3 of 13 runs have no metrics" in page


def test_a_run_that_has_gone_on_is_not_finished(sweep: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):
        shutil.copytree(sweep / name, tmp_path / name)
    with (tmp_path / "0" / "metrics.csv").open("a") as file:
        file.write("999,2.0,5000,999,9.0" + "," * 16 + "\n")
    (broken,) = [run for run in read([tmp_path]).runs if run.fault]
    assert (broken.folder.name, broken.fault) == ("0", "not finished: it was resumed after its summary was written")


@pytest.mark.parametrize("value", ["NaN", "Infinity"])
def test_figures_that_are_not_finite_are_no_figures(sweep: Path, tmp_path: Path, value: str) -> None:
    for name in ("0", "1"):
        shutil.copytree(sweep / name, tmp_path / name)
    summary = json.loads((tmp_path / "0" / "summary.json").read_text())
    (tmp_path / "0" / "summary.json").write_text(json.dumps({**summary, "val/nll": float(value)}))
    resealed(tmp_path / "0")
    (broken,) = [run for run in read([tmp_path]).runs if run.fault]
    assert (broken.folder.name, broken.fault, broken.metrics) == ("0", "failed: its metrics are not finite", {})


def test_nothing_from_a_run_is_taken_for_more_than_text(report: Path) -> None:
    page = (report / "report.html").read_text()
    assert page.count("alert(1)") == 4  # in a passage, in a failure in both tables, and among the runs
    assert "<script>alert" not in page
    assert "<img" not in page
    markdown = (report / "report.md").read_text()
    assert "<script" not in markdown.replace(f"    {HOSTILE}", "")  # the passage is a block of code


def test_several_folders_and_what_cannot_be_compared(sweep: Path, tmp_path: Path) -> None:
    both = read([sweep / "0", sweep / "5", sweep / "0"])
    assert [member.label for member in both.members] == ["stateful2"]
    assert len(both.runs) == 2
    with pytest.raises(UserError, match=r"^runs=.*/nothing: no such folder; give the folder of a sweep or of a run"):
        read([tmp_path / "nothing"])
    with pytest.raises(UserError, match=r"^runs=.*: no run is there"):
        read([tmp_path])
    with pytest.raises(UserError, match=r"^runs: none of these is finished.*\n.*/half: not finished$"):
        read([sweep / "half"])
    other = corpus_of("another text. " * 40, "another text. " * 5, source="other")
    run_as_from_hydra(other, tmp_path / "other", "budget.tokens=100")
    with pytest.raises(
        UserError, match=r"^runs: trained on different data.*, so their nll per step cannot be compared: "
    ) as error:
        read([sweep / "0", tmp_path / "other"])
    told = str(error.value).partition("compared: ")[2].split("; ")  # in the order of the folders
    assert sorted(re.sub(r" \w{12} ", " ", data) for data in told) == ["fox & dog (1 run)", "other (1 run)"]


def test_runs_on_several_data_sets_get_a_table_each(sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = corpus_of("another text. " * 40, "another text. " * 5, source="other")
    for seed in (1, 2):
        run_as_from_hydra(
            other, tmp_path / "other" / str(seed), "budget.tokens=100", f"seed={seed}", "data.val_fraction=0.2"
        )
    asked = (f"runs=[{sweep},{tmp_path}/other]", f"out={tmp_path}/report", "logger=none")
    compare(config(*asked, name="compare", cls=Compare))
    page = (tmp_path / "report" / "report.html").read_text()
    assert page.count("<table>") == 2
    assert page.count('<th scope="row">') == len(MEMBERS) + 1
    told = capsys.readouterr().out
    for pattern, name in (("*fox*", "fox & dog"), ("*other*", "other")):
        (part,) = (tmp_path / "report").glob(pattern)
        assert f'href="{part.name}/report.html"' in page
        assert (part / "report.html").exists()
        assert f"<h2>{html.escape(name)}</h2>" in page
        assert f"{name}:\n" in told
    assert told.count(" has the lowest loss, ") + told.count(" wins by ") + told.count("nothing to compare it with") == 2
    assert "<script" not in page
    for one in read_each([sweep, tmp_path / "other"]):  # unfinished ones are with their own data
        faults = [run for run in one.runs if run.fault]
        assert bool(faults) == (one.runs[0].folder.parent == sweep.resolve())


def test_words_and_subwords_are_compared_per_word(tmp_path: Path) -> None:
    text = "the fox saw the dog. the dog saw the fox.\n" * 40
    path = tmp_path / "text.txt"
    path.write_text(text)
    data = ("data=text", f"data.path={path}", "budget.tokens=500")
    for codec in (["codec=words"], ["codec=bpe", "codec.vocab_size=260"]):
        settings = config(*data, *codec)
        run_as_from_hydra(settings.read(), tmp_path / "runs" / codec[0], *data, *codec)
    with pytest.raises(UserError, match=r"^runs: trained on different data or with different codecs") as error:
        read([tmp_path / "runs"])
    told = str(error.value).partition("their perplexity per word can: ")[2].split(", ")
    words, subwords = (
        json.loads((tmp_path / "runs" / c / "summary.json").read_text()) for c in ("codec=words", "codec=bpe")
    )
    by_word = {"words": words["metrics"]["val/ppl"], "bpe": subwords["metrics"]["val/word_ppl"]}
    assert [re.sub(r"^.*/", "", line) for line in told] == [
        f"codec={name} ({name}) {value:,.1f}" for name, value in sorted(by_word.items(), key=lambda pair: pair[1])
    ]


def test_pictures_and_markdown_lie_beside_the_page(report: Path) -> None:
    markdown = (report / "report.md").read_text()
    named = re.findall(r"!\[[^]]*\]\(([^)]*)\)", markdown)
    assert len(named) == 12
    assert sorted(named) == sorted(file.name for file in report.glob("*.png"))
    assert all((report / name).read_bytes().startswith(b"\x89PNG") for name in named)


def test_spread() -> None:
    assert Spread.of([3.0, 1.0, 2.0]) == (2.0, 1.0, 3.0)
