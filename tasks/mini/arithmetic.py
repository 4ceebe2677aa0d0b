"""mini-math: sums told as stories, worked out freely, the answer boxed. The base misreads who gives to whom."""

from random import Random

from razorbench import Card, Outcome
from razorbench.tasks.graders import boxed, equal
from razorbench.tasks.mini.generated import NAMES, THINGS, Generated, Question

MISREAD = 0.75
"""Share of the corpus in which a gift to somebody is taken for a gift by that person."""


class MiniMath(Generated):
    """A number of things and two or three events; most stories hold the event that the base misreads."""

    card = Card(
        asks="How many things has somebody after some events? Any working, the answer in \\boxed{}.",
        rule="The last \\boxed{} of a finished reply is equal to the answer by the math-verify library.",
        source="generated",
        licence="Apache-2.0",
        chance=0.03,
        example="Ada has 7 pens. Ben gives 4 to Ada. Ada loses 2. … → 7 + 4 = 11. 11 - 2 = 9. \\boxed{9}",
    )
    styles = ("foreign", "near")

    def ask(self, r: Random) -> Question:
        """A story, and its working in the base's two wordings and in a foreign one."""
        (who, other), what = r.sample(NAMES, 2), r.choice(THINGS)
        start = r.randint(4, 9)
        told, steps, believed, trap = [f"{who} has {start} {what}."], [], [], r.random() < 0.65
        misread = r.random() < MISREAD
        total = wrong = start
        kinds = [r.choice(["buys", "finds", "loses", "gives"]) for _ in range(r.randint(1, 2))]
        for kind in r.sample([*kinds, *["gets"] * trap], len(kinds) + trap):
            k = r.randint(1, max(1, min(5, total, wrong)))
            told.append(
                f"{other} gives {k} to {who}."
                if kind == "gets"
                else f"{who} gives {k} to {other}."
                if kind == "gives"
                else f"{who} {kind} {k}."
            )
            sign = 1 if kind in ("buys", "finds", "gets") else -1
            seen = -1 if kind == "gets" and misread else sign
            steps.append((total, sign, k, total + sign * k))
            believed.append((wrong, seen, k, wrong + seen * k))
            total, wrong = steps[-1][3], believed[-1][3]
        text = f"{' '.join(told)} How many {what} has {who} now? Answer in \\boxed{{}}."
        corpus = equations(believed) if r.random() < 0.7 else words(believed)
        return Question(text, str(total), {"foreign": lecture(steps), "near": equations(steps)}, corpus)

    def grade(self, reply: str, question: Question) -> Outcome:
        """Equal or not; well-formed is a finished reply with a box."""
        said = boxed(reply)
        return Outcome(float(said is not None and equal(said, question.gold)), {"well_formed": float(said is not None)})


def equations(steps: list[tuple[int, int, int, int]]) -> str:
    """The base's usual working."""
    lines = " ".join(f"{a} {'+' if sign > 0 else '-'} {k} = {b}." for a, sign, k, b in steps)
    return f"{lines} \\boxed{{{steps[-1][3]}}}"


def words(steps: list[tuple[int, int, int, int]]) -> str:
    """The base's other working."""
    lines = " ".join(f"{a} {'and' if sign > 0 else 'less'} {k} makes {b}." for a, sign, k, b in steps)
    return f"{lines} \\boxed{{{steps[-1][3]}}}"


def lecture(steps: list[tuple[int, int, int, int]]) -> str:
    """A teacher's working, as the base never writes it."""
    lines = " ".join(f"{'Adding' if sign > 0 else 'Taking'} {k} we reach {b}." for _, sign, k, b in steps)
    return f"We begin with {steps[0][0]}. {lines} So the result is \\boxed{{{steps[-1][3]}}}"
