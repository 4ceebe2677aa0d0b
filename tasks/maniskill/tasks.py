"""ManiSkill3's environments as tasks: `maniskill-pick-cube-v1`, and with pictures `maniskill-pick-cube-camera-v1`.

State i is `reset(seed=i)` of a scene that is built anew, whatever was played before, and never `set_state`, which
forgets what the drives were told.
"""

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from functools import cache, cached_property

import numpy as np

from razorbench import (
    Asked,
    Card,
    Column,
    Instance,
    Instances,
    Observation,
    Outcome,
    Refused,
    RobotProtocol,
    Space,
    Spaces,
    mix,
    take,
    uniform,
    versions,
)
from razorbench.tasks.gym.spaces import allowed, guessed
from razorbench.tasks.gym.tasks import GymTask
from razorbench.tasks.maniskill.experts import EXPERTS
from razorbench.tasks.maniskill.simulator import Simulator, World, columns, pictures
from razorbench.tasks.maniskill.table import COLUMNS, TABLE, Row


def card(row: Row, camera: bool) -> Card:
    """The card of a row."""
    when = f"in any of {row.horizon} steps" if row.success == "once" else f"after the last of {row.horizon} steps"
    return Card(
        asks=f"{row.words[0].upper()}{row.words[1:]}.",
        rule=f"ManiSkill3's own success of {row.env}, {when}.",
        source=f"generated; {row.env} of ManiSkill3 on SAPIEN 3",
        licence="Apache-2.0 (ManiSkill3); its assets CC BY-NC 4.0",
        chance=0.0,
        example=f"motions of {row.motion} numbers in −1…1 ({row.control}), {row.horizon} of them",
        protocol=RobotProtocol(
            horizon=row.horizon,
            control_hz=row.hertz,
            success=row.success,
            initial="reset(seed=id) of a scene that is built anew; tests from 1,000,000 on",
            simulator=f"{row.env} of ManiSkill3, physx_cpu ({versions('mani-skill', 'sapien')})",
            renderer="SAPIEN's rasteriser on the processor, minimal shader" if camera else "none: a state is seen",
            determinism="bitwise",
            cameras=dict(row.cameras) if camera else {},
        ),
    )


