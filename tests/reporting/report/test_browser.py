"""The page in a browser: Chromium, where there is one (playwright's own, or the system's)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rtok.reporting.report import write_report
from tests.reporting.report.folders import HOSTILE, evaluation, examples, training

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
ORDER = "() => [...document.querySelectorAll('table')[2].tBodies[0].rows].map(row => row.cells[{}].textContent)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    installed = next(filter(None, map(shutil.which, NAMES)), None)
    with playwright.sync_playwright() as started:
        try:
            opened = started.chromium.launch(executable_path=installed)
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error.message.splitlines()[0]}")
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Any, tmp_path: Path, rows: list[dict[str, Any]]) -> Iterator[Any]:
    """A report with charts and examples, whose texts try to be markup."""
    run = evaluation(tmp_path / "a", [*rows, {**rows[1], "threat": HOSTILE, "cosine_to_plain": -0.5, "ci95": None}])
    for name in ("features", "other"):
        (run / f"{name}.png").write_bytes((run / "summary.png").read_bytes())
    examples(run, title=HOSTILE)
    report = write_report([run, training(tmp_path / "b")], tmp_path / "out")
    opened = browser.new_page(viewport={"width": 360, "height": 700})
    problems: list[str] = []
    opened.on("console", lambda message: problems.append(message.text))
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("dialog", lambda dialog: problems.append(dialog.message) or dialog.dismiss())
    opened.on("request", lambda request: request.url.startswith(("file:", "data:")) or problems.append(request.url))
    opened.goto(report.html.as_uri())
    yield opened
    opened.close()
    assert problems == []


def test_the_page_fits_a_phone_and_its_images_load(page: Any) -> None:
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    loaded = page.evaluate("[...document.images].map(image => image.naturalWidth)")
    assert len(loaded) == 5 and all(loaded)


def test_a_table_sorts_by_a_column_of_numbers_and_back(page: Any) -> None:
    column = page.evaluate(ORDER.format(2))
    head = page.locator("table").nth(2).locator("th button").nth(2)
    head.click()
    values = page.evaluate(ORDER.format(2))
    assert values != column and values == sorted(column, key=lambda text: float(text.split()[0]))
    head.click()
    assert page.evaluate(ORDER.format(2)) == values[::-1]
    assert page.locator("table").nth(2).locator("th[aria-sort=descending]").count() == 1
    head.click()
    assert page.evaluate(ORDER.format(2)) == column


def test_a_table_shows_the_lines_that_are_asked_for(page: Any) -> None:
    tools = page.locator(".tools").first
    lines = page.locator("table").nth(2).locator("tbody tr:visible")
    assert lines.count() == 6
    tools.locator("input").fill("ROBUST transfer")
    assert lines.count() == 1 and tools.locator("output").text_content() == "1 of 6 lines"
    tools.locator("input").fill("")
    tools.locator("select").nth(1).select_option("robust")
    assert lines.count() == 3


def test_a_mark_of_a_chart_says_its_value(page: Any) -> None:
    assert page.locator(".mark title").count() == 0  # the browser's own tip does not cover it
    page.locator(".bars .mark").nth(2).hover()
    assert page.locator(".tip").text_content() == "robust under transfer: cosine to plain 0.692 ± 0.031"
    box, mark = page.locator(".tip").bounding_box(), page.locator(".bars .mark").nth(2).bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 360 and box["y"] + box["height"] <= mark["y"]


def test_examples_are_leafed_through_and_enlarged(page: Any) -> None:
    shown = page.locator(".example:visible .panel-title")
    assert shown.count() == 1 and shown.text_content().endswith(" 1")
    page.locator(".examples .tools button").last.click()
    assert shown.text_content().endswith(" 2")
    page.locator(".example:visible img").first.click()
    large = page.locator("dialog img")
    clean = large.get_attribute("src")
    assert large.bounding_box()["width"] > 200
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("src") != clean and large.get_attribute("alt") == "adversarial"
    page.keyboard.press("Escape")
    assert page.locator("dialog[open]").count() == 0


def test_paper_shows_every_example_and_no_controls(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.locator(".example:visible").count() == 2
    assert page.locator(".tools:visible, nav:visible").count() == 0
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_the_dark_is_dark_and_the_page_reads_without_its_script(browser: Any, page: Any) -> None:
    plain = browser.new_page(java_script_enabled=False, color_scheme="dark")
    plain.goto(page.url)
    assert plain.locator(".example:visible").count() == 2 and plain.locator("button").count() == 0
    assert plain.locator(".mark title").first.text_content().startswith("plain under transfer")
    plain.close()
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(23, 25, 28)"
