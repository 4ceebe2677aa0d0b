"""Play episodes: one agent, one task, a batch of instances; whole, or as a stream of turns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, joined, row, take
from razorbench.harness.core.episodes import Actions, Asked, Episodes, Instances, Outcome, Reply, Turn
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import Keep, everything
from razorbench.harness.core.protocols import Agent, Bounded, Expert, Guessable, Memoryless, Task
from razorbench.harness.core.randomness import mix, occurrence
from razorbench.harness.core.recorded import covered, path_of, read

AT_ONCE = 2048
"""Episodes that are played at once, where there may be any number of them: many times the lanes of a machine."""
HELD = 2**27
"""Bytes of what was seen that are held at once, where there may be any number of them."""


def rollout(
    agent: Agent,
    task: Task,
    instances: Instances,
    *,
    seed: int = 0,
    temperature: float = 1.0,
    keep: Keep = everything,
    only: np.ndarray | None = None,
) -> Episodes:
    """Episodes of `agent` on `instances`, in their order; an instance that stands twice is drawn anew the second time.

    What an episode draws depends on (seed, instance, repeat, turn, element) alone: not on batching, lanes or
    companions. So a subset of the instances gives a subset of the episodes, and two agents on one seed share their
    random numbers. At temperature 0 nothing is drawn. Of the instances `only` those at some indices [k] are played, as
    they are among all.

    A world that shows what is no number (a state that is not finite) has failed its episode, which is unscored; the
    agent sees nothing in its place. An answer that is no action (a number that is not finite, what a `Bounded` task
    does not know) has failed its episode, which scores 0. The task gets nothing in its place, so that no simulator
    meets it. So has one of which the agent says that it has none (`Actions.error`).
    """
    playing, key = begun(instances, seed, only)
    turns = [kept for turn, first in stream(agent, task, playing, key, temperature) for kept in keep(turn, first)]
    return Episodes(playing.instances, turns, playing.outcome)


def chunks(episodes: int) -> Iterator[np.ndarray]:
    """The indices of some episodes, `AT_ONCE` at a time; of none, no index once."""
    for start in range(0, max(episodes, 1), AT_ONCE):
        yield np.arange(start, min(start + AT_ONCE, episodes))


def in_parts(
    agent: Agent, task: Task, instances: Instances, *, seed: int = 0, only: np.ndarray | None = None
) -> Iterator[Episodes]:
    """What `rollout` gives, whole, in parts of some turns each, while it is played: the last has the outcome.

    What a part has seen takes `HELD` bytes and a turn, at most. Only of a `Memoryless` agent: all that any other does
    is one part.
    """
    playing, key = begun(instances, seed, only)
    turns, held = [], 0
    for turn, _ in stream(agent, task, playing, key):
        if held > HELD and forgets(agent):
            yield Episodes(playing.instances, turns)
            turns, held = [], 0
        turns.append(turn)
        held += turn.seen.nbytes
    yield Episodes(playing.instances, turns, playing.outcome)


def if_small(agent: Agent, task: Task, instances: Instances, *, seed: int = 0) -> Episodes | None:
    """What `rollout` gives, whole; None, as soon as that is known, where what was seen takes more than `HELD` bytes."""
    batches, held = [], 0
    for some in chunks(len(instances)):
        for part in in_parts(agent, task, instances, seed=seed, only=some):
            held += sum(turn.seen.nbytes for turn in part.turns)
            if held > HELD:
                return None
            batches.append(part)
    return reduce(Episodes.join, batches)


def begun(instances: Instances, seed: int, only: np.ndarray | None) -> tuple[Episodes, np.ndarray]:
    """Episodes that nobody has played yet, and the keys [n] of their randomness."""
    key = mix(seed, instances.key, occurrence(instances.key))
    return (Episodes(instances), key) if only is None else (Episodes(instances.take(only)), key[only])


def forgets(agent: Agent) -> bool:
    """Whether an agent has no use for the turns before the present one."""
    return isinstance(agent, Memoryless) and agent.memoryless


def stream(
    agent: Agent, task: Task, playing: Episodes, key: np.ndarray, temperature: float = 1.0
) -> Iterator[tuple[Turn, np.ndarray]]:
    """Plays episodes that have just begun, and gives each turn when it is over, with which of its rows [n] are the
    first of their episode; then the episodes have their outcome. Of their turns they hold what the agent may read.
    """
    n = len(playing)
    turn, game, values = np.zeros(n, np.int64), task.play(playing.instances), None
    ends: dict[int, Outcome] = {}
    forget = forgets(agent)
    try:
        while True:
            try:
                seen = game.send(values)
            except StopIteration as end:
                outcome = end.value
                break
            rows = np.arange(n) if seen.rows is None else np.asarray(seen.rows)
            if len(blind := unreadable(seen.state)):
                seen = replace(seen, state=nothing(seen.state, blind))
                ends = dict.fromkeys(rows[blind].tolist(), Outcome.unscored(NO_SIGHT)) | ends
            playing.turns.append(Turn(rows, seen))
            done = agent.act(Asked(playing, rows, seen, key[rows], turn[rows]), temperature=temperature)
            playing.turns[-1] = Turn(rows, seen, done)
            yield playing.turns[-1], turn[rows] == 0
            if forget:
                playing.turns.clear()
            turn[rows] += 1
            values, bad = screened(task, done.value)
            failed = {int(rows[at]): Outcome.failed(why) for at, why in enumerate(done.error or ()) if why}
            # What went wrong first in an episode has ended it.
            ends = dict.fromkeys(rows[bad].tolist(), Outcome.failed(NO_ACTION)) | failed | ends
    finally:
        game.close()
    playing.outcome = outcome.ending(ends) if ends else outcome


NO_ACTION = "the agent's answer is no action of this task: not finite, or outside of what can be done"


NO_SIGHT = "the world showed what is no number: its state is not finite"


def unreadable(state: Column) -> np.ndarray:
    """Which rows [k] of a state hold a number that is not finite."""
    if state is None or isinstance(state, str):
        return np.empty(0, np.int64)
    return np.flatnonzero(~finite(state))


def screened(task: Task, values: Column) -> tuple[Column, np.ndarray]:
    """The values with nothing in the place of those that are no actions; and which those are, their rows [k].

    Refuses values of another kind than the task's: words where it wants motions.
    """
    if values is None or isinstance(values, str):
        return values, np.empty(0, np.int64)
    good = finite(values)
    if isinstance(task, Bounded):
        try:
            good &= np.asarray(task.valid(values), bool)
        except (ValueError, TypeError) as error:
            kind = type(row(values, 0)).__name__
            raise Refused(
                f"{type(task).__name__} cannot take a {kind} for an action ({str(error)[:80]}); choose a task of what "
                "this agent does"
            ) from error
    bad = np.flatnonzero(~good)
    return (nothing(values, bad) if len(bad) else values), bad


def finite(values: Column) -> np.ndarray:
    """Which rows [n] of a column hold no number that is not finite."""
    if isinstance(values, Mapping):
        return np.logical_and.reduce([finite(inner) for inner in values.values()])
    if isinstance(values, list):
        return np.array([all_finite(value) for value in values], bool)
    if not isinstance(values, np.ndarray):
        values = values.detach().cpu().numpy()  # a torch tensor
    if values.dtype == object:
        return np.array([all_finite(value) for value in values], bool)
    if values.dtype.kind not in "fc":
        return np.ones(len(values), bool)
    return np.logical_and.reduce(np.isfinite(values).reshape(len(values), -1), axis=1)


def all_finite(value: Any) -> bool:
    """Whether a value is no number, or one (or an array, a tensor, several of them) that is finite."""
    if isinstance(value, list | tuple):
        return all(map(all_finite, value))
    if type(value).__module__.partition(".")[0] == "torch":
        value = value.detach().cpu().numpy()
    numbers = isinstance(value, float | np.generic | np.ndarray) and np.asarray(value).dtype.kind in "fc"
    return not numbers or bool(np.isfinite(value).all())


def nothing(values: Column, rows: np.ndarray) -> Column:
    """A copy of the column with zeros, or an empty text, at `rows` [k]."""
    if isinstance(values, Mapping):
        return {name: nothing(inner, rows) for name, inner in values.items()}
    if isinstance(values, list):
        changed: list[Any] = list(values)
        for i in rows.tolist():
            changed[i] = Reply() if isinstance(values[i], str) else 0 * np.ones_like(values[i], np.float64)
        return changed
    changed = take(values, np.arange(len(values)))
    changed[rows] = 0
    return changed


@dataclass(frozen=True)
class Demonstrator:
    """The task's own expert as an agent: right by construction, in one of the task's styles."""

    task: Expert
    style: str

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The expert's values, without codes."""
        return Actions(self.task.solve(asked, self.style))


