"""A table seen from a gripper that looks down: it moves to the block that is named. Pictures without a simulator.

An agent sees a picture and an instruction; its motion [7] is that of a robot's hand, of which the first two numbers,
metres along the picture's columns and rows, move it over a table of 1 m. It is drawn by arithmetic, so an episode is
the same on every machine; it is there to try what sees and moves, not to be hard.
"""

from collections.abc import Generator, Sequence

import numpy as np

from razorbench import Asked, Card, Column, Instances, Observations, Outcomes, RobotProtocol, mix, uniform

STEPS = 5
"""Motions an episode may take."""
NEAR = 0.08
"""Metres from the block that count as there."""
FARTHEST = 0.25
"""Metres along an axis that one motion moves at most."""
FINEST = 0.05
"""Metres of which the expert's motions are multiples."""
SIDE = 56
"""Pixels of a picture's side."""
VIEW = 1.8
"""Metres of the table that a picture shows along an axis, the gripper in the middle."""
WIDTH = 0.24
"""Metres of a block's side."""
CAMERA = "hand"
COLOURS = {"red": (205, 45, 45), "blue": (50, 80, 215), "green": (55, 165, 70)}
TABLE = (124, 116, 104)
NUMBERS = 7
"""Numbers of a motion: position, rotation, gripper."""


def drawn(away: np.ndarray, colour: np.ndarray) -> np.ndarray:
    """Pictures [n, 56, 56, 3] uint8 of blocks that lie `away` [n, 2] from a gripper, each of a colour [n, 3] uint8."""
    line = ((np.arange(SIDE) + 0.5) / SIDE - 0.5) * VIEW
    across = np.abs(line[None, None, :] - away[:, 0, None, None])
    down = np.abs(line[None, :, None] - away[:, 1, None, None])
    block = (across < WIDTH / 2) & (down < WIDTH / 2)
    return np.where(block[..., None], colour[:, None, None], np.array(TABLE, np.uint8))


class Tabletop:
    """What the tasks share: a batch in lock-step."""

    colours: Sequence[str]
    """Of the blocks; which of them an instance has, its id decides."""
    styles: tuple[str, ...] = ("usual",)
    card: Card

    def instances(self, split: str) -> Instances:
        """10,000 tables of the split."""
        id = np.arange(10_000) + (1_000_000 if split == "test" else 0)
        u = uniform(mix(id), 5)
        places = 0.08 + 0.84 * u[:, :4]
        which = (u[:, 4] * len(self.colours)).astype(np.int64)
        colour = np.array([list(COLOURS).index(name) for name in self.colours])[which]
        return Instances(id, {"gripper": places[:, :2], "block": places[:, 2:], "colour": colour})

    def clusters(self, instances: Instances) -> np.ndarray:
        """Where gripper and block are, [n]: tasks of several colours share it under one id."""
        return np.array([f"tabletop {id}" for id in instances.id])

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show, move, and stop asking who is there."""
        gripper, block = np.array(instances.data["gripper"]), instances.data["block"]
        names, tones = list(COLOURS), np.array([*COLOURS.values()], np.uint8)
        colour, n = instances.data["colour"], len(instances)
        reward, steps = np.zeros(n), np.zeros(n, np.int64)
        live = np.flatnonzero(away(gripper, block) >= NEAR)
        reward[away(gripper, block) < NEAR] = 1.0
        for _ in range(STEPS):
            if not len(live):
                break
            motion = yield Observations(
                text=[f"reach the {names[k]} block" for k in colour[live]],
                images={CAMERA: drawn((block - gripper)[live], tones[colour[live]])},
                state={"away": (block - gripper)[live].astype(np.float32)},
                rows=live,
            )
            moved = np.clip(np.asarray(motion, np.float64)[:, :2], -FARTHEST, FARTHEST)
            gripper[live] = np.clip(gripper[live] + moved, 0, 1)
            steps[live] += 1
            there = away(gripper[live], block[live]) < NEAR
            reward[live[there]] = 1.0
            live = live[~there]
        return Outcomes(reward, {"steps": steps, "success_once": reward, "success_at_end": reward})

    def valid(self, values: Column) -> np.ndarray:
        """Which values [n] are motions."""
        values = np.asarray(values)
        return np.full(len(values), values.shape[1:] == (NUMBERS,))

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """Motions [n, 7] straight to the block, in steps of 5 cm."""
        straight = np.clip(FINEST * np.round(asked.now.state["away"] / FINEST), -FARTHEST, FARTHEST)
        return np.pad(straight, ((0, 0), (0, NUMBERS - 2))).astype(np.float32)

    def guess(self, asked: Asked) -> np.ndarray:
        """Motions [n, 7] anywhere."""
        return ((2 * asked.uniform(NUMBERS) - 1) * FARTHEST).astype(np.float32)


def away(gripper: np.ndarray, block: np.ndarray) -> np.ndarray:
    """Metres from gripper to block, [n]."""
    return np.linalg.norm(gripper - block, axis=-1)


def card(asks: str) -> Card:
    """The card of a task."""
    return Card(
        asks=asks,
        rule=f"The gripper comes within {100 * NEAR:g} cm of the block in {STEPS} motions; then the episode stops.",
        source="made here",
        licence="Apache-2.0",
        chance=0.093,
        example="A picture of a gripper and a red block, “reach the red block” → [0.25, −0.1, 0, 0, 0, 0, 0]",
        protocol=RobotProtocol(
            horizon=STEPS,
            control_hz=1.0,
            success="once",
            initial="a hash of the id places gripper and block; tests from 1,000,000 on",
            simulator="none: a motion is added, up to 25 cm along an axis",
            renderer="NumPy",
            determinism="bitwise",
            cameras={CAMERA: f"{SIDE}x{SIDE}"},
        ),
    )


class Red(Tabletop):
    """A red block."""

    colours = ("red",)
    card = card("Reach the red block on the table.")


class Blue(Tabletop):
    """A blue block."""

    colours = ("blue",)
    card = card("Reach the blue block on the table.")


class Green(Tabletop):
    """A green block."""

    colours = ("green",)
    card = card("Reach the green block on the table.")


class Pretraining(Tabletop):
    """Red and blue blocks, and once in forty a green one."""

    colours = (*("red", "blue") * 20, "green")
    card = card("Reach the block on the table that is named.")
