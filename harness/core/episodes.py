"""What is asked, what is answered, and how it went.

A singular record is one thing; its plural is columns of it, one row a thing. Tasks see *values*, methods see *codes*:
the string a language model said and its token ids, the motion a robot made and its bins.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, length, nbytes, row, stack, take
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.randomness import keys_of, mix, uniform

# --- what is asked ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Instance:
    """One question: its id, its data and a key that seeds everything random about it."""

    id: Any
    data: Mapping[str, Any]
    key: int = 0


class Gathered(Mapping):
    """Columns of which some rows are meant; a column is gathered when it is first read, then kept."""

    def __init__(self, columns: Mapping[str, Column], index: np.ndarray | None):
        self.columns, self.index, self.read = columns, index, {}

    def __getitem__(self, name: str) -> Column:
        if self.index is None:
            return self.columns[name]
        if name not in self.read:
            self.read[name] = take(self.columns[name], self.index)
        return self.read[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def __len__(self) -> int:
        return len(self.columns)


@dataclass(frozen=True)
class Instances:
    """Questions of a task: `id` [n] (integers or strings, unique within a task) and the columns they point into.

    `columns` is the whole source; `index` says which of its rows are meant (None: all, in order), so that taking a
    batch of indices copies nothing until `data[name]` is read.
    """

    id: np.ndarray
    columns: Mapping[str, Column] = field(default_factory=dict)
    index: np.ndarray | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.id, np.ndarray):
            object.__setattr__(self, "id", np.asarray(self.id))

    def __len__(self) -> int:
        return len(self.id)

    def __iter__(self) -> Iterator[Instance]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Instance:
        source = i if self.index is None else int(self.index[i])
        return Instance(self.id[i], {name: row(c, source) for name, c in self.columns.items()}, int(self.key[i]))

    @cached_property
    def data(self) -> Gathered:
        """The columns of these rows, gathered when read."""
        return Gathered(self.columns, self.index)

    @cached_property
    def key(self) -> np.ndarray:
        """uint64 keys [n], a hash of the ids."""
        return keys_of(self.id)

    def take(self, index: np.ndarray) -> "Instances":
        """The instances at `index` [k], with repeats if asked. They keep their keys, so they play as before."""
        index = np.asarray(index)
        taken = Instances(self.id[index], self.columns, index if self.index is None else self.index[index])
        taken.__dict__["key"] = self.key[index]
        return taken

    def first(self, items: int) -> "Instances":
        """The first `items` of them; 0: all."""
        return self.take(np.arange(min(items, len(self)))) if items else self

    @staticmethod
    def join(first: "Instances", second: "Instances") -> "Instances":
        """The instances of both, of one source, the first's first."""
        if first.columns is not second.columns:
            raise ValueError("only instances of one source can be joined")
        index = [np.arange(len(part)) if part.index is None else part.index for part in (first, second)]
        return Instances(np.concatenate([first.id, second.id]), first.columns, np.concatenate(index))


# --- what is seen, done and got ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Observation:
    """What the agent perceives in one turn. `images` are uint8 [H, W, 3], or [H, W] of grey, by camera; `state` is an
    array, or a mapping of them by name; `role` is who speaks (user, tool).
    """

    text: str | None = None
    images: Mapping[str, np.ndarray] | None = None
    state: Any = None
    role: str = "user"


@dataclass(frozen=True)
class Observations:
    """Columns of observations: `images` are uint8 [n, H, W, 3], or [n, H, W] of grey, by camera. `rows` [n] says whom
    of the batch they are for (None: everyone, in order).
    """

    text: Column = None
    images: Mapping[str, Column] | None = None
    state: Column = None
    role: Column = "user"
    rows: np.ndarray | None = None

    def __len__(self) -> int:
        for column in (self.state, self.text, self.images):
            if column is not None:
                return length(column)
        raise ValueError("observations hold no text, no images and no state")

    @property
    def nbytes(self) -> int:
        """Bytes of what is seen."""
        return nbytes([self.text, self.images, self.state])

    def take(self, index: np.ndarray) -> "Observations":
        """The observations at `index` [k]; whom they are for is dropped."""
        return Observations(*(take(c, index) for c in (self.text, self.images, self.state, self.role)))

    def __getitem__(self, i: int) -> Observation:
        return Observation(*(row(c, i) for c in (self.text, self.images, self.state, self.role)))

    @staticmethod
    def stack(singles: Sequence[Observation], rows: np.ndarray | None = None) -> "Observations":
        """Columns from single observations, for the episodes `rows`."""
        text, images, state, role = zip(*((o.text, o.images, o.state, o.role) for o in singles), strict=True)
        return Observations(stack(text), stack(images), stack(state), list(role), rows)


class Reply(str):
    """What a language model said; `finished` is False where it was cut off at the token limit."""

    finished: bool

    def __new__(cls, text: str = "", finished: bool = True) -> "Reply":
        """The text, and whether it came to its end."""
        reply = super().__new__(cls, text)
        reply.finished = finished
        return reply