@dataclass(frozen=True)
class Guesser:
    """An agent that picks at random from everything the task lets it do."""

    task: Guessable

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Random values, without codes."""
        return Actions(self.task.guess(asked))


class Deviated(Exception):
    """A game asked for something that what is replayed does not hold."""


@dataclass(frozen=True)
class Replay:
    """An agent that does again what was done."""

    values: Sequence[Sequence[Any]]
    """Of each episode of the batch, turn by turn."""
    like: Column
    """Some column of such values, which says what kind of column they are."""

    @staticmethod
    def of(record: Episodes) -> "Replay":
        """What was done in these episodes."""
        done = record.turns[0].done if record.turns else None
        return Replay([[action.value for action in each.actions] for each in record], done and done.value)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """What was done by each episode in this turn. Raises `Deviated` where that is more than was."""
        try:
            values = [self.values[i][t] for i, t in zip(asked.rows.tolist(), asked.turn.tolist(), strict=True)]
        except IndexError:
            raise Deviated("asks for more turns than the record has") from None
        return Actions(joined(values, self.like))


def demonstrations(task: Task, instances: Instances, style: str = "", *, seed: int = 0) -> Episodes:
    """Episodes of the task's expert in `style` ("": the first), with the rewards they earn and no codes yet.

    A style `file:PATH` is those of a file, as `razorbench demonstrations` writes it: of the instances that it has.
    """
    if path := path_of(style):
        return rollout(read(task, path), task, covered(task, instances, style), seed=seed)
    if not isinstance(task, Expert):
        raise Refused(
            f"{type(task).__name__} has no demonstrations; choose a method that learns from its own rollouts, or give "
            "a file of demonstrations as style file:PATH"
        )
    style = style or task.styles[0]
    if style not in task.styles:
        raise Refused(f"unknown style {style!r} of demonstrations; choose one of {', '.join(task.styles)}")
    return rollout(Demonstrator(task, style), task, instances, seed=seed)
