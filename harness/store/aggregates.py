"""What is said of entries and tracks, made when rows are written: estimates over seeds, fronts, laws of forgetting.

Only who writes imports this: the statistics take long to load, and readers find all of it in the tables.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure import ranking, statistics
from razorbench.harness.measure.clusters import places
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.law import determined, fit_law, log_rate_steps
from razorbench.harness.measure.record import plain
from razorbench.harness.store.leaderboard import (
    ESTIMATES,
    MOST_UNSCORED,
    UNKNOWN,
    Curve,
    Effect,
    Samples,
    by_task,
    grouped,
    items,
    number,
)
from razorbench.harness.store.sql import append, rows
from razorbench.harness.tracks.variants import competitor, differs

BATCH = 200
"""Entries whose samples are held at once."""
GRID = 100
"""Points of a law's curve."""
ROWS = 64
"""Entries that are held against all others at once."""


def refresh(con: duckdb.DuckDBPyConnection, home: Path) -> None:
    """Make anew what is said of the entries in the table `stale`, and, where numbers may have changed, the fronts and
    laws of their tracks; empty it.
    """
    fronts = dict(con.execute("SELECT entry, front FROM entries WHERE entry IN (SELECT entry FROM stale)").fetchall())
    for table in ("runs", "law", "entries", "effects"):
        con.execute(f"DELETE FROM {table} WHERE entry IN (SELECT entry FROM stale)")
    con.execute(
        """
        INSERT INTO runs BY NAME SELECT
            * EXCLUDE (provenance),
            provenance -> '$.submission' AS brought,
            TRY_CAST(provenance ->> '$.parameters' AS BIGINT) AS parameters,
            (SELECT max(value) FROM measures WHERE submission = runs_now.id AND name = 'silent')::BIGINT AS silent
        FROM runs_now WHERE entry IN (SELECT entry FROM stale)"""
    )
    con.execute("INSERT INTO law BY NAME FROM law_now WHERE entry IN (SELECT entry FROM stale)")
    sql = "SELECT entry FROM leaderboard WHERE entry IN (SELECT entry FROM stale) ORDER BY entry"
    shown = [entry for (entry,) in con.execute(sql).fetchall()]
    for start in range(0, len(shown), BATCH):
        _make(con, home, shown[start : start + BATCH], fronts)
    sql = "SELECT DISTINCT track FROM submissions JOIN stale USING (entry) WHERE numbers ORDER BY track"
    for (track,) in con.execute(sql).fetchall():
        _rank(con, track)
        _fit(con, track)
    con.execute("DELETE FROM stale")


def _make(con: duckdb.DuckDBPyConnection, home: Path, ids: Sequence[str], fronts: Mapping[str, int | None]) -> None:
    """Fill `entries` and `effects` for these entries, which have no row; `fronts` are those that they were on."""
    board = rows(con, "FROM leaderboard WHERE list_contains($ids, entry) ORDER BY entry", {"ids": ids})
    runs = _runs(con, ids)
    sql = """
        SELECT entry, scores.* FROM scores JOIN runs ON runs.id = submission
        WHERE list_contains($ids, entry) AND NOT (hidden OR retracted) ORDER BY submission, role, suite, task"""
    scores = grouped(rows(con, sql, {"ids": ids}))
    samples = _samples(con, home, {run["id"]: entry for entry, group in runs.items() for run in group})
    entries, effects, sets = [], [], {}
    for row in board:
        id, tasks = row["entry"], samples.get(row["entry"], {})
        estimates, measured = _estimated(row, runs[id], scores.get(id, []), tasks)
        tasks = {} if isinstance(tasks, Refused) else tasks
        verified = {run["verified"] for run in runs[id]}
        made = {name: cell for name, cell in row.items() if name not in ("runs", "scored_at")} | {
            "settings": json.dumps(row["settings"]),
            "variant": competitor(row["track"], row["method"], row["settings"], home),
            "differs": differs(row["track"], row["settings"], home),
            "verified": "differs" if "differs" in verified else "reproduced" if verified == {"reproduced"} else "no",
            "parameters": runs[id][0]["parameters"],
            "front": fronts.get(id),
            "runs": [{name: run[name] for name in ("id", "seed", "submitted")} for run in runs[id]],
        }
        entries.append(plain(made | estimates) | {"scored_at": row["scored_at"]})
        for effect in measured:
            columns = tasks.get((effect.role, effect.task))
            names, shared = ([] if columns is None else columns[name].tolist() for name in ("item", "cluster"))
            gained = [] if columns is None else columns["adapted"] - columns["base"]
            shared = shared if any(shared) else None
            key = blake2b(json.dumps([names, shared]).encode(), digest_size=16).hexdigest()
            sets[key] = {"item_set": key, "items": names, "clusters": shared}
            effects.append(plain(effect) | {"entry": id, "item_set": key, "per_item": np.asarray(gained, np.float32)})
    append(con, "entries", entries)
    append(con, "effects", effects)
    known = {key for (key,) in con.execute("SELECT item_set FROM item_sets").fetchall()}
    append(con, "item_sets", [row for key, row in sets.items() if key not in known])


