"""What a record keeps of a run's steps: the training curve, what was measured on the way, and what it cost."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from razorbench.harness.learn.checkpoint import WAYPOINTS, Report, write_json
from razorbench.harness.measure.record import Measure, Point
from razorbench.harness.measure.score import Bench, Scored

CURVE_ROWS = 64
"""Rows of the training curve that a record keeps; each is the mean over its share of the steps."""


def note(folder: Path, point: Point) -> None:
    """Keep in the folder of a run what was measured in mid-training."""
    (folder / WAYPOINTS).mkdir(exist_ok=True)
    write_json(folder / WAYPOINTS / f"{point.step:08d}.json", point)


def noted(folder: Path) -> list[Point]:
    """What `note` has kept, step by step."""
    files = sorted((folder / WAYPOINTS).glob("[0-9]*.json"))
    return [Point(**json.loads(file.read_text())) for file in files]


def curve(bench: Bench, points: list[Point], reports: list[Report], scored: Scored, steps: int | None) -> list[Point]:
    """The training curve: the base at step 0, means over windows of steps, measured checkpoints, and the end."""
    rows = {0: bench.point(bench.base, 0)}
    for window in windows(reports):
        rows[window[-1].step] = window_mean(window)
    for point in points:
        if point.step < 1:
            continue  # that place is the base's
        trained = rows.get(point.step) or Point(point.step)
        rows[point.step] = replace(trained, new=point.new, prior=point.prior, drift=point.drift)
    if steps is not None:
        new, *priors = (np.nan if score.adapted is None else score.adapted for score in scored.scores)
        rows[steps] = replace(
            rows.get(steps) or Point(steps),
            end=True,
            new=new,
            prior=float(np.mean(priors)),  # a mean over fewer would be another quantity
            drift=scored.drifts[0].nats if scored.drifts else None,
        )
    return [rows[step] for step in sorted(rows)]


def measured(reports: list[Report]) -> list[Measure]:
    """What was measured beside the loss, over the same windows of steps as the curve: the mean, its standard error over
    the steps, and of `silent` the most.
    """
    measures = []
    for window in windows(reports):
        for name in sorted({name for report in window for name in report.measures}):
            values = np.array([report.measures[name] for report in window if name in report.measures])
            value = values.max() if name == "silent" else values.mean()
            se = float(values.std(ddof=1) / len(values) ** 0.5) if len(values) > 1 and name != "silent" else None
            measures.append(Measure(window[-1].step, name, float(value), se))
    return measures


def windows(reports: list[Report]) -> list[list[Report]]:
    """The reports in at most `CURVE_ROWS` runs of steps."""
    parts = np.array_split(np.arange(len(reports)), min(CURVE_ROWS, len(reports)) or 1)
    return [[reports[i] for i in part] for part in parts if len(part)]


def window_mean(reports: list[Report]) -> Point:
    """A curve row for some steps: the mean of what each reported; the reward's over the steps that have one."""
    rewards = [report.reward for report in reports if report.reward == report.reward]
    return Point(
        reports[-1].step,
        lr=float(np.mean([report.lr for report in reports])),
        loss=float(np.mean([report.loss for report in reports])),
        reward=float(np.mean(rewards)) if rewards else None,
        grad_norm=float(np.mean([report.grad_norm for report in reports])),
    )


def cost(reports: list[Report]) -> dict[str, float]:
    """What an adaptation took: wall seconds, episodes, elements."""
    return {
        "seconds": sum(r.seconds for r in reports),
        "episodes": sum(r.episodes for r in reports),
        "elements": sum(r.elements for r in reports),
    }
