"""A robot arm (Gymnasium-Robotics' Fetch) reaches, pushes, lifts and places, and learns to put a block up in the air.

An agent sees where things are and a short instruction; its motion [4] in −1…1 moves the gripper (x, y, z; 1 is 5 cm)
and its fingers (1 opens, −1 closes). State i is a function of its id alone, whatever the agent does.
"""

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np

from razorbench import Asked, Card, Column, Instance, Instances, Observations, Outcomes, Refused, mix, take, uniform

STEPS = 50
"""Motions an episode may take."""
NEAR = 0.05
"""Metres from the goal that count as there, as in Gymnasium-Robotics."""
HELD = 3
"""Steps in a row that a thing must be near its goal, by the rule "held"."""
STAYED = 10
"""The same by the rule "stayed"."""
HOME = np.array([1.342, 0.749, 0.535])
"""Where the gripper starts, metres (over the table; when it pushes, on it)."""
TABLE = 0.425
"""Height of the centre of a block that lies on the table, metres."""
SIZE = 256
"""Pixels a side of a rendered frame."""
CAMERA = {"distance": 1.5, "azimuth": 132.0, "elevation": -20.0, "lookat": np.array([1.3, 0.75, 0.55])}
"""Where a frame is taken from: nearer than Gymnasium-Robotics does."""


# --- the simulator ----------------------------------------------------------------------------------------------------


def environment(scene: str, **kwargs: Any) -> Any:
    """A Gymnasium-Robotics environment; `scene` is "module:class" below `gymnasium_robotics.envs.fetch`."""
    module, _, name = scene.partition(":")
    with redirect_stderr(StringIO()):  # it prints news of other environments when it is imported
        return getattr(import_module(f"gymnasium_robotics.envs.fetch.{module}"), name)(**kwargs)


class Scene:
    """One MuJoCo model, of which every episode has its own data; steps bit for bit as the environment it is from."""

    def __init__(self, name: str):
        """Take over the model and the initial state of the environment `name`."""
        self.name, self.env = name, environment(name)
        self.model = model = self.env.model
        self.mujoco: Any = import_module("mujoco")
        self.grip = model.site("robot0:grip").id
        self.hand = int(model.eq_obj2id[0])
        self.fingers = [model.joint(f"robot0:{side}_gripper_finger_joint").qposadr[0] for side in "lr"]
        self.block = model.site("object0").id if self.env.has_object else None
        self.free = model.joint("object0:joint") if self.env.has_object else None
        self.jacobian = np.zeros((3, model.nv))

    def start(self, block: np.ndarray) -> Any:
        """The data of a new episode, the block lying at `block` [3]."""
        data = self.mujoco.MjData(self.model)
        data.time, data.qpos[:], data.qvel[:] = self.env.initial_time, self.env.initial_qpos, self.env.initial_qvel
        if self.free is not None:
            at = self.free.qposadr[0]
            data.qpos[at : at + 2] = block[:2]
        self.mujoco.mj_forward(self.model, data)
        return data

    def step(self, data: Any, motion: np.ndarray) -> None:
        """Execute a motion [4] for 40 ms. Raises ArithmeticError when it is no number, or the physics blow up."""
        if not np.isfinite(motion).all():
            raise ArithmeticError(f"the motion {motion} is not finite")
        motion = np.clip(np.asarray(motion, np.float32), -1.0, 1.0)
        data.mocap_pos[0] = data.xpos[self.hand] + motion[:3] * np.float32(0.05)
        data.mocap_quat[0] = data.xquat[self.hand] + [1.0, 0.0, 1.0, 0.0]
        if self.model.nu:  # where the fingers are blocked, they have no motors
            data.ctrl[:] = motion[3] + data.qpos[self.fingers]
        self.mujoco.mj_step(self.model, data, nstep=self.env.n_substeps)
        if self.env.block_gripper:
            data.qpos[self.fingers] = 0.0
            self.mujoco.mj_forward(self.model, data)
        if data.warning.number.any():  # MuJoCo has then silently begun anew
            raise ArithmeticError("the simulation became unstable")

    def look(self, data: Any) -> np.ndarray:
        """What an agent sees of the arm and the block, [17]: see `COLUMNS`. Without a block, the gripper is the thing.

        Positions in metres, velocities in metres a second.
        """
        gripper = data.site_xpos[self.grip]
        self.mujoco.mj_jacSite(self.model, data, self.jacobian, None, self.grip)
        moving = self.jacobian @ data.qvel
        if self.free is None:
            block, facing, pushed = gripper, (1.0, 0.0, 0.0), moving
        else:
            at = self.free.dofadr[0]
            block, facing = data.site_xpos[self.block], data.site_xmat[self.block][::3]
            pushed = data.qvel[at : at + 3]
        return np.concatenate([gripper, block, facing, data.qpos[self.fingers], moving, pushed])


