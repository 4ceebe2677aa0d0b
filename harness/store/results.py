"""What `razorbench results` and the board show: the entries of a track, ranked, with their intervals and seeds."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure.comparison import ROWS, Change, Compared
from razorbench.harness.measure.record import folder
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Entry, Query, by_task


def table(store: Store, track: str) -> list[Entry]:
    """The entries of a track, best front first, then by gain. Nothing hidden or retracted."""
    return store.entries(Query(track))


@dataclass(frozen=True, kw_only=True)
class Comparison(Change):
    """Two entries of a track on one task."""

    first_kept: tuple[str, ...]
    """Ids of those that the first alone has right and the base had right: the second forgot them."""
    second_kept: tuple[str, ...]


def compare(store: Store, first: Entry, second: Entry) -> list[Comparison]:
    """Two entries task by task, each item averaged over the seeds of its entry; the new task first.

    An item counts as right from a mean reward of 1/2. Refused for entries of two tracks, which answer other items.
    """
    return [task for task, _, _ in _tasks(store, first, second)]


def compared(store: Store, first: Entry, second: Entry) -> Compared:
    """The same with the mean over the prior tasks. Refused where these are not in common, too."""
    from razorbench.harness.measure import statistics

    tasks = _tasks(store, first, second)
    priors = [each for each in tasks if each[0].role == "prior"]
    if not priors:
        raise Refused(f"{first.name} and {second.name} have no prior task in common, so nothing tells what they kept")
    together = statistics.shared([change for _, change, _ in priors], [cluster for _, _, cluster in priors])
    mean = statistics.combine([task.difference for task, _, _ in priors], together)
    return Compared(ROWS, first.name, second.name, tuple(task for task, _, _ in tasks), mean, track=first.track)


def _tasks(store: Store, first: Entry, second: Entry) -> list[tuple[Comparison, np.ndarray, np.ndarray]]:
    """Each task, with second − first of the items that both have scored [n] and the names of what these share [n]."""
    from razorbench.harness.measure import significance, statistics  # they load SciPy, and most pages compare nothing

    if first.track != second.track:
        raise Refused(f"{first.track} and {second.track} ask other items: compare entries of one track")
    groups = {run["id"]: entry.id for entry in (first, second) for run in entry.runs}
    items = by_task(store.items(groups))
    ours, theirs = items.get(first.id, {}), items.get(second.id, {})
    tasks: list[tuple[Comparison, np.ndarray, np.ndarray]] = []
    for role, task in sorted({*ours} & {*theirs}):
        a, b = ours[role, task], theirs[role, task]
        names, at, to = np.intersect1d(a["item"].astype(str), b["item"].astype(str), return_indices=True)
        base, x, y, cluster = a["base"][at], a["adapted"][at], b["adapted"][to], a["cluster"][at]
        both = ~np.isnan(x + y)
        mine, other, knew = (x >= 0.5) & (y < 0.5), (y >= 0.5) & (x < 0.5), base >= 0.5
        told = Comparison(
            **vars(statistics.compared(x[both], y[both], cluster[both])),
            task=task,
            role=role,
            first_kept=tuple(names[mine & knew].tolist()),
            second_kept=tuple(names[other & knew].tolist()),
        )
        tasks.append((told, (y - x)[both], cluster[both]))
    corrected = significance.holm([told.p for told, _, _ in tasks])
    return [
        (replace(told, p_holm=float(p)), change, cluster)
        for (told, change, cluster), p in zip(tasks, corrected, strict=True)
    ]


@dataclass(frozen=True)
class Predictor:
    """How well one measure predicts the forgetting of the runs of a track; see `measure.law.fit_law`."""

    name: str
    """`drift`, or a measure of the runs: its value at their end."""
    n: int
    """Runs for which it is known."""
    r2: float
    """Of a quadratic in it, on the runs it was fitted to."""
    r2_left_out: float
    """Of each method predicted from the others, pooled; may be negative."""
    baseline_r2: float
    """Of a quadratic in log(learning rate × steps), on the same runs: what it has to beat."""


def predictors(store: Store, track: str) -> list[Predictor]:
    """Drift, and whatever else was measured of the runs of a track, as predictors of forgetting; the best first.

    What is known of fewer than four runs, or has fewer than three values, predicts nothing and is left out; and so is
    all where the runs forgot alike.
    """
    from razorbench.harness.measure.law import determined, fit_law, log_rate_steps

    rows, fitted = store.predictors(track), []
    ends = list({row["submission"]: row for row in rows}.values())
    named = {"drift": [{**row, "value": row["drift"]} for row in ends]}
    for row in rows:
        if row["name"] and row["value"] is not None:
            named.setdefault(row["name"], []).append(row)
    for name, runs in named.items():
        x, y, rival = (np.array([run[key] for run in runs], float) for key in ("value", "forgetting", "lr_steps"))
        if not determined(x, y) or len(set(y)) < 2:
            continue
        law = fit_law(x, y, [run["variant"] for run in runs], log_rate_steps(rival), resamples=0)
        fitted.append(Predictor(name, law.n, law.r2, law.r2_left_out_pooled, law.baseline_r2))
    return sorted(fitted, key=lambda each: -each.r2)


def show(store: Store, key: str) -> dict[str, Any]:
    """All of one submission, by id or name: run, scores, drifts, curve, measures, events, the folder of its files.

    Refused as `Store.submission` does.
    """
    run = store.submission(key)
    id = run["id"]
    parts = {"scores": store.scores(id), "drifts": store.drifts(id), "curve": store.curve(id)}
    parts["measures"] = store.measures(id)
    return {"run": run, **parts, "events": store.events(id), "folder": str(folder(store.home, id))}
