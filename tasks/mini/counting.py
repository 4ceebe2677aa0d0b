"""Prior skill: count on from a number."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill


class Counting(Skill):
    """The next three or four numbers after one, by ones, twos or threes, up or down."""

    card = Card(
        asks="Count on from a number, up or down, by ones, twos or threes.",
        rule="The answer is the next numbers, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.0,
        example="Ada has 7 pens. Count up by 2, say 3 numbers. → 9 11 13",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """Who starts where, then how to go on."""
        step, many, down = r.randint(1, 3), r.randint(3, 4), r.random() < 0.5
        start = r.randint(step * many, 20) if down else r.randint(1, 12)
        numbers = [start + (-step if down else step) * i for i in range(1, many + 1)]
        scene = f"{r.choice(NAMES)} has {start} {r.choice(THINGS)}."
        return f"{scene} Count {'down' if down else 'up'} by {step}, say {many} numbers.", " ".join(map(str, numbers))
