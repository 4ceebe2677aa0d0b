"""The board in a real browser: how one is started, led about and looked at."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from selenium import webdriver
from selenium.webdriver import ActionChains, Keys

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
LACK = "there is no chromium and chromedriver: apt-get install chromium chromium-driver"
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


class Browser:
    """A browser at a board."""

    def __init__(self, driver: Any, at: str):
        self.driver, self.at = driver, at

    def until(self, wanted: Callable[[], Any], what: str) -> Any:
        """Wait for what is wanted, and return it."""
        end = time.monotonic() + PATIENCE
        while not (result := wanted()):
            if time.monotonic() > end:
                raise AssertionError(f"{what}, in vain, at {self.driver.current_url}:\n{self.text()[:2000]}")
            time.sleep(0.05)
        return result

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

    def view(self, size: tuple[int, int] = WIDE, theme: str = "light", scale: float = 1) -> None:
        """Look through a window of that size, and prefer a theme; pictures of it are so many times as large."""
        shape = {"width": size[0], "height": size[1], "deviceScaleFactor": scale, "mobile": size == PHONE}
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


@contextmanager
def started() -> Iterator[Any]:
    """A browser process, which is slow to start."""
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


@contextmanager
def visiting(driver: Any, at: str) -> Iterator[Browser]:
    driver.get(f"{at}/_stcore/health")  # of the same site, so that the next page is drawn by the same process
    for kind in ("browser", "performance"):
        driver.get_log(kind)
    made = Browser(driver, at)
    made.view()
    yield made
    made.assert_well()
