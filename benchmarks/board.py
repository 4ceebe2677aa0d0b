"""The board's figures of docs/benchmarks.md: its pages over 10,000 submissions of 3 seeds on 12 benchmarks each.

    python -m benchmarks.board [--entries 10000] [--home .razorbench/board]

The home is made once (about a quarter of an hour) and kept. Its numbers are drawn at random and mean nothing.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import quote

import numpy as np
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from razorbench.harness.learn.methods import METHODS
from razorbench.harness.measure import ranking, statistics
from razorbench.harness.measure import record as files
from razorbench.harness.measure.answers import flips
from razorbench.harness.measure.law import fit_law
from razorbench.harness.measure.record import Drift, Point, Record, Score
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import SORTS, Query
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.leaderboard.queries import CELLS, MOST
from razorbench.leaderboard.snapshot import State

SEEDS, PRIORS, ITEMS = 3, 11, 14  # of each entry; of each track, besides its new task; of each benchmark
VIEWS, STARTS = 20, 5  # of each page; of the server
SHARE = 0.5  # of all entries are on the first track


def made(entry: int, entries: int) -> Iterator[tuple[Record, dict[str, Any]]]:
    """The records of one entry with their samples."""
    rng = np.random.default_rng(entry)
    tracks = list(TRACKS)
    track = tracks[0] if entry < SHARE * entries else tracks[1 + entry % (len(tracks) - 1)]
    method = sorted(METHODS)[rng.integers(len(METHODS))]
    drift = float(rng.gamma(2.0, 0.5))
    chance = np.clip([0.2 + 0.25 * drift, *(0.8 - 0.08 * drift * rng.random(PRIORS))], 0.05, 0.95)
    tasks = [TRACKS[track].new, *(f"prior-{i:02d}" for i in range(PRIORS))]
    questions = np.random.default_rng(tracks.index(track))  # which items the base knows is the track's own
    base = (questions.random((1 + PRIORS, ITEMS)) < [[0.2], *[[0.8]] * PRIORS]).astype(float)
    ease = questions.random((1 + PRIORS, ITEMS))
    settings = {"lr": float(f"{10 ** rng.uniform(-6, -3):.3g}"), "batch": int(rng.choice([8, 16, 32])), "name": entry}
    for seed in range(SEEDS):
        luck = 0.7 * ease + 0.3 * rng.random((1 + PRIORS, ITEMS))
        adapted = (luck < chance[:, None]).astype(float)
        scores = [score(task, i, base[i], adapted[i]) for i, task in enumerate(tasks)]
        value, errors = np.array([(each.difference, each.se) for each in scores], float).T
        gain, error, retention = float(value[0]), float(errors[0]), float(value[1:].mean())
        se = float(np.sqrt((errors[1:] ** 2).sum()) / PRIORS)
        nats = drift * float(rng.uniform(0.9, 1.1))
        curve = [
            Point(
                step,
                lr=settings["lr"],
                new=20.0 + gain * step / 64,
                prior=80.0 + retention * step / 64,
                drift=nats * step / 64,
            )
            for step in (0, 16, 32, 48)
        ]
        yield (
            Record(
                id=f"run-{entry:05d}-{seed}",
                name=f"{method} of lab {entry % 500}, try {entry}",
                track=track,
                agent=TRACKS[track].base.agent,
                base=TRACKS[track].base.id,
                method=method,
                settings=settings | {"seed": seed},
                seed=seed,
                steps=64,
                checkpoint=f"{entry * SEEDS + seed:064x}",
                scores=scores,
                gain=gain,
                gain_low=gain - 1.96 * error,
                gain_high=gain + 1.96 * error,
                gain_se=error,
                retention=retention,
                retention_low=retention - 1.96 * se,
                retention_high=retention + 1.96 * se,
                retention_se=se,
                drifts=[
                    Drift(tasks[0], "forward", per, nats / (1 if per == "episode" else 9), 0.02, ITEMS)
                    for per in ("episode", "element")
                ],
                curve=curve,
                cost={"adapt_seconds": float(rng.uniform(10, 1000)), "score_seconds": 60.0, "episodes": 800.0},
                provenance={
                    "commit": "0" * 40,
                    "command": ["razorbench", "sweep", track],
                    "parameters": int(10 ** rng.uniform(6, 10)),
                },
                scored_at=f"2025-{1 + entry % 12:02d}-{1 + entry % 28:02d}T{entry % 24:02d}:00:{seed:02d}+00:00",
            ),
            {
                "task": np.repeat(tasks, ITEMS),
                "role": np.repeat(["new", *["prior"] * PRIORS], ITEMS),
                "item": np.tile(np.arange(ITEMS), 1 + PRIORS),
                "base": base.ravel(),
                "adapted": adapted.ravel(),
                "drift": np.r_[rng.gamma(2.0, nats / 2, ITEMS), np.full(PRIORS * ITEMS, np.nan)],
            },
        )


def score(task: str, place: int, base: np.ndarray, adapted: np.ndarray) -> Score:
    """One benchmark, with an interval that is good enough to be drawn."""
    difference = adapted - base
    value, se = 100 * float(difference.mean()), 100 * float(np.sqrt((difference.var() + 1 / ITEMS) / ITEMS))
    about = (task, "prior" if place else "new", "suite" if place else "", ITEMS, 0, 100 * float(base.mean()))
    return Score(
        *about,
        100 * float(adapted.mean()),
        value,
        value - 1.96 * se,
        value + 1.96 * se,
        se,
        0.5,
        1.0,
        2.8 * se,
        "drawn",
    )


def write(home: Path, part: range, entries: int) -> None:
    """Write the records of some entries; nobody needs this home after a power cut."""
    files.sync = lambda path: None
    for entry in part:
        for record, samples in made(entry, entries):
            files.write(home, record, samples)


def prepare(home: Path, entries: int) -> None:
    """Make the home where it is not complete."""
    if (home / "complete").exists():
        return
    started = time.perf_counter()
    with ProcessPoolExecutor(2) as pool:
        parts = [range(start, min(start + 100, entries)) for start in range(0, entries, 100)]
        list(pool.map(write, [home] * len(parts), parts, [entries] * len(parts)))
    print(f"records written: {time.perf_counter() - started:.0f} s", flush=True)
    started = time.perf_counter()
    n = Store(home, wait=3600).rebuild()
    print(f"{n} records indexed: {time.perf_counter() - started:.0f} s", flush=True)
    (home / "complete").touch()


# --- a visitor --------------------------------------------------------------------------------------------------------


class Visitor:
    """A browser without a screen: one session with a board, by Streamlit's own messages."""

    def __init__(self, socket: ClientConnection):
        self.socket, self.pages = socket, dict[str, str]()

    def visit(self, page: str, query: str) -> tuple[float, int]:
        """Seconds from the request to the last message of a page, and how many bytes came."""
        message = BackMsg()
        message.rerun_script.query_string = query
        message.rerun_script.page_script_hash = self.pages.get(page, "")
        message.rerun_script.page_name = page
        started, size = time.perf_counter(), 0
        self.socket.send(message.SerializeToString())
        while True:
            raw = self.socket.recv()
            assert isinstance(raw, bytes)
            answer = ForwardMsg.FromString(raw)
            size += len(raw)
            kind = answer.WhichOneof("type")
            if kind == "navigation":
                self.pages = {each.url_pathname: each.page_script_hash for each in answer.navigation.app_pages}
            if kind == "delta" and answer.delta.new_element.WhichOneof("type") == "exception":
                raise RuntimeError(f"{page}?{query}: {answer.delta.new_element.exception.message}")
            if kind == "script_finished" and answer.script_finished == ForwardMsg.FINISHED_SUCCESSFULLY:
                return time.perf_counter() - started, size


