"""How near SAPIEN 3 comes to SimplerEnv's own simulator: its recorded motions, replayed here.

A folder holds `original_can_*.npz` and `original_drawers*.npz`, plain arrays: `actions` [steps, 7], of which episode e
has the rows `actions_start[e]` to `actions_start[e + 1]`; `info`, whose first column (or which itself) is the success
after each; `q` [steps, 11], the joints after each, of cans also before the first (`q`, `qd` and `can` then have one row
more an episode), in the original's order; and what the episode was: `ori`, `xy`, or `task` and `place`. Of cans there
may be `re_…_info`: the original itself, replayed with the can where it was, or moved.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Missing
from razorbench.tasks.google.can import CanScene
from razorbench.tasks.google.drawers import DrawerScene
from razorbench.tasks.google.facts import ARM, JOINTS, PLACES

RECORDED = (*JOINTS[:7], "finger_right", "finger_left", "head_pan", "head_tilt")
"""The order of joints in a recording."""
ORDER = [RECORDED.index(name) for name in JOINTS]
TURNED = {"upright": "upright", "laid_vertically": "lengthwise", "lr_switch": "crosswise"}
"""What the original calls the orientations of a can."""
Row = dict[str, Any]


def agreement(folder: Path, every: int = 1) -> Iterator[Row]:
    """Rows of a table, one a group of episodes: how many verdicts agree, and how far joints are off.

    `every` k replays each k-th episode only. Raises Missing where the folder has no recordings.
    """
    files = [*sorted(folder.glob("original_can*.npz")), *sorted(folder.glob("original_drawers*.npz"))]
    if not files:
        raise Missing(f"{folder} has no original_can*.npz and no original_drawers*.npz; name the folder of recordings")
    for file in files:
        with np.load(file, allow_pickle=False) as recorded:
            record = {name: recorded[name] for name in recorded.files}
        yield from (cans if "ori" in record else drawers)(file.stem, record, every)


def replayed(scene: Any, motions: np.ndarray) -> bool:
    """The verdict after the last of some motions [n, 7]."""
    for motion in motions:
        scene.step(motion)
    return bool(scene.success)


def cans(name: str, record: Mapping[str, np.ndarray], every: int) -> Iterator[Row]:
    """A row for each orientation, and one for each way in which the original was replayed."""
    starts = record["actions_start"]
    chosen = np.arange(0, len(starts) - 1, every)
    theirs = {e: bool(record["info"][starts[e + 1] - 1, 0]) for e in chosen}
    ours, errors = {}, {}
    for e in chosen:
        first, last = starts[e], starts[e + 1]
        rows = slice(first + e, last + e + 1)
        motions, can = record["actions"][first:last], record["can"][rows].astype(float)
        ours[e] = replayed(CanScene(can[0]), motions)
        errors[e] = stepwise(CanScene(can[0]), motions, record["q"][rows], record["qd"][rows])
    for orientation, turned in TURNED.items():
        group = [e for e in chosen if record["ori"][e] == orientation]
        if group:
            yield row(f"{name}: can {turned}", group, ours, theirs, np.concatenate([errors[e] for e in group]))
    for way in (key.removesuffix("_info") for key in record if key.startswith("re_") and key.endswith("_info")):
        again = {e: bool(record[f"{way}_info"][starts[e + 1] - 1, 0]) for e in chosen}
        yield row(f"{name}: the original again, {way.removeprefix('re_')}", list(chosen), again, theirs)


def stepwise(scene: Any, motions: np.ndarray, q: np.ndarray, qd: np.ndarray) -> np.ndarray:
    """How far the arm's joints are off after one motion from a recorded state, at most, rad: until the fingers move.

    What the controller plans follows from the recorded states, so it goes on from one to the next.
    """
    order, errors = scene.controller.order, []
    for k, motion in enumerate(motions):
        if motion[6] > 0:
            break
        for put, value in ((scene.robot.set_qpos, q[k]), (scene.robot.set_qvel, qd[k])):
            state = np.empty(len(order))
            state[order] = value[ORDER]
            put(state)
        scene.step(motion)
        errors.append(np.abs(scene.controller.measured()[0] - q[k + 1][ORDER])[ARM].max())
    return np.array(errors)


def drawers(name: str, record: Mapping[str, np.ndarray], every: int) -> Iterator[Row]:
    """A row for each drawer that is opened or closed."""
    starts = record["actions_start"]
    chosen = np.arange(0, len(starts) - 1, every)
    theirs = {e: bool(record["info"][starts[e + 1] - 1]) for e in chosen}
    ours = {}
    for e in chosen:
        verb, _, drawer = str(record["task"][e]).partition("_")
        scene = DrawerScene(np.array(PLACES[str(record["place"][e])]), drawer, verb == "close")
        ours[e] = replayed(scene, record["actions"][starts[e] : starts[e + 1]])
    for task in dict.fromkeys(record["task"].tolist()):
        if group := [e for e in chosen if record["task"][e] == task]:
            yield row(f"{name}: {task.replace('_', ' ')}", group, ours, theirs)


def row(
    what: str, group: list[Any], ours: Mapping[Any, bool], theirs: Mapping[Any, bool], off: np.ndarray | None = None
) -> Row:
    """How two sets of verdicts agree on a group of episodes, and how far joints are off after one motion, rad."""
    median, p95 = (None, None) if off is None else (float(np.quantile(off, q)) for q in (0.5, 0.95))
    return {
        "recordings": what,
        "episodes": len(group),
        "agree": sum(ours[e] == theirs[e] for e in group),
        "success": sum(ours[e] for e in group),
        "success in the original": sum(theirs[e] for e in group),
        "one step off, median": median,
        "p95": p95,
    }
