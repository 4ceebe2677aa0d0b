"""SimplerEnv's own tasks: `simpler-coke-can-upright-v1` as published, and so on; `table.row` says what ids there are.

They are played in the interpreter that has SimplerEnv, in workers: what a track says under `[workers]`,
`Workers(id, lanes=…, python="$RAZORBENCH_SIMPLER_PYTHON")`, or, of a task that was made elsewhere, one worker of its
own. A motion [7] is SimplerEnv's: metres, a rotation vector in radians, and the fingers (the google robot: 1 closes, −1
opens, relative to now; WidowX: 1 is open, −1 closed); with `openx` in the id, Open X-Embodiment's (`motions`). A state
is one id's, whatever was played before.
"""

import os
import sys
from collections.abc import Generator, Iterator, Sequence
from dataclasses import replace
from functools import cache, cached_property
from typing import Any

import numpy as np

from razorbench import (
    Asked,
    Card,
    Column,
    Instance,
    Instances,
    Missing,
    Observations,
    Outcome,
    Outcomes,
    RobotProtocol,
    Workers,
)
from razorbench.tasks.google.experts import closing, opening, picking
from razorbench.tasks.pool import one_by_one
from razorbench.tasks.simpler import states
from razorbench.tasks.simpler.environment import COMMITS, CURE, PINNED, VARIABLE
from razorbench.tasks.simpler.motions import openx, speaker
from razorbench.tasks.simpler.simulator import POOL, Simulator, here
from razorbench.tasks.simpler.table import DRAWN, GOOGLE, PROTOCOLS, SPOKEN, Row, row

LOW = np.array([-0.12, -0.12, -0.12, -0.3, -0.3, -0.3, -1.0])
"""The smallest motion that is meant to be made; the largest is its opposite. Larger ones are executed as they are."""
PATIENCE, TIMEOUT = 900.0, 300.0
"""Seconds for a simulator to be built, and for a step, in the worker of a task that was made elsewhere: ray tracing
without a GPU takes minutes."""


def card(task: Row) -> Card:
    """The card of a row."""
    scenes = f"{len(task.scenes)} scenes" if len(task.scenes) > 1 else "one scene"
    upstream = f"SimplerEnv {COMMITS['.']}, ManiSkill2_real2sim {COMMITS['ManiSkill2_real2sim']}"
    words = task.words or "move a thing near another"
    order = "100 uniform places" if task.protocol == "grid" else "upstream's episodes, scene by scene"
    background = "; the real scene's picture stands behind what is simulated" if task.overlay else ""
    shader = "SAPIEN's ray tracer (rt)" if task.shader == "rt" else "SAPIEN's rasteriser (ibl)"
    return Card(
        asks=f"{words[0].upper()}{words[1:]}.",
        rule=f"After the last of {task.horizon} motions {task.rule}.",
        source=f"{upstream}: {PROTOCOLS[task.protocol]}, drawn {DRAWN[task.drawn]}",
        licence="MIT (SimplerEnv); Apache-2.0 (ManiSkill2_real2sim)",
        chance=0.0,
        example=f"motions ({SPOKEN[task.spoken]}) in metres and radians, {task.robot.hertz} a second",
        protocol=RobotProtocol(
            horizon=task.horizon,
            control_hz=task.robot.hertz,
            success="end",
            initial=f"the id says where thing and robot are put and in which of {scenes} ({task.scenes[0].env}, "
            f"{task.scenes[0].name}, …), which is built anew; tests are {order}, from {states.TEST:,} on",
            simulator=f"{upstream}; SAPIEN {PINNED['sapien']}, numpy {PINNED['numpy']}; {task.robot.control}",
            renderer=f"{shader}{background}" if task.seen else "none: what is seen is a state",
            determinism="none" if task.shader == "rt" else "process",
            cameras={task.robot.camera: task.robot.pixels} if task.seen else {},
        ),
    )


