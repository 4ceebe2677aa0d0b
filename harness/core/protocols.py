"""Who asks and who answers: what a task, a benchmark and an agent can do, each a protocol."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np

from razorbench.harness.core.columns import Column
from razorbench.harness.core.episodes import Actions, Asked, Instances, Observations, Outcomes


@dataclass(frozen=True)
class Card:
    """What a reader should know of a task before trusting a number: shown by `razorbench tasks`."""

    asks: str
    """What the agent is asked, in one sentence."""
    rule: str
    """When an episode scores, in one sentence."""
    source: str
    """Where the data come from."""
    licence: str
    """Licence of the data."""
    chance: float
    """Expected score, 0–1, of an agent that guesses at random."""
    example: str = ""
    """One question and one right answer."""


@runtime_checkable
class Task(Protocol):
    """Played: can be scored and trained on. `@each` lifts a generator of one episode to a batch."""

    card: Card

    def instances(self, split: str) -> Instances:
        """The questions of `train` or `test`; the two share none."""
        ...

    def play(self, instances: Instances, /) -> Generator[Observations, Column, Outcomes]:
        """Yield what a batch of episodes sees, receive the column of values it does, return the outcomes."""
        ...


@runtime_checkable
class Expert(Protocol):
    """A task that knows right answers: for demonstrations, and for the check that its oracle scores 100 %."""

    styles: Sequence[str]
    """Ways of being right, the default first."""

    def solve(self, asked: Asked, style: str) -> Column:
        """Values [n] that earn the full reward, in one of the styles."""
        ...


@runtime_checkable
class Bounded(Protocol):
    """A task that knows which values are actions at all: who does anything else has failed, and scores 0."""

    def valid(self, values: Column) -> np.ndarray:
        """Which of the values [n] are actions of this task, [n] bool. They may be anything that an agent can give."""
        ...


@runtime_checkable
class Guessable(Protocol):
    """A task that knows its action space: for the check that guessing scores at chance."""

    def guess(self, asked: Asked) -> Column:
        """Values [n] drawn at random from everything an agent could do."""
        ...


@runtime_checkable
class Clustered(Protocol):
    """A task whose items share something with each other, or with items of other tasks: they are not independent."""

    def clusters(self, instances: Instances) -> np.ndarray:
        """Names [n] of what instances share, the same in every task: those of one name may succeed or fail together."""
        ...


@dataclass(frozen=True)
class Sample:
    """One scored item of a benchmark that runs its own loop; `score` is NaN and `error` says why where unscored."""

    id: Any
    score: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    asked: str | None = None
    """What was asked, in words; None: not told, and then no flip of it is shown."""
    said: str | None = None
    """What the agent answered."""


@runtime_checkable
class Benchmark(Protocol):
    """Measured: owns its own loop (lm-eval, multiple choice by likelihood)."""

    card: Card

    def evaluate(self, agent: "Agent", limit: int | None = None) -> list[Sample]:
        """Score the agent on the first `limit` items."""
        ...


@runtime_checkable
class Pinned(Benchmark, Protocol):
    """A benchmark that tells by a hash what it asks: with another one its scores are other scores."""

    def digest(self, limit: int | None = None) -> str:
        """A hash of all that decides the score of an answer to the first `limit` items: data, rules, versions."""
        ...


@runtime_checkable
class Agent(Protocol):
    """Enough to be scored."""

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Answer every row that is asked: drawn at a temperature, or at 0 the likeliest."""
        ...


@runtime_checkable
class Memoryless(Agent, Protocol):
    """An agent that reads nothing of an episode but what it is asked now, so that what it saw before can be let go.

    A policy of this kind predicts every turn by itself, too: some turns of an episode alike without the others.
    """

    memoryless: bool