def _samples(con: duckdb.DuckDBPyConnection, home: Path, groups: Mapping[str, str]) -> dict[str, Samples | Refused]:
    """The samples of entries, given the entry of each submission; or why they cannot be read."""
    try:
        with con.cursor() as apart:  # what fails ends the transaction of its connection
            return dict(by_task(items(apart, home, groups)))
    except Refused as refused:
        if len(set(groups.values())) == 1:
            return dict.fromkeys(groups.values(), refused)
    read: dict[str, Samples | Refused] = {}
    for entry in set(groups.values()):  # one at a time, for the others are well
        read |= _samples(con, home, {id: of for id, of in groups.items() if of == entry})
    return read


def _estimated(
    row: Mapping[str, Any],
    runs: Sequence[Mapping[str, Any]],
    scores: Sequence[Mapping[str, Any]],
    samples: Samples | Refused,
) -> tuple[dict[str, Estimate], list[Effect]]:
    """Gain, retention and drift of an entry, and its effects: as recorded for one seed, from the samples for more.

    Nothing is known of several seeds whose samples cannot be read.
    """
    effects: list[Effect] = []
    if len(runs) == 1:
        for s in scores:
            base, adapted, difference = number(s["base"]), number(s["adapted"]), _recorded(s, "difference", "")
            difference = replace(difference, n=s["n"], unscored=s["unscored"], method=s["interval"])
            effects.append(Effect(s["task"], s["role"], s["suite"], base, adapted, difference))
        prefixes = {"gain": "gain_", "retention": "retention_", "drift": "drift_"}
        return {name: _recorded(runs[0], name, prefix) for name, prefix in prefixes.items()}, effects
    if isinstance(samples, Refused):
        return dict.fromkeys(ESTIMATES, replace(UNKNOWN, method=str(samples))), []
    suites = {(score["role"], score["task"]): score["suite"] for score in scores}
    for (role, task), columns in samples.items():
        difference = statistics.paired(columns["base"], columns["adapted"], columns["cluster"]).points()
        both = ~np.isnan(columns["base"])
        base, adapted = (100 * columns[name][both].mean() if both.any() else np.nan for name in ("base", "adapted"))
        effects.append(Effect(task, role, suites.get((role, task), ""), base, adapted, difference))
    gain, retention = (_mean(effects, samples, role) for role in ("new", "prior"))
    drifts = [statistics.mean(columns["drift"]) for (role, _), columns in samples.items() if role == "new"]
    drift = drifts[0] if len(drifts) == 1 else statistics.combine(drifts) if drifts else UNKNOWN
    drift = replace(drift, unscored=0) if drift.n else _recorded(row, "drift", "drift_")
    return {"gain": gain, "retention": retention, "drift": drift}, effects


