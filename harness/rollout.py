"""Play episodes: one agent, one task, a batch of instances."""

from dataclasses import dataclass

import numpy as np

from harness.types import (
    Actions,
    Agent,
    Asked,
    Episodes,
    Expert,
    Guessable,
    Instances,
    Refused,
    Task,
    Turn,
    mix,
    occurrence,
)


def rollout(agent: Agent, task: Task, instances: Instances, *, seed: int = 0, greedy: bool = False) -> Episodes:
    """Episodes of `agent` on `instances`, in their order; an instance that stands twice is drawn anew the second time.

    What an episode draws depends on (seed, instance, repeat, turn, element) alone: not on batching, lanes or
    companions. So a subset of the instances gives a subset of the episodes, and two agents on one seed share their
    random numbers.
    """
    episodes = Episodes(instances)
    key = mix(seed, instances.key, occurrence(instances.key))
    turn, game, values = np.zeros(len(instances), np.int64), task.play(instances), None
    try:
        while True:
            seen = game.send(values)
            rows = np.arange(len(instances)) if seen.rows is None else np.asarray(seen.rows)
            episodes.turns.append(Turn(rows, seen))
            done = agent.act(Asked(episodes, rows, seen, key[rows], turn[rows]), greedy=greedy)
            episodes.turns[-1] = Turn(rows, seen, done)
            turn[rows] += 1
            values = done.value
    except StopIteration as end:
        episodes.outcome = end.value
        return episodes
    finally:
        game.close()


@dataclass(frozen=True)
class Demonstrator:
    """The task's own expert as an agent: right by construction, in one of the task's styles."""

    task: Expert
    style: str

    def act(self, asked: Asked, *, greedy: bool = False) -> Actions:
        """The expert's values, without codes."""
        return Actions(self.task.solve(asked, self.style))


@dataclass(frozen=True)
class Guesser:
    """An agent that picks at random from everything the task lets it do."""

    task: Guessable

    def act(self, asked: Asked, *, greedy: bool = False) -> Actions:
        """Random values, without codes."""
        return Actions(self.task.guess(asked))


def demonstrations(task: Task, instances: Instances, style: str = "", *, seed: int = 0) -> Episodes:
    """Episodes of the task's expert in `style` ("": the first), with the rewards they earn and no codes yet."""
    if not isinstance(task, Expert):
        raise Refused(f"{type(task).__name__} has no demonstrations; choose a method that learns from its own rollouts")
    style = style or task.styles[0]
    if style not in task.styles:
        raise Refused(f"unknown style {style!r} of demonstrations; choose one of {', '.join(task.styles)}")
    return rollout(Demonstrator(task, style), task, instances, seed=seed)
