"""Tasks in a scene of LIBERO that end after two motions, so that a test can afford its pictures."""

from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace

import numpy as np

from razorbench import Card, Observations, Outcome
from razorbench.tasks.libero.suites import row
from razorbench.tasks.libero.tasks import Shown, card

ROW = row("spatial-0-camera-v1")
STEPS = 2
NEARER = 0.012
"""Metres: the expert comes nearer by 28 mm, the tiny OpenVLA by 0 to 15 mm."""


def shortened(card: Card) -> Card:
    """A card whose episodes have so few steps."""
    assert card.protocol
    return replace(card, protocol=replace(card.protocol, horizon=STEPS))


class Begun(Shown):
    """The first task of the suite `spatial`, which nobody can do in so few motions."""

    row = ROW
    card = shortened(card(ROW))

    @property
    def horizon(self) -> int:
        return STEPS


class Nearing(Begun):
    """Told the same, it should come nearer to the bowl: rewards differ from draw to draw, so there is what to learn."""

    card = replace(Begun.card, rule=f"The hand is nearer to the bowl by {NEARER} m at the end.", chance=0.25)

    def episode(self, simulator, instance, i) -> Generator[Observations, np.ndarray, Outcome]:
        game = super().episode(simulator, instance, i)
        seen = next(game)
        first = away(simulator)
        for _ in range(STEPS - 1):
            seen = game.send((yield seen))
        with suppress(StopIteration):
            game.send((yield seen))
        won = float(away(simulator) < first - NEARER)
        return Outcome(won, {"steps": STEPS, "success_once": won, "success_at_end": won})


def away(simulator) -> float:
    """Metres between the hand and the bowl."""
    seen = simulator.look()
    return float(np.linalg.norm(seen["gripper"] - seen["akita_black_bowl_1"][:3]))
