"""A task on trial, and who plays it: those that it brings along, one that replays a record, one that poisons a row."""

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, row
from razorbench.harness.core.episodes import Actions, Asked, Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent, Expert, Guessable
from razorbench.harness.core.randomness import mix
from razorbench.harness.core.rollout import Demonstrator, Guesser, rollout

Verdict = tuple[bool | None, str]
"""What a question comes to: `ok` and `detail` of a `Check`."""


@dataclass(frozen=True)
class Check:
    """One thing that was proved or disproved."""

    name: str
    """One word, the same for every task; of a track, what it names."""
    ok: bool | None
    """None: it does not apply, or waits for another check; the detail says why."""
    detail: str
    """One sentence: what was found, and what to do where it is wrong."""


@dataclass(frozen=True)
class Trial:
    """A task on trial, made twice, so that nothing one of them remembers can help the other."""

    id: str
    task: Any
    again: Any
    episodes: int
    seed: int

    @cached_property
    def test(self) -> Instances:
        """All test instances."""
        return self.task.instances("test")

    @cached_property
    def train(self) -> Instances:
        """All training instances; none where the task refuses the split, because it is for scoring only."""
        len(self.test)  # where the data are missing, this refuses first
        with suppress(Refused):
            return self.task.instances("train")
        return Instances(np.array([], np.int64))

    @cached_property
    def batch(self) -> Instances:
        """Up to `episodes` test instances, chosen by the seed."""
        return self.test.take(shuffled(self.test, self.seed)[: self.episodes])

    @cached_property
    def records(self) -> dict[str, Episodes]:
        """The batch as each of the task's own agents plays it: who played → episodes."""
        return {who: rollout(agent, self.task, self.batch, seed=self.seed) for who, agent in players(self.task).items()}


def shuffled(instances: Instances, seed: int) -> np.ndarray:
    """Indices [n] of all instances in an order that the seed fixes on every machine."""
    return np.argsort(mix(seed, instances.key), kind="stable")


def can_guess(task: Any) -> bool:
    """Whether the task has a `guess`."""
    return isinstance(task, Guessable)


def knows_answers(task: Any) -> bool:
    """Whether the task has `styles` and `solve`."""
    return isinstance(task, Expert)


def players(task: Any) -> dict[str, Agent]:
    """The agents that a task brings along: its guesser, and its expert in each style."""
    agents: dict[str, Agent] = {"guess": Guesser(task)} if can_guess(task) else {}
    if knows_answers(task):
        agents |= {f"solve in style {style!r}": Demonstrator(task, style) for style in task.styles}
    return agents


NOBODY = "the task has neither `guess` nor `solve`, so nobody can play it here"


def place(error: Exception) -> str:
    """The exception, with the last line of code outside the harness that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = Path(__file__).parents[2]
    theirs = [frame for frame in frames if ours not in Path(frame.filename).parents] or list(frames)
    return f"{type(error).__name__}: {error} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"


# --- who poisons a row ------------------------------------------------------------------------------------------------


def explode(*_: Any) -> Any:
    """What every operation of a `Poison` does."""
    raise RuntimeError("this value is poisonous")


OPERATIONS = (
    "getattr str repr format bool len iter next contains getitem hash eq ne lt le gt ge add radd sub rsub mul rmul "
    "matmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs invert and rand or ror xor rxor int "
    "float index round array call"
)

Poison = type("Poison", (), {f"__{name}__": explode for name in OPERATIONS.split()})
"""A value of which every operation raises: the worst that an agent could answer."""


@dataclass(frozen=True)
class Poisoner:
    """An agent that answers like another one, but the row `victim` gets a poisonous value."""

    agent: Agent
    victim: int
    poisoned: Callable[[Column, int], Column]

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The other agent's values, one of them replaced."""
        values = self.agent.act(asked, temperature=temperature).value
        at = np.flatnonzero(asked.rows == self.victim)
        return Actions(self.poisoned(values, int(at[0])) if len(at) else values)


def poisoning(task: Any, values: Column) -> tuple[Callable[[Column, int], Column] | None, str]:
    """How one row of such a column is poisoned, and what with; (None, why not) where nothing poisonous fits."""
    if hasattr(type(task).play, "__wrapped__") or isinstance(values, list):  # `@each` reads single rows
        return with_poison, "A value that raises whatever is done with it"
    if isinstance(values, Mapping | str) or values is None:
        return None, "its answers are not one list or array"
    if "float" in str(values.dtype):  # a numpy array or a tensor
        return with_nan, "NaN"
    return None, f"no poisonous value fits into its answers, a column of {values.dtype}"


def with_poison(values: Column, at: int) -> Column:
    """The column as a list, with a poison at one row."""
    length = len(next(iter(values.values())) if isinstance(values, Mapping) else values)
    return [Poison() if i == at else row(values, i) for i in range(length)]


def with_nan(values: Column, at: int) -> Column:
    """A copy of the column, with NaN at one row: what a diverged policy says."""
    changed = values[np.arange(len(values))]
    changed[at] = np.nan
    return changed
