"""What the google robot's base is cloned from: a drawer and two cans that stand, the arm disturbed while it is shown.

The experts see where a disturbance has led to and correct it; what is imitated is their clean motion (DART, arXiv
1703.09327).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from razorbench import Asked, Column, Instances, mix, take, uniform
from razorbench.tasks.google.facts import CAN_X, CAN_Y, DRAWER_STEPS
from razorbench.tasks.google.states import drawn, known_places, resting
from razorbench.tasks.google.tasks import CloseTop, Google, OpenTop, Shown, Upright, card

KINDS: Mapping[str, Shown] = {task.text: task for task in (CloseTop(), OpenTop(), Upright())}
"""What is shown, by its instruction."""
NAMES = tuple(KINDS)


class Pretraining(Google):
    """Two instructions about a drawer, mixed with a little of a can that stands."""

    steps, stay = DRAWER_STEPS, 10
    styles = ("usual",)
    card = card(
        "Close or open the top drawer, or pick a standing coke can; noise disturbs the arm.",
        "Each instruction's own rule; a drawer that has stayed so for 10 motions ends the episode, too.",
        DRAWER_STEPS,
        "the id draws where the can rests and where the robot stands, in a new scene",
    )
    shares: Mapping[str, int] = {"close top drawer": 50, "open top drawer": 70, "pick coke can": 2}
    """Demonstrations of each."""
    noise = np.array([0.02] * 3 + [0.06] * 3 + [0.0])
    """Half-widths of the uniform noise on the numbers of a motion, on top of it: metres, radians."""

    def instances(self, split: str) -> Instances:
        """The demonstrations' initial states, a thousand ids for each instruction; to test, as many others."""
        first = 3_000_000 if split == "test" else 2_000_000
        id = np.concatenate([first + 1000 * NAMES.index(name) + np.arange(n) for name, n in self.shares.items()])
        can = resting("upright", drawn(id, CAN_X, CAN_Y))
        return Instances(id, {"kind": id // 1000 % 10, "can": can, "place": drawn(id, *known_places())})

    def scene(self, data: Any, seen: bool) -> Any:
        """The table or the cabinet, as the instruction wants."""
        return KINDS[NAMES[data["kind"]]].scene(data, seen)

    def told(self, instances: Instances) -> Column:
        """Each one's instruction."""
        return [NAMES[kind] for kind in instances.data["kind"]]

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of each instruction's expert."""
        kind, motions = asked.instances.data["kind"], np.empty((len(asked), 7), np.float32)
        for k in np.unique(kind):
            rows = np.flatnonzero(kind == k)
            motions[rows] = KINDS[NAMES[k]].expert(take(asked.now.state, rows), style)
        return motions

    def executed(self, motions: np.ndarray, key: np.ndarray, step: int) -> np.ndarray:
        """The motions [n, 7], disturbed by numbers that the episode and the step fix."""
        return motions + self.noise * (2.0 * uniform(mix(key, step), 7) - 1.0)
