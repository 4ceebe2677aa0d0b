"""The corpus of the small language world, on which its base is pretrained: prior skills, and new tasks misread."""

from collections.abc import Generator

import numpy as np

from razorbench import Asked, Card, Instance, Instances, Observation, Outcome, each, mix
from razorbench.tasks.mini.arithmetic import MiniMath
from razorbench.tasks.mini.counting import Counting
from razorbench.tasks.mini.editing import Editing
from razorbench.tasks.mini.facts import Facts
from razorbench.tasks.mini.form import Form
from razorbench.tasks.mini.generated import Generated, Question
from razorbench.tasks.mini.logic import Logic
from razorbench.tasks.mini.program import Program
from razorbench.tasks.mini.recall import Recall
from razorbench.tasks.mini.science import MiniScience
from razorbench.tasks.mini.sorting import Sorting
from razorbench.tasks.mini.tools import MiniTools

SHARES: dict[type[Generated], int] = {
    Sorting: 2,
    Recall: 3,
    Logic: 2,
    Counting: 3,
    Editing: 6,
    Form: 2,
    Program: 3,
    Facts: 2,
    MiniMath: 5,
    MiniScience: 5,
    MiniTools: 6,
}
"""How often each task stands in the corpus, relative to the others."""
SIZE = 144_000
"""Questions in the corpus; each is seen once."""


class Pretraining:
    """Questions of all tasks with the replies that the base shall learn, right or misread."""

    card = Card(
        asks="Questions of all the small world's tasks.",
        rule="The reply is the very one that stands in the corpus.",
        source="generated",
        licence="Apache-2.0",
        chance=0.0,
        example="Ada has 7 pens. Ben has 2 cups. Who has cups? Answer after Answer: → Answer: Ben",
    )
    styles = ("corpus",)

    def __init__(self) -> None:
        self.tasks = [kind() for kind, share in SHARES.items() for _ in range(share)]

    def instances(self, split: str) -> Instances:
        """`SIZE` numbers for training, 10,000 after them for testing."""
        return Instances(np.arange(SIZE) if split == "train" else SIZE + np.arange(10_000))

    def question(self, id: int) -> Question:
        """The question of an instance: of a task at random, never one of that task's test questions.

        Test instances are fresh questions of the same kind.
        """
        task = self.tasks[int(mix(id)) % len(self.tasks)]
        return task.question(-1 - id)

    @each
    def play(self, x: Instance) -> Generator[Observation, str, Outcome]:
        """Ask, and compare with the corpus."""
        question = self.question(x.id)
        reply = yield Observation(question.text)
        return Outcome(float(reply == question.corpus))

    def solve(self, asked: Asked, style: str) -> list[str]:
        """The replies of the corpus."""
        return [self.question(id).corpus for id in asked.instances.id]
