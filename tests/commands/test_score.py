"""`src/score.py`: the table, the terminal, and the page in a browser."""

import base64
import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers import column, composed, config, run_as_from_hydra, series
from throughline.commands.compose import load
from throughline.commands.score import Score, score
from throughline.plumbing.errors import UserError
from throughline.runs import initial

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)> \x1b[31m "
LOG = "case,event\n" + "".join(f"{n},a\n{n},b b\n" + f"{n},c\n" * (n % 3) for n in range(40)) + "=1+1,c\n=1+1,a\n"
SHORT = ("trainer.max_epochs=3", "model.hidden_size=16", "regime.streams=4", "regime.bptt=8", "logger=none")
ASKED = {"split": "all", "worst": 3}


def trained(folder: Path, *chosen: str) -> str:
    """The checkpoint of a short run."""
    _, corpus, _ = initial.read(config(*chosen))
    run_as_from_hydra(corpus, folder, *chosen, *SHORT)
    return str(folder / "checkpoints" / "last.ckpt")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A checkpoint of a text, and a text to score."""
    folder = tmp_path_factory.mktemp("text")
    (folder / "fox.txt").write_text(HOSTILE * 3 + "the quick brown fox cat.\n" * 100)
    (folder / "own.txt").write_text("the quick\nbrown cat. " + HOSTILE)
    return trained(folder / "run", "data=text", f"data.path={folder}/fox.txt"), str(folder / "own.txt")


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("log")
    (folder / "log.csv").write_text(LOG)
    return trained(folder / "run", "data=table", f"data.path={folder}/log.csv", "data.sequence=case", "data.symbol=event")


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_text_is_scored_symbol_by_symbol(
    text: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoint, own = text
    score(Score(checkpoint, own, str(tmp_path), alternatives=2))
    said, whole = capsys.readouterr().out, Path(own).read_text(encoding="utf-8")
    table = rows(tmp_path)
    assert [*table[0]] == [
        *("place", "symbol", "nll", "rank", "likeliest_1", "probability_1", "likeliest_2", "probability_2")
    ]
    assert [row["symbol"] for row in table] == [*whole[1:]]
    mean = sum(float(row["nll"]) for row in table) / len(table)
    assert f"{len(whole) - 1} symbols scored, nll {mean:.4f} nats ({mean / math.log(2):.4f} bits" in said
    for row in table:
        assert (row["rank"] == "1") == (row["symbol"] == row["likeliest_1"])
        if row["rank"] == "1":
            assert float(row["nll"]) == pytest.approx(-math.log(float(row["probability_1"])), abs=1e-5)
    assert "\x1b[31m" not in said  # what a text holds commands no terminal
    highest = max(table, key=lambda row: float(row["nll"]))
    assert f"most surprising places:\n  {int(highest['place']):,}: {float(highest['nll']):.2f} nats, ..." in said


def test_the_most_surprising_cases_and_steps_of_a_log(log: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(Score(log, out=str(tmp_path), **ASKED))
    said, table = capsys.readouterr().out, rows(tmp_path)
    by_case: dict[str, list[float]] = {}
    for row in table:
        by_case.setdefault(row["sequence"], []).append(float(row["nll"]))
    assert list(by_case) == [*map(str, range(40)), "=1+1"]
    assert [row["symbol"] for row in table if row["sequence"] == "1"] == ["a", "b b", "c", "(end)"]
    worst = max(by_case, key=lambda case: sum(by_case[case]) / len(by_case[case]))
    assert worst == "=1+1"  # the only case that begins with c
    mean = sum(by_case[worst]) / len(by_case[worst])
    assert f"most surprising sequences, by the mean of their steps:\n  {worst}: {mean:.3f} nats a step, 3 steps;" in said


def test_frames_have_a_table_and_no_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "series.npy", series().train.steps.astype(np.float32))
    checkpoint = trained(tmp_path / "run", "data=array", f"data.path={tmp_path}/series.npy")
    score(Score(checkpoint, out=str(tmp_path / "out"), worst=2))
    said = capsys.readouterr().out
    table = rows(tmp_path / "out")
    assert [*table[0]] == ["place", "symbol", "nll", "rank"]
    nll = sum(float(row["nll"]) for row in table) / len(table)
    assert nll == pytest.approx(column(tmp_path / "run", "val/nll")[-1], abs=1e-4)
    assert f"frames scored, nll {nll:.4f} nats" in said
    assert not (tmp_path / "out" / "score.html").exists()


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ({"first": 10**6}, r"first=1000000: there are [\d,]+ scored symbols; allowed is less than that"),
        ({"out": "/dev/null/here"}, "out=/dev/null/here: Not a directory; give a folder that can be written"),
        ({"text": "/nowhere.txt"}, "/nowhere.txt: No such file or directory"),
    ],
)
def test_what_cannot_be_scored_is_one_line(given: dict[str, Any], line: str, text: tuple[str, str]) -> None:
    with pytest.raises(UserError, match=line):
        score(Score(text[0], **given))


# ---- The page


DEVICES: dict[str, dict[str, Any]] = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "phone": {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True},
}


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("kind", ["text", "log"])
def test_the_page_shows_what_was_scored(
    kind: str, device: str, page_of: Any, text: tuple[str, str], log: str, tmp_path: Path
) -> None:
    asked = Score(*text, str(tmp_path)) if kind == "text" else Score(log, out=str(tmp_path), **ASKED)
    score(asked)
    table, page = rows(tmp_path), page_of(tmp_path / "score.html", **DEVICES[device])
    spans = page.locator("#text span")
    assert spans.count() == len(table)
    if kind == "text":
        shown = page.locator("#text").inner_text().replace("\u21b5", "")
        assert shown == Path(asked.text or "").read_text(encoding="utf-8")
    else:
        assert page.locator("#text .begin").count() == 41 + 1  # and the empty lead
        assert page.locator("#cases tr").count() == 3
        page.locator("#cases button").first.click()
        assert page.locator(".chosen").inner_text().strip() == "c"
    number = 4
    spans.nth(number).click()
    card = page.locator("#card").inner_text()
    assert f"{float(table[number]['nll']):.2f} nats" in card
    assert page.locator("#card li").count() == (5 if kind == "text" else 4)
    page.locator("#text").press("ArrowRight")
    assert f"{float(table[number + 1]['nll']):.2f} nats" in page.locator("#card").inner_text()
    surprising = max(range(len(table)), key=lambda k: float(table[k]["nll"]))
    assert "rgb" in spans.nth(surprising).get_attribute("style")
    assert page.locator("#mode option").all_inner_texts() == ["surprise", "h", "tanh(c)"]
    page.select_option("#mode", label="tanh(c)")
    page.locator("#cell").fill("3")
    spans.nth(number).click()
    states = json.loads(page.locator("#data").text_content())["states"]
    value = np.frombuffer(base64.b64decode(states[1]["values"]), np.int8).reshape(-1, 16)[number, 2] / 127
    assert f"tanh(c), cell 3: {value:.2f}" in page.locator("#card").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (paper == "rgb(255, 255, 255)") == (device != "dark")
    page.locator("#theme").click()
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != paper


def test_the_command_takes_its_settings() -> None:
    assert load(composed("checkpoint=x", name="score"), Score) == Score("x")
