"""The entries of the leaderboard, ranked, and the law of each track: made when rows are written, read back when shown.

An entry is a submission but for its seed. What is said of it needs the samples of all its seeds, and its front those of
all other entries; so both are computed once, by who writes, in the transaction that changes them.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from harness import statistics
from harness.law import fit_law
from harness.record import folder, plain
from harness.sql import append, rows
from harness.statistics import Estimate
from harness.tracks import competitor, differs
from harness.types import Refused

COSTS = ("adapt_seconds", "score_seconds", "episodes", "tokens", "elements")
ESTIMATES = ("gain", "retention", "drift")
SAME = ("track", "name", "agent", "base", "method", "variant", "settings", "differs", "parameters", "seeds", "verified")
NUMBERS = ("gain_between", "retention_between", "drift_between", "drift_element", "reverse")
BATCH = 200
"""Entries whose samples are held at once."""
GRID = 100
"""Points of a law's curve."""
ROWS = 512
"""Entries that are held against all others at once."""
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
    """Front of (gain, retention): 1 is best, ties share it, None where one of the two is not known."""
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
    """Of the adapted model; None where its record does not say."""
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
    effects: tuple[Effect, ...]
    """The new task first; empty where they were not asked for."""
    unscored: int
    """Samples without a score, all seeds together."""
    cost: Mapping[str, float]
    """Means over seeds of `COSTS`."""
    verified: str
    """What came out when it was scored again: `reproduced`, `differs`, or `no` where a seed was not."""
    scored_at: datetime
    """Of the newest submission, UTC."""
    runs: tuple[Mapping[str, Any], ...]
    """One a submission: id, seed, and id in the queue (`submitted`; None where it was not brought)."""

    @property
    def submissions(self) -> str:
        """Ids of the submissions, one a seed, with spaces between."""
        return " ".join(run["id"] for run in self.runs)


@dataclass(frozen=True)
class Curve:
    """The law of forgetting of a track, as `harness.law.fit_law` fits it to the ends of all runs."""

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


# --- making -----------------------------------------------------------------------------------------------------------

Samples = dict[tuple[str, str], dict[str, np.ndarray]]
"""(role, task) → columns item, base, adapted, drift of one entry."""


def refresh(con: duckdb.DuckDBPyConnection, home: Path) -> None:
    """Make anew what is said of the entries in the table `stale`, and the fronts and laws of their tracks; empty it.

    Refused where samples cannot be read.
    """
    for table in ("runs", "law", "entries", "effects"):
        con.execute(f"DELETE FROM {table} WHERE entry IN (FROM stale)")
    con.execute(
        """
        INSERT INTO runs BY NAME SELECT
            * EXCLUDE (provenance),
            provenance -> '$.submission' AS brought,
            (provenance ->> '$.parameters')::BIGINT AS parameters
        FROM runs_now WHERE entry IN (FROM stale)"""
    )
    con.execute("INSERT INTO law BY NAME FROM law_now WHERE entry IN (FROM stale)")
    sql = "SELECT entry FROM leaderboard WHERE entry IN (FROM stale) ORDER BY entry"
    shown = [entry for (entry,) in con.execute(sql).fetchall()]
    for start in range(0, len(shown), BATCH):
        _make(con, home, shown[start : start + BATCH])
    sql = "SELECT DISTINCT track FROM submissions WHERE entry IN (FROM stale) ORDER BY track"
    for (track,) in con.execute(sql).fetchall():
        _rank(con, track)
        _fit(con, track)
    con.execute("DELETE FROM stale")


