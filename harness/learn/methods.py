"""Methods: where episodes come from × how much each counts × which surrogate is differentiated × one normaliser.

Every piece is a plain function, so a method is a row of `METHODS` and one loop (`learn.loop`) serves all of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.registry import find
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.oracle import Projection
from razorbench.harness.learn.policy import Enumerable, Policy, Prediction, encoded, whole
from razorbench.harness.learn.settings import Settings
from razorbench.harness.learn.vocabulary import likeliest


@dataclass
class Learner:
    """Who takes part in an adaptation: the policy, its base, and whom else the method samples from."""

    policy: Policy
    task: Task
    settings: Settings
    seed: int
    instances: Instances
    teacher: Agent | None = None
    epoch_start: Policy | None = None
    """A frozen copy of the policy, renewed at the start of each epoch, for methods that sample from it."""
    shown: Episodes | None = None
    """Encoded demonstrations of every training instance, made when first asked for."""


# --- sources: where the episodes of a step come from ------------------------------------------------------------------
#
# A source takes the learner, the prompts (indices into the training instances, [P]) and the step's seed. It returns
# coded episodes and the group [N] of each: those who answer the same prompt.

Source = Callable[[Learner, np.ndarray, int], tuple[Episodes, np.ndarray]]

READ: dict[Callable[..., Any], tuple[str, ...]] = {}
"""Piece of a method → the settings that it reads, where others do not."""
ON_POLICY: set[Source] = set()
"""Sources of what the policy itself says as it is."""
APART: set[Source] = set()
"""Sources that do not ask the base."""


def demonstrated(learner: Learner, prompts: np.ndarray, seed: int) -> tuple[Episodes, np.ndarray]:
    """The expert's answers, one a prompt, drawn once for the whole adaptation."""
    if learner.shown is None:
        made = demonstrations(learner.task, learner.instances, learner.settings.style, seed=learner.seed)
        learner.shown = encoded(learner.policy, made)
    return learner.shown.take(prompts), np.arange(len(prompts))


def sampled(
    actor: Callable[[Learner], Agent], *, once: bool = False, single: bool = False, on_policy: bool = False
) -> Source:
    """A source: answers of some actor at temperature 1, `group` of them a prompt, or a single one.

    `once` draws the same answers whenever a prompt comes round, as if they were a fixed data set. `on_policy` says that
    the actor is the policy as it is, computed by another engine.
    """
    on_policy = on_policy or actor is itself

    def source(learner: Learner, prompts: np.ndarray, seed: int) -> tuple[Episodes, np.ndarray]:
        group = np.repeat(np.arange(len(prompts)), 1 if single else learner.settings.group)
        instances = learner.instances.take(prompts[group])
        who = actor(learner)
        with whole(who):
            return rollout(who, learner.task, instances, seed=learner.seed if once else seed), group

    own = {"group": not single, "teacher": actor is its_teacher, "importance_cap": on_policy}
    READ[source] = tuple(name for name, reads in own.items() if reads)
    if on_policy:
        ON_POLICY.add(source)
    if actor in (itself, itself_at_epoch_start, its_teacher):
        APART.add(source)
    return source


def itself(learner: Learner) -> Agent:
    """The policy as it is now."""
    return learner.policy


def its_base(learner: Learner) -> Agent:
    """The unadapted policy."""
    return learner.policy.base()


def itself_at_epoch_start(learner: Learner) -> Agent:
    """The policy as it was when the epoch began."""
    assert learner.epoch_start is not None
    return learner.epoch_start


def its_teacher(learner: Learner) -> Agent:
    """An adapted teacher."""
    if learner.teacher is None:
        raise Refused("distillation needs a teacher; name the folder of an adapted checkpoint with --teacher")
    return learner.teacher


def projected(learner: Learner) -> Agent:
    """The nearest policy to the base that is always right (the oracle of arXiv 2509.04259, appendix B.3)."""
    base = learner.policy.base()
    if not isinstance(base, Enumerable):
        raise Refused("the oracle needs a policy with few possible answers; choose a method that samples instead")
    return Projection(base, learner.task)


