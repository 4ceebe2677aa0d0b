"""Confident conflicts: what a policy finds unlikely in some data though it is sure there (EAFT, arXiv 2601.02151)."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.protocols import Expert, Task
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.policy import Policy, encoded
from razorbench.harness.measure.intervals import t_interval

LOWEST = 0.15
"""Share of the demonstrations' elements that count as unlikely, and share of them where the policy counts as sure."""
SOME = 32
"""Episodes that are held at once."""
PROBABILITY = np.array([0.0, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5, 0.9, 1.0])
"""Edges of the map, and of the other axis in nats."""
ENTROPY = np.array([0.0, 1e-3, 1e-2, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, np.inf])


@dataclass(frozen=True)
class Landscape:
    """What a policy makes of the elements (tokens, bins) of some data, [M] each."""

    name: str
    """Whose words they are."""
    probability: np.ndarray
    """That the policy gives to the element that stands there, 0 to 1."""
    entropy: np.ndarray
    """Of the policy's distribution there, exact over the alphabet, nats."""
    episode: np.ndarray
    """Which of the episodes it belongs to."""

    @cached_property
    def map(self) -> np.ndarray:
        """How many elements there are in each cell, [probability, entropy] between the edges above."""
        ends = np.append(ENTROPY[:-1], max(2 * ENTROPY[-2], 2 * self.entropy.max(initial=0.0)))
        return np.histogram2d(self.probability, self.entropy, (PROBABILITY, ends))[0].astype(int)


@dataclass(frozen=True)
class Thresholds:
    """Up to which probability an element is unlikely, and up to which entropy (nats) the policy is sure."""

    probability: float
    entropy: float

    @staticmethod
    def of(demonstrations: Sequence[Landscape], lowest: float = LOWEST) -> "Thresholds":
        """Quantiles of the demonstrations' elements: a share `lowest` is unlikely, and as many are sure."""
        columns = ([getattr(each, name) for each in demonstrations] for name in ("probability", "entropy"))
        return Thresholds(*(float(np.quantile(np.concatenate(column), lowest)) for column in columns))

    def conflicts(self, of: Landscape) -> np.ndarray:
        """Which elements [M] are confident conflicts: unlikely, and the policy is sure."""
        return (of.probability <= self.probability) & (of.entropy <= self.entropy)


@dataclass(frozen=True)
class Conflicts:
    """How many elements of some data are confident conflicts, a share with its 95 % interval over episodes."""

    data: str
    episodes: int
    elements: int
    nats: float
    """Mean of −log p of an element."""
    entropy: float
    """Mean, nats."""
    unlikely: float
    """Share of the elements."""
    sure: float
    share: float
    """Of the elements that are both."""
    low: float
    high: float


def landscape(policy: Policy, data: Iterator[Episodes], name: str) -> Landscape:
    """What a policy makes of the elements of episodes that have its codes, one batch after another."""
    columns: list[tuple[np.ndarray, ...]] = []
    episodes = 0
    for some in data:
        with torch.no_grad():
            for part in policy.predict(some):
                entropy = part.dist.entropy()  # [N, T]
                real = torch.ones_like(entropy, dtype=torch.bool) if part.mask is None else part.mask
                owner = part.owner[:, None].expand_as(real) + episodes
                columns.append(tuple(x[real].cpu().numpy() for x in (part.logp.double().exp(), entropy, owner)))
        episodes += len(some)
    return Landscape(name, *(np.concatenate(column) for column in zip(*columns, strict=True)))


def shown(policy: Policy, task: Task, instances: Instances, style: str, seed: int = 0) -> Iterator[Episodes]:
    """The demonstrations of a task's expert, with the policy's codes."""
    for start in range(0, len(instances), SOME):
        some = instances.take(np.arange(start, min(start + SOME, len(instances))))
        yield encoded(policy, demonstrations(task, some, style, seed=seed))


def sampled(policy: Policy, task: Task, instances: Instances, seed: int = 0) -> Iterator[Episodes]:
    """What the policy says itself, at temperature 1."""
    for start in range(0, len(instances), SOME):
        some = np.arange(start, min(start + SOME, len(instances)))
        yield rollout(policy, task, instances, seed=seed, only=some)


def landscapes(
    policy: Policy, task: Task, instances: Instances, styles: Sequence[str] = (), seed: int = 0
) -> list[Landscape]:
    """A policy on a task's demonstrations, style by style (none named: all that there are), and on its own rollouts."""
    named = styles or (task.styles if isinstance(task, Expert) else [""])
    made = [
        landscape(policy, shown(policy, task, instances, style, seed), f"demonstrations, {style}") for style in named
    ]
    return [*made, landscape(policy, sampled(policy, task, instances, seed), "its own rollouts")]


def counted(of: Landscape, thresholds: Thresholds) -> Conflicts:
    """The share of confident conflicts in a landscape."""
    both = thresholds.conflicts(of)
    who, place = np.unique(of.episode, return_inverse=True)
    totals, sizes = (np.bincount(place, weights, len(who)).astype(float) for weights in (both, None))
    low, high, _ = t_interval(totals, sizes)
    with np.errstate(divide="ignore"):
        nats = -float(np.log(of.probability).mean())
    return Conflicts(
        of.name,
        len(who),
        len(both),
        nats,
        float(of.entropy.mean()),
        float((of.probability <= thresholds.probability).mean()),
        float((of.entropy <= thresholds.entropy).mean()),
        float(both.mean()),
        max(0.0, float(low)),
        float(high),
    )


def cells(of: Landscape) -> list[dict[str, Any]]:
    """The map as rows: the cells that hold any elements, with their edges."""
    return [
        {
            "data": of.name,
            "probability_from": PROBABILITY[i],
            "probability_to": PROBABILITY[i + 1],
            "entropy_from": ENTROPY[j],
            "entropy_to": None if np.isinf(ENTROPY[j + 1]) else ENTROPY[j + 1],
            "elements": int(of.map[i, j]),
        }
        for i, j in np.argwhere(of.map).tolist()
    ]


def table(landscapes: Sequence[Landscape], thresholds: Thresholds) -> list[dict[str, Any]]:
    """A row a landscape."""
    return [asdict(counted(each, thresholds)) for each in landscapes]