def _make(con: duckdb.DuckDBPyConnection, home: Path, ids: Sequence[str]) -> None:
    """Fill `entries` and `effects` for these entries, which have no row."""
    board = rows(con, "FROM leaderboard WHERE list_contains($ids, entry) ORDER BY entry", {"ids": ids})
    runs = _runs(con, ids)
    sql = """
        SELECT entry, scores.* FROM scores JOIN runs ON runs.id = submission
        WHERE list_contains($ids, entry) AND NOT (hidden OR retracted) ORDER BY submission, role, suite, task"""
    scores = _grouped(rows(con, sql, {"ids": ids}))
    samples = by_task(items(con, home, {run["id"]: entry for entry, group in runs.items() for run in group}))
    entries, effects, sets = [], [], {}
    for row in board:
        id, tasks = row["entry"], samples.get(row["entry"], {})
        estimates, found = _estimated(row, runs[id], scores.get(id, []), tasks)
        verified = {run["verified"] for run in runs[id]}
        made = {name: cell for name, cell in row.items() if name not in ("runs", "scored_at")} | {
            "settings": json.dumps(row["settings"]),
            "variant": competitor(row["track"], row["method"], row["settings"]),
            "differs": differs(row["track"], row["settings"]),
            "verified": "differs" if "differs" in verified else "reproduced" if verified == {"reproduced"} else "no",
            "parameters": runs[id][0]["parameters"],
            "runs": [{name: run[name] for name in ("id", "seed", "submitted")} for run in runs[id]],
        }
        entries.append(plain(made | estimates) | {"scored_at": row["scored_at"]})
        for effect in found:
            columns = tasks.get((effect.role, effect.task))
            names = [] if columns is None else columns["item"].tolist()
            gained = [] if columns is None else columns["adapted"] - columns["base"]
            key = blake2b("\0".join(names).encode(), digest_size=16).hexdigest()
            sets[key] = names
            effects.append(plain(effect) | {"entry": id, "item_set": key, "per_item": np.asarray(gained, np.float32)})
    append(con, "entries", entries)
    append(con, "effects", effects)
    known = {key for (key,) in con.execute("SELECT item_set FROM item_sets").fetchall()}
    append(con, "item_sets", [{"item_set": key, "items": names} for key, names in sets.items() if key not in known])


def _estimated(
    row: Mapping[str, Any], runs: Sequence[Mapping[str, Any]], scores: Sequence[Mapping[str, Any]], samples: Samples
) -> tuple[dict[str, Estimate], list[Effect]]:
    """Gain, retention and drift of an entry, and its effects: as recorded for one seed, from the samples for more."""
    effects: list[Effect] = []
    if len(runs) == 1:
        for s in scores:
            base, adapted, difference = _number(s["base"]), _number(s["adapted"]), _recorded(s, "difference", "")
            difference = replace(difference, n=s["n"], unscored=s["unscored"], method=s["interval"])
            effects.append(Effect(s["task"], s["role"], s["suite"], base, adapted, difference))
        prefixes = {"gain": "gain_", "retention": "retention_", "drift": "drift_"}
        return {name: _recorded(runs[0], name, prefix) for name, prefix in prefixes.items()}, effects
    suites = {(score["role"], score["task"]): score["suite"] for score in scores}
    for (role, task), columns in samples.items():
        difference = points(statistics.paired(columns["base"], columns["adapted"]))
        both = ~np.isnan(columns["base"])
        base, adapted = (100 * columns[name][both].mean() if both.any() else np.nan for name in ("base", "adapted"))
        effects.append(Effect(task, role, suites.get((role, task), ""), base, adapted, difference))
    gain, retention = (_mean([e.difference for e in effects if e.role == role]) for role in ("new", "prior"))
    drift = _mean([statistics.mean(columns["drift"]) for (role, _), columns in samples.items() if role == "new"])
    drift = replace(drift, unscored=0) if drift.n else _recorded(row, "drift", "drift_")
    return {"gain": gain, "retention": retention, "drift": drift}, effects