def contrasted(learner: Learner, prompts: np.ndarray, seed: int) -> tuple[Episodes, np.ndarray]:
    """Pairs for SimPO: the expert's answers, then for each a wrong answer that the base gave, drawn once.

    The paper takes wrong answers from "an external model"; ours is the base, asked `group` times. A prompt on which it
    is never wrong makes no pair and is left out.
    """
    asked, group = sampled(its_base, once=True)(learner, prompts, seed)
    wrong = np.flatnonzero(asked.reward < 1)
    paired, first = np.unique(group[wrong], return_index=True)
    shown, _ = demonstrated(learner, prompts[paired], seed)
    return Episodes.join(shown, asked.take(wrong[first])), np.tile(paired, 2)


# --- weights: how much each episode counts, [N], or each of its turns, [N, K] -----------------------------------------


@dataclass(frozen=True)
class Batch:
    """What a weight may depend on: rewards [N] (double; NaN: unscored), groups [N], the present log-probabilities."""

    reward: Tensor
    group: Tensor
    settings: Settings
    logp: Callable[[], Tensor]
    """Log-probability of each episode under the policy as it is, [N] nats, without gradient; costs a forward pass."""
    turn_reward: Callable[[], Tensor]
    """Rewards of each turn, [N, K] (double; NaN: no such turn, or unscored). Refuses a task that gives none."""


def all_alike(batch: Batch) -> Tensor:
    """1 for every episode."""
    return torch.ones_like(batch.reward)


def right_only(batch: Batch) -> Tensor:
    """1 for a right episode (reward 1), else 0."""
    return (batch.reward >= 1).to(batch.reward)


def by_group(x: Tensor, group: Tensor) -> Tensor:
    """For each row the mean of `x` [N, …] over the scored rows of its group, [N, …]; 0 where none is scored."""
    scored = ~x.isnan()
    none = x.new_zeros(int(group.max()) + 1, *x.shape[1:])
    total = none.index_add(0, group, torch.where(scored, x, 0.0))
    count = none.index_add(0, group, scored.to(x))
    return (total / count.clamp(min=1))[group]


def centred(batch: Batch) -> Tensor:
    """Reward − mean of the group; 0 where unscored (Dr. GRPO, Liu et al. 2025, arXiv 2503.20783, eq. 3)."""
    return (batch.reward - by_group(batch.reward, batch.group)).nan_to_num(0.0)


def centred_to_go(batch: Batch) -> Tensor:
    """What a turn and those after it earned, Σ γ^(k−t) r_k over k ≥ t, minus its mean over the group, [N, K].

    The mean is over those who came to that turn; 0 where there is no turn, or it is unscored. REINFORCE with baseline
    (Sutton and Barto 2018, section 13.4, without its factor γ^t), the baseline being GRPO's, a turn (arXiv 2505.11821).
    """
    earned = batch.turn_reward()
    to_go = earned.nan_to_num(0.0)
    for k in reversed(range(earned.shape[1] - 1)):
        to_go[:, k] += batch.settings.gamma * to_go[:, k + 1]
    to_go = to_go.masked_fill(earned.isnan(), math.nan)
    return (to_go - by_group(to_go, batch.group)).nan_to_num(0.0)


def standardised(batch: Batch) -> Tensor:
    """(Reward − mean) / standard deviation of the group (GRPO, Shao et al. 2024, arXiv 2402.03300, section 4.1.2).

    The population deviation; 0 for a group in which all rewards are equal (up to the rounding of their mean), and where
    unscored.
    """
    away = batch.reward - by_group(batch.reward, batch.group)
    deviation, size = (by_group(x.square(), batch.group).sqrt() for x in (away, batch.reward))
    differ = deviation > ALIKE * size
    return torch.where(differ, away / torch.where(differ, deviation, 1.0), 0.0).nan_to_num(0.0)


ALIKE = 1e-12
"""Deviation of a group's rewards, relative to their size, up to which they are equal but for double rounding."""


