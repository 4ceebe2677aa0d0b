"""Recordings for the Rerun viewer: what agents saw and did on one instance, on one timeline."""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.episodes import Episode, Instances, Observation
from razorbench.harness.core.extras import needed
from razorbench.harness.core.keeping import everything
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.rollout import Replay, rollout
from razorbench.harness.report.takes import Take, Visible

STEP, TIME = "step", "time"
"""The timelines: actions taken so far, and the seconds that they last, where the card says so."""
QUALITY = 95
"""Of JPEG pictures."""
FILM = "film"
"""The camera of the task's own pictures, shown where an agent sees none."""


def record(task: Task, one: Instances, takes: Mapping[str, Take], path: Path) -> None:
    """Write an .rrd file of some agents on the one instance, whole or not at all.

    Each has its entities: `camera/NAME`, `state/COLUMN`, `action`, `reward`, and texts `asked` and `outcome`. Motions
    are played again, so what was seen need not have been kept; `outcome` says so where they end otherwise. Raises
    Missing without the package rerun-sdk, `Deviated` where the task goes on after the last motion.
    """
    with needed("a recording for Rerun"):
        rr: Any = import_module("rerun")
        views: Any = import_module("rerun.blueprint")

    protocol, new = task.card.protocol, path.with_name(f".{path.name}")
    played = {name: replayed(task, one, take) for name, take in takes.items()}
    columns = []
    for name, episode in played.items():
        cameras = [*(episode.observations[0].images or {})] or [FILM] * isinstance(task, Visible)
        pictures = [views.Spatial2DView(origin=rr.new_entity_path([name, "camera", each])) for each in cameras]
        lines = [
            views.TimeSeriesView(origin=rr.new_entity_path([name, part])) for part in ("state", "action", "reward")
        ]
        texts = [views.TextDocumentView(origin=rr.new_entity_path([name, "outcome"]))]
        shares = [2] * len(pictures) + [1] * len(lines + texts)
        columns.append(views.Vertical(*pictures, *lines, *texts, row_shares=shares, name=name))
    try:
        with rr.RecordingStream("razorbench") as stream:
            stream.save(new, views.Blueprint(views.Horizontal(*columns), collapse_panels=True))
            for name, take in takes.items():
                told = [(["asked"], rr.TextDocument(played[name].observations[0].text or ""))]
                told.append((["outcome"], rr.TextDocument(ending(take, played[name]))))
                for part, said in told:
                    stream.log([name, *part], said, static=True)
                for step, parts in enumerate(steps(rr, task, played[name], take)):
                    stream.set_time(STEP, sequence=step)
                    if protocol:
                        stream.set_time(TIME, duration=step / protocol.control_hz)
                    for part, what in parts.items():
                        stream.log([name, *part], what)
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)


def replayed(task: Task, one: Instances, take: Take) -> Episode:
    """The episode of a take, with all that is seen on its way."""
    values = [np.asarray(value, np.float32) for value in take.values]
    return rollout(Replay([values], values[0]), task, one, keep=everything)[0]


def ending(take: Take, episode: Episode) -> str:
    """How a take ended, with what the task has measured; and how it ends now, where that is otherwise."""
    assert episode.outcome is not None
    again = Take(take.values, episode.outcome.reward).ending
    lines = [take.ending] + [f"played again: {again}"] * (again != take.ending)
    return "\n\n".join([*lines, *(f"{name}: {value:g}" for name, value in episode.outcome.metrics.items())])


def steps(rr: Any, task: Task, episode: Episode, take: Take) -> Iterator[dict[tuple[str, ...], Any]]:
    """What is logged in each step, by entity: what was seen, then done, then earned; and the last picture of a film."""
    assert episode.outcome is not None
    n, earned = len(episode.actions), episode.outcome.turn_rewards
    rewards = [None] * (n - 1) + [episode.outcome.reward] if earned is None else list(earned)
    film: Iterator[np.ndarray] = iter(())
    if isinstance(task, Visible) and not episode.observations[0].images:
        film = task.frames(episode.instance, take.values)
    for seen, action, reward in zip(episode.observations, episode.actions, rewards, strict=False):
        parts = {("camera", name): picture for name, picture in pictures(seen, film)}
        logged: dict[tuple[str, ...], Any] = {at: rr.Image(each).compress(QUALITY) for at, each in parts.items()}
        logged |= {("state", name): rr.Scalars(numbers) for name, numbers in vectors(seen.state)}
        logged["action",] = rr.Scalars(np.ravel(action.value))
        if reward is not None:
            logged["reward",] = rr.Scalars(reward)
        yield logged
    for last in film:
        yield {("camera", FILM): rr.Image(last).compress(QUALITY)}


def pictures(seen: Observation, film: Iterator[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """Pictures of a step by camera: what the agent saw, or else the next one of the film."""
    if seen.images:
        yield from seen.images.items()
    elif (picture := next(film, None)) is not None:
        yield FILM, picture


def vectors(state: Any) -> Iterator[tuple[str, np.ndarray]]:
    """The columns of a state, each a vector of numbers."""
    if isinstance(state, Mapping):
        yield from ((name, np.ravel(value)) for name, value in state.items())
    elif state is not None:
        yield "state", np.ravel(state)
