"""Prior skill: find in a scene what somebody has."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, PLACES, THINGS, Skill


class Recall(Skill):
    """Three to five people, each with a thing or a place; one of them is asked for."""

    card = Card(
        asks="Several people have a thing or a place each: which has one of them?",
        rule="The answer is the name and what stands behind it, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.05,
        example="Ada pens, Ben Rome, Cleo hats. What has Ben? → Ben Rome",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """Who has what, then whom it is about."""
        n = r.randint(3, 5)
        names, having = r.sample(NAMES, n), r.sample([*THINGS, *PLACES], n)
        at = r.randrange(n)
        scene = ", ".join(f"{who} {what}" for who, what in zip(names, having, strict=True))
        return f"{scene}. What has {names[at]}?", f"{names[at]} {having[at]}"
