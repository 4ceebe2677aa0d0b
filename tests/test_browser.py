"""The board in a real browser: wide and narrow, light and dark, by mouse and keyboard, while others write to it."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from razorbench.harness.store.database import Store
from razorbench.harness.store.results import table
from razorbench.leaderboard.app import PAGES
from tests.board_home import TRACK, small
from tests.hostile import HOSTILE, MARK, SOME

if "CI" not in os.environ:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[dev]'")
from selenium.webdriver import ActionChains, Keys

from tests.browser import CHROMIUM, DRIVER, LACK, PHONE, WIDE, Browser, served, started, visiting

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER) and "CI" not in os.environ, reason=LACK),
]

NAMELESS = """
    const seen = [...document.querySelectorAll('[data-testid=stVegaLiteChart], main img, main input, main video')];
    return seen.filter(e => !(e.ariaLabel || e.alt || e.labels?.length)).map(e => e.outerHTML.slice(0, 200))"""


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser for all tests."""
    with started() as made:
        yield made


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A small home, which no test changes."""
    return small(tmp_path_factory.mktemp("small")).home


@pytest.fixture(scope="module")
def board(home) -> Iterator[str]:
    with served(home) as at:
        yield at


@pytest.fixture
def browser(driver, board) -> Iterator[Browser]:
    """A wide, light browser at the small board. All must be well when the test is over."""
    with visiting(driver, board) as made:
        yield made


def test_navigation_leads_to_every_page(browser):
    browser.open("overview")
    for page in [*list(PAGES)[1:], "overview"]:
        browser.click("[data-testid=stTopNavLink]", page.capitalize())
        browser.settled(page)
        browser.assert_well()


def test_permalink_is_the_state_of_the_page(browser):
    asked = {"track": TRACK, "q": "of mini", "method": "grpo", "sort": "gain", "columns": "name"}
    browser.open("track", **asked)
    for _ in range(2):
        assert browser.js("return arguments[0].value", browser.find("input[aria-label=Search]")) == "of mini"
        assert browser.js("return arguments[0].value", browser.find("input[aria-label='Sort by']")) == "gain"
        assert browser.rows() == [[f"grpo of {TRACK}"]]
        browser.driver.refresh()
        browser.settled("track")
    browser.find("input[aria-label=Search]").send_keys("x", Keys.ENTER)
    browser.until(lambda: browser.parameters()["q"] == ["of minix"], "waited for the URL to tell the search")
    browser.until(lambda: "No entry is left" in browser.text(), "waited for the search")
    browser.driver.refresh()
    browser.settled("track")
    assert "No entry is left" in browser.text()
    assert browser.parameters() == {**{name: [value] for name, value in asked.items()}, "q": ["of minix"]}


def test_point_of_the_chart_opens_its_submission(browser):
    browser.open("track", track=TRACK)
    browser.click("[data-testid=stVegaLiteChart] [aria-roledescription=point][aria-label*='method: dr-grpo']")
    browser.settled("submission")
    assert browser.parameters()["id"] == [f"{TRACK}-dr-grpo-0"]
    assert f"dr-grpo of {TRACK}" in browser.text()


def test_keyboard_alone_searches_and_opens_a_submission(browser):
    browser.open("track", track=TRACK)
    for label in ("Search", "Method", "Base", "Parameters", "Verified", "Sort by", "Columns"):
        browser.tab_to(label)
    browser.tab_to("Download as CSV: The leaderboard of this track")
    browser.until(lambda: browser.keys(Keys.TAB) or browser.js("return document.activeElement.tagName") == "CANVAS", "")
    browser.tab_to("Open a submission")
    browser.keys("dr-", Keys.ARROW_DOWN, Keys.ENTER)
    browser.settled("submission")
    assert browser.parameters()["id"] == [f"{TRACK}-dr-grpo-0"]


def test_marked_rows_are_compared(browser):
    browser.open("track", track=TRACK)
    names = [row[1] for row in browser.rows()]
    for row in (0, 2):
        browser.click("canvas[data-testid=data-grid-canvas]", x=20, y=35 + 35 * row + 17)
    browser.click("[data-testid=stPageLink] a", "Compare the 2 chosen")
    browser.settled("compare")
    assert f"first: {names[0]}\nsecond: {names[2]}" in browser.text()


def test_download_is_the_table(browser, home, tmp_path):
    where = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", where)
    browser.open("track", track=TRACK, sort="retention")
    browser.click("[data-testid=stDownloadButton] button", "Download as CSV")
    path = tmp_path / f"{TRACK}.csv"
    browser.until(path.exists, "waited for the download")
    saved = pd.read_csv(path)
    assert saved["name"].tolist() == [row[1] for row in browser.rows()]
    assert sorted(saved["gain"]) == sorted(entry.gain.value for entry in table(Store(home), TRACK))


@pytest.fixture(scope="module")
def links(home) -> dict[str, dict[str, str]]:
    """A permalink of each page that shows most of it."""
    one = {"id": f"{TRACK}-sft-0"}
    all = ",".join(entry.id for entry in table(Store(home), TRACK))
    asked = {"track": {"track": TRACK}, "submission": one, "samples": one, "compare": {"track": TRACK, "ids": all}}
    return {page: asked.get(page, {}) for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_page_fits_desktops_and_phones_by_day_and_night(page, browser, links, tmp_path):
    shots = Path(os.environ.get("RAZORBENCH_SCREENSHOTS") or tmp_path)
    shots.mkdir(parents=True, exist_ok=True)
    browser.open(page, **links[page])
    for theme, papers in (("light", range(200, 256)), ("dark", range(60))):
        for name, size in (("desktop", WIDE), ("phone", PHONE)):
            browser.view(size, theme)
            browser.until(lambda papers=papers: browser.paper() in papers, f"waited for a {theme} page")
            browser.until(lambda: not browser.spilled(), f"waited for {page} to fit {size}")
            browser.picture(shots / f"{page}-{name}-{theme}.png")
    assert browser.js(NAMELESS) == []


# --- strangers --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strange_board(strange) -> Iterator[str]:
    with served(strange) as at:
        yield at


@pytest.fixture
def among_strangers(driver, strange_board) -> Iterator[Browser]:
    """A browser at the hostile board."""
    with visiting(driver, strange_board) as made:
        yield made


@pytest.mark.parametrize("page", ["overview", "track", "compare", "submission", "samples"])
def test_hostile_texts_break_no_page(page, among_strangers, strange):
    browser, entries = among_strangers, table(Store(strange), TRACK)
    runs = [{"id": f"run-{HOSTILE.index(text)}"} for text in SOME[4::8]]
    parameters: list[dict[str, str]] = {
        "overview": [{}],
        "track": [{"track": TRACK, "page": "2"}, {"track": TRACK, "q": HOSTILE[0], "ring": SOME[4]}],
        "compare": [{"track": TRACK, "ids": ",".join(e.id for e in entries if e.name in SOME[4::8])}],
    }.get(page, runs)
    for asked in parameters:
        browser.open(page, **asked)
        for size in (WIDE, PHONE):
            browser.view(size)
            browser.until(lambda: not browser.spilled(), f"waited for {page} to fit {size}")
        browser.until(lambda: MARK in browser.js("return document.body.textContent"), "waited for hostile texts")
        browser.assert_well()


def test_hostile_tooltip_and_choices_are_text(among_strangers):
    browser = among_strangers
    for text in SOME[:20:8]:  # an address holds no long ones
        browser.open("track", track=TRACK, q=text)
        point = browser.find(f"[aria-roledescription=point][aria-label*='{MARK}']")
        ActionChains(browser.driver).move_to_element(point).perform()
        told = "return document.querySelector('#vg-tooltip-element.visible')?.querySelectorAll('td.value')"
        cells = browser.until(lambda told=told: browser.js(told), "waited for the tooltip")
        assert any(MARK in cell.text for cell in cells)
        assert (
            browser.js("return document.querySelectorAll('#vg-tooltip-element :not(table, tbody, tr, td, h2)').length")
            == 0
        )
    browser.click("[data-testid=stSelectbox] input[aria-label='Open a submission']")
    browser.until(lambda: MARK in browser.js("return document.querySelector('[role=listbox]')?.textContent || ''"), "")


# --- writers ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_page_outlives_writers_and_what_befalls_the_file(driver, tmp_path):
    """Somebody hides and shows an entry all the time; then the file is torn, is removed, and is made again."""
    store, done = small(tmp_path), threading.Event()
    hidden = f"{TRACK}-grpo-0", f"{TRACK}-grpo-1"

    def write() -> None:
        while not done.wait(0.5):
            for kind in ("hidden", "unhidden"):
                for id in hidden:
                    store.decide(id, kind, "to write")

    with served(tmp_path) as at, visiting(driver, at) as browser:
        browser.open("track", track=TRACK, columns="method")
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for _ in range(3):
                browser.driver.refresh()
                assert [row for row in browser.rows() if row != ["grpo"]] == [["sft"], ["dr-grpo"]]
                browser.assert_well()
        finally:
            done.set()
            writer.join()

        def warned() -> bool:
            browser.driver.refresh()
            browser.rows()
            return "This is the last state that could be read." in browser.text()

        browser.until(lambda: not warned() and ["grpo"] in browser.rows(), "waited for what was written last")
        for befalls in (tear, Path.unlink):
            befalls(store.snapshot)
            browser.until(warned, "waited for the warning")
            assert browser.rows() == [["sft"], ["grpo"], ["dr-grpo"]]
            browser.assert_well()
        store.rebuild()
        browser.until(lambda: not warned(), "waited for the warning to go")
        assert browser.rows() == [["sft"], ["grpo"], ["dr-grpo"]]


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5_000])
