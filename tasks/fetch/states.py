"""Where blocks lie and goals are when an episode begins: functions of a key alone, so each id has its state."""

import numpy as np

from razorbench import mix, uniform

HOME = np.array([1.342, 0.749, 0.535])
"""Where the gripper starts, metres (over the table; when it pushes, on it)."""
TABLE = 0.425
"""Height of the centre of a block that lies on the table, metres."""


def apart(key: np.ndarray, low: np.ndarray, high: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Points [n, d], uniform in a box but at least 10 cm from `other` [n, d]: the first of 32 draws that is."""
    points = low + (high - low) * uniform(key, 32 * len(low)).reshape(len(key), 32, len(low))
    far = np.linalg.norm(points - other[:, None], axis=-1) >= 0.1
    return points[np.arange(len(key)), far.argmax(1)]


def blocks(key: np.ndarray) -> np.ndarray:
    """Where the blocks lie, [n, 3]: within 15 cm of the gripper along x and y, and not below it."""
    place = apart(mix(key, 1), HOME[:2] - 0.15, HOME[:2] + 0.15, np.tile(HOME[:2], (len(key), 1)))
    return np.column_stack([place, np.full(len(key), TABLE)])


def anywhere(key: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Goals for the gripper itself, 10 cm or more from where it starts."""
    low, high = HOME - 0.15, HOME + 0.15
    return apart(mix(key, 2), np.array([*low[:2], TABLE + 0.01]), high, np.tile(HOME, (len(key), 1)))


def on_the_table(key: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Goals on the table, 10 cm or more from the block."""
    place = apart(mix(key, 3), HOME[:2] - 0.15, HOME[:2] + 0.15, block[:, :2])
    return np.column_stack([place, np.full(len(key), TABLE)])


def above_the_block(key: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Goals 10 cm above the block."""
    return block + np.array([0.0, 0.0, 0.1])


def in_the_air(key: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Goals 10 to 35 cm up, anywhere over the table."""
    low, high = HOME - 0.15, HOME + 0.15
    u = uniform(mix(key, 4), 3)
    return np.array([*low[:2], TABLE + 0.1]) * (1 - u) + np.array([*high[:2], TABLE + 0.35]) * u
