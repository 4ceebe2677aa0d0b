"""What `razorbench results` and the board show: the entries of a track, ranked, with their intervals and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import pairwise
from typing import Any

import numpy as np

from harness import statistics
from harness.record import folder
from harness.statistics import Estimate
from harness.store import Store
from harness.tracks import competitor
from harness.types import Refused

COSTS = ("adapt_seconds", "score_seconds", "episodes", "tokens", "elements")
SAME = ("track", "name", "agent", "base", "method", "settings", "seeds", "scored_at")
NUMBERS = ("gain_between", "retention_between", "drift_between", "drift_element", "reverse")
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
    settings: Mapping[str, Any]
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
    unscored: int
    """Samples without a score, all seeds together."""
    cost: Mapping[str, float]
    """Means over seeds of `COSTS`."""
    scored_at: datetime
    """Of the newest submission, UTC."""
    runs: tuple[Mapping[str, Any], ...]
    """One a submission: columns of the view `runs`."""

    @property
    def submissions(self) -> str:
        """Ids of the submissions, one a seed, with spaces between."""
        return " ".join(run["id"] for run in self.runs)

    @property
    def variant(self) -> str:
        """The method with what changes its objective: what competes, over all other settings."""
        return competitor(self.track, self.method, self.settings)


def table(store: Store, track: str) -> list[Entry]:
    """The entries of a track, best front first, then by gain. Nothing hidden or retracted."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for run in store.runs(track):
        runs.setdefault(run["entry"], []).append(run)
    board = [row for row in store.leaderboard(track) if row["entry"] in runs]
    if not board:
        return []
    entry_of = {run["id"]: entry for entry, group in runs.items() for run in group}
    scores: dict[str, list[dict[str, Any]]] = {}
    for score in store.scores(*entry_of):
        scores.setdefault(entry_of[score["submission"]], []).append(score)
    items = _by_task(store.items(entry_of))
    entries = [
        _entry(row, runs[row["entry"]], scores.get(row["entry"], []), items.get(row["entry"], {})) for row in board
    ]
    ranks = statistics.fronts(
        [entry.gain.value for entry in entries],
        [entry.retention.value for entry in entries],
        _pairwise(entries, items, "new"),
        _pairwise(entries, items, "prior"),
    )
    ranked = [replace(e, rank=int(rank) + 1 if rank >= 0 else None) for e, rank in zip(entries, ranks, strict=True)]
    return sorted(ranked, key=lambda entry: entry.rank or len(ranked) + 1)  # stable: the store sorts by gain


@dataclass(frozen=True)
class Comparison:
    """Two entries of a track on one task, over the items that both scored. In points."""

    task: str
    role: str
    """`new` or `prior`."""
    first: float
    second: float
    difference: Estimate
    """Second − first."""
    p: float
    p_holm: float
    """`p`, corrected over the tasks."""
    mde: float
    """Smallest difference that so many items can detect."""
    first_alone: int
    """Items that the first has right after adapting and the second has not."""
    second_alone: int
    first_kept: int
    """Those of `first_alone` that the base had right: the second forgot them."""
    second_kept: int


def compare(store: Store, first: Entry, second: Entry) -> list[Comparison]:
    """Two entries task by task, each item averaged over the seeds of its entry; the new task first.

    An item counts as right from a mean reward of 1/2. Refused for entries of two tracks, which answer other items.
    """
    if first.track != second.track:
        raise Refused(f"{first.track} and {second.track} ask other items: compare entries of one track")
    groups = {run["id"]: entry.id for entry in (first, second) for run in entry.runs}
    items = _by_task(store.items(groups))
    ours, theirs = items.get(first.id, {}), items.get(second.id, {})
    found: list[Comparison] = []
    for role, task in sorted({*ours} & {*theirs}):
        a, b = ours[role, task], theirs[role, task]
        _, at, to = np.intersect1d(a["item"].astype(str), b["item"].astype(str), return_indices=True)
        base, x, y = a["base"][at], a["adapted"][at], b["adapted"][to]
        both = ~np.isnan(x + y)
        base, x, y = base[both], x[both], y[both]
        difference, p = _points(statistics.paired(x, y)), statistics.paired_test(x, y) if len(x) else np.nan
        mine, other, knew = (x >= 0.5) & (y < 0.5), (y >= 0.5) & (x < 0.5), base >= 0.5
        found.append(
            Comparison(
                task,
                role,
                first=100 * x.mean() if len(x) else np.nan,
                second=100 * y.mean() if len(y) else np.nan,
                difference=difference,
                p=p,
                p_holm=np.nan,
                mde=statistics.minimum_detectable_effect(difference.se),
                first_alone=int(mine.sum()),
                second_alone=int(other.sum()),
                first_kept=int((mine & knew).sum()),
                second_kept=int((other & knew).sum()),
            )
        )
    corrected = statistics.holm([each.p for each in found])
    return [replace(each, p_holm=float(p)) for each, p in zip(found, corrected, strict=True)]


