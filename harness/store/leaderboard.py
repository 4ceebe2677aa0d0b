"""The entries of the leaderboard, and the law of each track, as they are read.

An entry is a submission but for its seed. What is said of it needs the samples of all its seeds, and its front those of
all other entries; so both are made by who writes, in the transaction that changes them (`harness.store.aggregates`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure.estimate import Estimate, below_floor
from razorbench.harness.measure.record import folder
from razorbench.harness.store.sql import rows

COSTS = ("adapt_seconds", "score_seconds", "episodes", "tokens", "elements")
ESTIMATES = ("gain", "retention", "drift")
SAME = ("track", "name", "agent", "base", "method", "variant", "settings", "differs", "parameters", "seeds", "verified")
NUMBERS = (
    *("gain_between", "retention_between", "drift_between", "drift_element", "reverse", "floor"),
    "unscored_share",
)
MOST_UNSCORED = 0.02
"""Share of a task's items that may be unscored. An entry with more has no rank: what is missing may be what it lost."""
UNKNOWN = Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0, "not known")


@dataclass(frozen=True)
class Effect:
    """What adapting did to one task, over the seeds of an entry. In points."""

    task: str
    role: str
    """`new` or `prior`."""
    suite: str
    base: float
    adapted: float
    difference: Estimate


@dataclass(frozen=True)
class Entry:
    """One row of the leaderboard: submissions that are alike but for their seed. Gain and retention in points, drift in
    nats an episode (forward KL).

    The interval of an estimate is over items, each averaged over the seeds (one seed: as its record has it). What seeds
    add is apart from it: `…_between` is the standard deviation between seeds, NaN for one.
    """

    rank: int | None
    """Front of (gain, retention): 1 is best, ties share it; None where it has none, and `unranked` says why."""
    id: str
    track: str
    name: str
    agent: str
    base: str
    method: str
    variant: str
    """The method with what changes its objective: what competes, over all other settings."""
    settings: Mapping[str, Any]
    differs: str
    """How its settings differ from its track's, in words."""
    parameters: int | None
    """Of the base; None where its record does not say."""
    seeds: int
    gain: Estimate
    gain_between: float
    retention: Estimate
    retention_between: float
    drift: Estimate
    drift_between: float
    drift_element: float
    """Nats an element: a token, a bin, a class."""
    reverse: float
    """Reverse KL, nats an episode."""
    floor: float
    """What rounding makes of a drift, nats an episode; NaN where it was not measured."""
    effects: tuple[Effect, ...]
    """The new task first; empty where they were not asked for."""
    unscored: int
    """Samples without a score, all seeds together: the world failed."""
    unscored_share: float
    """Of the items of a task and seed: the largest."""
    uneven: bool
    """Whether base and adapted differ in how many items are unscored."""
    failed: int | None
    """Samples that score 0 because the adapted agent did what nobody can score; None where that was not told apart."""
    cost: Mapping[str, float]
    """Means over seeds of `COSTS`."""
    verified: str
    """What came out when it was scored again: `reproduced`, `differs`, or `no` where a seed was not."""
    scored_at: datetime
    """Of the newest submission, UTC."""
    runs: tuple[Mapping[str, Any], ...]
    """One a submission: id, seed, and id in the queue (`submitted`; None where it was not brought)."""

    @property
    def unranked(self) -> str:
        """Why it has no rank; empty where it has one."""
        if self.rank is not None:
            return ""
        if self.unscored_share > MOST_UNSCORED:
            return f"{100 * self.unscored_share:.1f} % of a task's items are unscored"
        return "gain or retention is not known"

    @property
    def below_floor(self) -> bool:
        """Whether its drift is no more than rounding makes of nothing."""
        return below_floor(self.drift.value, self.floor)

    @property
    def submissions(self) -> str:
        """Ids of the submissions, one a seed, with spaces between."""
        return " ".join(run["id"] for run in self.runs)


