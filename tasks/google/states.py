"""Where episodes begin: functions of an id alone. First SimplerEnv's own states, then the paper's.

The paper (arXiv 2509.04259, appendix B.2) trains on a grid of 10 by 10 positions and tests on 100 uniform ones.
"""

import numpy as np

from razorbench import mix, uniform
from razorbench.tasks.google.facts import CAN_X, CAN_Y, PLACES, RESTING

TEST = 1_000_000
"""The first id of the test split."""
UNIFORM = TEST + np.arange(100)
"""By what the test states are drawn that come after SimplerEnv's own."""


def grid(x: tuple[float, float], y: tuple[float, float], side: int) -> np.ndarray:
    """Points [side², 2] from corner to corner, y running first."""
    return np.array(np.meshgrid(np.linspace(*x, side), np.linspace(*y, side), indexing="ij")).reshape(2, -1).T


def drawn(id: np.ndarray, *ranges: tuple[float, float]) -> np.ndarray:
    """Uniform points [n, k] in k ranges, each a function of its id [n]."""
    low, high = np.array(ranges).T
    return low + (high - low) * uniform(mix(id), len(ranges))


def known_places() -> list[tuple[float, float]]:
    """The ranges that SimplerEnv's nine places before the cabinet span: x, y and the robot's turn."""
    known = np.array(list(PLACES.values()))
    return list(zip(known.min(0), known.max(0), strict=True))


def cans(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids [n], and where cans are put [n, 2]. Test: 25 of visual matching, then 100 uniform ones.

    Train: the paper's grid without its four corners, which visual matching tests.
    """
    if split == "test":
        at = np.concatenate([grid(CAN_X, CAN_Y, 5), drawn(UNIFORM, CAN_X, CAN_Y)])
        return TEST + np.arange(len(at)), at
    at = grid(CAN_X, CAN_Y, 10)
    corner = np.isin(at[:, 0], CAN_X) & np.isin(at[:, 1], CAN_Y)
    return np.flatnonzero(~corner), at[~corner]


def resting(orientation: str, at: np.ndarray) -> np.ndarray:
    """Poses [n, 7] of cans that lie at [n, 2]."""
    pose = np.tile(RESTING[orientation], (len(at), 1))
    pose[:, :2] += at
    return pose


def places(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids [n], and where the robot stands before the cabinet [n, 3]: x, y and its turn. Test: SimplerEnv's nine, then
    100 uniform ones among them. Train: a grid of 10 by 10 among them.
    """
    x, y, _ = known_places()
    if split == "test":
        at = np.concatenate([list(PLACES.values()), np.pad(drawn(UNIFORM, x, y), ((0, 0), (0, 1)))])
        return TEST + np.arange(len(at)), at
    return np.arange(100), np.pad(grid(x, y, 10), ((0, 0), (0, 1)))
