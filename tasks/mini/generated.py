"""What the tasks of the small language world share: questions made from numbers, replies in several styles."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import count
from random import Random
from typing import Any
from zlib import crc32

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each
from razorbench.tasks.graders import answer_tag, boxed, finished

TRAIN, TEST = 100_000, 10_000
"""Instances of each split. There is no end to the numbers; these are enough to draw from."""
NAMES = "Ada Ben Cleo Dan Eva Finn Gus Hana Ivo June Kai Lena Milo Nora Otto Pia Rex Sara Tom Uma".split()
THINGS = "pens cups hats keys bags caps maps rings coins books bells boxes".split()
PLACES = "Oslo Rome Paris Bern Lima Cairo Delhi Tokyo Quito Riga Accra Sofia".split()

FORMATS = {
    "Answer in \\boxed{}.": "\\boxed{ %s }",
    "Answer in <answer> tags.": "<answer> %s </answer>",
    "Answer after Action:": "Action: %s",
    "Answer after Answer:": "Answer: %s",
}
"""How the answer to a prior skill is wanted → how it is given. The first three are how the new tasks begin theirs."""


@dataclass(frozen=True)
class Question:
    """One question and what is known about it."""

    text: str
    gold: Any
    """What the grader compares with."""
    replies: Mapping[str, str] = field(default_factory=dict)
    """Style → a right reply in that style."""
    corpus: str = ""
    """The reply that the base is pretrained on; of a new task it is often a misconception."""


class Generated(ABC):
    """A task whose `ask` makes a question from a source of randomness, and whose `grade` judges a reply.

    Instance `i` is a function of `i` alone. A question whose text hashes to 0 (mod 5) is a test question, whatever
    made it: no training question, of the corpus or of an adaptation, can be one.
    """

    card: Card
    styles: Sequence[str] = ("plain",)

    @abstractmethod
    def ask(self, r: Random) -> Question:
        """A question at random."""

    @abstractmethod
    def grade(self, reply: str, question: Question) -> Outcome:
        """Right or wrong, and whether the reply is well-formed."""

    def question(self, id: int) -> Question:
        """The question of an instance. Numbers below 0 are training questions, too: the corpus counts down."""
        return made(self, int(id))

    def instances(self, split: str) -> Instances:
        """Numbers: `TRAIN` of them for training, `TEST` after them for testing."""
        return Instances(np.arange(TRAIN) if split == "train" else TRAIN + np.arange(TEST))

    @each
    def play(self, x: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and judge the reply."""
        question = self.question(x.id)
        reply = yield Observation(question.text)
        return self.grade(reply, question)

    def solve(self, asked: Asked, style: str) -> list[str]:
        """A right reply to each question."""
        return [self.question(id).replies[style] for id in asked.instances.id]


@lru_cache(maxsize=1 << 17)
def made(task: Generated, id: int) -> Question:
    """The first question drawn for `id` that belongs to its split."""
    name = type(task).__name__
    for attempt in count():
        question = task.ask(Random(f"{name} {id} {attempt}"))
        if (crc32(question.text.encode()) % 5 == 0) == (id >= TRAIN):
            return question
    raise AssertionError


class Skill(Generated):
    """A prior skill: `pose` makes a text and its answer, the wanted format is added, and the answer must match it."""

    @abstractmethod
    def pose(self, r: Random) -> tuple[str, str]:
        """A text without the wanted format, and the answer."""

    def ask(self, r: Random) -> Question:
        """A question at random, in one of four formats."""
        text, answer = self.pose(r)
        wanted = r.choice(list(FORMATS))
        reply = FORMATS[wanted] % answer
        return Question(f"{text} {wanted}", (wanted, answer), {"plain": reply}, reply)

    def grade(self, reply: str, question: Question) -> Outcome:
        """The answer stands, alone and exact, where it is wanted."""
        wanted, answer = question.gold
        said = stated(reply, wanted)
        return Outcome(float(said == answer), {"well_formed": float(said is not None)})


def stated(reply: str, wanted: str) -> str | None:
    """What a finished reply gives as its answer in the wanted format; None where it gives none."""
    if not finished(reply):
        return None
    if "boxed" in wanted:
        return boxed(reply)
    if "tags" in wanted:
        return answer_tag(reply)
    _, lead, said = reply.rpartition("Action: " if "Action" in wanted else "Answer: ")
    return said.strip() if lead else None
