"""Who asks and who answers: what a task, a benchmark and an agent can do, each a protocol."""

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

import numpy as np

from razorbench.harness.core.columns import Column
from razorbench.harness.core.episodes import Actions, Asked, Instances, Observations, Outcomes
from razorbench.harness.core.errors import Refused

SUCCESS = ("once", "end")
"""Which steps of a robot's episode may make its score: any of them, or the last."""
DETERMINISM = ("bitwise", "process", "none")
"""How far the same motions from the same state give the same episode: everywhere, within one process, not at all."""


@dataclass(frozen=True)
class RobotProtocol:
    """Under what rules a robot's episodes are played. With other ones the same robot has other scores."""

    horizon: int
    """Steps that an episode has at most."""
    control_hz: float
    """Actions in a second of the simulated world."""
    success: str
    """Which success is the score, one of `SUCCESS`. `Outcome.metrics` has both: `success_once`, `success_at_end`."""
    initial: str
    """What a seed decides, and how the state that it means is set."""
    simulator: str
    """Its name and version, and those of its physics."""
    renderer: str
    """What makes the pictures, and its version."""
    determinism: str
    """One of `DETERMINISM`; `razorbench task check` tries what is declared."""
    cameras: Mapping[str, str] = field(default_factory=dict)
    """Camera → pixels, height before width: `"480x640"`. None where no picture is seen."""
    floor: float = 0.0
    """Share of the verdicts that differ where one policy plays the same states twice, as `task check` measures it: no
    difference between two policies that is smaller says anything.
    """

    def __post_init__(self) -> None:
        """Refuses what is none of the words."""
        for name, words in (("success", SUCCESS), ("determinism", DETERMINISM)):
            if getattr(self, name) not in words:
                raise Refused(f"a protocol's {name} is {getattr(self, name)!r}; choose {' or '.join(words)}")

    def score(self, once: Column, at_end: Column) -> Column:
        """Which of the two is the score."""
        return once if self.success == "once" else at_end

    @property
    def digest(self) -> str:
        """A hash of all of it, 12 hex digits."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:12]


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
    protocol: RobotProtocol | None = None
    """Of a robot's task: the rules that its episodes are played by."""

    @property
    def told(self) -> dict[str, Any]:
        """The fields, as JSON has them; those of the protocol with its hash."""
        protocol = self.protocol and {**asdict(self.protocol), "hash": self.protocol.digest}
        return {**asdict(self), "protocol": protocol}


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
class Space:
    """Arrays of one shape and kind, between limits (one number, or one for each element). () of whole numbers: one of
    low … high.
    """

    shape: tuple[int, ...] = ()
    low: Any = -np.inf
    high: Any = np.inf
    dtype: str = "float32"


@dataclass(frozen=True)
class Spaces:
    """What is seen, by the names of states and cameras, and what is done, of one episode."""

    observation: Mapping[str, Space]
    action: Space


@runtime_checkable
class Spaced(Protocol):
    """A task that declares what is seen and done: so it is an environment for others, too (`razorbench.tasks.gym`)."""

    spaces: Spaces


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
class Listed(Benchmark, Protocol):
    """A benchmark that tells how much it asks."""

    def count(self, limit: int | None = None) -> int:
        """How many items it scores of the first `limit`."""
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
