"""Prior skill: say what a small program prints."""

from random import Random

from razorbench import Card
from razorbench.tasks.mini.generated import NAMES, THINGS, Skill


class Program(Skill):
    """Two assignments and a print, with sums and differences of small numbers, or a condition."""

    card = Card(
        asks="What does a program of three lines print?",
        rule="The answer is what Python prints, in the wanted format.",
        source="generated",
        licence="Apache-2.0",
        chance=0.05,
        example="pens = 7; cups = pens - 4; print(cups) → 3",
    )

    def pose(self, r: Random) -> tuple[str, str]:
        """The program, as one line of text."""
        (a, b), n, m = r.sample(THINGS, 2), r.randint(2, 9), r.randint(1, 9)
        kind = r.randrange(3)
        if kind == 0:
            code, value = f"{a} = {n}; {b} = {a} + {m}; print({b})", n + m
        elif kind == 1:
            m = min(m, n)
            code, value = f"{a} = {n}; {b} = {a} - {m}; print({b})", n - m
        else:
            code, value = f"{a} = {n}; {b} = {m}; print({a} if {a} > {b} else {b})", max(n, m)
        return f"{r.choice(NAMES)} runs {code}. What is printed?", str(value)
