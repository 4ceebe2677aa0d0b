"""Small robots for the tests of what a protocol declares: one is as its card says, and each other is not in one way."""

import os
from dataclasses import replace
from itertools import count

import numpy as np

from razorbench import Card, Instances, Observations, Outcomes, RobotProtocol, Space, Spaces

PROTOCOL = RobotProtocol(
    horizon=3,
    control_hz=10.0,
    success="end",
    initial="the id is the place to begin",
    simulator="sums",
    renderer="a shade for a place",
    determinism="bitwise",
    cameras={"front": "2x4"},
)
CARD = Card(
    "Be at 1 after three steps.", "The place is above 0.9 at the end.", "made here", "CC0-1.0", 0.0, "", PROTOCOL
)


class Arm:
    """A place on a line, moved by what is said; a success is a place above 0.9."""

    card = CARD
    styles = ("straight",)
    spaces = Spaces({"front": Space((2, 4, 3), 0, 255, "uint8"), "state": Space((), -10.0, 10.0)}, Space((), -1.0, 1.0))
    steps = 3
    camera = "front"
    jitter = 0.0

    def instances(self, split):
        ids = np.arange(40) + (1_000_000 if split == "test" else 0)
        return Instances(ids, {"place": -(ids % 1_000_000) / 100 - 0.001 * (split == "test")})

    def play(self, instances):
        place, once = np.array(instances.data["place"], float), np.zeros(len(instances), bool)
        for _ in range(self.steps):
            pictures = np.zeros((len(place), 2, 4, 3), np.uint8)
            pictures[:] = np.clip(100 * (place + 1), 0, 255).astype(np.uint8)[:, None, None, None]
            place = place + np.clip((yield Observations(images={self.camera: pictures}, state=place)), -1, 1)
            place = place + self.shaken(len(place))
            once |= place > 0.9
        return self.ended(once.astype(float), (place > 0.9).astype(float))

    def shaken(self, n):
        return self.jitter

    def ended(self, once, at_end):
        metrics = {"success_once": once, "success_at_end": at_end}
        return Outcomes(PROTOCOL.score(once, at_end), metrics)

    def solve(self, asked, style):
        return 1.0 - np.asarray(asked.now.state)

    def guess(self, asked):
        return 0.2 * asked.uniform(1)[:, 0] - 0.1


class TooLong(Arm):
    """Goes on beyond its horizon."""

    steps = 4


class OtherCamera(Arm):
    """Shows what another camera sees."""

    camera = "wrist"


class OneSuccess(Arm):
    """Tells one success alone."""

    def ended(self, once, at_end):
        return Outcomes(at_end, {"success_once": once})


class OtherScore(Arm):
    """Scores what the card does not name: of whom begins beyond the goal, say, or is there and leaves."""

    def ended(self, once, at_end):
        return Outcomes(0.5 * at_end, {"success_once": once, "success_at_end": at_end})


class Wears(Arm):
    """The joints wear out: each episode begins with them as the one before left them, to a millionth."""

    worn = count()

    def shaken(self, n):
        return 1e-6 * next(self.worn)


class OtherElsewhere(Arm):
    """Every process has bits of its own."""

    def shaken(self, n):
        return 1e-6 * (os.getpid() % 1000)


class InOneProcess(OtherElsewhere):
    """The same, and the card says so."""

    card = replace(CARD, protocol=replace(PROTOCOL, determinism="process"))


class Shaky(Arm):
    """Some verdicts differ each time, as the card says; the floor that it names is what they are."""

    card = replace(CARD, protocol=replace(PROTOCOL, determinism="none", floor=0.3))
    source = np.random.default_rng(0)

    def shaken(self, n):
        return -0.2 * (self.source.uniform(size=n) < 0.05)


class ShakierThanSaid(Shaky):
    """More than that."""

    card = replace(CARD, protocol=replace(PROTOCOL, determinism="none", floor=0.0001))
    source = np.random.default_rng(1)

    def shaken(self, n):
        return -0.2 * (self.source.uniform(size=n) < 0.2)