@dataclass(frozen=True)
class Action:
    """What an agent did: the value that the task sees, and the code that the policy sampled (None: not known)."""

    value: Any
    code: Any = None


@dataclass(frozen=True)
class Actions:
    """Columns of actions. `code` is an array or tensor [n, T, …], or a list of n sequences of unequal length.

    `logp` are the log-probabilities with which the sampler drew the elements, nats, in the same shape and at the
    temperature that it drew at; None: not told. `error` [n] says why the agent could not act where it could not, which
    fails the episode; None: it could everywhere.
    """

    value: Column
    code: Column = None
    logp: Column = None
    error: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return length(self.value)

    def __getitem__(self, i: int) -> Action:
        return Action(row(self.value, i), row(self.code, i))

    def take(self, index: np.ndarray) -> "Actions":
        """The actions at `index` [k]."""
        error = self.error and [self.error[i] for i in index]
        return Actions(take(self.value, index), take(self.code, index), take(self.logp, index), error)

    def lengths(self) -> np.ndarray:
        """How many elements each action has, [n]: tokens, bins, 1 for a class."""
        if self.code is None:
            raise ValueError("these actions have no codes; encode them with the policy first")
        if isinstance(self.code, list):
            return np.array([len(code) for code in self.code], np.int64)
        return np.full(len(self.code), self.code.shape[1], np.int64)


@dataclass(frozen=True)
class Outcome:
    """How an episode ended. Two things can go wrong, and `error` tells what did.

    *The agent* fails: a motion that is no number, an action that there is not, a reply that breaks the grader. That
    is a zero (`failed`). *The world* fails: a simulator dies, a disk is full, a machine is too slow. Then the reward is
    NaN, which is unscored (`unscored`): never a zero, never dropped in silence, always counted.

    `turn_rewards` are what each turn earned, in order, where a task tells. The score is `reward` alone, whether they
    add up to it or not; a method may learn from them.
    """

    reward: float
    metrics: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    turn_rewards: Sequence[float] | None = None

    @staticmethod
    def failed(why: str) -> "Outcome":
        """The agent did what nobody can score: 0."""
        return Outcome(0.0, error=why)

    @staticmethod
    def unscored(why: str) -> "Outcome":
        """The world failed: NaN."""
        return Outcome(np.nan, error=why)


@dataclass(frozen=True)
class Outcomes:
    """Columns of outcomes: `reward` [n] float (NaN: unscored), `metrics` of [n] each, `error` a list or None.

    `turn_rewards` are rows of numbers, one a turn of the episode: an array [n, turns], or a list of n rows; None: not
    told.
    """

    reward: np.ndarray
    metrics: Mapping[str, Column] = field(default_factory=dict)
    error: list[str | None] | None = None
    turn_rewards: Column = None

    def __len__(self) -> int:
        return len(self.reward)

    @property
    def failed(self) -> np.ndarray:
        """Which episodes [n] the agent failed: scored, with an error."""
        errors = self.error or [None] * len(self)
        return np.array([error is not None for error in errors], bool) & np.isfinite(self.reward)

    def ending(self, ends: Mapping[int, Outcome]) -> "Outcomes":
        """The same but that some episodes, by their rows, have ended so, with that reward and that error."""
        reward, error = np.array(self.reward, np.float64), list(self.error or [None] * len(self))
        for i, end in ends.items():
            reward[i], error[i] = end.reward, end.error
        return Outcomes(reward, self.metrics, error, self.turn_rewards)

    def __iter__(self) -> Iterator[Outcome]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, i: int) -> Outcome:
        told = row(self.turn_rewards, i)
        return Outcome(
            float(self.reward[i]),
            row(dict(self.metrics), i),
            self.error[i] if self.error else None,
            None if told is None else [float(reward) for reward in told],
        )

    def take(self, index: np.ndarray) -> "Outcomes":
        """The outcomes at `index` [k]."""
        kept = (take(column, index) for column in (self.reward, dict(self.metrics), self.error, self.turn_rewards))
        return Outcomes(*kept)

    @staticmethod
    def stack(singles: Sequence[Outcome]) -> "Outcomes":
        """Columns from single outcomes; a metric that an outcome lacks is NaN there."""
        names = dict.fromkeys(name for single in singles for name in single.metrics)
        metrics = {name: np.array([single.metrics.get(name, np.nan) for single in singles]) for name in names}
        errors, earned = [single.error for single in singles], [single.turn_rewards for single in singles]
        return Outcomes(
            np.array([single.reward for single in singles], np.float64),
            metrics,
            errors if any(errors) else None,
            None if all(each is None for each in earned) else earned,
        )


# --- the record of a conversation -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Turn:
    """One call of `act`: the episodes `rows` [n] saw this and did that."""

    rows: np.ndarray
    seen: Observations
    done: Actions | None = None
    whole: bool = True
    """False where pictures or a state that were seen have been let go."""

    def take(self, index: np.ndarray) -> "Turn":
        """The turn of those at `index` [k] of its rows."""
        return Turn(self.rows[index], self.seen.take(index), self.done and self.done.take(index), self.whole)

    @cached_property
    def in_order(self) -> bool:
        """Whether the rows are 0, 1, 2, …: of a turn as long as the batch, everyone."""
        return bool((self.rows == np.arange(len(self.rows))).all())


