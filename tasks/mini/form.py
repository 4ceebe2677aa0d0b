"""Prior skill: write things in a form that is asked for."""

from collections.abc import Callable
from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill

FORMS: dict[str, Callable[[int, str, int, str], str]] = {
    "as JSON": lambda n, a, m, b: f'{{"{a}": {n}, "{b}": {m}}}',
    "in capitals": lambda n, a, m, b: f"{a.upper()} {b.upper()}",
    "between stars": lambda n, a, m, b: f"*{a}* *{b}*",
    "with equal signs": lambda n, a, m, b: f"{a}={n} {b}={m}",
    "in reverse": lambda n, a, m, b: f"{b} {a}",
}


class Form(Skill):
    """Two things and their numbers, to be written in one of five forms."""

    card = Card(
        asks="Write two things and their numbers as JSON, in capitals, between stars, with equal signs or in reverse.",
        rule="The answer is letter for letter what was asked for, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.0,
        example='Ada has 7 pens and 3 cups. Write that as JSON. → {"pens": 7, "cups": 3}',
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """The things, then the form."""
        (a, b), (n, m) = r.sample(THINGS, 2), r.sample(range(1, 20), 2)
        form = r.choice(list(FORMS))
        return f"{r.choice(NAMES)} has {n} {a} and {m} {b}. Write that {form}.", FORMS[form](n, a, m, b)
