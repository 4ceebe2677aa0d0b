"""Experts: functions of what is seen [n, …], so they can be asked in any state, also one that noise has led to.

All is in the frame of the robot's base, which looks along x. The arm lags: of 6 cm that are asked it makes 2 a step.
"""

import numpy as np
from scipy.spatial.transform import Rotation

State = dict[str, np.ndarray]

HOME = Rotation.from_matrix([[-0.219, -0.932, 0.289], [-0.953, 0.269, 0.143], [-0.211, -0.244, -0.947]])
"""How the hand is turned at first: it comes from above, a little from the front."""
HOOKED = Rotation.from_matrix([[0.616, 0.0, 0.788], [0.0, -1.0, 0.0], [0.788, 0.0, -0.616]])
"""How the hand is turned to hook a drawer: 38° down. Turned by 180° about its own axis the wrist would not reach."""
REACH = {"usual": 0.06, "upright": 0.06, "brisk": 0.12}
"""Metres that are asked for in a step, at most, by style."""
HOOK, DEEP = np.array([-0.085, 0.0, 0.05]), np.array([-0.11, 0.0, 0.05])
"""Where the hand hooks a drawer, and a low one: metres from its handle, out of the cabinet, aside and up."""
LOW = 0.25
"""Metres above the robot's base below which a handle is low: the arm is stretched, and gives way to what it presses."""


def turning(pose: np.ndarray) -> Rotation:
    """Rotations from poses [n, 7]."""
    return Rotation.from_quat(pose[:, 3:], scalar_first=True)


def limited(x: np.ndarray, most: float) -> np.ndarray:
    """Vectors [n, 3], shortened to a length where they are longer."""
    return x * np.minimum(1.0, most / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-9))


def across(s: State) -> Rotation:
    """How the hand should be turned to grasp: as at first, but that the fingers close across a can that lies."""
    _, closes, comes = HOME.as_matrix().T
    long = turning(s["thing"]).as_matrix()[:, :, 1]  # the can's axis, [n, 3]
    side = np.cross(comes, long)  # as long as the sine of the angle between the two
    lies = np.linalg.norm(side, axis=1, keepdims=True) > 0.6
    side = np.where(lies, side * np.sign((side * closes).sum(1, keepdims=True)), closes)
    side /= np.linalg.norm(side, axis=1, keepdims=True)
    return Rotation.from_matrix(np.stack([np.cross(side, comes), side, np.tile(comes, (len(side), 1))], axis=2))


def picking(s: State, style: str = "usual") -> np.ndarray:
    """Above the can, down, close the fingers, up. What slips or was missed is begun again.

    Styles: "usual" comes down along the fingers, "upright" straight from above, "brisk" asks for twice as much a step.
    """
    reach = REACH[style]
    hand, can = s["hand"], s["thing"]
    goal, now = across(s), turning(hand)
    approach = np.array([0.0, 0.0, -1.0]) if style == "upright" else now.as_matrix()[:, :, 2]
    away = can[:, :3] - hand[:, :3]
    depth = (away * approach).sum(1, keepdims=True)
    aside = np.linalg.norm(away - depth * approach, axis=1, keepdims=True)
    turn = (goal * now.inv()).as_rotvec()
    turned = np.linalg.norm(turn, axis=1, keepdims=True) < 0.15
    closed, speed = s["fingers"].mean(1, keepdims=True), s["speed"][:, 7:]
    still = np.abs(speed).max(1, keepdims=True) < 0.08
    parting = (closed > 0.9) | (speed.mean(1, keepdims=True) < -0.3)  # there is nothing between the fingers
    around = (aside < 0.025) & (depth > -0.03) & (depth < np.where(closed > 0.1, 0.025, 0.006))
    grasp = around & ~parting
    held = grasp & (closed > 0.3) & still
    over = (aside < 0.03) & turned & (depth > -0.03) & ~parting
    above = limited(away - 0.13 * approach, reach)
    down = limited(away + 0.01 * approach, reach)
    move = np.where(held, [0.0, 0.0, 0.05], np.where(grasp, 0.0, np.where(over, down, above)))
    turn = np.where(grasp, 0.0, limited(turn, 0.25))
    fingers = np.where(grasp, 1.0, np.where(closed > 0.02, -1.0, 0.0))
    return np.hstack([move, turn, fingers])


def before(s: State) -> tuple[np.ndarray, np.ndarray]:
    """The cabinet's axes [n, 3, 3] (columns: out of it, aside, up), and in them the hand as seen from the handle."""
    axes = turning(s["thing"]).as_matrix()
    return axes, seen_along(axes, s["hand"][:, :3] - s["thing"][:, :3])


def seen_along(axes: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Vectors [n, 3] in other axes [n, 3, 3]; sums of products whose order no companion changes, unlike a matmul's."""
    return (axes * x[:, :, None]).sum(1)


def closing(s: State, style: str = "usual") -> np.ndarray:
    """Make a fist, go before the drawer, and push it in."""
    reach = REACH[style]
    axes, at = before(s)
    out, side, up = at.T[:, :, None]
    lined = (np.abs(up) < 0.04) & (np.abs(side) < 0.1)
    push = np.hstack([np.full_like(out, -1.0), -side, -up])
    clear = np.hstack([0.12 - out, 0.0 * side, 0.0 * up])
    front = np.hstack([0.1 - out, -side, -up])
    move = np.where(lined, push, np.where(out < 0.05, clear, front))
    turn = (HOME * turning(s["hand"]).inv()).as_rotvec()
    return pushed(s, axes, move, turn, reach, s["opened"] < 0.01)


def opening(s: State, style: str = "usual") -> np.ndarray:
    """Make a fist, slide it over the edge of the drawer's panel, and pull.

    The fingers lie on the edge, held there by friction. A low drawer is hooked deeper and corrected less while it is
    pulled: pressed as hard as on the others, the fist is turned aside and up; to hook it again pushes the drawer in.
    """
    reach = REACH[style]
    axes, at = before(s)
    low = s["thing"][:, 2:3] < LOW
    way = seen_along(axes, HOOKED.as_matrix()[None, :, 2])  # along which the hand comes
    away = np.where(low, DEEP, HOOK) - at
    depth = (away * way).sum(1, keepdims=True)
    aside = np.linalg.norm(away - depth * way, axis=1, keepdims=True)
    turn = (HOOKED * turning(s["hand"]).inv()).as_rotvec()
    turned = np.linalg.norm(turn, axis=1, keepdims=True) < 0.2
    hooked = (at[:, :1] < -0.03) & (np.abs(at[:, 1:2]) < 0.05) & (at[:, 2:] < np.where(low, 0.075, 0.06))
    off = away - depth * way  # from the line along which the hand comes
    pull = np.where(low, 1.0, 3.0) * away * [0.0, 1.0, 1.0] + [0.05, 0.0, 0.0]
    slide = 3.0 * off + np.clip(depth, 0.02, 0.05) * way
    move = np.where(hooked, pull, np.where((aside < 0.025) & (depth > -0.02) & turned, slide, away - 0.2 * way))
    return pushed(s, axes, move, turn, reach, s["opened"] > 0.18)


def pushed(
    s: State, axes: np.ndarray, move: np.ndarray, turn: np.ndarray, reach: float, done: np.ndarray
) -> np.ndarray:
    """Motions [n, 7] with a fist, from what is asked in the cabinet's axes; none where it is `done` [n, 1]."""
    moved = (axes * limited(move, reach)[:, None, :]).sum(2)
    return np.where(done, 0.0, np.hstack([moved, limited(turn, 0.25), np.ones_like(done, np.float64)]))
