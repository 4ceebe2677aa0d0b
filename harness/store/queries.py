"""What the index can be asked: entries, runs, scores, curves, the law. It loads neither torch nor SciPy."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.store import leaderboard
from razorbench.harness.store.leaderboard import SORTS, Curve, Entry, Query
from razorbench.harness.store.sql import rows


class Queries(ABC):
    """What a store tells of the home at `home`; `read` says how its index is opened."""

    home: Path

    @abstractmethod
    def read(self) -> AbstractContextManager[duckdb.DuckDBPyConnection]:
        """A connection to a state of the index that does not change."""

    def rows(self, sql: str, **parameters: Any) -> list[dict[str, Any]]:
        """What a query of the snapshot finds, one dict a row. JSON is parsed; times are UTC without saying so."""
        with self.read() as con:
            return rows(con, sql, parameters)

    def tracks(self) -> list[str]:
        """The tracks that have an entry to show."""
        return [row["track"] for row in self.rows("SELECT DISTINCT track FROM entries ORDER BY track")]

    def entries(self, query: Query, most: int | None = None, skip: int = 0, effects: bool = True) -> list[Entry]:
        """The entries that a query finds, in its order: at most so many, without the first `skip`; with effects."""
        which = f"WHERE {query.where} ORDER BY {query.order} LIMIT $rows OFFSET $skip"
        with self.read() as con:
            entries = leaderboard.read(con, which, {**query.parameters, "rows": most, "skip": skip})
            return leaderboard.with_effects(con, entries) if effects else entries

    def some(self, ids: Sequence[str]) -> list[Entry]:
        """The entries with these ids, in their order, without effects; an id that has none is passed over."""
        with self.read() as con:
            entries = leaderboard.read(con, "WHERE list_contains($ids, entry)", {"ids": list(ids)})
        by_id = {entry.id: entry for entry in entries}
        return [by_id[id] for id in ids if id in by_id]

    def with_effects(self, entries: Sequence[Entry]) -> list[Entry]:
        """The same entries with their effects."""
        with self.read() as con:
            return leaderboard.with_effects(con, entries)

    def count(self, query: Query) -> int:
        """How many entries a query finds."""
        (row,) = self.rows(f"SELECT count(*) AS n FROM entries WHERE {query.where}", **query.parameters)
        return row["n"]

    def density(self, query: Query, cells: int) -> list[dict[str, Any]]:
        """How many entries of a query lie where on a grid of `cells` × `cells`: gain, gain_to, retention, retention_to
        (the sides of a cell, points) and n.
        """
        points = f"SELECT gain.value AS gain, retention.value AS retention FROM entries WHERE {query.where}"
        return self._density("gain", "retention", points, cells, query.parameters)

    def law_density(self, track: str, cells: int) -> list[dict[str, Any]]:
        """How many ends of runs lie where: drift, drift_to (nats), forgetting, forgetting_to (points) and n."""
        points = 'SELECT drift, forgetting FROM law WHERE track = $track AND "end"'
        return self._density("drift", "forgetting", points, cells, {"track": track})

    def _density(self, x: str, y: str, points: str, cells: int, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        sql = f"""
            WITH points AS ({points}),
            room AS (
                SELECT
                    min({x}) AS x, greatest(max({x}) - min({x}), 1e-9) / $cells AS wide,
                    min({y}) AS y, greatest(max({y}) - min({y}), 1e-9) / $cells AS tall
                FROM points
            ),
            placed AS (
                SELECT
                    room.*, least(floor(({x} - x) / wide), $cells - 1) AS i,
                    least(floor(({y} - y) / tall), $cells - 1) AS j
                FROM points, room WHERE {x} + {y} IS NOT NULL
            )
            SELECT
                x + i * wide AS {x}, x + (i + 1) * wide AS {x}_to, y + j * tall AS {y}, y + (j + 1) * tall AS {y}_to,
                count(*) AS n
            FROM placed GROUP BY ALL ORDER BY {x}, {y}"""
        return self.rows(sql, **parameters, cells=cells)

    def choices(self, track: str) -> dict[str, Any]:
        """What the entries of a track may be filtered by, `methods` and `bases`; whether one has items `lost`."""
        sql = """
            SELECT
                coalesce(list(DISTINCT method ORDER BY method), []) AS methods,
                coalesce(list(DISTINCT base ORDER BY base), []) AS bases,
                coalesce(bool_or(coalesce(unscored, 0) + coalesce(failed_adapted, 0) > 0), false) AS lost
            FROM entries WHERE track = $track"""
        return self.rows(sql, track=track)[0]

    def overview(self, most: int) -> list[dict[str, Any]]:
        """The tracks with entries: track, entries (how many), ranked, leaders (how many are on front 1), and `first`,
        the ids of the `most` that lead with the largest gain.
        """
        sql = f"""
            SELECT track, count(*) AS entries, count(front) AS ranked, count(*) FILTER (front = 1) AS leaders,
                list(entry ORDER BY {SORTS["front"]}, entry)[:$most] AS first
            FROM entries GROUP BY track ORDER BY track"""
        return self.rows(sql, most=most)

    def law(self, track: str) -> Curve | None:
        """The law of forgetting of a track; None where its points are too few."""
        fitted = self.rows("SELECT * EXCLUDE (track) FROM laws WHERE track = $track", track=track)
        return leaderboard.curve(fitted[0]) if fitted else None

    def runs(self, track: str, all: bool = False) -> list[dict[str, Any]]:
        """The submissions of a track: rows of the table `runs`. With `all`, hidden and retracted ones too."""
        sql = """
            FROM runs WHERE track = $track AND ($all OR NOT (hidden OR retracted))
            ORDER BY entry, seed NULLS LAST, scored_at, id"""
        return self.rows(sql, track=track, all=all)

    def submission(self, key: str) -> dict[str, Any]:
        """The run with this id, or else with this name: its row of `runs`, with its provenance. Refused if there is
        none, or the name has several.
        """
        runs = self.rows("FROM runs WHERE id = $key", key=key)
        runs = runs or self.rows("FROM runs WHERE name = $key ORDER BY id", key=key)
        if not runs:
            names = [row["name"] for row in self.rows("SELECT id AS name FROM runs UNION SELECT name FROM runs")]
            near = get_close_matches(key, names, n=1)
            raise Refused(
                f"no submission {key!r}"
                + (f": did you mean {near[0]!r}?" if near else f" in {self.home}: `razorbench results` shows them")
            )
        if len(runs) > 1:
            ids = ", ".join(row["id"] for row in runs[:8])
            raise Refused(f"{key!r} names {len(runs)} submissions: give the id of one of them ({ids})")
        (more,) = self.rows("SELECT provenance FROM submissions WHERE id = $id", id=runs[0]["id"])
        return runs[0] | more

    def seeds(self, entry: str) -> list[dict[str, Any]]:
        """The submissions of an entry (its id) that are to be shown, by seed: rows of the table `runs`."""
        sql = "FROM runs WHERE entry = $entry AND NOT (hidden OR retracted) ORDER BY seed NULLS LAST, scored_at, id"
        return self.rows(sql, entry=entry)

    def scores(self, *ids: str) -> list[dict[str, Any]]:
        """The tasks of submissions: columns of `harness.measure.record.Score` and submission."""
        sql = "FROM scores WHERE submission IN (SELECT unnest($ids)) ORDER BY submission, role, suite, task"
        return self.rows(sql, ids=ids)

    def drifts(self, *ids: str) -> list[dict[str, Any]]:
        """The drifts of submissions: columns of `harness.measure.record.Drift` and submission."""
        sql = "FROM drifts WHERE submission IN (SELECT unnest($ids)) ORDER BY submission, task, direction, per"
        return self.rows(sql, ids=ids)

    def events(self, id: str | None = None) -> list[dict[str, Any]]:
        """The events of a submission, or all of them, oldest first."""
        return self.rows("FROM events WHERE $id IS NULL OR submission = $id ORDER BY id", id=id)

    def curve(self, *ids: str) -> list[dict[str, Any]]:
        """The training curves of submissions: columns of `harness.measure.record.Point` and submission."""
        return self.rows("FROM curve WHERE submission IN (SELECT unnest($ids)) ORDER BY submission, step", ids=ids)

    def measures(self, *ids: str) -> list[dict[str, Any]]:
        """What was measured of runs on the way: columns of `harness.measure.record.Measure` and submission."""
        sql = "FROM measures WHERE submission IN (SELECT unnest($ids)) ORDER BY submission, name, step"
        return self.rows(sql, ids=ids)

    def law_points(
        self, track: str, end: bool | None = None, entries: Sequence[str] | None = None
    ) -> list[dict[str, Any]]:
        """Drift (nats an episode) and forgetting (points, positive = forgot): of scored checkpoints (`end` is True), of
        those evaluated in mid-training (False), or of both (None); of some entries (ids), or of all (None). `lr_steps`
        is the learning rate times the steps, `variant` what competes.
        """
        sql = """
            SELECT law.*, variant FROM law JOIN entries USING (entry)
            WHERE law.track = $track AND ($end IS NULL OR "end" = $end)
                AND ($entries IS NULL OR list_contains($entries::VARCHAR[], entry))
            ORDER BY entry, submission, step"""
        return self.rows(sql, track=track, end=end, entries=None if entries is None else list(entries))

    def predictors(self, track: str) -> list[dict[str, Any]]:
        """What may predict the forgetting of the runs of a track, one row a run and measure: `name` and its last
        `value`, beside `forgetting` (points, positive = forgot), `drift`, `lr_steps`, `entry` and `variant`.
        """
        sql = """
            SELECT law.submission, law.entry, variant, law.forgetting, law.drift, law.lr_steps, last.name, last.value
            FROM law JOIN entries USING (entry)
            LEFT JOIN (SELECT submission, name, arg_max(value, step) AS value FROM measures GROUP BY ALL) last
                ON last.submission = law.submission
            WHERE law.track = $track AND "end" ORDER BY law.entry, law.submission, last.name"""
        return self.rows(sql, track=track)

    def items(self, groups: Mapping[str, str]) -> dict[str, np.ndarray]:
        """Samples by item, averaged over the submissions of a group: see `harness.store.leaderboard.items`."""
        with self.read() as con:
            return leaderboard.items(con, self.home, groups)

    def newest(self, most: int) -> list[dict[str, Any]]:
        """The submissions scored last, of all tracks, the newest first: rows of the table `runs`."""
        sql = "FROM runs WHERE NOT (hidden OR retracted) ORDER BY scored_at DESC, id LIMIT $most"
        return self.rows(sql, most=most)
