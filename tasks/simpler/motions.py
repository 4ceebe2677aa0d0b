"""Motions as Open X-Embodiment has them, which OpenVLA and its kind speak, and as SimplerEnv executes them.

There rotations are roll, pitch and yaw, and the last number is how open the fingers are, 0 to 1. What becomes of them
is upstream's (simpler_env/policies/octo/octo_model.py, `step`).
"""

import numpy as np
from scipy.spatial.transform import Rotation

from razorbench.tasks.simpler.table import GOOGLE, Row

STICKY = 15
"""Motions for which the google robot's fingers go on with what they have begun."""
AJAR = 0.65
"""Half of the way that the google robot's fingers go, rad."""


class Plain:
    """Motions that are SimplerEnv's already."""

    def executed(self, motion: np.ndarray) -> np.ndarray:
        """The motion [7]."""
        return motion


class Binary(Plain):
    """Of WidowX, whose fingers are told where to be: 1 is open, −1 closed."""

    def executed(self, motion: np.ndarray) -> np.ndarray:
        """SimplerEnv's motion [7] for one of Open X-Embodiment's."""
        turn = Rotation.from_euler("xyz", motion[3:6]).as_rotvec()
        return np.concatenate([motion[:3], turn, [self.fingers(float(motion[6]))]])

    def fingers(self, opening: float) -> float:
        """What the fingers are told."""
        return 2.0 * (opening > 0.5) - 1.0


class Sticky(Binary):
    """Of the google robot, whose fingers are told to close (1) or open (−1) relative to now: at a change of what is
    said by more than a half they do so for 15 motions, whatever is said meanwhile.
    """

    def __init__(self) -> None:
        self.before: float | None = None
        self.going, self.count = 0.0, 0

    def fingers(self, opening: float) -> float:
        """What the fingers are told."""
        change = 0.0 if self.before is None else self.before - opening
        self.before = opening
        if not self.count and abs(change) > 0.5:
            self.going = change
        if self.going:
            change, self.count = self.going, self.count + 1
        if self.count == STICKY:
            self.going, self.count = 0.0, 0
        return change


def speaker(row: Row) -> Plain:
    """What turns the motions of one episode into SimplerEnv's."""
    if row.spoken != "openx":
        return Plain()
    return Sticky() if row.robot is GOOGLE else Binary()


def openx(motions: np.ndarray, speed: np.ndarray, fingers: np.ndarray) -> np.ndarray:
    """Motions [n, 7] of SimplerEnv's google robot as Open X-Embodiment has them; fingers that are told nothing stay.

    At first, when nothing moves yet, they are open: the fingers begin with a change.
    """
    turn = Rotation.from_rotvec(motions[:, 3:6]).as_euler("xyz")
    stay = (fingers.mean(axis=1) < AJAR).astype(float)
    opening = np.where(motions[:, 6] > 0, 0.0, np.where(motions[:, 6] < 0, 1.0, stay))
    opening = np.where(np.abs(speed).max(axis=1) < 1e-6, 1.0, opening)
    return np.hstack([motions[:, :3], turn, opening[:, None]])
