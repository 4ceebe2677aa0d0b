"""How far adapters are from the same adapters merged into the weights, which is what many serve.

A LoRA that is merged in bf16 answers otherwise than beside its weights (peft's issues 1836 and 2502).
"""

from dataclasses import dataclass

import torch

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import LowRank, Policy
from razorbench.harness.learn.vocabulary import likeliest
from razorbench.harness.measure.drift import compared

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
"""What merged weights are rounded to."""


MERGED_EPISODES = 16
"""Episodes over which it is measured."""


@dataclass(frozen=True)
class Merged:
    """Adapters beside their weights against the same adapters merged into them, along what the first do greedily."""

    dtype: str
    """What the merged weights are rounded to."""
    nats: float
    """KL(unmerged‖merged), exact at each element, an episode."""
    answers: float
    """Share of the episodes that the merged policy would play otherwise."""
    episodes: int


def merging(agent: Policy, task: Task, instances: Instances) -> list[Merged]:
    """A row for each of `DTYPES`, over the first instances; none where there is nothing to merge."""
    rows: list[Merged] = []
    greedy = None
    for name, dtype in DTYPES.items():
        if not isinstance(agent, LowRank) or (merged := agent.merged(dtype)) is agent:
            return []
        greedy = greedy or rollout(agent, task, instances.first(MERGED_EPISODES), temperature=0.0)
        rows.append(Merged(name, *apart(agent, merged, greedy), len(greedy)))
    return rows


def apart(agent: Policy, other: Policy, greedy: Episodes) -> tuple[float, float]:
    """KL(agent‖other) an episode, nats, along the agent's greedy episodes; and in which share of them `other` would do
    something else: an element is not its likeliest, and before the first such one both have done the same.
    """
    n = len(greedy)
    nats, away = torch.zeros(n), torch.zeros(n)
    with torch.no_grad():
        for part in compared(agent, other, greedy):
            nats += part.p.per_episode(part.nats, n).cpu()
            away += part.q.per_episode((likeliest(part.q.dist, 1)[..., 0] > part.q.logp).float(), n).cpu()
    return float(nats.double().mean()), float((away > 0).double().mean())
