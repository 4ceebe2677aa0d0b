"""Arithmetic of one line, worked out in words or figures: within reach of a real language model on two cores."""

import re
from random import Random

from razorbench import Card, Outcome
from razorbench.tasks.graders import finished
from razorbench.tasks.mini.generated import Generated, Question

NUMBER = re.compile(r"(?<![\w.])-?[0-9]+(?:,[0-9]{3})*(?:\.[0-9]+)?(?!\w|\.[0-9])")
"""A whole or decimal number that is part of no word and no other number."""
SIGNS = {"+": 1, "-": -1}
WORDS = {"+": "added", "-": "taken away"}


class Arithmetic(Generated):
    """Three numbers of at most two digits, added and subtracted. The last number of a reply is the answer."""

    card = Card(
        asks="Three numbers, added and subtracted: what comes out? What stands before the answer does not matter.",
        rule="The last number of a finished reply is the value.",
        source="generated",
        licence="Apache-2.0",
        chance=0.01,
        example="What is 47 + 38 - 9? → 47 + 38 = 85. 85 - 9 = 76.",
    )
    styles = ("steps", "told")

    def ask(self, r: Random) -> Question:
        """Numbers whose sums are never below 0, and both workings."""
        while True:
            first, second, third = (r.randint(2, 99) for _ in range(3))
            one, two = r.choice("+-"), r.choice("+-")
            middle = first + SIGNS[one] * second
            end = middle + SIGNS[two] * third
            if middle >= 0 and end >= 0:
                break
        steps = f"{first} {one} {second} = {middle}. {middle} {two} {third} = {end}."
        told = (
            f"Let us go through this slowly and with care. We begin with {first}, and once we have {WORDS[one]} "
            f"{second} we arrive at {middle}; after that we have {WORDS[two]} {third}, and so what we are left with is "
            f"{end}."
        )
        return Question(f"What is {first} {one} {second} {two} {third}?", end, {"steps": steps, "told": told})

    def grade(self, reply: str, question: Question) -> Outcome:
        """Equal or not; well-formed is a finished reply with a number."""
        said = last_number(reply)
        return Outcome(float(said == question.gold), {"well_formed": float(said is not None)})


class ArithmeticForm(Arithmetic):
    """Other questions of the same kind, to show a base the form of an answer."""

    styles = ("steps",)


def last_number(reply: str) -> float | None:
    """The last number of a finished reply; None where it has none. Commas may stand between thousands."""
    said = NUMBER.findall(reply) if finished(reply) else []
    return float(said[-1].replace(",", "")) if said else None