COLUMNS = {"gripper": 3, "block": 3, "facing": 3, "fingers": 2, "moving": 3, "pushed": 3}
"""Columns of the state and their widths: `facing` is the block's x axis, the last two are velocities."""

scene = cache(Scene)


@contextmanager
def studio(name: str) -> Iterator[Any]:
    """A second environment that renders without a display. Raises Refused where there is no OpenGL for that."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    env = environment(name, render_mode="rgb_array", width=SIZE, height=SIZE, default_camera_config=CAMERA)
    try:
        env.reset(seed=0)
        env.render()
    except Exception as error:
        raise Refused(
            f"there is no OpenGL to render with ({type(error).__name__}: {error}); apt-get install libegl1, "
            "or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
    try:
        yield env
    finally:
        env.close()


# --- when it is solved ------------------------------------------------------------------------------------------------

Rule = Callable[[np.ndarray, int], np.ndarray]


def held(streak: np.ndarray, left: int) -> np.ndarray:
    """Won as soon as the thing has been near its goal for three steps in a row; then the episode stops."""
    return streak >= HELD


def last(streak: np.ndarray, left: int) -> np.ndarray:
    """Won if the thing is near its goal after the last of the 50 steps: Gymnasium's own rule."""
    return (streak > 0) & (left == 0)


def stayed(streak: np.ndarray, left: int) -> np.ndarray:
    """Won after ten steps in a row: demonstrations that go on for a while also show how to stay."""
    return streak >= STAYED


RULES: dict[Rule, str] = {
    held: "The thing is within 5 cm of the goal for 3 steps in a row, of 50; then the episode stops.",
    last: "The thing is within 5 cm of the goal after the last of 50 steps.",
    stayed: "The thing is within 5 cm of the goal for 10 steps in a row, of 50; then the episode stops.",
}


# --- initial states ---------------------------------------------------------------------------------------------------


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


# --- experts ----------------------------------------------------------------------------------------------------------
#
# Each is a function of what is seen [n, …], so it can be asked in any state, also one that noise has led to.

State = dict[str, np.ndarray]


def towards(target: np.ndarray, place: np.ndarray, gain: float = 12.0) -> np.ndarray:
    """Motions [n, 3] from where something is to where it should be, metres."""
    return np.clip(gain * (target - place), -1.0, 1.0)


def flat(x: np.ndarray) -> np.ndarray:
    """Lengths along x and y, [n, 1]."""
    return np.linalg.norm(x[:, :2], axis=1, keepdims=True)


def reaching(s: State) -> np.ndarray:
    """Straight to the goal."""
    return np.column_stack([towards(s["goal"], s["gripper"]), np.zeros(len(s["goal"]))])