@contextmanager
def served(command: list[str], port: int, home: Path) -> Iterator[tuple[Visitor, float]]:
    """A visitor of a server, and the seconds from its command to its first whole page."""
    started = time.perf_counter()
    environment = {**os.environ, "RAZORBENCH_HOME": str(home)}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address, stack = f"ws://localhost:{port}/_stcore/stream", ExitStack()
    try:
        while server.poll() is None:
            try:
                session = connect(address, subprotocols=[Subprotocol("streamlit")], max_size=None, compression=None)
                visitor = Visitor(stack.enter_context(session))
                break
            except OSError:
                time.sleep(0.01)
        else:
            raise RuntimeError(f"{' '.join(command)} ended with {server.returncode}: is port {port} in use?")
        visitor.visit("", "")
        yield visitor, time.perf_counter() - started
    finally:
        stack.close()
        server.send_signal(signal.SIGINT)
        server.wait()


def views(home: Path) -> dict[str, list[str]]:
    """Page → links that differ in what they ask of the store."""
    store, track = Store(home), next(iter(TRACKS))
    runs = [run["id"] for run in store.runs(track)][:: 3 * SEEDS][:VIEWS]
    ids = [entry.id for entry in store.entries(Query(track), 2 * VIEWS, effects=False)]
    words = ["lab 1", "lab 2", "sft", "grpo", "try 1", "lr 0.0001", "try 99", "lab 33", "dis", "kl"]
    asked = [f"sort={sort}&page={page}" for sort in SORTS for page in (1, 2, 50)]
    asked += [f"q={quote(word)}&verified=no" for word in words] + ["method=sft", "method=grpo&sort=drift"]
    return {
        "": [""] * VIEWS,
        "track": [f"track={track}&{each}" for each in asked[:VIEWS]],
        "submission": [f"id={id}" for id in runs],
        "compare": [f"track={track}&ids={one},{two}" for one, two in zip(ids[::2], ids[1::2], strict=True)],
        "samples": [f"id={id}&task=prior-00" for id in runs],
        "tasks": [f"find={word}" for word in ("mini", "parity", "fetch", "math", "robot")],
        "submit": [f"track={track}" for track in list(TRACKS)[:VIEWS]],
        "about": [""],
    }


