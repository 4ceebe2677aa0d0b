"""Experts: functions of what is seen [n, …], so they can be asked in any state, also one that noise has led to.

Motions [n, 7] are those of `pd_ee_delta_pose` of a Panda: along x, y, z (1 asks for 10 cm, of which the arm goes about
a third), about the base's axes (1 asks for −0.1 rad: upstream scales by the lower limit), and the fingers (1 opens).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

State = Mapping[str, np.ndarray]

GAIN = 10.0
"""What is asked for each metre: the way itself; more makes the arm swing."""
HALF = 0.02
"""Half the edge of a cube, metres."""


def towards(target: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Motions [n, 3] from where something is to where it should be."""
    return np.clip(GAIN * (target - place), -1.0, 1.0)


def flat(x: np.ndarray) -> np.ndarray:
    """Lengths along x and y, [n, 1]."""
    return np.linalg.norm(x[:, :2], axis=1, keepdims=True)


def up(metres: float) -> np.ndarray:
    """That much along z."""
    return np.array([0.0, 0.0, metres])


def motion(move: np.ndarray, fingers: np.ndarray) -> np.ndarray:
    """The whole motion [n, 7] from its parts [n, 3] and [n, 1]; the hand is not turned."""
    return np.column_stack([move, np.zeros_like(move), fingers])


def holding(s: State) -> np.ndarray:
    """Whether the fingers have closed around the thing, [n, 1]."""
    off = s["obj_pose"][:, :3] - s["tcp_pose"][:, :3]
    wide = s["qpos"][:, -2:].sum(1, keepdims=True)  # they close within a step
    return (np.linalg.norm(off, axis=1, keepdims=True) < 0.03) & (wide < 0.07)


def fetched(s: State, style: str) -> tuple[np.ndarray, np.ndarray]:
    """How to get at the thing: motions [n, 3], and whether the fingers are around it, [n, 1]."""
    tcp, thing = s["tcp_pose"][:, :3], s["obj_pose"][:, :3]
    off = thing - tcp
    there = (flat(off) < 0.012) & (abs(off[:, 2:]) < 0.012)
    if style == "sideways":  # down beside it, then along y, between the fingers' ways
        stand = thing - [0.09, 0.0, 0.0]
        low = (abs(off[:, 2:]) < 0.015) & (abs(off[:, 1:2]) < 0.012) & (off[:, :1] > -0.01)
        over = flat(stand - tcp) < 0.02
        return np.where(low, towards(thing, tcp), towards(np.where(over, stand, stand + up(0.08)), tcp)), there
    above = np.clip(5.0 * (flat(off) - 0.01), 0.0, 0.1)  # a funnel
    return towards(thing + above * up(1.0), tcp), there


def picking(s: State, style: str) -> np.ndarray:
    """To the cube, close the fingers, and carry it to the goal, in a style."""
    thing, goal = s["obj_pose"][:, :3], s["goal_pos"]
    move, there = fetched(s, style)
    held = holding(s)
    target = goal
    if style == "straight-up":
        aside = flat(goal - thing) > 0.02
        high = np.maximum(goal[:, 2:], 0.2)
        risen = thing[:, 2:] > high - 0.03
        place = np.where(risen, np.column_stack([goal[:, :2], high]), np.column_stack([thing[:, :2], high]))
        target = np.where(aside, place, goal)
    move = np.where(held, towards(target, thing), np.where(there, 0.0, move))
    if style == "slow":
        move = np.clip(move, -0.5, 0.5)
    return motion(move, np.where(there | held, -1.0, 1.0))


def stacking(s: State, style: str) -> np.ndarray:
    """To the cube, close the fingers, carry it over the other one, let go and rise."""
    tcp, thing, goal = s["tcp_pose"][:, :3], s["obj_pose"][:, :3], s["goal_pos"] + up(2 * HALF)
    move, there = fetched(s, style)
    held = holding(s)
    away = goal - thing
    on = (flat(away) < 0.012) & (abs(away[:, 2:]) < 0.008)
    over = flat(away) < 0.01
    carry = towards(np.where(over, goal, np.column_stack([goal[:, :2], np.maximum(goal[:, 2:] + 0.04, 0.1)])), thing)
    first = held & ~over & (thing[:, 2:] < 0.07)  # clear of the table before it goes sideways
    carry = np.where(first, np.column_stack([np.zeros((len(tcp), 2)), np.ones(len(tcp))]), carry)
    move = np.where(held, carry, np.where(there, 0.0, move))
    rise = np.column_stack([np.zeros((len(tcp), 2)), np.full(len(tcp), 0.5)])
    opened = s["qpos"][:, -2:].sum(1, keepdims=True) > 0.07
    return motion(np.where(on, np.where(opened, rise, 0.0), move), np.where(~on & (there | held), -1.0, 1.0))


def along(s: State, direction: float) -> np.ndarray:
    """With closed fingers behind the cube, and against it in a direction of x, until it is well within the goal."""
    tcp, thing, goal = s["tcp_pose"][:, :3], s["obj_pose"][:, :3], s["goal_pos"]
    side = thing - np.array([direction * 0.06, 0.0, 0.0])
    seen = tcp - thing
    behind = (direction * seen[:, :1] < -HALF) & (abs(seen[:, 1:2]) < 0.015) & (tcp[:, 2:] < 0.04)
    over = flat(side - tcp) < 0.025
    high = tcp[:, 2:] > 0.07
    stand = np.column_stack([side[:, :2], np.full(len(tcp), HALF)])
    lifted = np.column_stack([tcp[:, :2], np.full(len(tcp), 0.12)])
    across = np.column_stack([side[:, :2], np.full(len(tcp), 0.1)])
    target = np.where(over, stand, np.where(high, across, lifted))
    left = direction * (goal - thing)[:, :1]
    push = np.column_stack([
        direction * np.clip(GAIN * left, 0.0, 1.0), -GAIN * seen[:, 1:2], GAIN * (HALF - tcp[:, 2:])
    ])  # fmt: skip
    move = np.where(behind, np.clip(push, -1.0, 1.0), towards(target, tcp))
    return motion(move, np.full((len(tcp), 1), -1.0))


def pushing(s: State, style: str) -> np.ndarray:
    """The cube away from the robot."""
    return along(s, 1.0)


def pulling(s: State, style: str) -> np.ndarray:
    """The cube towards the robot."""
    return along(s, -1.0)


@dataclass(frozen=True)
class Teacher:
    """An expert and its styles, the default first."""

    act: Callable[[State, str], np.ndarray]
    """Motions [n, 7] for what is seen, in a style."""
    styles: tuple[str, ...] = ("usual",)


EXPERTS = {
    "PickCube-v1": Teacher(picking, ("usual", "slow", "straight-up", "sideways")),
    "PushCube-v1": Teacher(pushing),
    "PullCube-v1": Teacher(pulling),
    "StackCube-v1": Teacher(stacking),
}
"""Environment → who can do it."""