def pushing(s: State) -> np.ndarray:
    """Over the block to its far side, down, and on towards the goal."""
    away, seen = s["goal"] - s["block"], s["gripper"] - s["block"]
    ahead = away[:, :2] / np.maximum(flat(away), 1e-6)  # unit vectors to the goal
    along = (seen[:, :2] * ahead).sum(1, keepdims=True)
    aside = seen[:, :2] - along * ahead
    stand = s["block"] - np.column_stack([0.075 * ahead, np.zeros(len(ahead))])
    behind = (along < -0.03) & (flat(aside) < 0.02) & (seen[:, 2:] < 0.03)
    over = flat(s["gripper"] - stand) < 0.02
    high = seen[:, 2:] > 0.045
    up = np.column_stack([np.zeros((len(ahead), 2)), np.ones(len(ahead))])
    across = towards(stand + np.array([0.0, 0.0, 0.07]), s["gripper"])
    down = towards(stand, s["gripper"])
    speed = np.clip(8.0 * flat(away), 0.0, 0.6)
    push = np.column_stack([speed * ahead - 12.0 * aside, -12.0 * seen[:, 2]])
    move = np.where(behind, push, np.where(over, down, np.where(high, across, up)))
    return np.column_stack([np.clip(move, -1.0, 1.0), np.zeros(len(ahead))])


def carrying(s: State, style: str = "usual") -> np.ndarray:
    """To the block, close the fingers, and carry it to the goal, in a style."""
    away, seen = s["goal"] - s["block"], s["block"] - s["gripper"]
    wide = s["fingers"].sum(1, keepdims=True)
    there = (flat(seen) < 0.018) & (abs(seen[:, 2:]) < 0.018)
    grasped = (flat(seen) < 0.03) & (abs(seen[:, 2:]) < 0.03) & (wide < 0.056)
    if style == "sideways":
        stand = s["block"] - [0.1, 0.0, 0.0]
        clear = (abs(seen[:, 1:2]) < 0.012) & (abs(seen[:, 2:]) < 0.015) & (seen[:, :1] > -0.01)
        height = np.where(flat(s["gripper"] - stand) < 0.03, 0.0, 0.08)
        approach = towards(stand + height * [0.0, 0.0, 1.0], s["gripper"])
        approach = np.where(clear, towards(s["block"], s["gripper"]), approach)
    else:
        above = s["block"] + [0.0, 0.0, 0.08]
        approach = towards(np.where(flat(seen) < 0.012, s["block"], above), s["gripper"])
    carry = towards(s["goal"], s["block"])
    if style == "straight-up":
        rise = np.where(flat(away) > 0.03, away[:, 2:] + 0.05, away[:, 2:])
        carry = np.clip(12.0 * np.column_stack([away[:, :2], rise]), -1.0, 1.0)
        carry[:, :2] *= (rise < 0.03) | (flat(away) <= 0.03)
    move = np.where(grasped, carry, np.where(there, 0.0, approach))
    if style == "slow":
        move = np.clip(move, -0.5, 0.5)
    return np.column_stack([move, np.where(there | grasped, -1.0, 1.0)])


# --- what can be asked ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What one instruction means."""

    text: str
    scene: str
    """The environment, "module:class"."""
    goals: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """Goals [n, 3] from keys [n] and the positions of the blocks [n, 3]."""
    expert: Callable[[State], np.ndarray]
    """Motions [n, 4] for what is seen."""


PICK = "pick_and_place:MujocoFetchPickAndPlaceEnv"

KINDS = {
    "reach": Kind("reach the goal", "reach:MujocoFetchReachEnv", anywhere, reaching),
    "push": Kind("push the block to the goal", "push:MujocoFetchPushEnv", on_the_table, pushing),
    "lift": Kind("lift the block", PICK, above_the_block, carrying),
    "place": Kind("place the block", PICK, on_the_table, carrying),
    "air": Kind("put the block up at the goal", PICK, in_the_air, carrying),
}
NAMES = tuple(KINDS)


# --- tasks ------------------------------------------------------------------------------------------------------------


