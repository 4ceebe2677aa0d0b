"""What the board reads: the published snapshot of a home, kept in memory until it is replaced."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import streamlit as st

from harness.results import Entry, table
from harness.store import Store
from harness.tracks import TRACKS

T = TypeVar("T")

WAIT = 2.0
"""Seconds that a page waits for a lock, which it needs only where the snapshot is of an older version."""


class Empty(Exception):
    """There is no snapshot. The message says how to get one."""


def home() -> Path:
    """The folder that the board shows."""
    return Path(os.environ.get("RAZORBENCH_HOME", ".razorbench"))


def ask(query: Callable[..., T], *asked: Any) -> T:
    """What `query(store, *asked)` finds; asked again when the snapshot is replaced. Empty where there is none."""
    snapshot = Store(home()).snapshot
    try:
        published = snapshot.stat().st_mtime_ns
    except FileNotFoundError:
        if (home() / "records").is_dir():
            raise Empty(f"There are records in {home()} and no index of them. Run: razorbench rebuild") from None
        raise Empty("Nothing is scored yet. Run: razorbench demo") from None
    return _kept(query, f"{query.__module__}.{query.__qualname__}", str(home()), published, *asked)


@st.cache_data(show_spinner="Reading the board", max_entries=500)
def _kept(_query: Callable[..., Any], name: str, home: str, published: int, *asked: Any) -> Any:
    """`_query` is known by its name: Streamlit does not hash what begins with an underscore."""
    return _query(Store(home, wait=WAIT), *asked)


def entries(track: str) -> list[Entry]:
    """The entries of a track, ranked."""
    return ask(table, track)


def tracks() -> list[str]:
    """All tracks: those with entries first, then the others that can be run."""
    try:
        shown = ask(Store.tracks)
    except Empty:
        shown = []
    known = [track for track in TRACKS if track in shown]
    return [*known, *(track for track in shown if track not in TRACKS), *(t for t in TRACKS if t not in shown)]
