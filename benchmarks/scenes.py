"""What `benchmarks.robot` plays in worker processes, which need no torch: short episodes with pictures."""

from collections.abc import Generator

import numpy as np

from razorbench import Column, Instances, Observations, Outcomes
from razorbench.tasks.google import pictures

STEPS = 8
"""Motions of an episode with the google robot's camera, of 80 that the task has."""
TURNS, SIDE = 10, 512
"""Pictures of an episode that costs nothing to play, and their side, pixels: 7.9 MB an episode."""


class Brief(pictures.Upright):
    """The can and the camera of `google-coke-can-upright-camera-sapien3-v1`, for a tenth of its motions."""

    steps = STEPS


class Shown:
    """Pictures that take no time to make, and any motion is right."""

    card = pictures.Upright.card

    def instances(self, split: str) -> Instances:
        """64 shades."""
        return Instances(np.arange(64))

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show them one after another."""
        for turn in range(TURNS):
            shown = np.empty((len(instances), SIDE, SIDE, 3), np.uint8)
            shown[:] = ((instances.id + 20 * turn) % 256)[:, None, None, None]
            yield Observations("look", {"front": shown})
        return Outcomes(np.ones(len(instances)))