def margin_gap(batch: Batch) -> Tensor:
    """±σ(γ − (log π(y_w) − log π(y_l))): with log π as surrogate, exactly the gradient of SimPO's logistic loss.

    −log σ(log π(y_w|x) − log π(y_l|x) − γ) as arXiv 2509.04259, section 5.1, has it: not divided by the length, γ = 1.
    The first half of the batch holds the right answers, the second their wrong ones, in the same order.
    """
    better, worse = batch.logp().chunk(2)
    gap = torch.sigmoid(batch.settings.margin - (better - worse))
    return torch.cat([gap, -gap])


# --- surrogates: what is differentiated, [n, T] to be maximised; weights are [n, 1], or [n, T] where turns have some --


def log_likelihood(part: Prediction, weight: Tensor, old: Tensor | None, settings: Settings) -> Tensor:
    """weight · log π: the likelihood of SFT, and the score-function estimator of REINFORCE (Williams 1992, eq. 4)."""
    return weight * part.logp


def entropy_gated(part: Prediction, weight: Tensor, old: Tensor | None, settings: Settings) -> Tensor:
    """log π · H/ln K, with H the entropy of the K likeliest alternatives, no gradient (EAFT, arXiv 2601.02151, eq. 3).

    The K log-probabilities are normalised among themselves; with fewer than K alternatives, all of them count.
    """
    top = likeliest(part.dist, settings.top_k).log_softmax(-1)  # [N, T, K]
    gate = -(top.exp() * top).sum(-1) / math.log(top.shape[-1])
    return weight * gate * part.logp


def clipped_ratio(part: Prediction, weight: Tensor, old: Tensor | None, settings: Settings) -> Tensor:
    """min(r·A, clip(r, 1 ± ε)·A), r = π/π_old (PPO, Schulman et al. 2017, eq. 7; GRPO eq. 3)."""
    ratio = (part.logp - (part.logp.detach() if old is None else old)).exp()
    return torch.minimum(ratio * weight, ratio.clamp(1 - settings.clip, 1 + settings.clip) * weight)


Surrogate = Callable[[Prediction, Tensor, Tensor | None, Settings], Tensor]


def truncated_importance(old: Tensor, sampler: Tensor, cap: float) -> Tensor:
    """min(π_old/π_sampler, C) of each element, from log-probabilities [n, T], nats: what a surrogate is multiplied by.

    π_old is the trainer's at the first update on a batch: the weight makes of what the sampler drew a batch of π_old's,
    and a clipped ratio π/π_old goes on from there (the decoupled objective of Hilton et al., arXiv 2110.00641; an
    element at a time, as TRL's `token_truncate` and verl's token level). For answers of one element it is exact but for
    the cap; in longer ones it leaves out the weight of what was said before.
    """
    return (old - sampler).exp().clamp(max=cap)


# --- normalisers: by what an episode's sum of elements is multiplied, [N] from lengths [N] and weights [N] ------------
#
# Where each turn has a weight, an episode's is 1 if one of them counts, else 0.


