"""What the board reads: the last state that was published, in a copy of its own that outlives what befalls the file."""

import math
import os
import shutil
import tempfile
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import streamlit as st

from razorbench import Refused
from razorbench.harness.measure.record import DUCKDB
from razorbench.harness.store.database import Store, told
from razorbench.harness.store.requests import StoreError
from razorbench.harness.tracks.catalogue import all_tracks

T = TypeVar("T")

WAIT = 2.0
"""Seconds that a page waits for a lock, which it needs only where the snapshot is of an older version."""
USUAL = Path(".razorbench")
"""The home of who names none."""
PAUSE = 5.0
"""Seconds after which what could not be opened is tried again."""
KEPT = 300
"""Answers that are kept of a state."""
PATIENCE = 0.3
"""Seconds that a page waits for a new state, before it shows the one before once more."""


class Empty(Exception):
    """There is no snapshot. The message says how to get one."""


class State(Store):
    """A published state that stays as it is: an open copy of the snapshot, whose name is gone already."""

    def __init__(self, home: Path, whole: bool = True):
        """Copies the snapshot. StoreError if it is torn; `whole`: torn anywhere, for all of it is read."""
        super().__init__(home, wait=WAIT)
        with super().read():  # so that a snapshot of an older version is made anew
            pass
        with told(self.snapshot), tempfile.TemporaryDirectory() as folder:
            copy = shutil.copyfile(self.snapshot, Path(folder) / "copy.duckdb")
            self.con = duckdb.connect(config={**DUCKDB, "threads": 1})  # many small questions at once
            self.con.execute(f"ATTACH '{copy}' AS store (READ_ONLY); USE store")
            if whole:
                for (table,) in self.con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
                    self.con.execute(f"SELECT bit_xor(hash(t)) FROM {table} AS t")

        self.kept: OrderedDict[tuple[Any, ...], Any] = OrderedDict()

    def answer(self, query: Callable[..., T], *asked: Any) -> T:
        """What `query(state, *asked)` makes of this state; kept while it is among the last `KEPT`."""
        key = (query, *asked)
        if (result := self.kept.get(key, self)) is self:  # nothing else is this state
            result = self.kept[key] = query(self, *asked)
            if len(self.kept) > KEPT:
                self.kept.popitem(last=False)
        return result

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to this state."""
        with self.con.cursor() as con:
            con.execute("USE store")
            yield con


class Shelf:
    """The newest state of a home that could be opened. While the next one is opened, this one is shown."""

    def __init__(self, home: Path):
        self.home, self.snapshot = home, Store(home).snapshot
        self.state: State | None = None
        self.trouble = ""
        """Why what is published now cannot be shown; empty if it is."""
        self.seen: tuple[int, ...] | None = None
        self.again = math.inf
        """When what could not be opened is tried again: what failed may have been a lock, or a full disk."""
        self.opener, self.opening, self.lock = ThreadPoolExecutor(1), Future(), threading.Lock()
        self.opening.set_result(None)

    def latest(self) -> State:
        """The newest state. Empty or StoreError if there never was one to be opened."""
        with self.lock:
            try:
                stands = identity(self.snapshot)
                if (stands != self.seen or time.monotonic() > self.again) and self.opening.done():
                    self.seen, self.opening = stands, self.opener.submit(self.open)
            except FileNotFoundError:
                self.seen, self.trouble = None, f"{self.snapshot} is gone: make it again with `razorbench rebuild`"
                if self.state is None:
                    raise empty(self.home) from None
        wait([self.opening], PATIENCE if self.state else None)
        if self.state is None:
            raise StoreError(self.trouble)
        return self.state

    def open(self) -> None:
        """Open what is published now, and keep the state before it if that cannot be."""
        self.again = math.inf
        try:
            self.state, self.trouble = State(self.home, whole=self.state is not None), ""  # the first is soon there
        except (StoreError, Refused) as error:
            self.trouble, self.again = str(error), time.monotonic() + PAUSE
        except Exception as error:  # whatever it is, the state before it stays
            why = f"{type(error).__name__}: {error}".splitlines()[0]
            self.trouble = f"{self.snapshot} is damaged ({why}): make it again with `razorbench rebuild`"
            self.again = time.monotonic() + PAUSE


def identity(path: Path) -> tuple[int, ...]:
    """What differs between two files that were put under one name. FileNotFoundError if there is none."""
    stat = path.stat()
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def empty(home: Path) -> Empty:
    """How to get a first state."""
    if (home / "records").is_dir():
        return Empty(f"There are records in {home} and no index of them. Run: razorbench rebuild")
    return Empty("Nothing is scored yet. Run: razorbench demo")


def home() -> Path:
    """The folder that the board shows."""
    return Path(os.environ.get("RAZORBENCH_HOME", USUAL))


NOW = threading.local()
"""The state that the page of this thread shows, or why there is none: one page never shows two."""


def look() -> str:
    """Choose what this page shows: the newest state. In words what is wrong with what is published, if anything is."""
    shelf = _shelf(str(home()))
    try:
        NOW.state = shelf.latest()
    except (Empty, StoreError) as error:
        NOW.state = error
        return ""
    return shelf.trouble


@st.cache_resource(show_spinner=False)
def _shelf(home: str) -> Shelf:
    return Shelf(Path(home))


def state() -> State:
    """The state of this page. Empty or StoreError where there is none."""
    if isinstance(NOW.state, Exception):
        raise NOW.state
    return NOW.state


def ask(query: Callable[..., T], *asked: Any) -> T:
    """What `query(state, *asked)` makes of the state of this page, kept for the next page: nobody may change it.

    Empty or StoreError where there is no state, or it is torn.
    """
    with told(state().snapshot):
        return state().answer(query, *asked)


def tracks() -> list[str]:
    """All tracks: those with entries first, then the others that can be run."""
    try:
        shown = ask(Store.tracks)
    except Empty:
        shown = []
    tracks = all_tracks(home())
    known = [track for track in tracks if track in shown]
    return [*known, *(track for track in shown if track not in tracks), *(t for t in tracks if t not in shown)]