@dataclass(frozen=True)
class Curve:
    """The law of forgetting of a track, as `harness.measure.law.fit_law` fits it to the ends of all runs."""

    n: int
    """Points it was fitted to."""
    r2: float
    r2_left_out: float
    """Over all methods together, each predicted from the others."""
    baseline_r2: float
    """Of log(learning rate × steps), which it has to beat."""
    coefficients: np.ndarray
    """c₀, c₁, c₂ [3] of forgetting (points) on drift (nats an episode)."""
    drift: np.ndarray
    """Where the curve is drawn [x], from the least to the largest drift."""
    forgetting: np.ndarray
    """The curve [x]."""
    low: np.ndarray
    """Its 95 % bootstrap band [x]."""
    high: np.ndarray

    def residual(self, drift: float, forgetting: float) -> float:
        """By how many points more it forgot than its drift predicts."""
        return forgetting - float(np.polynomial.polynomial.polyval(drift, self.coefficients))


# --- samples ----------------------------------------------------------------------------------------------------------


Samples = dict[tuple[str, str], dict[str, np.ndarray]]
"""(role, task) → columns item, base, adapted, drift, cluster of one entry."""


def items(con: duckdb.DuckDBPyConnection, home: Path, groups: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Samples by item, averaged over the submissions of a group; `groups` maps submission ids to names of groups.

    Columns group, role, task, item and base, adapted (rewards), drift (nats), cluster (None: it shares nothing), sorted
    by the first four. An item counts in a submission where both scored it, and is NaN if none did. Refused if a file
    cannot be read.
    """
    sql = """
        SELECT
            "group", role, task, item, avg(drift) AS drift, max(cluster) AS cluster,
            avg(base) FILTER (adapted IS NOT NULL) AS base, avg(adapted) FILTER (base IS NOT NULL) AS adapted
        FROM (
            FROM read_parquet($paths, filename = 'path', hive_partitioning = false, union_by_name = true)
            UNION ALL BY NAME SELECT NULL::VARCHAR AS cluster WHERE false  -- older files lack the column
        )
        JOIN (SELECT unnest($paths) AS path, unnest($groups) AS "group") USING (path)
        GROUP BY ALL ORDER BY "group", role, task, item"""
    paths = [str(folder(home, id) / "samples.parquet") for id in groups]
    try:
        columns: dict[str, Any] = con.execute(sql, {"paths": paths, "groups": list(groups.values())}).fetchnumpy()
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        cure = "restore the file from a copy, then run `razorbench rebuild`"
        raise Refused(f"samples cannot be read ({why}): {cure}") from error
    columns["cluster"] = np.array(columns["cluster"].tolist(), object)  # of what is masked None
    return {
        name: np.ma.filled(column, np.nan) if column.dtype.kind == "f" else column for name, column in columns.items()
    }


def by_task(listed: dict[str, np.ndarray]) -> dict[str, Samples]:
    """The sorted columns of `items`, cut where group, role or task change."""
    keys = list(zip(listed["group"], listed["role"], listed["task"], strict=True))
    cuts = [i for i in range(len(keys) + 1) if i in (0, len(keys)) or keys[i] != keys[i - 1]]
    samples: dict[str, Samples] = {}
    for start, stop in pairwise(cuts):
        group, role, task = keys[start]
        columns = {name: listed[name][start:stop] for name in ("item", "base", "adapted", "drift", "cluster")}
        samples.setdefault(group, {})[role, task] = columns
    return samples


# --- reading ----------------------------------------------------------------------------------------------------------

SORTS = {
    "front": "front NULLS LAST, gain.value DESC NULLS LAST",
    "gain": "gain.value DESC NULLS LAST",
    "retention": "retention.value DESC NULLS LAST",
    "drift": "drift.value NULLS LAST",
    "seconds": "adapt_seconds NULLS LAST",
    "scored": "scored_at DESC",
}
"""What a table may be sorted by, best first."""
SIZES = {"any": (0, None), "under 10 M": (0, 10**7), "10 M – 1 B": (10**7, 10**9), "1 B and more": (10**9, None)}
"""Numbers of parameters: at least, and less than."""
VERIFIED = ("any", "reproduced", "differs", "no")


@dataclass(frozen=True)
class Query:
    """Some entries of a track, in an order."""

    track: str
    search: str = ""
    """Part of the name, the method or the settings, in any case."""
    methods: tuple[str, ...] = ()
    """Empty: all."""
    bases: tuple[str, ...] = ()
    size: str = "any"
    """One of `SIZES`; an entry of unknown size has none."""
    verified: str = "any"
    """One of `VERIFIED`."""
    sort: str = "front"
    """One of `SORTS`."""

    @property
    def where(self) -> str:
        """The condition in SQL; its parameters are `parameters`."""
        return """
            track = $track AND contains(lower(concat_ws(' ', name, method, differs)), lower($search))
            AND (len($methods::VARCHAR[]) = 0 OR list_contains($methods::VARCHAR[], method))
            AND (len($bases::VARCHAR[]) = 0 OR list_contains($bases::VARCHAR[], base))
            AND ($size = 'any' OR parameters >= $least AND ($most IS NULL OR parameters < $most))
            AND ($verified = 'any' OR verified = $verified)"""

    @property
    def order(self) -> str:
        """The order in SQL; ties go by id."""
        return f"{SORTS[self.sort]}, entry"

    @property
    def parameters(self) -> dict[str, Any]:
        """What `where` leaves open."""
        least, most = SIZES[self.size]
        asked = {name: cell for name, cell in vars(self).items() if name != "sort"}
        return asked | {"methods": list(self.methods), "bases": list(self.bases), "least": least, "most": most}


def read(con: duckdb.DuckDBPyConnection, which: str, parameters: Mapping[str, Any]) -> list[Entry]:
    """The entries that SQL after `FROM entries` chooses and sorts, without their effects."""
    entries = []
    for row in rows(con, f"FROM entries {which}", parameters):
        same: dict[str, Any] = {name: row[name] for name in SAME}
        numbers: dict[str, Any] = {name: number(row[name]) for name in NUMBERS}
        estimates: dict[str, Any] = {name: _estimate(row[name]) for name in ESTIMATES}
        entry = Entry(
            rank=row["front"],
            id=row["entry"],
            **same,
            **numbers,
            **estimates,
            effects=(),
            unscored=row["unscored"] or 0,
            uneven=bool(row["uneven"]),
            failed=row["failed_adapted"],
            cost={name: row[name] for name in COSTS if row[name] is not None},
            scored_at=row["scored_at"],
            runs=tuple(row["runs"]),
        )
        entries.append(entry)
    return entries


def with_effects(con: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> list[Entry]:
    """The same entries with their effects."""
    sql = """
        SELECT * EXCLUDE (item_set, per_item) FROM effects
        WHERE list_contains($ids, entry) ORDER BY entry, role, suite, task"""
    effects = grouped(rows(con, sql, {"ids": [entry.id for entry in entries]}))
    return [replace(entry, effects=tuple(map(_effect, effects.get(entry.id, ())))) for entry in entries]


def _effect(row: Mapping[str, Any]) -> Effect:
    base, adapted = number(row["base"]), number(row["adapted"])
    return Effect(row["task"], row["role"], row["suite"], base, adapted, _estimate(row["difference"]))


def curve(row: Mapping[str, Any]) -> Curve:
    """The curve that a row of `laws` holds."""
    lists = {name: np.array([number(each) for each in cell]) for name, cell in row.items() if isinstance(cell, list)}
    numbers: dict[str, Any] = {name: number(cell) for name, cell in row.items() if name not in lists}
    return Curve(**{**numbers, **lists, "n": row["n"]})


def _estimate(cell: Mapping[str, Any]) -> Estimate:
    value, low, high, se = (number(cell[name]) for name in ("value", "low", "high", "se"))
    return Estimate(value, low, high, se, cell["n"], cell["unscored"], cell["method"])


def grouped(listed: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by the entry that they belong to."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in listed:
        groups.setdefault(row["entry"], []).append(row)
    return groups


def number(value: float | None) -> float:
    """The number, NaN where it is not known."""
    return np.nan if value is None else float(value)