def _runs(con: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The submissions of entries that are to be shown, by entry and seed."""
    sql = """
        FROM runs WHERE list_contains($ids, entry) AND NOT (hidden OR retracted)
        ORDER BY entry, seed NULLS LAST, scored_at, id"""
    return _grouped(rows(con, sql, {"ids": ids}))


def _grouped(found: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Rows by the entry that they belong to."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        groups.setdefault(row["entry"], []).append(row)
    return groups


def _recorded(row: Mapping[str, Any], value: str, prefix: str) -> Estimate:
    """An estimate from columns of the store, whose bounds and error are named with a prefix."""
    numbers = (_number(row.get(name)) for name in (value, f"{prefix}low", f"{prefix}high", f"{prefix}se"))
    return Estimate(*numbers, n=0, method="as recorded")


def points(estimate: Estimate) -> Estimate:
    """Rewards (0–1) as points (0–100)."""
    scaled = {name: 100 * getattr(estimate, name) for name in ("value", "low", "high", "se")}
    return replace(estimate, **scaled)


def _mean(estimates: list[Estimate]) -> Estimate:
    return estimates[0] if len(estimates) == 1 else statistics.combine(estimates) if estimates else UNKNOWN


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


# --- samples ----------------------------------------------------------------------------------------------------------


def items(con: duckdb.DuckDBPyConnection, home: Path, groups: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Samples by item, averaged over the submissions of a group; `groups` maps submission ids to names of groups.

    Columns group, role, task, item and base, adapted (rewards), drift (nats), sorted by the first four. An item counts
    in a submission where both scored it, and is NaN if none did. Refused if a file cannot be read.
    """
    sql = """
        SELECT
            "group", role, task, item, avg(drift) AS drift,
            avg(base) FILTER (adapted IS NOT NULL) AS base, avg(adapted) FILTER (base IS NOT NULL) AS adapted
        FROM read_parquet($paths, filename = 'path')
        JOIN (SELECT unnest($paths) AS path, unnest($groups) AS "group") USING (path)
        GROUP BY ALL ORDER BY "group", role, task, item"""
    paths = [str(folder(home, id) / "samples.parquet") for id in groups]
    try:
        columns: dict[str, Any] = con.execute(sql, {"paths": paths, "groups": list(groups.values())}).fetchnumpy()
    except duckdb.Error as error:
        why = str(error).splitlines()[0]
        raise Refused(f"samples cannot be read ({why}): restore the file from a copy or remove its record") from error
    return {
        name: np.ma.filled(column, np.nan) if column.dtype.kind == "f" else column for name, column in columns.items()
    }


def by_task(found: dict[str, np.ndarray]) -> dict[str, Samples]:
    """The sorted columns of `items`, cut where group, role or task change."""
    keys = list(zip(found["group"], found["role"], found["task"], strict=True))
    cuts = [i for i in range(len(keys) + 1) if i in (0, len(keys)) or keys[i] != keys[i - 1]]
    samples: dict[str, Samples] = {}
    for start, stop in pairwise(cuts):
        group, role, task = keys[start]
        columns = {name: found[name][start:stop] for name in ("item", "base", "adapted", "drift")}
        samples.setdefault(group, {})[role, task] = columns
    return samples


# --- fronts and laws --------------------------------------------------------------------------------------------------


def _rank(con: duckdb.DuckDBPyConnection, track: str) -> None:
    """Write the front of every entry of a track."""
    sql = """
        SELECT entry, gain.value AS gain, retention.value AS retention FROM entries
        WHERE track = $track ORDER BY entry"""
    found = rows(con, sql, {"track": track})
    if not found:
        return
    gain, retention = (np.array([row[name] for row in found], float) for name in ("gain", "retention"))
    names = [row["entry"] for row in found]
    ranks = statistics.fronts(
        _beats(gain, _per_item(con, track, "new", names)),
        _beats(retention, _per_item(con, track, "prior", names)),
        ~np.isnan(gain + retention),
    )
    front = [int(rank) + 1 if rank >= 0 else None for rank in ranks]
    con.register("fresh", pa.table({"entry": names, "front": pa.array(front, "int64")}))
    con.execute(
        """
        UPDATE entries SET front = fresh.front FROM fresh
        WHERE entries.entry = fresh.entry AND entries.front IS DISTINCT FROM fresh.front"""
    )
    con.unregister("fresh")


def _beats(values: np.ndarray, tasks: Sequence[np.ndarray]) -> np.ndarray:
    """Whether the first of two entries has more than the second, beyond the error of their difference, [k, k].

    `values` [k] are means over tasks, in points; `tasks` those: adapted − base [k, items], as fractions.
    """
    found = np.zeros((len(values), len(values)), bool)
    for start in range(0, len(values) if tasks else 0, ROWS):
        part = slice(start, start + ROWS)
        variance = sum((100 * statistics.pairwise_se(task, part) / len(tasks)) ** 2 for task in tasks)
        found[part] = statistics.beats(values[part, None] - values, np.sqrt(variance))
    return found


def _per_item(con: duckdb.DuckDBPyConnection, track: str, role: str, names: Sequence[str]) -> list[np.ndarray]:
    """Adapted − base on each task of a role by the entries `names` [k]: [k, items], NaN where there is no score."""
    sql = """
        SELECT task, item_set, entry, per_item FROM effects JOIN entries USING (entry)
        WHERE track = $track AND role = $role ORDER BY task, item_set, entry"""
    found = con.execute(sql, {"track": track, "role": role}).fetchnumpy()
    sets = {key: np.array(names, str) for key, names in con.execute("FROM item_sets").fetchall()}
    place = {name: i for i, name in enumerate(names)}
    at = np.array([place[entry] for entry in found["entry"]], int)
    matrices = []
    for task in dict.fromkeys(found["task"]):
        keys = dict.fromkeys(found["item_set"][found["task"] == task])
        all = np.unique(np.concatenate([sets[key] for key in keys]))
        matrix = np.full((len(names), len(all)), np.nan)
        for key in keys:
            same = (found["task"] == task) & (found["item_set"] == key)
            matrix[at[same][:, None], np.searchsorted(all, sets[key])] = np.array([*found["per_item"][same]])
        matrices.append(matrix)
    return matrices


def _fit(con: duckdb.DuckDBPyConnection, track: str) -> None:
    """Write the law of a track, or none where its points are too few."""
    con.execute("DELETE FROM laws WHERE track = $track", {"track": track})
    sql = """
        SELECT law.drift, forgetting, lr_steps, entry, variant FROM law JOIN entries USING (entry)
        WHERE law.track = $track AND "end" ORDER BY entry, submission"""
    ends = rows(con, sql, {"track": track})
    x, y, rival = (np.array([end[name] for end in ends], float) for name in ("drift", "forgetting", "lr_steps"))
    if len(set(zip(x, y, strict=True))) < 4 or len(set(x)) < 3:
        return
    rival = np.log(np.where(rival > 0, rival, np.nan))
    law = fit_law(x, y, [end["variant"] for end in ends], rival, cluster=[end["entry"] for end in ends])
    grid = np.linspace(x.min(), x.max(), GRID)
    curve = Curve(
        law.n,
        law.r2,
        law.r2_left_out_pooled,
        law.baseline_r2,
        law.coefficients,
        grid,
        law.predict(grid),
        *law.band(grid),
    )
    append(con, "laws", [{"track": track, **plain(curve)}])


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
    found = []
    for row in rows(con, f"FROM entries {which}", parameters):
        same: dict[str, Any] = {name: row[name] for name in SAME}
        numbers: dict[str, Any] = {name: _number(row[name]) for name in NUMBERS}
        estimates: dict[str, Any] = {name: _estimate(row[name]) for name in ESTIMATES}
        entry = Entry(
            rank=row["front"],
            id=row["entry"],
            **same,
            **numbers,
            **estimates,
            effects=(),
            unscored=row["unscored"] or 0,
            cost={name: row[name] for name in COSTS if row[name] is not None},
            scored_at=row["scored_at"],
            runs=tuple(row["runs"]),
        )
        found.append(entry)
    return found


def with_effects(con: duckdb.DuckDBPyConnection, entries: Sequence[Entry]) -> list[Entry]:
    """The same entries with their effects."""
    sql = """
        SELECT * EXCLUDE (item_set, per_item) FROM effects
        WHERE list_contains($ids, entry) ORDER BY entry, role, suite, task"""
    effects = _grouped(rows(con, sql, {"ids": [entry.id for entry in entries]}))
    return [replace(entry, effects=tuple(map(_effect, effects.get(entry.id, ())))) for entry in entries]


def _effect(row: Mapping[str, Any]) -> Effect:
    base, adapted = _number(row["base"]), _number(row["adapted"])
    return Effect(row["task"], row["role"], row["suite"], base, adapted, _estimate(row["difference"]))


def curve(row: Mapping[str, Any]) -> Curve:
    """A row of `laws`."""
    lists = {name: np.array([_number(each) for each in cell]) for name, cell in row.items() if isinstance(cell, list)}
    numbers: dict[str, Any] = {name: _number(cell) for name, cell in row.items() if name not in lists}
    return Curve(**{**numbers, **lists, "n": row["n"]})


def _estimate(cell: Mapping[str, Any]) -> Estimate:
    numbers = {name: _number(cell[name]) for name in ("value", "low", "high", "se")}
    return Estimate(**{**cell, **numbers})
