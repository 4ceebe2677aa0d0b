"""The board in a real browser: wide and narrow, light and dark, by mouse and keyboard, while others write to it."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pandas as pd
import pytest

from razorbench.harness.store.database import Store
from razorbench.harness.store.results import table
from razorbench.leaderboard.app import PAGES
from tests.board_home import TRACK, small
from tests.hostile import HOSTILE, MARK, SOME

if "CI" not in os.environ:
    pytest.importorskip("selenium", reason="selenium is not installed: pip install '.[dev]'")
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
LACK = "there is no chromium and chromedriver: apt-get install chromium chromium-driver"
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER) and "CI" not in os.environ, reason=LACK),
]

FLAGS = """
    --headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --hide-scrollbars
    --disable-background-networking --disable-component-update --disable-sync""".split()
WIDE, PHONE = (1400, 1000), (390, 844)
PATIENCE = 90.0
"""Seconds to wait for what takes one, on a machine that does other things."""

KNOWN = re.compile(
    r"""http://localhost:\d+/\w+/_stcore/(health|host-config)\ -\ .*\ 404\   # Streamlit first tries below the page
    | .* Dropping\ .*fit-y.*\ because\ spec\ has\ discrete\ height  # a painted reply is as high as its lines""",
    re.VERBOSE,
)
"""Complaints that nothing is wrong about."""

SETTLED = """
    const app = document.querySelector('[data-testid=stApp]');
    const charts = [...document.querySelectorAll('[data-testid=stVegaLiteChart]')];
    return app?.dataset.testScriptState === 'notRunning' && app.dataset.testConnectionState === 'CONNECTED'
        && !document.querySelector('[data-testid=stSkeleton], [data-stale=true]')
        && charts.every(chart => chart.querySelector('svg'))
        && document.querySelector('h1')?.innerText"""
GRID = """
    const grid = document.querySelector('[role=grid]');
    if (!grid) return null;
    return [...grid.querySelectorAll('tbody tr')].map(row => [...row.cells].map(cell => cell.textContent))"""
SPILLED = """
    const main = document.querySelector('[data-testid=stMain]'), page = document.documentElement;
    const wide = [...document.querySelectorAll('[data-testid=stVegaLiteChart] svg')].filter(
        svg => svg.getBoundingClientRect().right > innerWidth + 1);
    return Math.max(page.scrollWidth - innerWidth, main.scrollWidth - main.clientWidth, wide.length)"""


NAMELESS = """
    const seen = [...document.querySelectorAll('[data-testid=stVegaLiteChart], main img, main input, main video')];
    return seen.filter(e => !(e.ariaLabel || e.alt || e.labels?.length)).map(e => e.outerHTML.slice(0, 200))"""