def _runs(con: duckdb.DuckDBPyConnection, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The submissions of entries that are to be shown, by entry and seed."""
    sql = """
        FROM runs WHERE list_contains($ids, entry) AND NOT (hidden OR retracted)
        ORDER BY entry, seed NULLS LAST, scored_at, id"""
    return grouped(rows(con, sql, {"ids": ids}))


def _recorded(row: Mapping[str, Any], value: str, prefix: str) -> Estimate:
    """An estimate from columns of the store, whose bounds and error are named with a prefix."""
    numbers = (number(row.get(name)) for name in (value, f"{prefix}low", f"{prefix}high", f"{prefix}se"))
    return Estimate(*numbers, n=0, method="as recorded")


def _mean(effects: Sequence[Effect], samples: Samples, role: str) -> Estimate:
    """The mean difference over the tasks of a role, whose items may share clusters."""
    estimates = [effect.difference for effect in effects if effect.role == role]
    if len(estimates) < 2:
        return estimates[0] if estimates else UNKNOWN
    tasks = [columns for (of, _), columns in samples.items() if of == role]
    differences = [columns["adapted"] - columns["base"] for columns in tasks]
    return statistics.combine(estimates, statistics.shared(differences, [columns["cluster"] for columns in tasks]))


# --- fronts and laws --------------------------------------------------------------------------------------------------


def _rank(con: duckdb.DuckDBPyConnection, track: str) -> None:
    """Write the front of every entry of a track."""
    sql = """
        SELECT
            entry, gain.value AS gain, retention.value AS retention, coalesce(unscored_share, 0) <= $most AS scored
        FROM entries WHERE track = $track ORDER BY entry"""
    entries = rows(con, sql, {"track": track, "most": MOST_UNSCORED})
    if not entries:
        return
    scored = np.array([bool(row["scored"]) for row in entries])
    known = scored & ~np.isnan(np.array([(row["gain"], row["retention"]) for row in entries], float)).any(1)
    names = [row["entry"] for row in entries]
    gained, retained = (_beats(len(names), _blocks(*_per_item(con, track, role, names))) for role in ("new", "prior"))
    ranks = ranking.fronts(gained, retained, known)
    front = [int(rank) + 1 if rank >= 0 else None for rank in ranks]
    con.register("fresh", pa.table({"entry": names, "front": pa.array(front, "int64")}))
    con.execute(
        """
        UPDATE entries SET front = fresh.front FROM fresh
        WHERE entries.entry = fresh.entry AND entries.front IS DISTINCT FROM fresh.front"""
    )
    con.unregister("fresh")


def _beats(k: int, blocks: Sequence[np.ndarray]) -> np.ndarray:
    """Whether the first of two entries has more than the second, [k, k]: see `ranking.wins`."""
    ahead = np.zeros((k, k), bool)
    beaten = ranking.wins(blocks)
    for start in range(0, k if blocks else 0, ROWS):
        part = slice(start, start + ROWS)
        ahead[part] = beaten(part)
    return ahead


def _blocks(tasks: Sequence[np.ndarray], clusters: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Blocks of independent clusters for `ranking.wins`, given adapted − base on each task [k, items] and what its
    items share [items], None: nothing.

    Each task counts the same, however many items it has. Tasks that share clusters are one block, where a cluster is
    the sum of its items, and one that lacks any of them is not known.
    """
    fewest = min((task.shape[1] for task in tasks), default=0)
    seen = Counter(name for names in clusters for name in set(names) - {None})
    blocks, joint = [], []
    for task, names in zip(tasks, clusters, strict=True):
        weighted = task * (fewest / task.shape[1])
        if any(seen[name] > 1 for name in set(names) - {None}):
            joint.append((weighted, names))
        else:
            blocks.append(_summed(weighted, names))
    if joint:
        blocks.append(_summed(np.hstack([task for task, _ in joint]), np.concatenate([names for _, names in joint])))
    return blocks


def _summed(scores: np.ndarray, names: np.ndarray) -> np.ndarray:
    """Scores [k, items] summed over the items of a cluster, [k, clusters]; NaN where an item has none."""
    at = places(names)
    order, count = np.argsort(at, kind="stable"), np.bincount(at)
    if len(count) == len(at):
        return scores
    return np.add.reduceat(scores[:, order], np.cumsum(count) - count, axis=1)


def _per_item(
    con: duckdb.DuckDBPyConnection, track: str, role: str, names: Sequence[str]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Adapted − base on each task of a role by the entries `names` [k]: [k, items], NaN where there is no score; and
    what the items of each share, [items], None: nothing.
    """
    sql = """
        SELECT task, item_set, entry, per_item FROM effects JOIN entries USING (entry)
        WHERE track = $track AND role = $role ORDER BY task, item_set, entry"""
    effects = con.execute(sql, {"track": track, "role": role}).fetchnumpy()
    sets, shared = {}, {}
    for key, ids, of in con.execute("SELECT item_set, items, clusters FROM item_sets").fetchall():
        sets[key], shared[key] = np.array(ids, object), of
    place = {name: i for i, name in enumerate(names)}
    at = np.array([place[entry] for entry in effects["entry"]], int)
    matrices, clusters = [], []
    for task in dict.fromkeys(effects["task"]):
        keys = dict.fromkeys(effects["item_set"][effects["task"] == task])
        all = np.unique(np.concatenate([sets[key] for key in keys]))
        matrix, cluster = np.full((len(names), len(all)), np.nan), np.full(len(all), None, object)
        for key in keys:
            same, columns = (effects["task"] == task) & (effects["item_set"] == key), np.searchsorted(all, sets[key])
            matrix[at[same][:, None], columns] = np.array([*effects["per_item"][same]])
            if shared[key]:  # records older than clusters have none of theirs
                cluster[columns] = shared[key]
        if len(all):
            matrices.append(matrix)
            clusters.append(cluster)
    return matrices, clusters


def _fit(con: duckdb.DuckDBPyConnection, track: str) -> None:
    """Write the law of a track, or none where its points are too few."""
    con.execute("DELETE FROM laws WHERE track = $track", {"track": track})
    sql = """
        SELECT law.drift, forgetting, lr_steps, entry, variant FROM law JOIN entries USING (entry)
        WHERE law.track = $track AND "end" ORDER BY entry, submission"""
    ends = rows(con, sql, {"track": track})
    x, y, rival = (np.array([end[name] for end in ends], float) for name in ("drift", "forgetting", "lr_steps"))
    if not determined(x, y):
        return
    law = fit_law(x, y, [end["variant"] for end in ends], log_rate_steps(rival), cluster=[end["entry"] for end in ends])
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
