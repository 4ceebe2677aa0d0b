"""How far the adapted policy has moved from its base on a task: forward and reverse KL, exact at every element."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.randomness import occurrence
from razorbench.harness.core.rollout import chunks, in_parts
from razorbench.harness.learn.policy import Policy, Prediction
from razorbench.harness.learn.vocabulary import Vocabulary, joined, kl, rows


@dataclass(frozen=True)
class Divergence:
    """KL per episode, [N] nats, the elements of each episode [N], and the sampled log-ratio it is checked against."""

    nats: Tensor
    elements: Tensor
    log_ratio: Tensor
    """log p − log q of what was done, [N] nats: the same expectation, with more variance."""

    def __add__(self, other: "Divergence") -> "Divergence":
        """Of the same episodes, over the turns of both."""
        return Divergence(self.nats + other.nats, self.elements + other.elements, self.log_ratio + other.log_ratio)

    @staticmethod
    def join(parts: Sequence["Divergence"]) -> "Divergence":
        """Of all episodes of several batches, in their order."""
        return Divergence(
            *(torch.cat([getattr(part, name) for part in parts]) for name in ("nats", "elements", "log_ratio"))
        )


D = TypeVar("D", Divergence, Divergence | None)
"""What a measure of drift finds: a divergence, or of some none."""


@dataclass(frozen=True)
class Compared:
    """What two policies predict of one micro-batch, and KL(p‖q) at each element, [N, T] nats."""

    p: Prediction
    q: Prediction
    nats: Tensor


@torch.no_grad()
def compared(p: Policy, q: Policy, episodes: Episodes) -> Iterator[Compared]:
    """Both policies along the same episodes, a micro-batch at a time; exact over the alphabet at each element."""
    for ours, theirs in zip(p.predict(episodes), q.predict(episodes), strict=True):
        yield Compared(ours, theirs, ours.masked(kl(ours.dist, theirs.dist)))


def divergence(p: Policy, q: Policy, episodes: Episodes) -> Divergence:
    """KL(p‖q) along episodes that `p` sampled: exact over the alphabet at each element, only the prefix is sampled.

    `E_{y ~ p} Σ_t KL(p(·|y_<t) ‖ q(·|y_<t)) = KL(p(y) ‖ q(y))` by the chain rule.
    """
    n = len(episodes)
    nats, log_ratio = torch.zeros(n), torch.zeros(n)
    with torch.no_grad():
        for part in compared(p, q, episodes):
            nats += part.p.per_episode(part.nats, n).cpu()
            log_ratio += part.p.per_episode(part.p.logp - part.q.logp, n).cpu()
    return Divergence(nats, torch.from_numpy(episodes.lengths()), log_ratio)


def elements(p: Policy, q: Policy, episodes: Episodes) -> list[tuple[Tensor, Tensor]]:
    """Of each episode, what was chosen, [T, …], and KL(p‖q) there, [T] nats: `divergence` before it is summed."""
    parts = []
    for part in compared(p, q, episodes):
        real = torch.ones_like(part.nats, dtype=torch.bool) if part.p.mask is None else part.p.mask
        owner = part.p.owner[:, None].expand_as(real)
        parts.append([column[real].cpu() for column in (owner, part.p.code, part.nats)])
    if not parts:  # nothing was chosen
        return [(torch.zeros(0, dtype=torch.int64), torch.zeros(0))] * len(episodes)
    owner, code, nats = (torch.cat(column) for column in zip(*parts, strict=True))
    order, lengths = owner.argsort(stable=True), owner.bincount(minlength=len(episodes)).tolist()
    return list(zip(code[order].split(lengths), nats[order].split(lengths), strict=True))


@torch.no_grad()
def floor(policy: Policy, episodes: Episodes) -> Divergence | None:
    """KL of a policy to itself, computed once in its usual micro-batches and once with each episode alone.

    The two differ by rounding only: a drift that is not larger says nothing. None where its distributions are over no
    alphabet, or of several widths, and so cannot be taken apart into rows.
    """
    n, apart, starts = len(episodes), [], [0]
    for i in range(n):
        parts = [part.dist for part in policy.predict(episodes.take(np.array([i])))]
        apart += parts
        starts.append(starts[-1] + sum(dist.batch_shape[0] for dist in parts))
    if (
        not apart
        or not all(isinstance(dist, Categorical | Vocabulary) for dist in apart)
        or len({d.batch_shape[1:] for d in apart}) > 1
    ):
        return None
    second = joined(apart)
    nats, seen = torch.zeros(n), np.zeros(n, np.int64)
    for part in policy.predict(episodes):
        owner = part.owner.cpu().numpy()
        at = np.array(starts)[owner] + seen[owner] + occurrence(owner)  # its rows come in the same order
        seen += np.bincount(owner, minlength=n)
        away = part.masked(kl(part.dist, rows(second, torch.from_numpy(at).to(part.owner.device))))
        nats += part.per_episode(away, n).cpu()
    return Divergence(nats, torch.from_numpy(episodes.lengths()), torch.zeros(n))


def along(policy: Policy, task: Task, instances: Instances, measure: Callable[[Episodes], D], *, seed: int = 0) -> D:
    """What `measure` finds along the episodes that `policy` plays, summed while it plays: none is kept.

    None where it finds that of any part.
    """
    batches: list[list[Any]] = []
    with torch.no_grad():
        for some in chunks(len(instances)):
            batches.append([*map(measure, in_parts(policy, task, instances, seed=seed, only=some))])
    known = all(part is not None for batch in batches for part in batch)
    total: Any = Divergence.join([reduce(add, batch) for batch in batches]) if known else None
    return total


def forward_kl(base: Policy, adapted: Policy, task: Task, instances: Instances, *, seed: int = 0) -> Divergence:
    """E_{x, y ~ base} [log base − log adapted]: the drift of arXiv 2509.04259, section 4."""
    return along(base, task, instances, partial(divergence, base, adapted), seed=seed)


def reverse_kl(base: Policy, adapted: Policy, task: Task, instances: Instances, *, seed: int = 0) -> Divergence:
    """E_{x, y ~ adapted} [log adapted − log base]."""
    return along(adapted, task, instances, partial(divergence, adapted, base), seed=seed)
