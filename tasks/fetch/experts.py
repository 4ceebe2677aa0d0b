"""Experts: functions of what is seen [n, …], so they can be asked in any state, also one that noise has led to."""

import numpy as np

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
