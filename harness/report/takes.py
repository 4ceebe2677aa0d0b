"""What agents did on one instance of a task: what a film shows, and a recording."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from razorbench.harness.core.episodes import Instance, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import nothing
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.rollout import rollout


@runtime_checkable
class Visible(Protocol):
    """A task of which pictures can be made."""

    def frames(self, instance: Instance, motions: Any) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] uint8 of recorded values, the initial state first."""
        ...


@dataclass(frozen=True)
class Take:
    """What an agent did, turn by turn, and the reward of it."""

    values: Sequence[Any]
    reward: float

    @property
    def ending(self) -> str:
        """How it ended, in words."""
        return {1.0: "solved", 0.0: "not solved"}.get(self.reward, f"reward {self.reward:g}")


def visible(task: Task) -> Visible:
    """The task, if pictures can be made of it; else Refused."""
    if not isinstance(task, Visible):
        raise Refused(f"{type(task).__name__} has no pictures; choose a task with a method `frames`")
    return task


def first_flip(task: Task, agents: Sequence[Agent], among: int = 50) -> Any:
    """The id of the first test instance, of `among`, that the first two agents do not do equally well.

    Raises Refused where there is none.
    """
    instances = task.instances("test").first(among)
    one, two = (rollout(agent, task, instances, temperature=0.0, keep=nothing).reward for agent in agents[:2])
    flips = np.flatnonzero(one != two)
    if not len(flips):
        raise Refused(f"both do the same on the first {among} instances; name one with --item")
    return instances.id[flips[0]].item()


def find(task: Task, id: Any) -> Instances:
    """The one instance of that id, which may be given as text."""
    for split in ("test", "train"):
        instances = task.instances(split)
        if len(at := np.flatnonzero(instances.id.astype(str) == str(id))):
            return instances.take(at)
    raise Refused(f"{type(task).__name__} has no instance {id!r}; ids run from {instances.id[0]} to {instances.id[-1]}")
