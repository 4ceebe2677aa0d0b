"""Experts: what a hand should do for what is seen now [n, …], so they can be asked in any state."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

State = dict[str, np.ndarray]
Quaternion = tuple[float, float, float, float]
"""Of a hand: x y z w."""

STEP, TURN = 0.05, 0.5
"""Metres and radians that a motion of 1 asks for."""
CLOSED, SLOW = 0.07, 0.02
"""Metres between fingers that have closed on something, and metres a second below which they have stopped."""
OPEN, CLOSE = -1.0, 1.0

Expert = Callable[[State], np.ndarray]
"""Motions [n, 7] for what is seen [n, …]."""


def towards(goal: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Motions [n, 3] of a hand from where it is to where it should be, metres."""
    return np.clip((goal - place) / STEP, -1.0, 1.0)


def flat(x: np.ndarray) -> np.ndarray:
    """Lengths along x and y, [n]."""
    return np.linalg.norm(x[:, :2], axis=1)


def axes(pose: np.ndarray) -> np.ndarray:
    """Rotation matrices [n, 3, 3] of poses [n, 7]: position, then quaternion w x y z."""
    w, x, y, z = pose[:, 3:].T
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.array(rows).transpose(2, 0, 1)


def at(pose: np.ndarray, offset: tuple[float, float, float]) -> np.ndarray:
    """Points [n, 3] that stand at `offset` in the frames of poses [n, 7]."""
    return pose[:, :3] + axes(pose) @ np.array(offset)


@dataclass(frozen=True)
class Grip:
    """How a thing is taken, the hand pointing down."""

    up: float = 0.0
    """Metres along the thing's own axis from its origin to where the hand closes."""
    side: float = 0.0
    """Metres from there along the fingers: to a rim."""
    across: float = 0.0
    """Metres from there across them: away from what stands beside, on which a low hand would come to lie."""
    room: float = 0.01
    """Metres that the hand may be aside of its place when it goes down."""
    yaw: float | None = None
    """How the hand is turned about z, rad: at 0 its fingers open along y. None: as it is, which is about that."""
    axis: int = 2
    """Which of the thing's own axes points up where it stands."""

    def place(self, thing: np.ndarray) -> np.ndarray:
        """Where the hand should close, [n, 3]."""
        yaw = self.yaw or 0.0
        along, across = np.array([-np.sin(yaw), np.cos(yaw), 0.0]), np.array([np.cos(yaw), np.sin(yaw), 0.0])
        high = thing[:, :3] + self.up * axes(thing)[:, :, self.axis]
        return high + self.side * along + self.across * across


def turn(turned: np.ndarray, goal: Quaternion) -> np.ndarray:
    """How hands of quaternions [n, 4] are to be turned, as motions [n, 3] about the axes of the world."""
    vector, scalar = np.array(goal[:3]), goal[3]
    away = turned[:, 3:] * vector - scalar * turned[:, :3] - np.cross(vector, turned[:, :3])
    real = scalar * turned[:, 3] + turned[:, :3] @ vector
    away *= np.sign(real)[:, None]  # the short way round
    length = np.maximum(np.linalg.norm(away, axis=1), 1e-9)
    angle = 2 * np.arctan2(length, np.abs(real))
    return away / length[:, None] * np.minimum(angle / TURN, 1.0)[:, None]