class Browser:
    """A browser at a board."""

    def __init__(self, driver: Any, at: str):
        self.driver, self.at = driver, at

    def until(self, wanted: Callable[[], Any], what: str) -> Any:
        """Wait for what is wanted, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := wanted()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}, in vain, at {self.driver.current_url}:\n{self.text()[:2000]}")
            time.sleep(0.05)
        return found

    def js(self, code: str, *given: Any) -> Any:
        return self.driver.execute_script(code, *given)

    def text(self) -> str:
        return self.js("return document.body.innerText")

    def open(self, page: str, /, **parameters: str) -> None:
        """Follow a permalink."""
        path = "" if page == "overview" else page
        self.driver.get(f"{self.at}/{path}?{urlencode(parameters)}")
        self.settled(page)

    def settled(self, page: str) -> None:
        """Wait until a page is drawn."""
        title = "razorbench" if page == "overview" else page.capitalize()
        self.until(lambda: self.js(SETTLED) == title, f"waited for {title}")

    def view(self, size: tuple[int, int] = WIDE, theme: str = "light") -> None:
        """Look through a window of that size, and prefer a theme."""
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        prefer = {"features": [{"name": "prefers-color-scheme", "value": theme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", prefer)

    def find(self, selector: str, has: str = "") -> Any:
        """The first element that has the text, scrolled to where it can be clicked."""
        code = """
            const found = [...document.querySelectorAll(arguments[0])].find(e => e.textContent.includes(arguments[1]));
            found?.scrollIntoView({block: 'center', behavior: 'instant'});
            return found"""
        return self.until(lambda: self.js(code, selector, has), f"looked for {selector} with {has!r}")

    def click(self, selector: str, has: str = "", x: int | None = None, y: int = 0) -> None:
        """Click an element, in its middle or so many pixels from its left upper corner."""
        element, mouse = self.find(selector, has), ActionChains(self.driver)
        if x is not None:
            size = element.size
            mouse.move_to_element_with_offset(element, x - size["width"] // 2, y - size["height"] // 2)
        else:
            mouse.move_to_element(element)
        mouse.click().perform()

    def keys(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, label: str) -> None:
        """Press the tabulator until the element with this name has the focus."""
        for _ in range(60):
            self.keys(Keys.TAB)
            if self.js("return document.activeElement.ariaLabel") == label:
                return
        raise AssertionError(f"the tabulator never came to {label}")

    def rows(self) -> list[list[str]]:
        """The cells of the first table, as a screen reader gets them."""
        return self.until(lambda: self.js(GRID), "waited for a table")

    def parameters(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.driver.current_url).query)

    def spilled(self) -> bool:
        """Whether the page must be scrolled sideways."""
        return self.js(SPILLED) > 0

    def paper(self) -> int:
        """How light the page is, 0–255."""
        code = "return getComputedStyle(document.querySelector('[data-testid=stApp]')).backgroundColor"
        return int(self.js(code).split("(")[1].split(",")[0])

    def picture(self, path: Path) -> None:
        """The page from top to bottom as a PNG."""
        tall = self.js("return document.querySelector('[data-testid=stMain]').scrollHeight")
        size = self.js("return [innerWidth, innerHeight]")
        shape = {"width": size[0], "height": tall, "deviceScaleFactor": 1, "mobile": size[0] == PHONE[0]}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", shape)
        self.driver.save_screenshot(str(path))

    def assert_well(self) -> None:
        """No error is shown; since the last call nothing was complained about, asked of other hosts, or popped up."""
        boxes = "'[data-testid=stException], [data-testid=stAlertContentError]'"
        assert self.js(f"return [...document.querySelectorAll({boxes})].map(e => e.innerText)") == []
        told = [log["message"] for log in self.driver.get_log("browser") if log["level"] in ("SEVERE", "WARNING")]
        assert [message for message in told if not KNOWN.match(message)] == []
        events = [json.loads(log["message"])["message"] for log in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        assert [url for url in asked if not url.startswith((f"{self.at}/", "data:", "blob:"))] == []
        assert [e for e in events if e["method"] == "Page.javascriptDialogOpening"] == []


@contextmanager
def served(home: Path) -> Iterator[str]:
    """The address of a board of this home."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("razorbench"), "board", "--port", str(port), "--home", home]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as server:
        try:
            end = time.monotonic() + PATIENCE
            while True:
                try:
                    socket.create_connection(("localhost", port)).close()
                    break
                except OSError:
                    assert server.poll() is None, "the board ended"
                    assert time.monotonic() < end, "the board does not answer"
                    time.sleep(0.1)
            yield f"http://localhost:{port}"
        finally:
            server.send_signal(signal.SIGINT)
            with suppress(subprocess.TimeoutExpired):
                server.wait(10)
            with suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def driver() -> Iterator[Any]:
    """A browser, which is slow to start."""
    assert CHROMIUM and DRIVER, LACK  # noqa: PT018
    options = webdriver.ChromeOptions()
    for flag in FLAGS:
        options.add_argument(flag)
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    made = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    made.set_page_load_timeout(PATIENCE)
    yield made
    made.quit()


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


@contextmanager
def visiting(driver: Any, at: str) -> Iterator[Browser]:
    driver.get(f"{at}/_stcore/health")  # of the same site, so that the next page is drawn by the same process
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    made = Browser(driver, at)
    made.view()
    yield made
    made.assert_well()


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
    found = pd.read_csv(path)
    assert found["name"].tolist() == [row[1] for row in browser.rows()]
    assert sorted(found["gain"]) == sorted(entry.gain.value for entry in table(Store(home), TRACK))


@pytest.fixture(scope="module")
def links(home) -> dict[str, dict[str, str]]:
    """A permalink of each page that shows most of it."""
    one = {"id": f"{TRACK}-sft-0"}
    all = ",".join(entry.id for entry in table(Store(home), TRACK))
    found = {"track": {"track": TRACK}, "submission": one, "samples": one, "compare": {"track": TRACK, "ids": all}}
    return {page: found.get(page, {}) for page in PAGES}


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
