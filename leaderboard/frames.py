"""Tables of what the store holds, as pages show them: one row an entry, a task, a point. What is unknown is empty."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

from razorbench.harness.measure.record import UNTOLD
from razorbench.harness.report.text import labels, printable
from razorbench.harness.store.leaderboard import Curve, Entry
from razorbench.harness.store.results import Comparison
from razorbench.leaderboard.words import bounds, probability

COLUMNS = {
    "front": "1 is best; entries of one front are tied",
    "name": "of the newest submission",
    "open": "the submission's page",
    "method": "how it was adapted",
    "settings": "what differs from the track's",
    "base": "the unadapted model",
    "parameters": "of the base",
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
    "floor": "what rounding makes of a drift: one below it says nothing, nats",
    "seconds": "of adapting, mean over seeds",
    "episodes": "of adapting, mean over seeds",
    "unscored": "samples without a score because the world failed, all seeds together",
    "failed": "samples that score 0 because the agent gave nothing that could be judged, all seeds together",
    "verified": "whether its result came out again",
    "scored": "when, UTC",
}
"""Columns of the leaderboard → what they mean."""
LOST = ("unscored", "failed")
"""Columns that are shown only where one of them is not 0."""
HIDDEN = ("base", "parameters", "gain sd", "retention sd", "drift sd", "floor")


def shown(lost: bool) -> list[str]:
    """The columns that are shown unless others are chosen; `lost`: whether an entry has an item unscored or failed."""
    return [name for name in COLUMNS if name not in HIDDEN and (lost or name not in LOST)]


def board(entries: Sequence[Entry]) -> pd.DataFrame:
    """One row an entry, columns `COLUMNS`, `id` (of the entry) and the bounds that charts draw."""
    rows = []
    for entry in entries:
        row: dict[str, Any] = {
            "front": entry.rank,
            "name": printable(entry.name),
            "open": link(entry.runs[0]["id"]),
            "method": printable(entry.method, 40),
            "settings": printable(entry.differs, 200),
            "base": printable(entry.base),
            "parameters": entry.parameters,
            "seeds": entry.seeds,
        }
        for name, digits in (("gain", 1), ("retention", 1), ("drift", 3)):
            estimate = getattr(entry, name)
            row |= {name: estimate.value, f"{name} 95 %": bounds(estimate, digits)}
            row |= {f"{name} sd": getattr(entry, f"{name}_between")}
            row |= {f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {"seconds": entry.cost.get("adapt_seconds"), "episodes": entry.cost.get("episodes")}
        if entry.below_floor:
            row["drift 95 %"] = "below the floor"
        row |= {
            "floor": entry.floor,
            "unscored": entry.unscored,
            "failed": entry.failed,
            "verified": entry.verified,
            "scored": entry.scored_at,
            "id": entry.id,
        }
        rows.append(row)
    return pd.DataFrame(rows).astype(
        {"front": "Int64", "parameters": "Int64", "failed": "Int64"}
    )  # which may be unknown


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


def curve(
    runs: Iterable[tuple[str, str, int | None]], points: Iterable[Mapping[str, Any]], measured: str
) -> pd.DataFrame:
    """One row a training step and seed where something was measured: entry, seed, step and `measured`.

    `runs` are (id, label of the entry, seed), `points` rows of `Store.curve`.
    """
    whose = {id: (label, seed) for id, label, seed in runs}
    rows = [(*whose[p["submission"]], p["step"], p[measured]) for p in points if p[measured] is not None]
    return pd.DataFrame(rows, columns=["entry", "seed", "step", measured])


def law_points(points: Iterable[Mapping[str, Any]], law: Curve | None) -> pd.DataFrame:
    """One row a point of the law: `points` are rows of `Store.law_points`. The ends of runs have a residual."""
    return pd.DataFrame(
        [
            {
                "name": printable(point["name"]),
                "method": printable(point["variant"], 40),
                "seed": point["seed"],
                "step": point["step"],
                "when": "end" if point["end"] else "mid-training",
                "drift": point["drift"],
                "forgetting": point["forgetting"],
                "residual": law.residual(point["drift"], point["forgetting"]) if law and point["end"] else None,
                "entry": point["entry"],
            }
            for point in points
        ]
    ).astype({"seed": "Int64", "step": "Int64", "residual": float})


def forgotten(comparisons: Iterable[Comparison]) -> pd.DataFrame:
    """One row an item that the base knew, and one of two entries forgot."""
    rows = []
    for each in comparisons:
        for who, items in (("first", each.second_kept), ("second", each.first_kept)):
            rows += [(each.task, printable(item), who) for item in items]
    return pd.DataFrame(rows, columns=["task", "item", "forgotten by"])


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
                "failed": score["failed_adapted"],
                "failed by the base": score["failed_base"],
                "interval": score["interval"],
            }
            for score in scores
        ]
    )


def metrics(scores: Iterable[Mapping[str, Any]]) -> pd.DataFrame:
    """One row a task and metric beside the score: mean of the base, mean of the adapted, difference with its interval,
    which is not known of records that are older than it.
    """
    return pd.DataFrame(
        [
            {"task": score["task"], "metric": printable(name), "base": base, "adapted": adapted}
            | dict(zip(("difference", "low", "high"), score["metric_changes"].get(name, UNTOLD), strict=True))
            for score in scores
            for name, (base, adapted) in (score["metrics"] or {}).items()
        ]
    )


def comparison(comparisons: Iterable[Comparison]) -> pd.DataFrame:
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
                "second forgot": len(each.first_kept),
                "first forgot": len(each.second_kept),
                "items": each.difference.n,
            }
            for each in comparisons
        ]
    )
