"""Tables of what the store holds, as pages show them: one row an entry, a task, a point. What is unknown is empty."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from harness.export import export
from harness.law import Law, fit_law
from harness.results import Comparison, Entry
from harness.store import Store
from harness.tracks import competitor
from leaderboard.words import bounds, labels, legible, probability, settings, verified

COLUMNS = {
    "front": "1 is best; entries of one front are tied",
    "name": "of the newest submission",
    "open": "the submission's page",
    "method": "how it was adapted",
    "settings": "what differs from the track's",
    "base": "the unadapted model",
    "seeds": "how many",
    "gain": "adapted − base on the new task, points",
    "gain 95 %": "interval over items",
    "gain sd": "standard deviation between seeds, points",
    "retention": "mean of adapted − base over the prior tasks, points; 0: kept, negative: forgot",
    "retention 95 %": "interval over items",
    "retention sd": "standard deviation between seeds, points",
    "drift": "forward KL from the base on the new task, nats an episode",
    "drift 95 %": "interval over items",
    "drift sd": "standard deviation between seeds, nats",
    "seconds": "of adapting, mean over seeds",
    "episodes": "of adapting, mean over seeds",
    "unscored": "samples without a score, all seeds together",
    "verified": "whether its result came out again",
    "scored": "when, UTC",
}
"""Columns of the leaderboard → what they mean."""
SHOWN = tuple(name for name in COLUMNS if name not in ("base", "gain sd", "retention sd", "drift sd", "unscored"))
"""The columns that are shown unless others are chosen."""


def board(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row an entry, columns `COLUMNS`, `id` (of the entry) and the bounds that charts draw."""
    rows = []
    for entry in entries:
        row: dict[str, Any] = {
            "front": entry.rank,
            "name": legible(entry.name),
            "open": link(entry.runs[0]["id"]),
            "method": legible(entry.method, 40),
            "settings": settings(entry.track, entry.settings),
            "base": legible(entry.base),
            "seeds": entry.seeds,
        }
        for name, digits in (("gain", 1), ("retention", 1), ("drift", 3)):
            estimate = getattr(entry, name)
            row |= {name: estimate.value, f"{name} 95 %": bounds(estimate, digits)}
            row |= {f"{name} sd": getattr(entry, f"{name}_between")}
            row |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {"seconds": entry.cost.get("adapt_seconds"), "episodes": entry.cost.get("episodes")}
        row |= {"unscored": entry.unscored, "verified": verified(entry), "scored": entry.scored_at, "id": entry.id}
        rows.append(row)
    return pd.DataFrame(rows).astype({"front": "Int64"})  # which may be unknown


def link(id: str) -> str:
    """The path of a submission's page; an id is letters, digits, dots and dashes."""
    return f"submission?id={id}"


def effects(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row an entry and prior task: how much of the task was kept, points."""
    named = labels(entries)
    return pd.DataFrame(
        [
            {
                "entry": named[entry.id],
                "task": effect.task,
                "suite": effect.suite,
                "difference": effect.difference.value,
                "95 %": bounds(effect.difference),
            }
            for entry in entries
            for effect in entry.effects
            if effect.role == "prior"
        ]
    )


def curves(entries: Sequence[Entry], points: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a training step and seed of the entries: `points` are rows of `Store.curve`."""
    named = labels(entries)
    whose = {run["id"]: (named[entry.id], run["seed"]) for entry in entries for run in entry.runs}
    rows = []
    for point in points:
        entry, seed = whose[point["submission"]]
        rows.append({"entry": entry, "seed": seed, **{n: point[n] for n in ("step", "new", "prior", "drift", "loss")}})
    return pd.DataFrame(rows)


def forgetting(store: Store, track: str) -> tuple[list[dict[str, Any]], Law | None]:
    """The points of the law on a track, with method and, at the ends of runs, residual; the law, if they are enough."""
    method = {run["entry"]: competitor(track, run["method"], run["settings"]) for run in store.runs(track)}
    points = [{**point, "method": method[point["entry"]], "residual": None} for point in store.law_points(track)]
    ends = [point for point in points if point["end"]]
    x, y, rival = (np.array([p[name] for p in ends], float) for name in ("drift", "forgetting", "lr_steps"))
    if len(set(zip(x, y, strict=True))) < 4 or len(set(x)) < 3:
        return points, None
    rival = np.log(np.where(rival > 0, rival, np.nan))
    law = fit_law(x, y, [p["method"] for p in ends], rival, cluster=[p["entry"] for p in ends])
    for point, residual in zip(ends, law.residual, strict=True):
        point["residual"] = float(residual)
    return points, law


def law_points(points: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a point of the law."""
    return pd.DataFrame(
        [
            {
                "name": legible(point["name"]),
                "method": legible(point["method"], 40),
                "seed": point["seed"],
                "step": point["step"],
                "when": "end" if point["end"] else "mid-training",
                "drift": point["drift"],
                "forgetting": point["forgetting"],
                "residual": point["residual"],
                "entry": point["entry"],
            }
            for point in points
        ]
    ).astype({"seed": "Int64", "step": "Int64"})


def tasks(scores: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task of a submission: `scores` are rows of `Store.scores`."""
    return pd.DataFrame(
        [
            {
                "task": score["task"],
                "role": score["role"],
                "base": score["base"],
                "adapted": score["adapted"],
                "difference": score["difference"],
                "low": score["low"],
                "high": score["high"],
                "p": probability(score["p"]),
                "p (Holm)": probability(score["p_holm"]),
                "detectable": score["mde"],
                "items": score["n"],
                "unscored": score["unscored"],
                "interval": score["interval"],
            }
            for score in scores
        ]
    )


def metrics(scores: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task and metric beside the score: mean of the base, mean of the adapted."""
    return pd.DataFrame(
        [
            {"task": score["task"], "metric": legible(name), "base": base, "adapted": adapted}
            for score in scores
            for name, (base, adapted) in (score["metrics"] or {}).items()
        ]
    )


def comparison(found: Iterable[Comparison]) -> pd.DataFrame:
    """One row a task."""
    return pd.DataFrame(
        [
            {
                "task": each.task,
                "role": each.role,
                "first": each.first,
                "second": each.second,
                "difference": each.difference.value,
                "low": each.difference.low,
                "high": each.difference.high,
                "p": probability(each.p),
                "p (Holm)": probability(each.p_holm),
                "detectable": each.mde,
                "first alone": each.first_alone,
                "second alone": each.second_alone,
                "second forgot": each.first_kept,
                "first forgot": each.second_kept,
                "items": each.difference.n,
            }
            for each in found
        ]
    )


def download(entries: Sequence[Entry], format: str) -> bytes:
    """The entries as a file: csv or parquet, with the columns of `razorbench results`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / format
        export(entries, format, path)
        return path.read_bytes()
