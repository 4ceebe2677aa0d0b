"""An agent's answers to the items of a task: how they were scored, and what is kept of how they came about."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import reduce

import numpy as np
import torch

from razorbench.harness.core.episodes import Episodes, Instances, Outcome, Outcomes
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import Keep, codes
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.protocols import Agent, Benchmark, Clustered, Task
from razorbench.harness.core.rollout import chunks, rollout
from razorbench.harness.tracks.spec import Conditions

GREEDY = Conditions()
"""The conditions of a track that says nothing else."""


@dataclass(frozen=True)
class Answers:
    """How an agent did on the items of one task: id, score (NaN: unscored), error and metrics of each, [n]."""

    id: list[str]
    """Names of the items; of several answers to one instance, `17#0`, `17#1`, …"""
    score: np.ndarray
    error: Sequence[str | None]
    """Why an item is unscored; or, where it has a score, why the agent failed it."""
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the task measures beside the score; NaN where an item lacks it."""
    played: Episodes | None = None
    """What was said, and what is kept of what was seen; None of a benchmark that owns its loop."""
    cluster: np.ndarray | None = None
    """What items share, by name; None where each stands alone."""
    words: Sequence[tuple[str | None, str | None]] | None = None
    """What each item of a benchmark asked and what was answered, as it tells; None of a task, which is `played`."""

    def __len__(self) -> int:
        return len(self.score)

    @property
    def unscored(self) -> int:
        """Items without a score: the world failed."""
        return int(np.isnan(self.score).sum())

    @property
    def failed(self) -> int:
        """Items that score 0 because the agent did what nobody can score."""
        return sum(error is not None for error, score in zip(self.error, self.score, strict=True) if score == score)

    def take(self, index: np.ndarray) -> "Answers":
        """The answers at `index` [k]."""
        return Answers(
            [self.id[i] for i in index],
            self.score[index],
            [self.error[i] for i in index],
            {name: column[index] for name, column in self.metrics.items()},
            self.played and self.played.take(index),
            None if self.cluster is None else self.cluster[index],
            self.words and [self.words[i] for i in index],
        )

    def first(self, items: int) -> "Answers":
        """The first `items` of them, without what was said; 0: all."""
        return replace(self, played=None).take(np.arange(min(items, len(self)))) if items else self

    @staticmethod
    def join(parts: Sequence["Answers"]) -> "Answers":
        """All answers of several batches [k ≥ 1] to a task, in their order."""
        if len(parts) == 1:
            return parts[0]
        known = dict.fromkeys(name for part in parts for name in part.metrics)
        played = [part.played for part in parts if part.played is not None]
        clusters = [part.cluster for part in parts if part.cluster is not None]
        return Answers(
            [item for part in parts for item in part.id],
            np.concatenate([part.score for part in parts]),
            [error for part in parts for error in part.error],
            {
                name: np.concatenate([part.metrics.get(name, np.full(len(part), np.nan)) for part in parts])
                for name in known
            },
            reduce(Episodes.join, played) if played else None,
            np.concatenate(clusters) if clusters else None,
        )


def evaluate(
    agent: Agent,
    task: Task | Benchmark,
    *,
    items: int = 0,
    seed: int = 0,
    conditions: Conditions = GREEDY,
    keep: Keep = codes,
) -> Answers:
    """The agent's answers to the first `items` test items (0: all), under the conditions, scored by the task.

    `keep` says what remains of its episodes: what it did and the words that it heard, unless more or less is wanted.
    """
    return Answers.join([*answered(agent, task, items=items, seed=seed, conditions=conditions, keep=keep)])


def answered(
    agent: Agent, task: Task | Benchmark, *, items: int, seed: int = 0, conditions: Conditions, keep: Keep
) -> Iterator[Answers]:
    """The same as it is played: some items after the others, each batch as soon as it has ended."""
    if isinstance(task, Benchmark):
        samples = task.evaluate(agent, items or None)
        outcome = Outcomes.stack([Outcome(sample.score, sample.metrics, sample.error) for sample in samples])
        told = answers([str(sample.id) for sample in samples], outcome)
        yield replace(told, words=[(sample.asked, sample.said) for sample in samples])
        return
    instances, names = questions(task, items, conditions)
    for some in chunks(len(instances)):
        with torch.no_grad():
            played = rollout(
                agent, task, instances, seed=seed, temperature=conditions.temperature, keep=keep, only=some
            )
        assert played.outcome is not None
        told = answers([names[i] for i in some], played.outcome)
        yield replace(told, played=played, cluster=clusters(task, played.instances, conditions))


def clusters(task: Task, instances: Instances, conditions: Conditions) -> np.ndarray | None:
    """Names [n] of what instances share with each other or with others of a track; None where each stands alone."""
    if isinstance(task, Clustered):
        return task.clusters(instances)
    kind = task.name if isinstance(task, Workers) else f"{type(task).__module__}.{type(task).__qualname__}"
    return np.array([f"{kind} {id}" for id in instances.id]) if conditions.samples > 1 else None


def questions(task: Task, items: int, conditions: Conditions) -> tuple[Instances, list[str]]:
    """The first `items` test instances of a task (0: all), each as often as it is answered, and the items' names."""
    instances, repeats = task.instances("test").first(items), conditions.samples
    names = [str(id) for id in instances.id]
    if repeats == 1:
        return instances, names
    some = instances.take(np.repeat(np.arange(len(instances)), repeats))
    return some, [f"{name}#{repeat}" for name in names for repeat in range(repeats)]


def bare(played: Episodes) -> Episodes:
    """Episodes without the data of their instances, which the task has: only whom they are of."""
    return replace(played, instances=Instances(played.instances.id))


def answers(id: list[str], outcome: Outcomes) -> Answers:
    """The outcomes of the items `id` [n]."""
    metrics = {name: np.asarray(column, np.float64) for name, column in outcome.metrics.items()}
    return Answers(id, np.asarray(outcome.reward, np.float64), outcome.error or [None] * len(outcome), metrics)


def matched(task: str, base: Answers, adapted: Answers) -> Answers:
    """The adapted agent's answers in the order of the base's, item by item. Refused unless both have the same items."""
    if base.id == adapted.id:
        return adapted
    places = {item: at for at, item in enumerate(adapted.id)}
    missing = [item for item in base.id if item not in places]
    extra = set(adapted.id) - set(base.id)
    if missing or extra or len(places) < len(adapted):
        such = [f"{len(missing)} of the base's are missing, such as {missing[0]}"] if missing else []
        such += [f"{len(extra)} are new, such as {min(extra)}"] if extra else []
        such += ["an item was answered twice"] if len(places) < len(adapted) else []
        raise Refused(
            f"base and adapted answered other items of {task} ({'; '.join(such)}), so they cannot be compared; "
            "the task must ask everyone the same"
        )
    return adapted.take(np.array([places[item] for item in base.id]))
