"""Where SimplerEnv's episodes begin: published test states, and states to train on where there are others."""

from collections.abc import Callable
from itertools import product

import numpy as np

from razorbench import Instances, Refused
from razorbench.tasks.google.facts import CAN_BASE, CAN_X, CAN_Y, PLACES
from razorbench.tasks.google.states import TEST, UNIFORM, cans, drawn, grid, places
from razorbench.tasks.simpler.table import Row

States = dict[str, np.ndarray]
"""What is the same for each scene of a row: `robot` [n, 3] (x, y and its turn), `thing` [n, 2] (x, y) or `episode` [n]
(upstream's number), and `overlay` [n], the name of the picture behind."""

NEAR, TABLE, SINK = (0.35, 0.21, -0.09), (0.147, 0.028, 0.0), (0.127, 0.06, 0.0)
"""Where the robot stands: x, y and its turn from facing −x (scripts of visual matching, octo_bridge.sh)."""
NUMBERED = {"near": (NEAR, 60), "table": (TABLE, 24), "sink": (SINK, 24)}
"""How an episode begins → where the robot stands, and how many upstream counts."""


def at_table(at: np.ndarray, overlay: str) -> States:
    """A can at [n, 2]."""
    return {
        "robot": np.tile((*CAN_BASE, 0.0), (len(at), 1)),
        "thing": at,
        "overlay": np.full(len(at), overlay),
    }


def before(at: np.ndarray, overlay: str) -> States:
    """The robot before a cabinet, at [n, 3]; behind it the picture of the nearest place that one was taken from."""
    known = np.array(list(PLACES.values()))[:, :2]
    nearest = np.linalg.norm(at[:, None, :2] - known, axis=2).argmin(1)
    names = [f"{overlay}{list(PLACES)[k]}.png" if overlay else "" for k in nearest]
    return {"robot": at, "thing": np.zeros((len(at), 2)), "overlay": np.array(names)}


def numbered(row: Row) -> States:
    """Upstream's numbered episodes."""
    place, count = NUMBERED[row.begun]
    return {
        "robot": np.tile(place, (count, 1)),
        "episode": np.arange(count),
        "overlay": np.full(count, row.overlay),
    }


BEGUN: dict[str, Callable[[Row], States]] = {
    "can": lambda row: at_table(grid(CAN_X, CAN_Y, 5), row.overlay),
    "grid": lambda row: at_table(drawn(UNIFORM, CAN_X, CAN_Y), row.overlay),
    "drawer": lambda row: before(np.array(list(PLACES.values())), row.overlay),
    "before": lambda row: before(np.pad(grid((0.65, 0.85), (-0.2, 0.2), 3), ((0, 0), (0, 1))), row.overlay),
    **dict.fromkeys(NUMBERED, numbered),
}
"""How an episode begins → the published test states."""


def trained(row: Row) -> tuple[np.ndarray, States]:
    """Ids, and the states to train on. Refused where all that is known are tests."""
    if row.protocol == "variants" or row.begun in NUMBERED:
        raise Refused("this task is for scoring: SimplerEnv knows of no states of it beside those that it tests")
    if row.begun == "grid":
        return np.arange(100), at_table(grid(CAN_X, CAN_Y, 10), row.overlay)
    id, at = (cans if row.begun == "can" else places)("train")
    return id, (at_table if row.begun == "can" else before)(at, row.overlay)


def instances(row: Row, split: str) -> Instances:
    """The episodes of a split; `scene` [n] says in which of the row's scenes each is played.

    Test: each state in each scene, scene by scene, and of the paper's protocol in one of them in turn. Train: in the
    first scene; of the paper's protocol in one of them in turn.
    """
    if split == "test":
        states = BEGUN[row.begun](row)
        count = len(states["robot"])
        pairs = [(i % len(row.scenes), i) for i in range(count)] if row.begun == "grid" else [
            *product(range(len(row.scenes)), range(count))
        ]  # fmt: skip
        scene, at = np.array(pairs).T
        return Instances(TEST + np.arange(len(at)), {"scene": scene, **{k: v[at] for k, v in states.items()}})
    id, states = trained(row)
    turn = id % len(row.scenes) if row.begun == "grid" else np.zeros(len(id), np.int64)
    return Instances(id, {"scene": turn, **states})