def pages(home: Path, port: int) -> None:
    """Print how long pages take: at first sight, and at the next one."""
    razorbench = str(Path(sys.executable).with_name("razorbench"))
    own = [razorbench, "board", "--port", str(port), "--home", str(home)]
    bare = ["run", "benchmarks/bare_board.py", "--server.port", str(port + 1), "--server.headless", "true"]
    peer = [sys.executable, "-m", "streamlit", *bare, "--browser.gatherUsageStats", "false"]
    starts: dict[str, list[float]] = {"board": [], "bare page": []}
    for _ in range(STARTS):
        for called, command, at in (("board", own, port), ("bare page", peer, port + 1)):
            with served(command, at, home) as (_, seconds):
                starts[called].append(seconds)
    for called, seconds in starts.items():
        print(
            f"{called}: first page {median(seconds):.2f} s after the command (of {STARTS}: {max(seconds):.2f} at most)"
        )
    print("| page | another view, ms | the same again, ms | slowest, ms | kB |\n| --- | ---: | ---: | ---: | ---: |")
    with served(own, port, home) as (visitor, _), served(peer, port + 1, home) as (beside, _):
        for page, links in views(home).items():
            visitor.visit(page, "")  # what is made once is made
            fresh = [visitor.visit(page, link) for link in links]
            again = [visitor.visit(page, link) for link in links]
            seconds = [[1000 * each for each, _ in visits] for visits in (fresh, again)]
            size = median([size / 1000 for _, size in again])
            row = (median(seconds[0]), median(seconds[1]), max(seconds[0] + seconds[1]), size)
            print(f"| {page or 'overview'} |" + "".join(f" {cell:.0f} |" for cell in row), flush=True)
        track = next(iter(TRACKS))
        again = [1000 * beside.visit("", f"track={track}")[0] for _ in range(VIEWS)]
        print(f"| *bare page: 100 rows and a scatter* | | {median(again):.0f} | {max(again):.0f} | |")


# --- queries ----------------------------------------------------------------------------------------------------------


