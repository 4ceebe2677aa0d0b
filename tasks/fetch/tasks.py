"""A robot arm (Gymnasium-Robotics' Fetch) reaches, pushes, lifts and places, and learns to put a block up in the air.

An agent sees where things are and a short instruction; its motion [4] in −1…1 moves the gripper (x, y, z; 1 is 5 cm)
and its fingers (1 opens, −1 closes). State i is a function of its id alone, whatever the agent does.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from razorbench import (
    Asked,
    Card,
    Column,
    Instance,
    Instances,
    Observations,
    Outcomes,
    RobotProtocol,
    Space,
    Spaces,
    mix,
    take,
    uniform,
    versions,
)
from razorbench.tasks.fetch.experts import State, carrying, pushing, reaching
from razorbench.tasks.fetch.simulator import COLUMNS, scene, studio
from razorbench.tasks.fetch.states import above_the_block, anywhere, blocks, in_the_air, on_the_table

STEPS = 50
"""Motions an episode may take."""
NEAR = 0.05
"""Metres from the goal that count as there, as in Gymnasium-Robotics."""


# --- when it is solved ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Rule:
    """When an episode is won. A step is a success if the thing has been near its goal for so many steps in a row."""

    streak: int
    success: str
    """Which success wins: one at any step, "once", and then the episode stops; or that of the last step, "end"."""
    says: str

    def met(self, streak: np.ndarray) -> np.ndarray:
        """Whether a step is a success, from how many steps in a row the thing has been near its goal."""
        return streak >= self.streak


HELD = Rule(3, "once", "The thing is within 5 cm of the goal for 3 steps in a row, of 50; then the episode stops.")
LAST = Rule(1, "end", "The thing is within 5 cm of the goal after the last of 50 steps.")
"""Gymnasium's own rule."""
STAYED = Rule(10, "once", "The thing is within 5 cm of the goal for 10 steps in a row, of 50; then the episode stops.")
"""Demonstrations that go on for a while also show how to stay."""


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
    rule = HELD
    styles: tuple[str, ...] = ("usual",)
    card: Card
    spaces = Spaces({name: Space((k,)) for name, k in {**COLUMNS, "goal": 3}.items()}, Space((4,), -1.0, 1.0))

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
        """Show, move, and stop asking who is done. A simulator that raises is the world's failure: unscored.

        A turn earns −1 for each metre between the thing and its goal after it: Gymnasium-Robotics' dense reward.
        """
        kind, goal = instances.data["kind"], instances.data["goal"]
        scenes = [scene(KINDS[NAMES[k]].scene) for k in kind]
        sims = [place.start(block) for place, block in zip(scenes, instances.data["block"], strict=True)]
        seen = np.empty((len(sims), sum(COLUMNS.values())))
        for i, (place, sim) in enumerate(zip(scenes, sims, strict=True)):
            seen[i] = place.look(sim)
        live, streak = np.arange(len(sims)), np.zeros(len(sims), np.int64)
        once, at_end, steps = (np.zeros(len(sims), kind) for kind in (bool, bool, np.int64))
        error: list[str | None] = [None] * len(sims)
        lost = np.zeros(len(sims), bool)
        earned = np.zeros((len(sims), STEPS))
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
                    lost[i], error[i] = True, f"{type(trouble).__name__}: {trouble}"
            steps[live] += 1
            far = np.linalg.norm(seen[:, 3:6] - goal, axis=1)
            earned[:, step] = -far
            streak = np.where(far < NEAR, streak + 1, 0)
            at_end[live] = self.rule.met(streak[live])
            once |= at_end
            live = live[~(lost | once if self.rule.success == "once" else lost)[live]]
        once, at_end = (np.where(lost, np.nan, won) for won in (once, at_end))
        assert self.card.protocol
        reward = self.card.protocol.score(once, at_end)
        metrics = {"steps": steps, "success_once": once, "success_at_end": at_end}
        taken = [row[:n] for row, n in zip(earned.tolist(), steps, strict=True)]
        return Outcomes(reward, metrics, error if lost.any() else None, taken)

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
        rule=rule.says,
        source="generated; the simulator is Fetch of Gymnasium-Robotics with MuJoCo",
        licence="MIT (Gymnasium-Robotics)",
        chance=chance,
        example="motions (x, y, z, fingers) in −1…1, at most 50",
        protocol=RobotProtocol(
            horizon=STEPS,
            control_hz=25.0,
            success=rule.success,
            initial="a hash of the id places block and goal, in a new state of the simulator; tests from 1,000,000 on",
            simulator=f"Fetch of Gymnasium-Robotics ({versions('gymnasium-robotics', 'mujoco')})",
            renderer="none: what is seen is a state",
            determinism="bitwise",
        ),
    )


class Reach(Fetch):
    """Prior: bring the gripper to a point."""

    kind = "reach"
    block = False
    card = card("Move the gripper to the goal, 10 cm or more away.", HELD, chance=0.058)


class Push(Fetch):
    """Prior: push the block over the table, with closed fingers."""

    kind = "push"
    card = card("Push the block to a goal on the table, 10 cm or more away.", HELD)


class Lift(Fetch):
    """Prior: lift the block."""

    kind = "lift"
    card = card("Lift the block to 10 cm above where it lies.", HELD)


class Place(Fetch):
    """Prior: move the block over the table, with fingers that can grasp it."""

    kind = "place"
    card = card("Bring the block to a goal on the table, 10 cm or more away.", HELD)


class Air(Fetch):
    """The new task: take the block up into the air."""

    kind = "air"
    card = card("Bring the block to a goal 10 to 35 cm up in the air, anywhere over the table.", HELD)
    styles = ("usual", "slow", "straight-up", "sideways")


class ReachLast(Reach):
    """Reach by Gymnasium's own rule."""

    rule, card = LAST, card(Reach.card.asks, LAST, chance=0.01)


class PushLast(Push):
    """Push by Gymnasium's own rule."""

    rule, card = LAST, card(Push.card.asks, LAST)


class LiftLast(Lift):
    """Lift by Gymnasium's own rule."""

    rule, card = LAST, card(Lift.card.asks, LAST)


class PlaceLast(Place):
    """Place by Gymnasium's own rule."""

    rule, card = LAST, card(Place.card.asks, LAST)


class AirLast(Air):
    """Air by Gymnasium's own rule."""

    rule, card = LAST, card(Air.card.asks, LAST)


class Pretraining(Fetch):
    """What the base is trained on: the priors and a few examples of Air, the arm disturbed while it is shown.

    The experts see where a disturbance has led to and correct it; what is imitated is their clean motion.
    """

    card = card("All five instructions mixed, a few of them Air's; what the arm does is disturbed by noise.", STAYED)
    rule = STAYED
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
