"""The numbers in the pages of answers are those of the comparisons that lie beside them."""

import csv
import re
from pathlib import Path

import pytest

from helpers import PROJECT
from throughline.results.comparison import Spread
from throughline.results.metrics import METRICS

PAGES = sorted((PROJECT / "docs").glob("answers*.md"))
TABLE = re.compile(r"<!-- (\S+\.csv): (.+) -->\n\n\|.+\|\n\|[ |-]+\|\n((?:\|.+\|\n)+)")
SHOW = {figure.key: figure.show for figure in METRICS}


def cells(file: Path, member: str, keys: list[str]) -> list[str]:
    """The mean of each metric over the finished runs of a member, and its range over the seeds."""
    with file.open(encoding="utf-8", newline="") as lines:
        runs = [row for row in csv.DictReader(lines) if row["member"] == member and row["state"] == "finished"]
    spreads = [Spread.of([float(run[key]) for run in runs]) for key in keys]
    return [
        f"{SHOW[key](spread.mean)} ({SHOW[key](spread.low)} to {SHOW[key](spread.high)})"
        for key, spread in zip(keys, spreads, strict=True)
    ]


def rows(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_table_is_of_its_comparison(page: Path) -> None:
    tables = TABLE.findall(page.read_text(encoding="utf-8"))
    assert len(tables) == page.read_text(encoding="utf-8").count("<!-- ") >= 4
    for file, keys, table in tables:
        for member, *said in rows(table):
            assert said == cells(page.parent / file, member.strip("`"), keys.split()), (file, member)


def test_both_languages_say_the_same() -> None:
    english, chinese = (TABLE.findall((PROJECT / "docs" / name).read_text()) for name in ("answers.md", "answers.zh.md"))
    assert english == chinese
    for page in PAGES:
        text = page.read_text()
        assert all((page.parent / link).exists() for link in re.findall(r"\]\((?!http)([^)#]+)\)", text))


def test_numbers_in_the_text_are_in_both_languages() -> None:
    def numbers(name: str) -> list[str]:
        text = TABLE.sub("", (PROJECT / "docs" / name).read_text())
        return sorted(re.findall(r"\d+\.\d+", text))

    assert numbers("answers.md") == numbers("answers.zh.md") != []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_table_of_openings_is_of_its_runs(page: Path) -> None:
    with (PROJECT / "docs" / "answers" / "tinyshakespeare-openings.csv").open(newline="") as lines:
        runs = list(csv.DictReader(lines))
    said = re.findall(
        r"^\| ([\d,]+) \| (0[.\d]*) \| (\d+) of (\d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$",
        page.read_text(encoding="utf-8"),
        re.M,
    )
    assert len(said) == 8
    for tokens, probability, noise, passages, *losses in said:
        group = [
            r for r in runs if r["tokens"] == tokens.replace(",", "") and float(r["reset_probability"]) == float(probability)
        ]
        assert (int(noise), int(passages)) == (sum(int(r["noise_passages"]) for r in group), 40 * len(group))
        assert len(group) >= 5
        means = [sum(float(r[key]) for r in group) / len(group) for key in ("first_16", "val/nll", "val/nll_reset")]
        assert [float(loss) for loss in losses] == pytest.approx(means, abs=6e-4)
    assert sum(int(r["noise_passages"]) for r in runs if r["reset_probability"] == "0.0") > 40  # the measure is not blind