def queries(home: Path) -> None:
    """Print how long the queries of the pages take."""
    state, track = State(home), next(iter(TRACKS))
    run, row = state.runs(track)[0], state.overview(0)[0]
    entries = state.entries(Query(track), CELLS, effects=False)
    ids = [entry.id for entry in state.entries(Query(track), MOST, effects=False)]
    query, plain = Query(track, search="lab 1", sort="gain"), Query(track)
    asked: dict[str, Callable[[], Any]] = {
        "overview: the tracks with their leaders": lambda: state.overview(3),
        "overview: newest submissions": lambda: state.newest(10),
        "track: how many": lambda: state.count(query),
        "track: 100 rows, by front": lambda: state.entries(Query(track), MOST, effects=False),
        "track: the same, before they are made into entries": lambda: state.rows(
            f"FROM entries WHERE {plain.where} ORDER BY {plain.order} LIMIT {MOST}", **plain.parameters
        ),
        "track: 100 rows, searched and sorted": lambda: state.entries(query, MOST, effects=False),
        "track: the last page": lambda: state.entries(Query(track), MOST, row["entries"] - MOST, effects=False),
        "track: prior tasks of 40 entries": lambda: state.with_effects(entries),
        "track: where all lie": lambda: state.density(Query(track), 40),
        "track: points of the law of 100 entries": lambda: state.law_points(track, None, ids),
        "submission: its row": lambda: state.submission(run["id"]),
        "submission: its tasks": lambda: state.scores(run["id"]),
        "submission: its curve": lambda: state.curve(run["id"]),
        "samples: flips of a task": lambda: flips(home, run["id"], "prior-00", "forgot", limit=10),
    }
    print("| query | median, ms | slowest of 30 |\n| --- | ---: | ---: |")
    for called, ask in asked.items():
        taken = [1000 * timed(ask) for _ in range(30)]
        print(f"| {called} | {median(taken):.1f} | {max(taken):.1f} |", flush=True)


# --- writing ----------------------------------------------------------------------------------------------------------


def writes(home: Path, entries: int) -> None:
    """Print what a worker waits for: how long one more record takes, which ranks its track anew."""
    print("| entries on the track | one more record, published, s | opened by the board, s |\n| ---: | ---: | ---: |")
    for n in (10, 100, 1_000, entries):
        with tempfile.TemporaryDirectory() as folder:
            there = home if n == entries else Path(folder)
            with redirect_stdout(StringIO()):
                prepare(there, n)
            store, taken, opened = Store(there, wait=600), [], []
            run = store.runs(next(iter(TRACKS)))[0]["id"]
            for kind in ("hidden", "unhidden") * 2:  # as much work as a record, and the home stays as it was
                taken.append(timed(store.decide, run, kind, "to time it"))
                opened.append(timed(State, there))
        print(f"| {int(SHARE * n):,} | {median(taken):.2f} | {median(opened):.2f} |", flush=True)


def parts() -> None:
    """Print what the numbers themselves take."""
    rng = np.random.default_rng(0)
    base, adapted = rng.integers(0, 2, (2, 10_000))
    scores = rng.integers(0, 2, (1_000, 10_000)).astype(float)
    beats = rng.random((2, 5_000, 5_000)) < 0.3
    x, run = rng.random(15_000), np.repeat(np.arange(5_000), 3)
    y, method = x**2 + rng.normal(size=15_000), (run % 12).astype(str)
    beaten = ranking.wins([scores])
    work: dict[str, Callable[[], Any]] = {
        "`paired`, 10,000 binary items": lambda: statistics.paired(base, adapted),
        "`wins`, 64 of 1,000 entries against all, 10,000 items": lambda: beaten(slice(64)),
        "`fronts`, 5,000 points": lambda: ranking.fronts(beats[0], beats[1], np.ones(5_000, bool)),
        "`fit_law`, 1,000 resamples of 15,000 points of 5,000 runs": lambda: fit_law(x, y, method, cluster=run),
    }
    print("| what | median of 5, s |\n| --- | ---: |")
    for called, do in work.items():
        print(f"| {called} | {median([timed(do) for _ in range(5)]):.3f} |", flush=True)


def timed(work: Callable[..., Any], *given: Any) -> float:
    """Seconds that it takes."""
    started = time.perf_counter()
    work(*given)
    return time.perf_counter() - started


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--home", type=Path, default=Path(".razorbench/board"))
    parser.add_argument("--port", type=int, default=8601)
    given = parser.parse_args()
    prepare(given.home, given.entries)
    pages(given.home.absolute(), given.port)
    queries(given.home)
    writes(given.home, given.entries)
    parts()
