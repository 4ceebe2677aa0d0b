"""SimplerEnv's google robot on SAPIEN 3: it picks a coke can, and opens and closes the drawers of a cabinet.

An agent sees where things are and an instruction; its motion [7] moves the hand (metres along the axes of the robot's
base, which looks along x), turns it (a rotation vector, radians, about the same axes) and moves the fingers (1 closes,
−1 opens), for a third of a second. State i is a function of its id alone.
"""

from abc import ABC, abstractmethod
from collections.abc import Generator, Iterator, Sequence
from importlib import import_module
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
    Outcomes,
    RobotProtocol,
    missing,
    take,
    versions,
)
from razorbench.tasks.google.experts import State, closing, opening, picking
from razorbench.tasks.google.facts import CALIBRATED, CAN_STEPS, DRAWER_STEPS, HERTZ, POSITION_ITERATIONS, SUBSTEPS
from razorbench.tasks.google.states import cans, places, resting

COLUMNS = {"arm": 7, "speed": 9, "fingers": 2, "hand": 7, "thing": 7, "opened": 1}
"""Columns of the state and their widths: joints of the arm, rad; what arm and fingers do, rad/s; the fingers' joints,
rad, 0 is open; the poses of the point between the fingers and of the thing (a can, or the handle of the drawer that is
meant), metres and a quaternion; and how far that drawer is pulled out, metres."""
CAMERA = "overhead_camera"
"""SimplerEnv's name of the camera on the robot's head."""
LOW = np.array([-0.12, -0.12, -0.12, -0.3, -0.3, -0.3, -1.0])
"""The smallest motion that is meant to be made; the largest is its opposite. Larger ones are executed as they are."""
PICKED = (
    "After the last of 80 motions the can is grasped and has been lifted 1 cm with nothing else touching it, or it has "
    "been 2 cm up so in 5 of them; then the episode stops."
)
OPENED = "After the last of 113 motions the drawer is 15 cm out or more."
SHUT = "After the last of 113 motions the drawer is 5 cm out or less."


def card(asks: str, rule: str, steps: int, initial: str) -> Card:
    """The card of a task."""
    changed = ", ".join(f"{name} {value}" for name, value in CALIBRATED.items())
    return Card(
        asks=asks,
        rule=rule,
        source="data files of SimplerEnv (ManiSkill2_real2sim ef7a4d4): a calibrated port, not SimplerEnv scores",
        licence="Apache-2.0 (ManiSkill2_real2sim)",
        chance=0.0,
        example="motions (x, y, z, rotation vector, fingers) in metres and radians, three a second",
        protocol=RobotProtocol(
            horizon=steps,
            control_hz=HERTZ / SUBSTEPS,
            success="end",
            initial=initial,
            simulator=f"{versions('sapien', 'ruckig')}; TGS, {POSITION_ITERATIONS} position iterations, {changed}",
            renderer="none: what is seen is a state",
            determinism="bitwise",
        ),
    )


def can_card(asks: str) -> Card:
    """The card of a task with the can."""
    initial = (
        "the id says where the can rests, in a new scene: 25 places of visual matching from 1,000,000 on, then 100 "
    )
    return card(asks, PICKED, CAN_STEPS, f"{initial}uniform ones; the paper's grid without its corners to train")


def drawer_card(asks: str, rule: str) -> Card:
    """The card of a task with a drawer."""
    initial = "the id says where the robot stands, in a new scene: nine places of visual matching from 1,000,000 on, "
    return card(asks, rule, DRAWER_STEPS, f"{initial}then 100 uniform ones among them; a grid of 10 by 10 to train")


def simulated(module: str) -> Any:
    """One of the modules that need SAPIEN. Raises Missing where it is not installed."""
    try:
        return import_module(f"razorbench.tasks.google.{module}")
    except ModuleNotFoundError as error:
        raise Missing(f"the google robot's simulator: {missing(error) or error}") from error


