"""The moving picture of the README: a demo in its terminal, then its board.

    python -m docs.picture [HOME]

The demo is a real one, of every track that needs no download. It goes into a folder that is removed afterwards, or into
HOME, where what is done already takes seconds. Needs chromium and chromium-driver.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from html import escape
from io import BytesIO
from pathlib import Path
from subprocess import PIPE, STDOUT
from tempfile import TemporaryDirectory
from urllib.parse import quote

from PIL import Image

from razorbench.harness.store.database import Store
from razorbench.harness.store.results import table
from razorbench.harness.tracks.catalogue import TRACKS
from tests.browser import Browser, served, started, visiting

OUT = Path(__file__).parent / "images" / "demo.gif"
SIZE, DESKTOP = (960, 600), (1280, 800)
COLUMNS = 118
TERMINAL = """
    <body style="margin: 0; background: #16181d"><pre style="margin: 0; padding: 10px 16px; white-space: pre-wrap;
    color: #d8dee9; font: 13px/17px 'DejaVu Sans Mono', monospace"><b>$ razorbench demo</b>\n"""

Frame = tuple[Image.Image, float]
"""What is seen, and for how many seconds."""


def main() -> None:
    """Make the picture."""
    with ExitStack() as stack:
        home = Path(sys.argv[1] if len(sys.argv) > 1 else stack.enter_context(TemporaryDirectory()))
        told = list(demo(home))
        at, driver = stack.enter_context(served(home)), stack.enter_context(started())
        browser = stack.enter_context(visiting(driver, at))
        write([*terminal(browser, told), *board(browser, home)])


def demo(home: Path) -> Iterator[tuple[float, str]]:
    """Each line that a demo writes, and when, in seconds."""
    ours = Path(sys.executable).parent
    tracks = [id for id, track in TRACKS.items() if track.demo and track.base.sha256]
    where = {"RAZORBENCH_HOME": str(home), "COLUMNS": str(COLUMNS), "PATH": f"{ours}:{os.environ['PATH']}"}
    command, env = [ours / "razorbench", "demo", "--tracks", *tracks], {**os.environ, **where}
    with subprocess.Popen(command, env=env, text=True, stdout=PIPE, stderr=STDOUT) as run:
        assert run.stdout is not None
        for line in run.stdout:
            yield time.monotonic(), line
    assert run.returncode == 0, f"the demo ended with {run.returncode}"


def terminal(browser: Browser, told: list[tuple[float, str]]) -> Iterator[Frame]:
    """The terminal each time that something new stands there; what is written at once is one frame."""
    browser.view(SIZE)
    for i, (seconds, line) in enumerate(told):
        if i + 1 < len(told) and told[i + 1][0] - seconds < 0.1:
            continue
        page = TERMINAL + escape("".join(line for _, line in told[: i + 1]))
        browser.driver.get(f"data:text/html;charset=utf-8,{quote(page)}")
        browser.js("scrollTo(0, document.body.scrollHeight)")
        yield shot(browser), 1.0 if line.startswith(" ") else 0.4


def board(browser: Browser, home: Path) -> Iterator[Frame]:
    """The board of the demo: all tracks, one of them, its chart, two entries compared, what the base forgot."""
    track, store = "mini-math-v1", Store(home)
    browser.view(DESKTOP, scale=SIZE[0] / DESKTOP[0])
    for page, asked, at_chart in (
        ("overview", {}, False),
        ("track", {"track": track}, False),
        ("track", {"track": track}, True),
        ("compare", {"track": track, "ids": ",".join(entry.id for entry in table(store, track))}, True),
        ("samples", {"id": next(run["id"] for run in store.runs(track) if run["method"] == "sft")}, True),
    ):
        browser.open(page, **asked)
        if at_chart:
            browser.find("[data-testid=stVegaLiteChart]")
        yield shot(browser), 1.6


def shot(browser: Browser) -> Image.Image:
    """What the browser shows."""
    return Image.open(BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")


def write(frames: list[Frame]) -> None:
    """Write the frames as one picture that begins again when it is through."""
    first, *others = (image.quantize(128, dither=Image.Dither.NONE) for image, _ in frames)
    seconds = [1000 * seconds for _, seconds in frames]
    first.save(OUT, save_all=True, append_images=others, duration=seconds, loop=0, optimize=True)
    print(f"{OUT}: {len(frames)} frames, {sum(seconds) / 1000:.0f} s, {OUT.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
