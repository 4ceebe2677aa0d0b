"""What pages show, as functions of a state. `snapshot.ask` keeps what they return, which nobody may change."""

from dataclasses import replace
from typing import Any

import pandas as pd

from razorbench.harness.learn.measures import MEASURES
from razorbench.harness.report.text import printable
from razorbench.harness.store import results
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry, Query
from razorbench.harness.store.results import Comparison
from razorbench.leaderboard import charts, frames
from razorbench.leaderboard.snapshot import State

MOST = 100
"""Entries that a page shows or offers at once; a search or the next page has the others."""
CELLS, GRID = 40, 40  # rows of the heat map; cells along each side of a crowd
MEASURED = {"loss": "loss", "new": "new task (points)", "prior": "prior tasks (points)", "drift": "drift (nats)"}
"""Columns of a training curve → their titles."""

Drawn = tuple[charts.Spec, pd.DataFrame]
"""A chart, and the same in numbers."""


def leaders(state: State, most: int) -> dict[str, tuple[dict[str, Any], list[Entry]]]:
    """Track → its row of `Store.overview`, and the `most` entries that lead."""
    tracks = state.overview(most)
    first = {entry.id: entry for entry in state.some([id for row in tracks for id in row["first"]])}
    return {row["track"]: (row, [first[id] for id in row["first"]]) for row in tracks}


def rows(state: State, query: Query, skip: int) -> tuple[list[Entry], pd.DataFrame]:
    """The entries of a page of the table, without their effects, and the table."""
    entries = state.entries(query, MOST, skip, effects=False)
    return entries, frames.board(entries)


def scatter(state: State, query: Query, skip: int, crowded: bool) -> Drawn | None:
    """Gain × retention of a page of the table, and the same in numbers; None where no entry has both."""
    frame = state.answer(rows, query, skip)[1]
    if frame.dropna(subset=["gain", "retention"]).empty:
        return None
    crowd = pd.DataFrame(state.answer(Store.density, replace(query, sort="front"), GRID) if crowded else [])
    table = frame.filter(items=["front", "name", "method", "gain", "gain 95 %", "retention", "retention 95 %"])
    return charts.gain_retention(frame, crowd), table


def law(state: State, query: Query, skip: int, crowded: bool, ring: str | None) -> Drawn | None:
    """Forgetting × drift of a page of the table, and the same in numbers; None where there is no point."""
    ids = tuple(entry.id for entry in state.answer(rows, query, skip)[0])
    points, fitted = state.law_points(query.track, None, ids), state.law(query.track)
    if not points:
        return None
    frame = frames.law_points(points, fitted)
    crowd = pd.DataFrame(state.answer(Store.law_density, query.track, GRID) if crowded else [])
    return charts.law(frame, crowd, fitted, ring), frame


def heat(state: State, query: Query, skip: int) -> Drawn | None:
    """The prior tasks of the first entries of a page, and the same in numbers; None where they have none."""
    cells = frames.effects(state.with_effects(state.answer(rows, query, skip)[0][:CELLS]))
    return (charts.heat(cells), cells) if len(cells) else None


def curves(
    state: State, runs: tuple[tuple[str, str, int | None], ...], *measured: str
) -> list[tuple[str, charts.Spec, pd.DataFrame]]:
    """The training curves of runs, given as (id, label of the entry, seed): of each of the columns `MEASURED` that is
    known, its title, chart and numbers.
    """
    points = state.curve(*(id for id, _, _ in runs))
    titled = [(title, frames.curve(runs, points, name)) for name, title in MEASURED.items() if name in measured]
    return [(title, charts.curves(frame, title), frame) for title, frame in titled if len(frame)]


def measures(
    state: State, runs: tuple[tuple[str, str, int | None], ...]
) -> list[tuple[str, charts.Spec, pd.DataFrame]]:
    """What was measured of runs on the way: of each that is known, ours first, its name, chart and numbers."""
    rows, drawn = state.measures(*(id for id, _, _ in runs)), []
    for name in dict.fromkeys([*MEASURES, *sorted({row["name"] for row in rows})]):
        points = [{**row, name: row["value"]} for row in rows if row["name"] == name]
        frame = frames.curve(runs, points, name)
        title = printable(name.replace("_", " "))
        drawn += [(name, charts.curves(frame, title), frame)] if len(frame) else []
    return drawn


def comparison(state: State, first: str, second: str) -> list[Comparison]:
    """Two entries, by their ids, task by task."""
    return results.compare(state, *state.some([first, second]))
