"""Small tasks for the tests of lanes: some play on, some die, hang or raise where their instances tell them to."""

import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from razorbench import Card, Instances, Observation, Observations, Outcome, Outcomes, Refused, each

CARD = Card("how far to go", "the sum of what was said", "made up", "Apache-2.0", 0.5)


class Counting:
    """Asked as often as `count` says; the reward is the sum of the answers."""

    card = CARD

    def instances(self, split):
        return Instances(np.arange(12), {"count": np.arange(12) % 4 + 1})

    @each
    def play(self, x):
        total = 0.0
        for step in range(int(x.data["count"])):
            total += float((yield Observation(f"{step}", role="tool" if step else "user")))
        return Outcome(total, {"steps": step + 1})


class Walk:
    """A random walk from `start` until it leaves (-1, 1); what is seen next depends on what was done."""

    card = CARD
    styles = ("right",)

    def instances(self, split):
        names = np.array([f"walk-{i}" for i in range(10)])
        return Instances(names, {"start": np.linspace(-0.5, 0.5, 10)})

    @each
    def play(self, x):
        place, earned = float(x.data["start"]), []
        for step in range(30):
            earned.append(2 * float((yield Observation(state=np.array([place, step])))) - 1)
            place += earned[-1]
            if abs(place) >= 1:
                break
        return Outcome(place, {"steps": step + 1}, turn_rewards=earned)

    def solve(self, asked, style):
        return np.ones(len(asked))

    def guess(self, asked):
        return asked.uniform(1)[:, 0]


class VectorWalk(Walk):
    """The same walks, all scenes at once; who is done is asked no more."""

    def play(self, instances):  # type: ignore[override]
        place, steps = instances.data["start"].copy(), np.zeros(len(instances), np.int64)
        live, earned = np.arange(len(instances)), np.zeros((len(instances), 30))
        while len(live):
            seen = np.stack([place[live], steps[live]], axis=1)
            moved = 2 * np.asarray((yield Observations(state=seen, rows=live))) - 1
            place[live] += moved
            earned[live, steps[live]] = moved
            steps[live] += 1
            live = live[(abs(place[live]) < 1) & (steps[live] < 30)]
        return Outcomes(place, {"steps": steps}, turn_rewards=[row[:n] for row, n in zip(earned, steps, strict=True)])


class Trouble:
    """Two steps an episode; before the second comes the trouble that its instance names."""

    card = CARD

    def instances(self, split):
        return Instances(np.arange(5), {"trouble": ["", "", "", "", ""]})

    def play(self, instances):
        yield Observations(text=["first"] * len(instances))
        for trouble in instances.data["trouble"]:
            TROUBLES[trouble]()
        yield Observations(text=["second"] * len(instances))
        return Outcomes(np.ones(len(instances)))


def refuse():
    raise RuntimeError("the arm fell off")


TROUBLES = {
    "": lambda: None,
    "die": lambda: os._exit(3),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": lambda: time.sleep(600),
    "raise": refuse,
}


class Large:
    """Instances and observations of a megabyte each, far more than a socket holds; the reward is a sum of both."""

    card = CARD

    def instances(self, split):
        return Instances(np.arange(3), {"image": np.arange(3 << 20, dtype=np.uint8).reshape(3, 1 << 20)})

    @each
    def play(self, x):
        answer = yield Observation(state=x.data["image"] + np.uint8(1))
        return Outcome(float(answer.sum()) + float(x.data["image"].sum()))


class Pictured:
    """Two cameras, whose pictures are of the shade that was said last; the reward is the sum of the shades."""

    card = CARD

    def instances(self, split):
        return Instances(np.arange(6))

    @each
    def play(self, x):
        total, shade = 0, int(x.id)
        for _ in range(3):
            images = {"front": np.full((4, 6, 3), shade, np.uint8), "wrist": np.full((2, 2, 3), shade + 1, np.uint8)}
            shade = int((yield Observation(images=images)))
            total += shade
        return Outcome(float(total))


class LargeValues(Large):
    """Small observations that are answered with large values."""

    @each
    def play(self, x):
        answer = yield Observation("?")
        return Outcome(float(answer.sum()))


class FalseStart(Large):
    """Hangs while it is made in the first worker, and never again; a file remembers that."""

    def __init__(self):
        mark = Path(os.environ["LANE_TASKS_MARK"])
        if (
            "razorbench.harness.core.serving" in sys.modules
            and os.getpid() != int(os.environ["LANE_TASKS_PARENT"])
            and not mark.exists()
        ):
            mark.touch()
            time.sleep(600)


