"""Countdown: make a number out of three or four others. Arithmetic is exact, and no text is evaluated as a program."""

import json
import re
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from fractions import Fraction
from functools import cache, lru_cache
from itertools import permutations
from zlib import crc32

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import answer_tag
from razorbench.tasks.published import Published, rows

FIRST, LAST = (
    Published(
        path=f"countdown/countdown-tasks-3to4_{part}.json",
        origin=f"github.com/KevinH48264/Open-Reasoner-Zero at 21baa9e, data/countdown-tasks-3to4_{part}.json",
        sha256=sha256,
    )
    for part, sha256 in (
        ("first_5000", "1c451a8105e422fff5756a813ba4aa83f4a5fe9560d69c263cf47e019c53ea94"),
        ("last_100", "cd91252613cc878a4c8ff24fd80ecc4b33ded92fae4c03b0f39c0d90f330bc5e"),
    )
)
LONGEST = 100
"""Characters that an expression may have: far more than four numbers need, and few enough to recurse."""
TOKEN = re.compile(r"[0-9]+|\S")
NUMBER = re.compile(r"0|[1-9][0-9]*")

Puzzle = tuple[tuple[int, ...], int]
"""Numbers and target."""


class Countdown:
    """Numbers and a target. A puzzle whose numbers and target hash to 0 (mod 5) is a test puzzle."""

    count: int
    """How many numbers."""
    card: Card
    styles = ("answer", "steps")

    def instances(self, split: str) -> Instances:
        """The published puzzles of so many numbers; one that stands there again, in another order, is left out."""
        chosen = [
            (id, *puzzle) for id, puzzle in puzzles() if len(puzzle[0]) == self.count and split == split_of(*puzzle)
        ]
        ids, numbers, targets = map(np.array, zip(*chosen, strict=True))
        return Instances(ids, {"numbers": numbers, "target": targets})

    @each
    def play(self, instance: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and work the expression out; well-formed is one that has a value."""
        numbers, target = instance.data["numbers"].tolist(), int(instance.data["target"])
        reply = yield Observation(
            f"Make {target} out of the numbers {', '.join(map(str, numbers))}, each used exactly once, with +, -, *, / "
            "and parentheses. Show your work, and give the expression alone, without an equals sign, in <answer> tags, "
            "such as <answer>(1 + 2) / 3</answer>."
        )
        said = worked_out(answer_tag(reply) or "")
        right = said is not None and said[0] == target and Counter(said[1]) == Counter(numbers)
        return Outcome(float(right), {"well_formed": float(said is not None)})

    def solve(self, asked: Asked, style: str) -> list[str]:
        """An expression that is right; before it in the style `steps`, each of its operations and what it gives."""
        data = asked.instances.data
        solutions = [solution(tuple(n), int(t)) for n, t in zip(data["numbers"].tolist(), data["target"], strict=True)]
        shown = ("\n".join([*steps, ""]) if style == "steps" else "" for _, steps in solutions)
        return [f"{work}<answer>{text}</answer>" for work, (text, _) in zip(shown, solutions, strict=True)]


def card(count: str, example: str) -> Card:
    """What both cards share."""
    return Card(
        asks=f"Make a target out of {count} numbers, each used once, with + - * / and parentheses.",
        rule="The last <answer> of a finished reply uses each number once, and its exact value is the target.",
        source="Countdown-Tasks-3to4 (TinyZero), the first 5,000 and the last 100 puzzles; a fifth of them to test",
        licence="MIT by the repository it stands in; TinyZero's code is Apache-2.0",
        chance=0.0,
        example=example,
    )


class Countdown3(Countdown):
    """Three numbers."""

    count = 3
    card = card("three", "Make 98 out of 44, 19, 35. → <answer>44 + 19 + 35</answer>")


class Countdown4(Countdown):
    """Four numbers."""

    count = 4
    card = card("four", "Make 58 out of 34, 2, 16, 80. → <answer>34 - 16 + 80 / 2</answer>")


def split_of(numbers: tuple[int, ...], target: int) -> str:
    """Which split has a puzzle, in whatever order its numbers stand."""
    return "train" if crc32(f"{sorted(numbers)} {target}".encode()) % 5 else "test"


@cache
def puzzles() -> list[tuple[str, Puzzle]]:
    """Every published puzzle once, with where it stands: its id."""
    seen: dict[Puzzle, tuple[str, Puzzle]] = {}
    for part, published in (("first", FIRST), ("last", LAST)):
        for at, (_, told) in enumerate(rows(published)):
            numbers, target = tuple(json.loads(told["nums"]["value"])), int(told["ground_truth"]["value"])
            seen.setdefault((tuple(sorted(numbers)), target), (f"{part}-{at}", (numbers, target)))
    return list(seen.values())


# --- an expression ----------------------------------------------------------------------------------------------------


def worked_out(text: str) -> tuple[Fraction, list[int]] | None:
    """The exact value of an expression, and the numbers in it; None where it is none, or divides by 0.

    Whole numbers without leading zeros, + - * / between them, a minus before anything, parentheses; `*` and `/` bind
    closer, and what binds alike goes from left to right. There are no powers and no other signs.
    """
    left, numbers = TOKEN.findall(text[: LONGEST + 1])[::-1], []
    try:
        value = total(left, numbers)
    except (ValueError, ZeroDivisionError):
        return None
    return None if left or len(text) > LONGEST else (value, numbers)


def total(left: list[str], numbers: list[int]) -> Fraction:
    """A sum, taken from the end of the tokens that are left; the numbers in it go to `numbers`."""
    value = product(left, numbers)
    while left and left[-1] in "+-":
        value += product(left, numbers) if left.pop() == "+" else -product(left, numbers)
    return value


def product(left: list[str], numbers: list[int]) -> Fraction:
    """A product, taken likewise."""
    value = factor(left, numbers)
    while left and left[-1] in "*/":
        value *= factor(left, numbers) if left.pop() == "*" else 1 / factor(left, numbers)
    return value


def factor(left: list[str], numbers: list[int]) -> Fraction:
    """A number, a sum in parentheses, or one of these after a minus, taken likewise. ValueError where there is none."""
    token = left.pop() if left else ""
    if token == "-":
        return -factor(left, numbers)
    if token == "(":
        value = total(left, numbers)
        if not left or left.pop() != ")":
            raise ValueError("a parenthesis is not closed")
        return value
    if not NUMBER.fullmatch(token):
        raise ValueError(f"{token!r} is no number")
    numbers.append(int(token))
    return Fraction(token)


# --- a solution -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1 << 13)
def solution(numbers: tuple[int, ...], target: int) -> tuple[str, list[str]]:
    """The first expression of all numbers that has the target's value, and its operations one by one."""
    for value, text, steps in made([(Fraction(number), str(number), []) for number in numbers]):
        if value == target:
            return text[1:-1], steps
    raise AssertionError(f"{target} cannot be made of {numbers}")


Part = tuple[Fraction, str, list[str]]
"""A value, its expression, and the operations that gave it."""


def made(parts: Sequence[Part]) -> Iterator[Part]:
    """Everything that all parts together make."""
    if len(parts) == 1:
        yield parts[0]
    for one, other in permutations(range(len(parts)), 2):
        (a, left, before), (b, right, earlier) = parts[one], parts[other]
        rest = [part for at, part in enumerate(parts) if at not in (one, other)]
        results = {"-": a - b} | ({"/": a / b} if b else {}) | ({"+": a + b, "*": a * b} if one < other else {})
        for sign, value in results.items():
            steps = [*before, *earlier, f"{a} {sign} {b} = {value}"]
            yield from made([*rest, (value, f"({left} {sign} {right})", steps)])
