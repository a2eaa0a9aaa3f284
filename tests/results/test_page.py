"""The page of a comparison in a real browser: it draws, its switches work, it has no errors and makes no requests."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from helpers import config, resealed
from throughline.commands.compare import Compare, compare

DESKTOP: dict[str, Any] = {"viewport": {"width": 1280, "height": 900}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 800}, "is_mobile": True, "has_touch": True}


@pytest.fixture
def opened(page_of: Any, report: Path) -> Any:
    """Opens the report on a given device."""

    def page_as(device: dict[str, Any], folder: Path = report, **settings: Any) -> Any:
        page = page_of(folder / "report.html", **device, **settings)
        page.wait_for_selector("#loss svg")
        return page

    return page_as


def drawn(page: Any, chart: str, kind: str) -> int:
    return int(page.locator(f"#{chart} .{kind}").count())


def test_everything_is_drawn(opened: Any, report: Path) -> None:
    page = opened(DESKTOP)
    assert {plot.get_attribute("id") for plot in page.locator(".plot").all()} == {
        *("nll", "loss", "throughput", "utilisation", "by_position", "memory", "gradient_norm"),
    }
    assert drawn(page, "nll", "bar") == drawn(page, "nll", "whisker") == 5
    assert drawn(page, "loss", "way") == drawn(page, "loss", "band") == 5
    assert page.locator("#short tbody tr").count() == 5
    assert page.locator("#short thead th").count() == 4
    for folded in page.locator("details").all():
        assert folded.get_attribute("open") is None
        folded.locator("summary").first.click()
    assert drawn(page, "throughput", "bar") == 5
    assert drawn(page, "memory", "line") == 4
    assert page.locator("#figures tbody tr").count() == 5
    assert page.locator(".answer").count() == 4
    assert page.locator("pre").count() == 5
    assert (
        "alert(1)"
        in page.locator("pre").all_inner_texts()[page.locator(".passages h3").all_inner_texts().index("stateful2")]
    )
    assert (report / "report.html").stat().st_size < 200_000


def test_the_first_screen_answers_the_question(opened: Any) -> None:
    page = opened(DESKTOP)
    assert page.locator("h1").inner_text() == "Which regime trains best?"
    assert page.locator("#nll svg").bounding_box()["y"] + 100 < 900
    told = page.locator(".headline").inner_text()
    assert told.startswith(("No clear winner: ", "stateful", "segments", "windowed", "onestep"))
    bars = [bar.bounding_box()["x"] + bar.bounding_box()["width"] for bar in page.locator("#nll .bar > rect").all()]
    assert bars == sorted(bars)  # the lowest loss first


def test_names_that_would_be_more_than_text_are_text(opened: Any, report: Path, tmp_path: Path) -> None:
    for name in ("0", "1"):
        shutil.copytree(report.parent / name, tmp_path / name)
    settings = tmp_path / "0" / ".hydra" / "config.yaml"
    name = """"'<img src onerror=alert(1)>%{x}$x$"""
    settings.write_text(settings.read_text().replace("name: cosine", f"name: {json.dumps(name)}"))
    resealed(tmp_path / "0")
    compare(config(f"runs={tmp_path}", "logger=none", name="compare", cls=Compare))
    page = opened(DESKTOP, tmp_path / "comparison")
    label = f"stateful2 name={name}"
    assert label in page.locator(".chip").all_inner_texts()
    assert f"{label[:29]}…" in page.locator("#nll .name").all_text_contents()
    assert page.locator("img").count() == 0
    page.locator(".chip", has_text="onerror").click()
    assert drawn(page, "nll", "bar") == 1


def test_a_member_is_toggled_in_all_charts_at_once(opened: Any) -> None:
    page = opened(DESKTOP)
    chip = page.locator(".chip", has_text="segments")
    chip.click()
    assert chip.get_attribute("aria-pressed") == "false"
    assert drawn(page, "loss", "way") == drawn(page, "nll", "bar") == drawn(page, "throughput", "bar") == 4
    assert drawn(page, "memory", "line") == 4
    chip.click()
    assert chip.get_attribute("aria-pressed") == "true"
    assert drawn(page, "loss", "way") == 5


def test_the_x_axis_is_switched(opened: Any) -> None:
    page = opened(DESKTOP)
    titles = []
    for name in ("seconds", "tokens", "updates"):
        page.locator("[data-chart=loss]", has_text=name).click()
        assert page.locator("[data-chart=loss][aria-pressed=true]").inner_text() == name
        titles.append(page.locator("#loss .xtitle").text_content())
    assert titles == ["seconds of training", "tokens trained on", "updates"]
    page.locator(".chip", has_text="onestep").click()
    assert page.locator("#loss .xtitle").text_content() == "updates"  # a switch keeps its position
    page.locator("summary", has_text="More plots").click()
    page.locator("[data-chart=utilisation]", has_text="waiting for data").click()
    assert page.locator("#utilisation .title").text_content() == "share of the time"


def test_pointing_at_a_line_tells_its_figures(opened: Any) -> None:
    page = opened(DESKTOP)
    page.locator("#loss").scroll_into_view_if_needed()
    for chart, target in (("loss", ".point"), ("nll", ".bar > rect")):
        box = page.locator(f"#{chart} {target}").last.bounding_box()
        assert not page.locator(f"#{chart} .tip").is_visible()
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        assert page.locator(f"#{chart} .tip").is_visible()
        assert "seeds" in page.locator(f"#{chart} .tip").inner_text()
        page.mouse.move(0, 0)


def colours(page: Any) -> tuple[str, str]:
    """The colours of the paper and of the text in a plot."""
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return paper, page.evaluate("getComputedStyle(document.querySelector('#loss .xtitle')).fill")


LIGHT, DARK = ("rgb(255, 255, 255)", "rgb(28, 32, 36)"), ("rgb(21, 24, 27)", "rgb(230, 232, 234)")


@pytest.mark.parametrize(("scheme", "first", "second"), [("light", LIGHT, DARK), ("dark", DARK, LIGHT)])
def test_dark_and_light_follow_the_system_and_the_button(opened: Any, scheme: str, first: Any, second: Any) -> None:
    page = opened(DESKTOP, color_scheme=scheme)
    assert colours(page) == first
    page.locator("#theme").click()
    assert colours(page) == second


def test_it_is_printed_on_white_and_goes_back_to_dark(opened: Any) -> None:
    page = opened(DESKTOP, color_scheme="dark")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert colours(page) == LIGHT
    page.evaluate("window.dispatchEvent(new Event('afterprint'))")
    assert colours(page) == DARK
    assert page.pdf(format="A4").startswith(b"%PDF")


def test_nothing_is_wider_than_a_phone(opened: Any) -> None:
    page = opened(PHONE)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    widths = page.evaluate("[...document.querySelectorAll('.plot svg')].map(plot => plot.getBoundingClientRect().right)")
    assert max(widths) <= 390