def questions(kind: str, id: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of a kind's instances: kind [n], where the block lies [n, 3] and the goal [n, 3]."""
    key = mix(id)
    block = blocks(key)
    return {"kind": np.full(len(id), NAMES.index(kind)), "block": block, "goal": KINDS[kind].goals(key, block)}


class Fetch:
    """What the tasks share: a batch in lock-step, each episode with its own data of one model."""

    kind: str
    block = True
    """Whether a block lies on the table; where one does, it lies where the same id has it in every task."""
    rule: Rule = staticmethod(held)
    styles: tuple[str, ...] = ("usual",)
    card: Card

    def instances(self, split: str) -> Instances:
        """10,000 initial states of the split."""
        id = np.arange(10_000) + (1_000_000 if split == "test" else 0)
        return Instances(id, questions(self.kind, id))

    def clusters(self, instances: Instances) -> np.ndarray:
        """Where the block lies, [n]: tasks that move it meet one initial state under one id."""
        thing = "block" if self.block else self.kind
        return np.array([f"fetch-{thing} {id}" for id in instances.id])

    def executed(self, motion: np.ndarray, key: np.ndarray, step: int) -> np.ndarray:
        """What the arm is made to do where an agent said `motion` [n, 4]: just that."""
        return motion

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show, move, and stop asking who is done. A simulator that raises is the world's failure: unscored."""
        kind, goal = instances.data["kind"], instances.data["goal"]
        scenes = [scene(KINDS[NAMES[k]].scene) for k in kind]
        sims = [place.start(block) for place, block in zip(scenes, instances.data["block"], strict=True)]
        seen = np.empty((len(sims), sum(COLUMNS.values())))
        for i, (place, sim) in enumerate(zip(scenes, sims, strict=True)):
            seen[i] = place.look(sim)
        live, streak = np.arange(len(sims)), np.zeros(len(sims), np.int64)
        reward, steps = np.zeros(len(sims)), np.zeros(len(sims), np.int64)
        error: list[str | None] = [None] * len(sims)
        for step in range(STEPS):
            if not len(live):
                break
            motion = yield self.shown(seen[live], goal[live], kind[live], live)
            motion = self.executed(np.asarray(motion), instances.key[live], step)
            for i, move in zip(live, motion, strict=True):
                try:
                    scenes[i].step(sims[i], move)
                    seen[i] = scenes[i].look(sims[i])
                except Exception as trouble:
                    reward[i], error[i] = np.nan, f"{type(trouble).__name__}: {trouble}"
            steps[live] += 1
            near = np.linalg.norm(seen[:, 3:6] - goal, axis=1) < NEAR
            streak = np.where(near, streak + 1, 0)
            won = self.rule(streak, STEPS - 1 - step) & ~np.isnan(reward)
            reward[live] += won[live]
            live = live[~won[live] & ~np.isnan(reward[live])]
        return Outcomes(reward, {"steps": steps}, error if any(error) else None)

    def valid(self, motions: Column) -> np.ndarray:
        """Which motions [n, 4] are within −1…1, up to rounding."""
        return np.abs(np.asarray(motions, np.float64)).max(axis=1) <= 1 + 1e-6

    def shown(self, seen: np.ndarray, goal: np.ndarray, kind: np.ndarray, rows: np.ndarray) -> Observations:
        """What is seen [n, 17] as named columns of single precision, with the goal [n, 3] and the instruction."""
        parts = np.split(seen.astype(np.float32), np.cumsum(list(COLUMNS.values()))[:-1], axis=1)
        state = {**dict(zip(COLUMNS, parts, strict=True)), "goal": goal.astype(np.float32)}
        return Observations([KINDS[NAMES[k]].text for k in kind], state=state, rows=rows)

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 4] float32 of each kind's expert."""
        kind, motion = asked.instances.data["kind"], np.empty((len(asked), 4), np.float32)
        for k in np.unique(kind):
            rows = np.flatnonzero(kind == k)
            seen = take(asked.now.state, rows)
            motion[rows] = KINDS[NAMES[k]].expert(seen) if style == "usual" else carrying(seen, style)
        return motion

    def guess(self, asked: Asked) -> np.ndarray:
        """Any motions, [n, 4]."""
        return 2.0 * asked.uniform(4) - 1.0

    def frames(self, instance: Instance, motions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures [256, 256, 3] uint8 of recorded motions, the initial state first.

        They are taken in a second environment that the state is copied to: `render` calls `mj_forward`, and so changes
        what comes after it. Raises Refused where there is no OpenGL without a display.
        """
        place = scene(KINDS[NAMES[instance.data["kind"]]].scene)
        with studio(place.name) as camera:
            data = place.start(instance.data["block"])
            for step in range(len(motions) + 1):
                if step:
                    key = np.array([instance.key], np.uint64)
                    place.step(data, self.executed(np.asarray(motions[step - 1])[None], key, step - 1)[0])
                camera.data.qpos[:] = data.qpos
                camera.goal = instance.data["goal"]
                yield camera.render()


def card(asks: str, rule: Rule, chance: float = 0.0) -> Card:
    """The card of a task."""
    return Card(
        asks=asks,
        rule=RULES[rule],
        source="generated; the simulator is Fetch of Gymnasium-Robotics with MuJoCo",
        licence="MIT (Gymnasium-Robotics)",
        chance=chance,
        example="motions (x, y, z, fingers) in −1…1, at most 50",
    )


class Reach(Fetch):
    """Prior: bring the gripper to a point."""

    kind = "reach"
    block = False
    card = card("Move the gripper to the goal, 10 cm or more away.", held, chance=0.058)


class Push(Fetch):
    """Prior: push the block over the table, with closed fingers."""

    kind = "push"
    card = card("Push the block to a goal on the table, 10 cm or more away.", held)


class Lift(Fetch):
    """Prior: lift the block."""

    kind = "lift"
    card = card("Lift the block to 10 cm above where it lies.", held)


class Place(Fetch):
    """Prior: move the block over the table, with fingers that can grasp it."""

    kind = "place"
    card = card("Bring the block to a goal on the table, 10 cm or more away.", held)


class Air(Fetch):
    """The new task: take the block up into the air."""

    kind = "air"
    card = card("Bring the block to a goal 10 to 35 cm up in the air, anywhere over the table.", held)
    styles = ("usual", "slow", "straight-up", "sideways")


class ReachLast(Reach):
    """Reach by Gymnasium's own rule."""

    rule, card = staticmethod(last), card(Reach.card.asks, last, chance=0.01)


class PushLast(Push):
    """Push by Gymnasium's own rule."""

    rule, card = staticmethod(last), card(Push.card.asks, last)


class LiftLast(Lift):
    """Lift by Gymnasium's own rule."""

    rule, card = staticmethod(last), card(Lift.card.asks, last)


class PlaceLast(Place):
    """Place by Gymnasium's own rule."""

    rule, card = staticmethod(last), card(Place.card.asks, last)


class AirLast(Air):
    """Air by Gymnasium's own rule."""

    rule, card = staticmethod(last), card(Air.card.asks, last)


class Pretraining(Fetch):
    """What the base is trained on: the priors and a few examples of Air, the arm disturbed while it is shown.

    The experts see where a disturbance has led to and correct it; what is imitated is their clean motion.
    """

    card = card("All five instructions mixed, a few of them Air's; what the arm does is disturbed by noise.", stayed)
    rule = staticmethod(stayed)
    shares: Mapping[str, int] = {"reach": 100, "push": 300, "lift": 300, "place": 300, "air": 6}
    """Demonstrations of each kind."""
    noise = 0.3
    """Half-width of the uniform noise along each axis, on top of each motion."""

    def instances(self, split: str) -> Instances:
        """The demonstrations' initial states; the test split has as many others."""
        first = 3_000_000 if split == "test" else 2_000_000
        id = first + np.arange(sum(self.shares.values()))
        parts = np.split(id, np.cumsum(list(self.shares.values()))[:-1])
        drawn = [questions(kind, part) for kind, part in zip(self.shares, parts, strict=True)]
        return Instances(id, {name: np.concatenate([part[name] for part in drawn]) for name in drawn[0]})

    def executed(self, motion: np.ndarray, key: np.ndarray, step: int) -> np.ndarray:
        """The motion [n, 4], disturbed along x, y and z by numbers that the episode and the step fix."""
        disturbed = np.array(motion, np.float32)
        disturbed[:, :3] += self.noise * (2.0 * uniform(mix(key, step), 3) - 1.0)
        return disturbed