def show(store: Store, key: str) -> dict[str, Any]:
    """All of one submission, by id or name: its run, scores, drifts, curve and events, and the folder of its files."""
    run = store.submission(key)
    id = run["id"]
    parts = {"scores": store.scores(id), "drifts": store.drifts(id), "curve": store.curve(id)}
    return {"run": run, **parts, "events": store.events(id), "folder": str(folder(store.home, id))}


# --- estimates --------------------------------------------------------------------------------------------------------

Items = dict[tuple[str, str], dict[str, np.ndarray]]
"""(role, task) → columns item, base, adapted, drift of one entry."""


def _by_task(items: dict[str, np.ndarray]) -> dict[str, Items]:
    """The sorted columns of `Store.items`, cut where entry, role or task change."""
    keys = list(zip(items["group"], items["role"], items["task"], strict=True))
    cuts = [i for i in range(len(keys) + 1) if i in (0, len(keys)) or keys[i] != keys[i - 1]]
    found: dict[str, Items] = {}
    for start, stop in pairwise(cuts):
        entry, role, task = keys[start]
        columns = {name: items[name][start:stop] for name in ("item", "base", "adapted", "drift")}
        found.setdefault(entry, {})[role, task] = columns
    return found


def _entry(row: dict[str, Any], runs: list[dict[str, Any]], scores: list[dict[str, Any]], items: Items) -> Entry:
    """One entry without its rank; an estimate is its record's for one seed, and made from the samples for several."""
    if len(runs) == 1:
        effects = []
        for s in scores:
            base, adapted, difference = _number(s["base"]), _number(s["adapted"]), _recorded(s, "difference", "")
            difference = replace(difference, n=s["n"], unscored=s["unscored"], method=s["interval"])
            effects.append(Effect(s["task"], s["role"], s["suite"], base, adapted, difference))
        gain, retention = (_recorded(runs[0], name, f"{name}_") for name in ("gain", "retention"))
        drift = _recorded(runs[0], "drift", "drift_")
    else:
        suites = {(score["role"], score["task"]): score["suite"] for score in scores}
        effects = []
        for (role, task), columns in items.items():
            difference = _points(statistics.paired(columns["base"], columns["adapted"]))
            both = ~np.isnan(columns["base"])
            base, adapted = (100 * columns[name][both].mean() if both.any() else np.nan for name in ("base", "adapted"))
            effects.append(Effect(task, role, suites.get((role, task), ""), base, adapted, difference))
        gain, retention = (_mean([e.difference for e in effects if e.role == role]) for role in ("new", "prior"))
        drift = _mean([statistics.mean(columns["drift"]) for (role, _), columns in items.items() if role == "new"])
        drift = replace(drift, unscored=0) if drift.n else _recorded(row, "drift", "drift_")
    same: dict[str, Any] = {name: row[name] for name in SAME}
    numbers: dict[str, Any] = {name: _number(row[name]) for name in NUMBERS}
    return Entry(
        rank=None,
        id=row["entry"],
        **same,
        **numbers,
        gain=gain,
        retention=retention,
        drift=drift,
        effects=tuple(effects),
        unscored=row["unscored"] or 0,
        cost={name: row[name] for name in COSTS if row[name] is not None},
        runs=tuple(runs),
    )


def _recorded(row: Mapping[str, Any], value: str, prefix: str) -> Estimate:
    """An estimate from columns of the store, whose bounds and error are named with a prefix."""
    numbers = (_number(row.get(name)) for name in (value, f"{prefix}low", f"{prefix}high", f"{prefix}se"))
    return Estimate(*numbers, n=0, method="as recorded")


def _points(estimate: Estimate) -> Estimate:
    """Rewards (0–1) as points (0–100)."""
    scaled = {name: 100 * getattr(estimate, name) for name in ("value", "low", "high", "se")}
    return replace(estimate, **scaled)


def _mean(estimates: list[Estimate]) -> Estimate:
    return estimates[0] if len(estimates) == 1 else statistics.combine(estimates) if estimates else UNKNOWN


def _number(value: float | None) -> float:
    return np.nan if value is None else float(value)


def _pairwise(entries: Sequence[Entry], items: Mapping[str, Items], role: str) -> np.ndarray:
    """Standard errors [k, k], in points, of the differences between entries in their mean over the tasks of a role."""
    tasks = sorted({task for entry in entries for of, task in items.get(entry.id, {}) if of == role})
    variance = np.full((len(entries), len(entries)), 0.0 if tasks else np.nan)
    for task in tasks:
        columns = [items.get(entry.id, {}).get((role, task)) for entry in entries]
        names = np.unique(np.concatenate([column["item"] for column in columns if column]).astype(str))
        effect = np.full((len(entries), len(names)), np.nan)  # adapted − base, [entry, item]
        for row, column in zip(effect, columns, strict=True):
            if column:
                row[np.searchsorted(names, column["item"].astype(str))] = column["adapted"] - column["base"]
        variance += (100 * statistics.pairwise_se(effect) / len(tasks)) ** 2
    return np.sqrt(variance)