def per_element(lengths: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """1 / all elements that count: the mean over tokens that SFT takes."""
    return (1 / (lengths * (weight != 0)).sum().clamp(min=1)).expand_as(lengths)


def per_episode(lengths: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """1 / N: the mean over episodes of their sums (REINFORCE)."""
    return torch.ones_like(lengths) / len(lengths)


def per_pair(lengths: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """2 / N: the mean over pairs (SimPO)."""
    return torch.ones_like(lengths) * 2 / len(lengths)


def per_episode_mean(lengths: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """1 / (N · length): the mean over episodes of their means (GRPO, eq. 3)."""
    return 1 / (len(lengths) * lengths.clamp(min=1))


def per_horizon(lengths: Tensor, weight: Tensor, settings: Settings) -> Tensor:
    """1 / (N · horizon): a constant, so that long answers are not favoured (Dr. GRPO, section 3.2)."""
    return torch.ones_like(lengths) / (len(lengths) * settings.horizon)


# --- the table --------------------------------------------------------------------------------------------------------


APART.add(demonstrated)
READ |= {
    demonstrated: ("style",),
    contrasted: ("style", "group"),
    margin_gap: ("margin",),
    entropy_gated: ("top_k",),
    clipped_ratio: ("clip",),
    centred_to_go: ("gamma",),
    per_horizon: ("horizon",),
}
OWN = ("style", "teacher", "group", "margin", "top_k", "clip", "horizon", "gamma", "importance_cap")
"""Settings that only some methods read."""


@dataclass(frozen=True)
class Method:
    """One row of `METHODS`."""

    about: str
    """One sentence, and the source."""
    source: Source
    weight: Callable[[Batch], Tensor]
    surrogate: Surrogate
    normaliser: Callable[[Tensor, Tensor, Settings], Tensor]
    renews_each_epoch: bool = False
    """Whether the source reads `Learner.epoch_start`."""

    @property
    def on_policy(self) -> bool:
        """Whether it learns from what the policy says as it is."""
        return self.source in ON_POLICY

    @property
    def asks_base(self) -> bool:
        """Whether its episodes may need the base; of the sources of others that is not known."""
        return self.source not in APART

    @property
    def reads(self) -> set[str]:
        """Which of the settings in `OWN` it reads."""
        pieces = (self.source, self.weight, self.surrogate, self.normaliser)
        return {name for piece in pieces for name in READ.get(piece, ())}


def find_method(id: str) -> Method:
    """The method of that id: ours, a script's, or another package's. Refuses an unknown one and names the nearest."""
    method = find("method", id)
    if not isinstance(method, Method):
        raise Refused(f"what is registered as the method {id!r} is not one: it should be a Method")
    return method


METHODS: dict[str, Method] = {
    "sft": Method(
        "Supervised fine-tuning on the task's demonstrations.", demonstrated, all_alike, log_likelihood, per_element
    ),
    "oracle-sft": Method(
        "SFT on the KL-minimal right answers (arXiv 2509.04259, B.3).",
        sampled(projected, once=True, single=True),
        right_only,
        log_likelihood,
        per_element,
    ),
    "self-sft": Method(
        "SFT on right answers sampled from the base, drawn once (rejection sampling).",
        sampled(its_base, once=True),
        right_only,
        log_likelihood,
        per_element,
    ),
    "iterative-sft": Method(
        "SFT on right answers sampled from the policy as it was when the epoch began (arXiv 2510.18874).",
        sampled(itself_at_epoch_start),
        right_only,
        log_likelihood,
        per_element,
        renews_each_epoch=True,
    ),
    "on-policy-sft": Method(
        "SFT on right answers sampled at every step: 1-0 REINFORCE, but averaged over what is right.",
        sampled(itself),
        right_only,
        log_likelihood,
        per_element,
    ),
    "distil": Method(
        "SFT on answers sampled from an adapted teacher (arXiv 2509.04259, figure 9).",
        sampled(its_teacher, once=True),
        all_alike,
        log_likelihood,
        per_element,
    ),
    "eaft": Method(
        "SFT gated by the entropy of the prediction (arXiv 2601.02151).",
        demonstrated,
        all_alike,
        entropy_gated,
        per_element,
    ),
    "simpo": Method(
        "Logistic margin between a demonstration and a wrong answer (arXiv 2405.14734, 2509.04259 section 5.1).",
        contrasted,
        margin_gap,
        log_likelihood,
        per_pair,
    ),
    "reinforce": Method(
        "Policy gradient with the group's mean reward as baseline (Williams 1992).",
        sampled(itself),
        centred,
        log_likelihood,
        per_episode,
    ),
    "reinforce-per-turn": Method(
        "Policy gradient in which each turn counts by what is earned from then on (Sutton and Barto 2018, 13.4).",
        sampled(itself),
        centred_to_go,
        log_likelihood,
        per_episode,
    ),
    "1-0-reinforce": Method(
        "Policy gradient without negative examples: weight 1 if right, else 0 (arXiv 2509.04259, section 5.1).",
        sampled(itself),
        right_only,
        log_likelihood,
        per_episode,
    ),
    "grpo": Method(
        "Group-relative policy optimisation (arXiv 2402.03300).",
        sampled(itself),
        standardised,
        clipped_ratio,
        per_episode_mean,
    ),
    "dr-grpo": Method(
        "GRPO without division by deviation or length (arXiv 2503.20783).",
        sampled(itself),
        centred,
        clipped_ratio,
        per_horizon,
    ),
}
