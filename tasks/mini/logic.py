"""Prior skill: work out a short expression of yes and no."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill

SAID = {True: "yes", False: "no"}


class Logic(Skill):
    """Two operands, each perhaps negated, joined by `and` or `or`."""

    card = Card(
        asks="What does an expression of yes, no, not, and, or come to?",
        rule="The answer is yes or no, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.5,
        example="Ada has 7 pens. What is yes and not no? → yes",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """A scene that does not matter, then the expression."""
        scene = f"{r.choice(NAMES)} has {r.randint(2, 19)} {r.choice(THINGS)}."
        (a, left), (b, right) = (
            (value != negated, f"{'not ' if negated else ''}{SAID[value]}")
            for value, negated in ((r.random() < 0.5, r.random() < 0.5) for _ in range(2))
        )
        both = r.random() < 0.5
        result = (a and b) if both else (a or b)
        return f"{scene} What is {left} {'and' if both else 'or'} {right}?", SAID[result]
