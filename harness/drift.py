"""How far the adapted policy has moved from its base on a task: forward and reverse KL, exact at every element."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.distributions import kl_divergence

from harness.policy import Policy
from harness.rollout import rollout
from harness.types import Episodes, Instances, Task


@dataclass(frozen=True)
class Divergence:
    """KL per episode, [N] nats, the elements of each episode [N], and the sampled log-ratio it is checked against."""

    nats: Tensor
    elements: Tensor
    log_ratio: Tensor
    """log p − log q of what was done, [N] nats: the same expectation, with more variance."""


def divergence(p: Policy, q: Policy, episodes: Episodes) -> Divergence:
    """KL(p‖q) along episodes that `p` sampled: exact over the alphabet at each element, only the prefix is sampled.

    E_{y ~ p} Σ_t KL(p(·|y_<t) ‖ q(·|y_<t)) = KL(p(y) ‖ q(y)) by the chain rule.
    """
    n = len(episodes)
    nats, log_ratio = torch.zeros(n), torch.zeros(n)
    with torch.no_grad():
        for ours, theirs in zip(p.predict(episodes), q.predict(episodes), strict=True):
            nats += ours.per_episode(kl_divergence(ours.dist, theirs.dist), n).cpu()
            log_ratio += ours.per_episode(ours.logp - theirs.logp, n).cpu()
    return Divergence(nats, torch.from_numpy(episodes.lengths()), log_ratio)


def forward_kl(base: Policy, adapted: Policy, task: Task, instances: Instances, *, seed: int = 0) -> Divergence:
    """E_{x, y ~ base} [log base − log adapted]: the drift of arXiv 2509.04259, section 4."""
    with torch.no_grad():
        return divergence(base, adapted, rollout(base, task, instances, seed=seed))


def reverse_kl(base: Policy, adapted: Policy, task: Task, instances: Instances, *, seed: int = 0) -> Divergence:
    """E_{x, y ~ adapted} [log adapted − log base]."""
    with torch.no_grad():
        return divergence(adapted, base, rollout(adapted, task, instances, seed=seed))
