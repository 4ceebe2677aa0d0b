"""Prior skill: put the numbers of a scene in order."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill


class Sorting(Skill):
    """Three to five numbers, from small to large or from large to small."""

    card = Card(
        asks="Sort the numbers of things that people have, up or down.",
        rule="The answer is the sorted numbers, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.02,
        example="Ada has 7 pens. Ben has 2 cups. … Sort the numbers up. → 2 7 …",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """Who has how many, then the order that is wanted."""
        numbers = r.sample(range(1, 10), r.randint(3, 4))
        scene = " ".join(
            f"{who} has {n} {what}."
            for n, who, what in zip(numbers, r.sample(NAMES, 4), r.sample(THINGS, 4), strict=False)
        )
        down = r.random() < 0.5
        return (
            f"{scene} Sort the numbers {'down' if down else 'up'}.",
            " ".join(map(str, sorted(numbers, reverse=down))),
        )