class Stillborn(Counting):
    """Can be made in the tests' process only."""

    def __init__(self):
        if os.getpid() != int(os.environ["LANE_TASKS_PARENT"]):
            raise RuntimeError("no display")


class Gated(Counting):
    """Builds for as long as there is no file `gate` beside the mark, in each process once."""

    built = False

    @each
    def play(self, x):
        mark = Path(os.environ["LANE_TASKS_MARK"])
        mark.touch()
        while not self.built and not mark.with_name("gate").exists():
            time.sleep(0.01)
        self.built = True
        yield Observation("?")
        return Outcome(1.0)


class FalseBuild(Counting):
    """Dies while it builds in the first worker, and never again; a file remembers that."""

    def play(self, instances):  # type: ignore[override]
        mark = Path(os.environ["LANE_TASKS_MARK"])
        if not mark.exists():
            mark.touch()
            os._exit(3)
        yield Observations(text=["?"] * len(instances))
        return Outcomes(np.ones(len(instances)))


class Poison(Counting):
    """No instance with an even id can ever be built."""

    def play(self, instances):  # type: ignore[override]
        if (instances.id % 2 == 0).any():
            raise RuntimeError("the mesh is torn")
        yield Observations(text=["?"] * len(instances))
        return Outcomes(np.ones(len(instances)))


class Sightless(Counting):
    """Shows every third episode what is no number, in its second step; the reward is what was said last."""

    def play(self, instances):  # type: ignore[override]
        state = np.ones((len(instances), 2))
        yield Observations(state={"joints": state})
        said = yield Observations(state={"joints": np.where((instances.id % 3 == 0)[:, None], np.nan, state)})
        return Outcomes(np.asarray(said))


class Flooding(Counting):
    """Shows more and more; the third episode as much as nobody reads."""

    @each
    def play(self, x):
        yield Observation(state=np.zeros(1 << (20 if x.id == 2 else 10), np.uint8))
        return Outcome(1.0)


class Abroad(Walk):
    """Can be made elsewhere only: where torch cannot be imported. Its expert knows no earlier turn."""

    def __init__(self):
        try:
            import torch  # noqa: F401
        except ImportError:
            return
        raise ImportError("the simulator is not installed here")

    def instances(self, split):
        if split == "train":
            raise Refused("there is nothing to train on")
        return super().instances(split)

    def solve(self, asked, style):
        if style == "loud":
            raise ZeroDivisionError("too loud")
        assert len(asked.episodes.turns) == 1
        return np.ones(len(asked))

    def frames(self, instance, motions):
        for _ in range(len(motions) + 1):
            yield np.zeros((2, 2, 3), np.uint8)


class Wrong(Counting):
    """Returns something else than outcomes."""

    def play(self, instances):  # type: ignore[override]
        yield Observations(text=["?"] * len(instances))
        return "done"


class Imports(Counting):
    """The reward is 1 if nobody has imported torch where this is played."""

    @each
    def play(self, x):
        yield Observation("?")
        return Outcome(float("torch" not in sys.modules))


class WithoutTorch(Counting):
    """The reward is 1 if torch cannot be imported where this is played."""

    @each
    def play(self, x):
        yield Observation("?")
        try:
            import torch  # noqa: F401
        except ImportError:
            return Outcome(1.0)
        return Outcome(0.0)


class Tensors(Counting):
    """Sees and returns torch tensors; the reward is 1 if it was given arrays nevertheless."""

    def instances(self, split):
        import torch

        return Instances(np.arange(4), {"image": torch.zeros(4, 3)})

    def play(self, instances):  # type: ignore[override]
        import torch

        image = instances.data["image"]
        value = yield Observations(state=torch.as_tensor(image))
        arrays = isinstance(image, np.ndarray) and isinstance(value, np.ndarray)
        return Outcomes(torch.full((len(instances),), float(arrays)))  # type: ignore[arg-type]


class Parent(Counting):
    """Leaves a child process behind in its first step, and tells its id; then hangs if there is a second."""

    @each
    def play(self, x):
        import subprocess

        child = subprocess.Popen(["sleep", "600"])
        yield Observation(state=np.array([os.getpid(), child.pid]))
        if x.id == 1:
            time.sleep(600)
        return Outcome(1.0)