def taking(
    s: State, taken: np.ndarray, travel: float, room: float = 0.01, yaw: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Motions [n, 7] that bring the hand over a place [n, 3], down, and close it there; and who holds something, [n].

    An empty hand moves across no lower than at height `travel`, metres. Whoever holds something is left to lead it.
    """
    hand = s["gripper"]
    aside, depth = flat(hand - taken), hand[:, 2] - taken[:, 2]
    wide, speed = s["fingers"][:, 0] - s["fingers"][:, 1], np.abs(s["fingers"][:, 2:]).max(axis=1)
    closing = wide < CLOSED  # what is closed on may shift
    there = (aside < np.where(closing, 0.035, room + 0.002)) & (np.abs(depth) < np.where(closing, 0.035, 0.012))

    high, cone = np.maximum(taken[:, 2] + 0.08, travel), 0.2 * np.maximum(depth, 0.0)
    askew = np.zeros((len(hand), 3)) if yaw is None else turn(s["turned"], (np.cos(yaw / 2), np.sin(yaw / 2), 0.0, 0.0))
    down = (aside < room + cone) & (np.linalg.norm(askew, axis=1) < 0.2)
    way = np.column_stack([taken[:, :2], np.where(down, taken[:, 2], high)])
    low = (hand[:, 2] < high - 0.03) & (aside > room + 0.02 + cone)  # up first
    way[low, :2] = hand[low, :2]
    motion = np.zeros((len(hand), 7))
    motion[:, :3] = towards(np.where(there[:, None], taken, way), hand)  # while it closes, it would drift off
    motion[:, 3:6] = np.where(there[:, None], 0.0, askew)
    motion[:, 6] = np.where(there, CLOSE, OPEN)
    return motion, there & closing & (speed < SLOW)


def carrying(
    s: State, thing: str, grip: Grip, target: str, offset: tuple[float, float, float], lift: float, travel: float
) -> np.ndarray:
    """Motions [n, 7]: take the thing, up to height `lift`, over the target, down, open.

    `offset` is where the thing should come to be in the target's frame, metres.
    """
    motion, held = taking(s, grip.place(s[thing]), travel, grip.room, grip.yaw)
    lies, goal = s[thing][:, :3], at(s[target], offset)
    over = flat(goal - lies) < 0.012 + 0.1 * np.maximum(lies[:, 2] - goal[:, 2], 0.0)
    risen = over | (lies[:, 2] > lift - 0.02)
    led = np.column_stack([np.where(risen[:, None], goal, lies)[:, :2], np.where(over, goal[:, 2], lift)])
    motion[held, :3] = towards(led, lies)[held]
    landed = over & (lies[:, 2] < goal[:, 2] + 0.005)
    motion[landed] = [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, OPEN]
    away = landed & (s["fingers"][:, 0] - s["fingers"][:, 1] >= CLOSED)
    motion[away, 2] = 1.0
    return motion


def turning(s: State, thing: str, offset: tuple[float, float, float], travel: float) -> np.ndarray:
    """Motions [n, 7]: take the knob that stands at `offset` in the thing's frame, and turn it to the left."""
    motion, held = taking(s, at(s[thing], offset), travel)
    motion[held, 5] = 1.0
    return motion


def dragging(s: State, thing: str, target: str, offset: tuple[float, float, float], travel: float) -> np.ndarray:
    """Motions [n, 7]: down into a flat thing with closed fingers, and push its rim from within towards the target."""
    hand, lies, goal = s["gripper"], s[thing][:, :3], at(s[target], offset)
    within = (flat(hand - lies) < 0.06) & (hand[:, 2] < lies[:, 2] + 0.03)
    ahead = (goal - lies) / np.maximum(flat(goal - lies), 1e-6)[:, None]
    inside = lies + np.array([0.0, 0.0, 0.012])
    motion, _ = taking(s, inside, travel)
    motion[within, :2] = 0.4 * ahead[within, :2]
    motion[within, 2] = towards(inside, hand)[within, 2]
    motion[:, 6] = CLOSE
    return motion


# --- of each task -----------------------------------------------------------------------------------------------------

RIM = Grip(up=0.038, side=0.045, room=0.018)
ACROSS = Grip(up=0.038, side=0.045, yaw=1.13)
"""The same, with the fingers along the width of a drawer, in which they have no room along its depth."""
PLATE = (0.0, 0.0, -0.02)
"""Where a bowl should come to be on the plate: below its face, so that it is pressed on it."""


def bowl_to(target: str, offset: tuple[float, float, float], lift: float, travel: float, grip: Grip = RIM) -> Expert:
    """The bowl that is meant, to somewhere."""
    return partial(
        carrying, thing="akita_black_bowl_1", grip=grip, target=target, offset=offset, lift=lift, travel=travel
    )


def into_basket(thing: str, grip: Grip, tall: float) -> Expert:
    """A thing that reaches `tall` metres below its origin, over the basket's rim and into it."""
    return partial(
        carrying, thing=thing, grip=grip, target="basket_1", offset=(0.0, 0.0, 0.09), lift=0.17 + tall, travel=0.22
    )


LEVEL, FLAT, CAN, NECK = Grip(0.002), Grip(0.002, across=-0.02), Grip(0.01, axis=1), Grip(0.12)
BOTTLE, CARTON = Grip(0.035, axis=1), Grip(0.025, axis=1)
CABINET, ON_TOP = "wooden_cabinet_1", (0.0035, 0.0157, 0.21)

EXPERTS: dict[str, dict[int, Expert]] = {
    "spatial": {
        **{number: bowl_to("plate_1", PLATE, 1.02, 1.08) for number in (0, 1, 2, 3, 5, 6, 7, 8)},
        4: bowl_to("plate_1", PLATE, 1.15, 1.2, ACROSS),  # from a drawer that stands open
        9: bowl_to("plate_1", PLATE, 1.17, 1.2),
    },
    "object": {
        0: into_basket("alphabet_soup_1", CAN, 0.04),
        1: into_basket("cream_cheese_1", FLAT, 0.01),
        2: into_basket("salad_dressing_1", BOTTLE, 0.075),
        3: into_basket("bbq_sauce_1", Grip(0.015), 0.055),
        4: into_basket("ketchup_1", BOTTLE, 0.075),
        5: into_basket("tomato_sauce_1", CAN, 0.04),
        6: into_basket("butter_1", FLAT, 0.01),
        7: into_basket("milk_1", CARTON, 0.07),
        8: into_basket("chocolate_pudding_1", FLAT, 0.015),
        9: into_basket("orange_juice_1", CARTON, 0.07),
    },
    "goal": {
        1: bowl_to("flat_stove_1", (0.15, 0.0, -0.02), 1.02, 1.08),
        2: partial(carrying, thing="wine_bottle_1", grip=NECK, target=CABINET, offset=ON_TOP, lift=1.16, travel=1.1),
        4: bowl_to(CABINET, ON_TOP, 1.17, 1.1),
        5: partial(dragging, thing="plate_1", target="flat_stove_1", offset=(0.356, 0.0, 0.0), travel=1.08),
        6: partial(
            carrying,
            thing="cream_cheese_1",
            grip=LEVEL,
            target="akita_black_bowl_1",
            offset=(0.0, 0.0, 0.0),
            lift=1.0,
            travel=1.08,
        ),
        7: partial(turning, thing="flat_stove_1", offset=(-0.01, 0.0, 0.028), travel=1.05),
        8: bowl_to("plate_1", PLATE, 1.0, 1.08),
        9: partial(
            carrying,
            thing="wine_bottle_1",
            grip=NECK,
            target="wine_rack_1",
            offset=(0.0, -0.08, 0.2),
            lift=1.2,
            travel=1.1,
        ),
    },
}
"""Suite → number → its expert; who is not there has none."""