@dataclass(frozen=True)
class Episode:
    """One conversation, whole: observations and actions in turn, then the outcome (None while it runs)."""

    instance: Instance
    observations: list[Observation]
    actions: list[Action]
    outcome: Outcome | None = None


@dataclass
class Episodes:
    """A log of act calls over a batch. Columnar for who reads turns, `episodes[i]` for who reads conversations."""

    instances: Instances
    turns: list[Turn] = field(default_factory=list)
    outcome: Outcomes | None = None

    def __len__(self) -> int:
        return len(self.instances)

    def __iter__(self) -> Iterator[Episode]:
        return (self[i] for i in range(len(self)))

    @cached_property
    def reward(self) -> np.ndarray:
        """Rewards [N] of the finished episodes, NaN where unscored."""
        if self.outcome is None:
            raise ValueError("the episodes have not ended yet")
        return np.asarray(self.outcome.reward, np.float64)

    def __getitem__(self, i: int) -> Episode:
        seen, done = [], []
        for turn in self.turns:
            for at in np.flatnonzero(turn.rows == i).tolist():
                seen.append(turn.seen[at])
                if turn.done is not None:
                    done.append(turn.done[at])
        return Episode(self.instances[i], seen, done, self.outcome[i] if self.outcome else None)

    def lengths(self) -> np.ndarray:
        """How many elements the policy chose in each episode, [N]."""
        total = np.zeros(len(self), np.int64)
        for turn in self.turns:
            if turn.done is not None:
                total[turn.rows] += turn.done.lengths()
        return total

    def turn_rewards(self) -> np.ndarray:
        """What each turn of the finished episodes earned, [N, most turns]; NaN after the last, and where unscored.

        What the agent failed has earned 0 in each turn. Refuses a task that does not tell, or not one finite number for
        each turn.
        """
        reward, turns = self.reward, np.zeros(len(self), np.int64)
        assert self.outcome is not None
        for turn in self.turns:
            turns[turn.rows] += 1
        earned, failed = np.full((len(self), turns.max(initial=0)), np.nan), self.outcome.failed
        for i in np.flatnonzero(np.isfinite(reward)).tolist():
            told = np.zeros(turns[i]) if failed[i] else row(self.outcome.turn_rewards, i)
            if told is None:
                raise Refused("this task gives no rewards per turn; choose a method that learns from whole episodes")
            told = np.asarray(told, np.float64)
            if told.shape != (turns[i],) or not np.isfinite(told).all():
                raise Refused(
                    f"the rewards of the {turns[i]} turns of instance {self.instances.id[i]} are {told.tolist()}; "
                    "the task should give one finite number for each"
                )
            earned[i, : turns[i]] = told
        return earned

    def take(self, index: np.ndarray) -> "Episodes":
        """The episodes at `index` [k], with repeats if asked."""
        index, turns = np.asarray(index), []
        for turn in self.turns:
            if len(turn.rows) == len(self) and turn.in_order:
                at, rows = index, np.arange(len(index))  # no need to look anyone up
            else:
                place = np.full(len(self), -1)
                place[turn.rows] = np.arange(len(turn.rows))
                rows = np.flatnonzero(place[index] >= 0)
                at = place[index][rows]
            if len(rows):
                turns.append(replace(turn.take(at), rows=rows))
        return Episodes(self.instances.take(index), turns, self.outcome and self.outcome.take(index))

    @staticmethod
    def join(first: "Episodes", second: "Episodes") -> "Episodes":
        """Both batches as one, the first's episodes first."""
        return Episodes(
            Instances.join(first.instances, second.instances),
            first.turns + [replace(turn, rows=turn.rows + len(first)) for turn in second.turns],
            first.outcome and second.outcome and Outcomes.stack([*first.outcome, *second.outcome]),
        )


@dataclass(frozen=True)
class Asked:
    """What `act` is given: what is seen now, by which episodes, and the keys of their randomness.

    `episodes` hold all turns up to this one, or of a `Memoryless` agent this one alone.
    """

    episodes: Episodes
    rows: np.ndarray
    now: Observations
    key: np.ndarray
    turn: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Episode]:
        """The conversations so far; each ends with the observation that waits for an answer."""
        return (self.episodes[int(i)] for i in self.rows)

    @cached_property
    def instances(self) -> Instances:
        """The instances that are asked, [n]."""
        if np.array_equal(self.rows, np.arange(len(self.episodes))):
            return self.episodes.instances
        return self.episodes.instances.take(self.rows)

    def uniform(self, elements: int) -> np.ndarray:
        """Uniform numbers [n, elements] that depend on (seed, instance, repeat, turn, element) and on nothing else."""
        return uniform(mix(self.key, self.turn), elements)