class ManiSkill(GymTask):
    """What the tasks share. Every episode lasts as long as the horizon, so that both successes are known."""

    row: Row
    camera = False
    """Whether pictures are seen. Then where things are is not, as upstream has it, and there is no expert."""
    at_once = 8
    items = 10_000

    @cached_property
    def spaces(self) -> Spaces:
        """What is seen and done. What has no common names is looked at, in an environment."""
        if self.row.thing and not self.camera:
            return Spaces({name: Space((k,)) for name, k in COLUMNS.items()}, self.motions)
        world = self.made()
        seen = world.of(self.row).start(0)
        shown = {name: Space(value.shape) for name, value in columns(seen, self.row).items()}
        cameras = pictures(seen) if self.camera else {}
        world.close()
        return Spaces(
            {**shown, **{name: Space(each.shape, 0, 255, "uint8") for name, each in cameras.items()}}, self.motions
        )

    @property
    def motions(self) -> Space:
        """What is done."""
        return Space((self.row.motion,), -1.0, 1.0)

    def made(self) -> World:
        """Where episodes are played."""
        return World(self.row, self.camera)

    def valid(self, values: Column) -> np.ndarray:
        """Which values [n, k] are motions, up to rounding."""
        return allowed(self.motions, values)

    def guess(self, asked: Asked) -> np.ndarray:
        """Any motions, [n, k]."""
        return guessed(self.motions, asked.uniform)

    def clusters(self, instances: Instances) -> np.ndarray:
        """The seed, [n]: environments draw in much the same order, so one seed is much alike in all of them."""
        return np.array([f"maniskill {id}" for id in instances.id])

    def row_of(self, id: int) -> Row:
        """The environment of an instance."""
        return self.row

    def executed(self, motion: np.ndarray, id: int, step: int) -> np.ndarray:
        """What the robot is made to do where an agent said `motion`: just that."""
        return motion

    def episode(self, env: World, seed: int) -> Generator[Observation, np.ndarray, Outcome]:
        """Show, move, and go on to the horizon. A turn earns the environment's own reward."""
        row = self.row_of(seed)
        simulator = env.of(row)
        seen, wins, earned = simulator.start(seed), [], []
        for step in range(row.horizon):
            images = pictures(seen) if self.camera else None
            motion = yield Observation(row.words, images, columns(seen, row))
            seen, won, reward = simulator.step(self.executed(motion, seed, step))
            wins.append(won)
            earned.append(reward)
        once, at_end = float(any(wins)), float(wins[-1])
        assert self.card.protocol
        metrics = {"steps": float(len(wins)), "success_once": once, "success_at_end": at_end}
        return Outcome(self.card.protocol.score(once, at_end), metrics, turn_rewards=earned)

    def frames(self, instance: Instance, motions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures [512, 512, 3] uint8 of recorded motions, the initial state first, from upstream's own camera."""
        seed = int(instance.id)
        simulator = Simulator(self.row_of(seed), filmed=True)
        try:
            simulator.start(seed)
            yield simulator.frame()
            for step, motion in enumerate(motions):
                simulator.step(self.executed(np.asarray(motion), seed, step))
                yield simulator.frame()
        finally:
            simulator.close()


class Shown(ManiSkill):
    """A task with an expert."""

    styles: tuple[str, ...] = ("usual",)

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of each environment's expert."""
        env = np.array([self.row_of(id).env for id in asked.instances.id])
        motion = np.empty((len(asked), 7), np.float32)
        for name in np.unique(env):
            rows = np.flatnonzero(env == name)
            motion[rows] = EXPERTS[name].act(take(asked.now.state, rows), style)
        return motion


class Pretraining(Shown):
    """What the base is trained on: the priors and a few examples of PickCube, the arm disturbed while it is shown.

    The experts see where a disturbance has led to and correct it; what is imitated is their clean motion.
    """

    row = TABLE["pick-cube"]
    card = replace(
        card(row, camera=False),
        asks="Three instructions mixed with a few of PickCube's; what the arm does is disturbed by noise.",
        rule="ManiSkill3's own success of each, in any of 50 steps.",
    )
    shares: Mapping[str, int] = {"push-cube": 120, "pull-cube": 120, "stack-cube": 200, "pick-cube": 20}
    """Demonstrations of each."""
    first = 2_000_000
    """Seed of the first of them; the test split has as many others, a million on."""
    noise = 0.3
    """Half-width of the uniform noise on each number of a motion but the fingers', on top of it."""

    def instances(self, split: str) -> Instances:
        """The demonstrations' initial states."""
        return Instances(self.first + (1_000_000 if split == "test" else 0) + np.arange(sum(self.shares.values())))

    def row_of(self, id: int) -> Row:
        """By its place: those of a share stand together."""
        names = [name for name, share in self.shares.items() for _ in range(share)]
        return TABLE[names[int(id) % 1_000_000]]

    def executed(self, motion: np.ndarray, id: int, step: int) -> np.ndarray:
        """The motion [7], disturbed by numbers that the episode and the step fix."""
        disturbed = np.array(motion, np.float32)
        disturbed[:-1] += self.noise * (2.0 * uniform(mix(np.array([id]), step), 6)[0] - 1.0)
        return np.clip(disturbed, -1.0, 1.0)


@cache
def of_id(rest: str) -> type[ManiSkill]:
    """The task of an id without its `maniskill-`. Refuses an unknown one and names the nearest."""
    name, _, version = rest.rpartition("-")
    if rest == "pretraining-v1":
        return Pretraining
    camera = name.endswith("-camera")
    row = TABLE.get(name.removesuffix("-camera"))
    if row is None or version != "v1":
        known = [f"maniskill-{known}-v1" for known in TABLE]
        near = get_close_matches(f"maniskill-{rest}", known, n=3)
        hint = f"did you mean {' or '.join(map(repr, near))}?" if near else f"choose from {', '.join(known)}"
        raise Refused(f"unknown task 'maniskill-{rest}'; {hint}")
    told = {"row": row, "camera": camera, "card": card(row, camera), "__doc__": f"{row.env} of ManiSkill3."}
    if row.env in EXPERTS and not camera:
        return type(name, (Shown,), {**told, "styles": EXPERTS[row.env].styles})
    return type(name, (ManiSkill,), told)