class Simpler:
    """What the tasks share. An agent sees the instruction, the robot's camera, and a state of named columns.

    These are, float32: `arm` (its joints, rad), `speed` (of the arm now, of the fingers on average of the last motion,
    rad/s), `fingers` [2] (their joints; of the google robot rad, 0 is open; of WidowX metres), `hand` and `thing` [7]
    (poses in the frame of the robot's base: metres, quaternion w x y z; the thing may be a drawer's handle); then of
    cans and drawers `opened` [1] (how far the drawer is out, metres; 0 of cans), and of the others `target` [7]. A
    policy of pictures reads none of it.
    """

    id: str
    row: Row
    card: Card

    def instances(self, split: str) -> Instances:
        """Test: upstream's episodes, scene by scene, or the paper's; train: the paper's grid. `states` has them."""
        return states.instances(self.row, split)

    def clusters(self, instances: Instances) -> np.ndarray:
        """Where things are and the robot stands, [n]: one cluster in all scenes."""
        parts = [np.round(np.asarray(instances.data["robot"]), 4)]
        parts += [np.asarray(instances.data[name])[:, None] for name in ("episode",) if name in instances.data]
        parts += [np.round(np.asarray(instances.data[name]), 4) for name in ("thing",) if name in instances.data]
        return np.array([f"simpler-{self.row.begun} {' '.join(map(str, place))}" for place in np.hstack(parts)])

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """One after the other; what the simulator raises is the world's failure. Elsewhere, by a worker."""
        if not here():
            return (yield from self.worker.play(instances))
        return (yield from one_by_one(instances, self.alone))

    @cached_property
    def worker(self) -> Any:
        """Who plays what was made in an interpreter without SimplerEnv. Raises Missing where none is named."""
        if not os.environ.get(VARIABLE) or "RAZORBENCH_LANE" in os.environ:  # a worker starts no other
            raise Missing(f"SimplerEnv is not in {sys.executable}, and it runs in an interpreter of its own; {CURE}")
        return Workers(self.id, python=f"${VARIABLE}", patience=PATIENCE, timeout=TIMEOUT)

    def close(self) -> None:
        """End the worker, if there is one."""
        if worker := vars(self).pop("worker", None):
            worker.close()

    @staticmethod
    def begun(task: Row, instance: Instance) -> Any:
        """A simulator of the scene that an instance is played in."""
        return POOL.lent(task, int(instance.data["scene"]), str(instance.data["overlay"]))

    def alone(self, instance: Instance, i: int) -> Generator[Observations, Column, Outcome]:
        """Play the row `i` of a batch in a simulator that nobody else uses."""
        with self.begun(self.row, instance) as simulator:
            return (yield from self.episode(simulator, instance, i))

    def episode(self, simulator: Simulator, instance: Instance, i: int) -> Generator[Observations, Column, Outcome]:
        """Play it in this simulator to its horizon, or until its verdict is known."""
        simulator.start(instance.data)
        said, steps, once, at_end = speaker(self.row), 0, False, False
        while steps < self.row.horizon and not simulator.over:
            state = {name: value[None] for name, value in simulator.look().items()}
            images = {name: picture[None] for name, picture in simulator.pictures().items()}
            motion = yield Observations([simulator.words], images or None, state, rows=np.array([i]))
            at_end, steps = simulator.step(said.executed(np.asarray(motion)[0])), steps + 1
            once = once or at_end
        return Outcome(float(at_end), {"steps": steps, "success_once": float(once), "success_at_end": float(at_end)})

    def valid(self, motions: Column) -> np.ndarray:
        """Which motions [n, 7] are numbers."""
        return np.logical_and.reduce(np.isfinite(np.asarray(motions, np.float64)), axis=1)

    def guess(self, asked: Asked) -> np.ndarray:
        """Any motions, [n, 7]."""
        motions = LOW * (1.0 - 2.0 * asked.uniform(7))
        if self.row.spoken == "openx":
            motions[:, 6] = (motions[:, 6] + 1.0) / 2.0
        return motions

    def frames(self, instance: Instance, motions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures of an episode of such motions, by the rasteriser: before the first and after each."""
        if not here():
            yield from self.worker.frames(instance, motions)
            return
        shown = replace(self.row, drawn="raster", shader="ibl")
        with self.begun(shown, instance) as simulator:
            said = speaker(self.row)
            simulator.start(instance.data)
            yield simulator.pictures()[self.row.robot.camera]
            for motion in motions:
                simulator.step(said.executed(np.asarray(motion)))
                yield simulator.pictures()[self.row.robot.camera]


class Shown(Simpler):
    """A task with an expert: that of the google robot on SAPIEN 3, which reads the same columns."""

    styles = ("usual", "brisk")

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of the expert."""
        expert = picking if self.row.thing == "obj" else opening if self.row.words.startswith("open") else closing
        state: Any = asked.now.state
        motions = expert(state, style)
        if self.row.spoken == "openx":
            motions = openx(motions, state["speed"], state["fingers"])
        return motions.astype(np.float32)


@cache
def of_id(rest: str) -> Any:
    """The class of the task that an id names without its `simpler-`. Refuses an id that names none."""
    task = row(rest)
    kind = Shown if task.robot is GOOGLE and task.thing != "episode_source_obj" else Simpler
    return type(
        kind.__name__, (kind,), {"__doc__": task.words, "id": f"simpler-{rest}", "row": task, "card": card(task)}
    )