class Google(ABC):
    """What the tasks share: a batch in lock-step, each episode in a scene of its own."""

    card: Card
    steps: int
    text: str
    seen = False
    """Whether pictures are seen, too."""
    styles: Sequence[str]
    low, high = LOW, -LOW
    stay = 0
    """So many successes in a row end an episode, too; 0: none do."""

    @abstractmethod
    def scene(self, data: Any, seen: bool) -> Any:
        """The scene in which an instance with these `data` begins, with what it looks like or without."""

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show, move, and stop asking whose verdict is known. A simulator that raises is the world's failure."""
        n, told = len(instances), self.told(instances)
        games = [self.scene(instance.data, self.seen) for instance in instances]
        once, at_end, lost = (np.zeros(n, bool) for _ in range(3))
        steps, streak = np.zeros(n, np.int64), np.zeros(n, np.int64)
        error: list[str | None] = [None] * n
        live = np.arange(n)
        for step in range(self.steps):
            if not len(live):
                break
            motions = yield self.shown([games[i] for i in live], take(told, live), live)
            motions = self.executed(np.asarray(motions), instances.key[live], step)
            for i, motion in zip(live, motions, strict=True):
                try:
                    games[i].step(motion)
                    at_end[i] = games[i].success
                except Exception as trouble:
                    lost[i], error[i] = True, f"{type(trouble).__name__}: {trouble}"
            steps[live] += 1
            once |= at_end
            streak = np.where(at_end, streak + 1, 0)
            over = lost | (streak == self.stay if self.stay else False)
            live = np.array([i for i in live if not over[i] and not games[i].over], np.int64)
        once, at_end = (np.where(lost, np.nan, won) for won in (once, at_end))
        metrics = {"steps": steps, "success_once": once, "success_at_end": at_end}
        return Outcomes(at_end, metrics, error if lost.any() else None)

    def told(self, instances: Instances) -> Column:
        """The instruction: one for all, or a list of each one's."""
        return self.text

    def executed(self, motions: np.ndarray, key: np.ndarray, step: int) -> np.ndarray:
        """What the robots are made to do where an agent said `motions` [n, 7]: just that."""
        return motions

    def shown(self, games: Sequence[Any], told: Column, rows: np.ndarray) -> Observations:
        """What is seen of some scenes as named columns, and the instruction; pictures by the camera's name."""
        seen = np.array([game.look() for game in games], np.float32)  # [n, 33]
        parts = np.split(seen, np.cumsum(list(COLUMNS.values()))[:-1], axis=1)
        pictures = {CAMERA: np.array([game.picture() for game in games])} if self.seen else None
        return Observations(told, images=pictures, state=dict(zip(COLUMNS, parts, strict=True)), rows=rows)

    def guess(self, asked: Asked) -> np.ndarray:
        """Any motions, [n, 7]."""
        return self.low + (self.high - self.low) * asked.uniform(7)

    def frames(self, instance: Instance, motions: Sequence[np.ndarray]) -> Iterator[np.ndarray]:
        """Pictures [512, 640, 3] uint8 of recorded motions, the initial state first. Refuses without Vulkan."""
        scene = self.scene(instance.data, True)
        yield scene.picture()
        key = np.array([instance.key], np.uint64)
        for step, motion in enumerate(motions):
            scene.step(self.executed(np.asarray(motion)[None], key, step)[0])
            yield scene.picture()


class Shown(Google):
    """A task with an expert, which reads what is seen."""

    @abstractmethod
    def expert(self, state: State, style: str) -> np.ndarray:
        """Motions [n, 7] for what is seen."""

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] float32 of the expert."""
        return self.expert(asked.now.state, style).astype(np.float32)


class Can(Shown):
    """Pick a coke can that stands or lies on a table."""

    orientation: str
    steps = CAN_STEPS
    text = "pick coke can"
    styles = ("usual", "upright", "brisk")

    def instances(self, split: str) -> Instances:
        """Where cans are put: SimplerEnv's 25 and 100 uniform ones to test, the paper's grid to train."""
        id, at = cans(split)
        return Instances(id, {"can": resting(self.orientation, at)})

    def clusters(self, instances: Instances) -> np.ndarray:
        """Where the can is put, [n], however it is turned."""
        return np.array([f"google-can {id}" for id in instances.id])

    def scene(self, data: Any, seen: bool) -> Any:
        """The table and its can."""
        return simulated("can").CanScene(data["can"], seen)

    def expert(self, state: State, style: str) -> np.ndarray:
        """Motions [n, 7] of who picks."""
        return picking(state, style)


class Upright(Can):
    """The can stands."""

    orientation, card = "upright", can_card("A coke can stands on the table; pick it.")


class Lengthwise(Can):
    """The can lies, its axis towards the robot."""

    orientation, card = "lengthwise", can_card("A coke can lies on the table, its axis towards the robot; pick it.")


class Crosswise(Can):
    """The can lies, its axis across."""

    orientation, card = "crosswise", can_card("A coke can lies across on the table; pick it.")


class Drawer(Shown):
    """Open or close a drawer of a cabinet."""

    drawer: str
    closing = False
    steps = DRAWER_STEPS
    styles = ("usual", "brisk")

    @property
    def text(self) -> str:
        """The instruction."""
        return f"{'close' if self.closing else 'open'} {self.drawer} drawer"

    def instances(self, split: str) -> Instances:
        """Where the robot stands: SimplerEnv's nine places and 100 uniform ones to test, a grid to train."""
        id, at = places(split)
        return Instances(id, {"place": at})

    def clusters(self, instances: Instances) -> np.ndarray:
        """Where the robot stands, [n], whatever it is asked."""
        return np.array([f"google-drawer {id}" for id in instances.id])

    def scene(self, data: Any, seen: bool) -> Any:
        """The cabinet; what is to be closed is open at first."""
        return simulated("drawers").DrawerScene(data["place"], self.drawer, self.closing, seen)

    def expert(self, state: State, style: str) -> np.ndarray:
        """Motions [n, 7] of who closes or opens."""
        return (closing if self.closing else opening)(state, style)


class OpenTop(Drawer):
    """The top drawer, from closed."""

    drawer, card = "top", drawer_card("Open the top drawer.", OPENED)


class OpenMiddle(Drawer):
    """The middle drawer, from closed."""

    drawer, card = "middle", drawer_card("Open the middle drawer.", OPENED)


class OpenBottom(Drawer):
    """The bottom drawer, from closed."""

    drawer, card = "bottom", drawer_card("Open the bottom drawer.", OPENED)


class CloseTop(Drawer):
    """The top drawer, from 20 cm out."""

    drawer, closing, card = "top", True, drawer_card("Close the top drawer, which is 20 cm out.", SHUT)


class CloseMiddle(Drawer):
    """The middle drawer, from 20 cm out."""

    drawer, closing, card = "middle", True, drawer_card("Close the middle drawer, which is 20 cm out.", SHUT)


class CloseBottom(Drawer):
    """The bottom drawer, from 20 cm out."""

    drawer, closing, card = "bottom", True, drawer_card("Close the bottom drawer, which is 20 cm out.", SHUT)
