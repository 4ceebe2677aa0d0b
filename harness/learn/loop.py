"""The adaptation loop: one for every method. A step is a function of (weights, optimiser state, seed, step number)."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, cast

import numpy as np
import torch
from torch import Tensor

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.randomness import mix
from razorbench.harness.core.recorded import covered
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.elements import Elements
from razorbench.harness.learn.engine import LOCAL, Engine, share, summed
from razorbench.harness.learn.measures import Sampled
from razorbench.harness.learn.memory import check_room
from razorbench.harness.learn.methods import (
    Batch,
    Learner,
    Method,
    centred,
    centred_to_go,
    standardised,
    truncated_importance,
)
from razorbench.harness.learn.observers import Observer, named
from razorbench.harness.learn.policy import Layered, Policy, Prediction, Shardable, log_probabilities
from razorbench.harness.learn.settings import Settings
from razorbench.harness.learn.shards import number, placed
from razorbench.harness.learn.state import State
from razorbench.harness.learn.vocabulary import kl


def total_steps(settings: Settings, instances: int) -> int:
    """How many steps an adaptation takes; an epoch is the full batches that the instances make, at least one."""
    return settings.steps or max(1, round(settings.epochs * max(1, instances // settings.batch)))


def learning_rate(settings: Settings, step: int, steps: int) -> float:
    """Learning rate of step 0, 1, …: linear warm-up, then constant, or a cosine to 0."""
    warm = min(1.0, (step + 1) / settings.warmup) if settings.warmup else 1.0
    if settings.schedule == "constant" or step < settings.warmup:
        return settings.lr * warm
    return settings.lr * 0.5 * (1 + math.cos(math.pi * (step - settings.warmup) / max(1, steps - settings.warmup)))


class Adaptation:
    """A policy on its way: iterate for one report a step; `save` and `load` go on exactly where it was."""

    def __init__(
        self,
        policy: Policy,
        task: Task,
        method: Method,
        settings: Settings,
        *,
        seed: int = 0,
        teacher: Agent | None = None,
        priors: Sequence[Task] = (),
        engine: Engine = LOCAL,
        observers: Sequence[Observer] = (),
    ):
        """Train `policy` in place. `priors` are the tasks that elastic weight consolidation protects.

        `observers` see it, and what they measure stands in the reports.
        Of an `engine` of several processes each has such a policy, with the same weights, and ends with the same.

        Refuses settings by which nothing would be learned, or not at the rate that they name; and weights that are kept
        in less than float32, or whose gradients and moments do not fit into the memory that is free.
        """
        if settings.group < 2 and method.weight in (centred, centred_to_go, standardised):
            raise Refused(
                f"a group of {settings.group} has no other answer to compare with, so nothing would be learned"
            )
        instances = every = task.instances("train").first(settings.examples)
        if "style" in method.reads:
            instances = covered(task, every, settings.style)
        self.without = len(every) - len(instances)
        """Training instances that are left out, because a file of demonstrations has none of them."""
        self.method, self.settings, self.engine, self.step = method, settings, engine, 0
        self.cap = settings.importance_cap if method.on_policy else 0.0
        self.steps = total_steps(settings, len(instances))
        if settings.warmup > self.steps:
            raise Refused(
                f"a warm-up of {settings.warmup} steps never reaches its learning rate in {self.steps}; "
                f"give a warmup of at most {self.steps}"
            )
        self.steps_per_epoch = max(1, len(instances) // settings.batch)
        if self.steps * settings.batch < len(instances):  # the others will never be asked: no demonstration of them
            instances = instances.take(order(seed, 0, instances)[: self.steps * settings.batch])
        start = policy.copy() if method.renews_each_epoch else None
        self.learner = Learner(policy, task, settings, seed, instances, teacher, start)
        self.fisher = fisher(policy, priors, seed) if settings.ewc else []
        for each in {id(x): x for x in (policy, policy.base(), teacher, start) if isinstance(x, Policy)}.values():
            engine.share_out(each)
        self.parameters = list(policy.parameters())
        if coarse := next((p.dtype for p in self.parameters if p.dtype.itemsize < 4), None):
            raise Refused(
                f"weights in {str(coarse).removeprefix('torch.')} are too coarse for small steps, which are rounded "
                "away; keep those that are trained in float32, and compute in bfloat16 with --dtype"
            )
        check_room(self.parameters)
        if engine.sharded and settings.optimizer == "muon":
            raise Refused("Muon needs whole matrices; leave out --shard, or train with adamw")
        self.optimizers = optimizers(policy, settings)
        self.anchor = [p.detach().clone() for p in self.parameters] if settings.ewc or settings.l2 else []
        self.fisher = [placed(square, p) for square, p in zip(self.fisher, self.parameters, strict=False)]
        self.order: tuple[int, np.ndarray] = (-1, np.empty(0, np.int64))
        self.weights, self.observers = named(policy), observers
        for observer in observers:
            observer.begin(self.weights)
        self.silent = 0
        """Steps in a row in which no answer carried a weight."""

    def __iter__(self) -> Iterator[Report]:
        while self.step < self.steps:
            yield self.advance()

    def prompts(self) -> np.ndarray:
        """Which training instances this step is about, [P]: each epoch in an order of its own."""
        epoch, at = divmod(self.step, self.steps_per_epoch)
        if self.order[0] != epoch:
            self.order = (epoch, order(self.learner.seed, epoch, self.learner.instances))
        return self.order[1][at * self.settings.batch : (at + 1) * self.settings.batch]

    def advance(self) -> Report:
        """One step: episodes, weights, and one or more updates on them."""
        started, learner, settings, engine = time.perf_counter(), self.learner, self.settings, self.engine
        if learner.epoch_start and self.step % self.steps_per_epoch == 0:
            take_over(learner.epoch_start, learner.policy)
        seed = int(mix(learner.seed, self.step) >> np.uint64(1))
        reseed(seed)
        episodes, group = self.method.source(learner, share(engine, self.prompts()), seed)
        lr, loss, norm, told = learning_rate(settings, self.step, self.steps), 0.0, 0.0, dict[str, float]()
        reward = torch.from_numpy(episodes.reward)  # double: the spread of rewards near 100 is lost in single precision
        drawn = engine.gathered(Sampled.of(episodes, group))
        everyone = Sampled.join(drawn)
        if self.cap and np.isnan(everyone.nats).any():
            raise Refused(
                "the sampler does not tell with what probability it drew, so there is nothing to correct; "
                "leave out importance_cap"
            )
        if len(everyone.length):
            batch = Batch(
                reward,
                torch.from_numpy(group),
                settings,
                lambda: self.present(episodes),
                lambda: torch.from_numpy(episodes.turn_rewards()),
            )
            old: list[Tensor] = []
            signal = False
            for iteration in range(settings.iterations):
                weight = self.method.weight(batch).float() if len(episodes) else torch.empty(0)
                weights = engine.gathered(weight if weight.ndim == 1 else (weight != 0).any(1).float())
                loss, norm, more = self.update(episodes, weight, weights, drawn, lr, old, iteration)
                signal = any(bool((weight != 0).any()) for weight in weights)
                told |= more
            if self.method.on_policy:
                self.silent = 0 if signal else self.silent + 1
                told |= {**everyone.measures(), "silent": self.silent}
        self.step += 1
        return Report(
            self.step,
            lr,
            loss,
            float(torch.from_numpy(everyone.reward).nanmean()),
            norm,
            len(everyone.length),
            int(everyone.length.sum()),
            time.perf_counter() - started,
            told,
        )

    def present(self, episodes: Episodes) -> Tensor:
        """Log-probability of each episode under the policy as it is, [N] nats. Refused where weights are shared out."""
        if self.engine.sharded:  # who has no episode would not come
            raise Refused("what this method weighs by needs all weights in each process; leave out --shard")
        return log_probabilities(self.learner.policy, episodes).cpu()

    def lacking(self, episodes: Episodes) -> int:
        """How many passes others make more than this process, where a pass needs all of them."""
        if not self.engine.sharded:
            return 0
        mine = cast(Shardable, self.learner.policy).passes(episodes) if len(episodes) else 0
        return max(self.engine.gathered(mine)) - mine

    def keep_pace(self, passes: int) -> None:
        """Make passes for the others alone, each as `update` makes one."""
        policy, base = (cast(Shardable, each) for each in (self.learner.policy, self.learner.policy.base()))
        for _ in range(passes):
            nothing = policy.idle()
            if self.settings.kl:
                with torch.no_grad():
                    base.idle()
            nothing.backward()

    def update(
        self,
        episodes: Episodes,
        weight: Tensor,
        weights: Sequence[Tensor],
        drawn: Sequence[Sampled],
        lr: float,
        old: list[Tensor],
        iteration: int,
    ) -> tuple[float, float, dict[str, float]]:
        """One optimiser update over the micro-batches of the episodes; the loss, the norm of its gradient, measures.

        `weight` is that of each episode [N], or of each of its turns [N, K]; `weights` of episodes [N], and `drawn`,
        are those of every process, by rank. `old` keeps the log-probabilities of the first update, one tensor [N, T] a
        micro-batch, for later ones.
        """
        settings, policy, engine = self.settings, self.learner.policy, self.engine
        (scale, even), sampled = self.scales(weights, drawn), drawn[engine.rank].nats
        counted = weights[engine.rank].nonzero()[:, 0]
        if not settings.kl and len(counted) < len(weight):  # what adds nothing to the gradient costs no pass
            episodes, weight, scale = episodes.take(counted.numpy()), weight[counted], scale[counted]
            sampled = sampled[counted.numpy()]
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)
        lacking = self.lacking(episodes)
        base = policy.base().predict(episodes) if settings.kl else None
        sums, nats = dict.fromkeys(("loss", "elements", "capped", "clipped", "kl"), 0.0), torch.zeros(len(episodes))
        weight = weight[:, None] if weight.ndim == 1 else weight  # [N, 1 or K]
        elements = Elements(episodes) if self.cap or weight.shape[1] > 1 else None
        for i, part in enumerate(policy.predict(episodes) if len(episodes) else ()):
            if not iteration and settings.iterations > 1:
                old.append(part.logp.detach())
            owner, logp = part.owner.cpu(), part.logp.detach()
            mine, place = weight[owner], elements.places(part) if elements else None
            if elements and weight.shape[1] > 1:
                mine = mine.gather(1, elements.turn[place])
            mine = mine.to(logp.device)  # [n, 1], or [n, T]
            gained = self.method.surrogate(part, mine, old[i] if old else None, settings)  # [n, T]
            if elements and self.cap:
                weighed = truncated_importance(old[i] if old else logp, elements.logp[place].to(logp), self.cap)
                sums["capped"] += int(part.masked((weighed == self.cap).float()).sum())
                gained = weighed * gained
            objective = part.masked(gained).sum(-1) @ scale[owner].to(gained)
            if base is not None:
                away = kl_to(base, part)
                sums["kl"] += float(away.detach().sum())
                objective = objective - settings.kl * (away @ even[owner].to(gained))
            (-objective).backward()
            sums["loss"] -= float(objective.detach())
            sums["elements"] += logp.numel() if part.mask is None else int(part.mask.sum())
            nats += part.per_episode(logp, len(episodes)).cpu()
            if iteration:
                sums["clipped"] += int((part.masked((logp - old[i]).expm1()).abs() > settings.clip).sum())
        self.keep_pace(lacking)
        if not len(episodes) or engine.size > 1:  # the optimiser goes on by its momentum; and all add up the same
            for parameter in self.parameters:
                parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        engine.add_up([parameter.grad for parameter in self.parameters if parameter.grad is not None])
        far = np.abs(nats.double().numpy() - sampled)
        sums = summed(engine, {**sums, "episodes": len(episodes), "mismatch": float(far.sum())})
        loss = sums["loss"] + self.penalise()
        told = self.observed("after_backward", self.step + 1)
        norm = number(torch.nn.utils.clip_grad_norm_(self.parameters, settings.max_grad_norm))
        if not math.isfinite(loss + norm):
            raise ArithmeticError(f"the loss is not finite at step {self.step + 1}; try a lower learning rate")
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = lr
            optimizer.step()
        told |= self.observed("after_step", self.step + 1)
        return loss, norm, self.measured(sums, iteration) | told

    def observed(self, when: Literal["after_backward", "after_step", "at_checkpoint"], step: int) -> dict[str, float]:
        """What the observers say at this moment."""
        told: dict[str, float] = {}
        for observer in self.observers:
            told |= getattr(observer, when)(step, self.weights)
        return told

    def scales(self, weights: Sequence[Tensor], drawn: Sequence[Sampled]) -> tuple[Tensor, Tensor]:
        """By what an episode's sum of elements is multiplied, [N] of this process: with its weight, and without any.

        The normaliser sees the episodes of all processes.
        """
        weight = torch.cat(list(weights))
        lengths = torch.cat([torch.from_numpy(each.length).float() for each in drawn])
        scale = self.method.normaliser(lengths, weight, self.settings)
        even = self.method.normaliser(lengths, torch.ones_like(weight), self.settings) if self.settings.kl else scale
        start = sum(len(each) for each in weights[: self.engine.rank])
        mine = slice(start, start + len(weights[self.engine.rank]))
        return scale[mine], even[mine]

    def measured(self, sums: Mapping[str, float], iteration: int) -> dict[str, float]:
        """What an update measures, of its sums over all processes."""
        measures, elements = {}, sums["elements"]
        if elements and self.settings.kl:
            measures["kl"] = sums["kl"] / elements
        if elements and self.cap:
            measures["capped"] = sums["capped"] / elements
        if elements and iteration:
            measures["clipped"] = sums["clipped"] / elements
        if sums["episodes"] and not iteration and self.method.on_policy and not math.isnan(sums["mismatch"]):
            measures["mismatch"] = sums["mismatch"] / sums["episodes"]
        return measures

    def penalise(self) -> float:
        """Add the gradients of the weight penalties to the parameters; their value.

        λ/2 Σ F (θ − θ₀)² (EWC, Kirkpatrick et al. 2017, eq. 3) and λ/2 Σ (θ − θ₀)² (L2 to the base).
        """
        value = 0.0
        for i, anchor in enumerate(self.anchor):
            weight = self.settings.l2 + (self.settings.ewc * self.fisher[i] if self.fisher else 0.0)
            away = self.parameters[i].detach() - anchor
            pull = (weight * away).to(away.dtype)
            gradient = self.parameters[i].grad
            self.parameters[i].grad = pull if gradient is None else gradient + pull
            value += 0.5 * number((pull * away).sum())
        return value

    @property
    def state(self) -> State:
        """What is saved and loaded."""
        policies = {"policy": self.learner.policy, "epoch_start": self.learner.epoch_start}
        return State({name: each for name, each in policies.items() if each}, self.optimizers, self.engine)

    def save(self, folder: Path) -> None:
        """Write all of it to `folder`/state-<step>, all or nothing, and drop older ones. All processes come here."""
        self.state.save(folder, self.step, {"silent": str(self.silent)})

    def load(self, folder: Path) -> bool:
        """Go on from the newest state in `folder`; False where there is none."""
        newest = self.state.load(folder)
        if newest:
            self.step, self.silent = newest[0], int(newest[1].get("silent", 0))
        return bool(newest)


def optimizers(policy: Policy, settings: Settings) -> list[torch.optim.Optimizer]:
    """AdamW for all weights; or Muon (Jordan et al. 2024) for the matrices of inner layers, and AdamW for the others.

    Muon's updates are scaled to those of AdamW (arXiv 2502.16982, eq. 4), so that one learning rate serves both.
    """
    rest, chosen = list(policy.parameters()), []
    if settings.optimizer == "muon":
        if not isinstance(policy, Layered):
            raise Refused(f"Muon needs to know a policy's matrices and {type(policy).__name__} names none; use adamw")
        inner = {id(p) for p in policy.matrices()}
        matrices, rest = [p for p in rest if id(p) in inner], [p for p in rest if id(p) not in inner]
        chosen.append(
            torch.optim.Muon(matrices, settings.lr, weight_decay=settings.weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    if rest:  # adapters are matrices all
        fused = rest[0].device.type != "meta"
        chosen.append(torch.optim.AdamW(rest, settings.lr, weight_decay=settings.weight_decay, fused=fused))
    return chosen


@torch.no_grad()
def take_over(kept: Policy, policy: Policy) -> None:
    """Give one policy the weights of another."""
    for weight, now in zip(kept.parameters(), policy.parameters(), strict=True):
        weight.copy_(now)


def order(seed: int, epoch: int, instances: Instances) -> np.ndarray:
    """The order [n] in which an epoch goes through the training instances."""
    return np.argsort(mix(seed, epoch, instances.key), kind="stable")


def reseed(seed: int) -> None:
    """Fix the dropout of a step, where a policy has any."""
    # torch.manual_seed would also queue a call, with its stack, for every accelerator that is not in use.
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


def kl_to(base: Iterator[Prediction], part: Prediction) -> Tensor:
    """KL(π‖π₀) of the next micro-batch, summed over its elements, [n] nats; exact over the alphabet."""
    with torch.no_grad():
        other = next(base)
    return part.masked(kl(part.dist, other.dist)).sum(-1)


def fisher(policy: Policy, tasks: Sequence[Task], seed: int, episodes: int = 256) -> list[Tensor]:
    """Diagonal of the Fisher information, one tensor a parameter: the mean squared gradient of log π over own answers.

    On `episodes` training instances of each task (Kirkpatrick et al. 2017, section 2). The answers are drawn as one
    batch; each has a gradient of its own, for squares do not add up before they are taken. Sums are in double
    precision: a gradient below 1e-23 has no square in single precision, and small ones vanish beside large ones.
    """
    if not tasks:
        raise Refused(
            "elastic weight consolidation needs prior tasks to protect; this track has none that can be played"
        )
    parameters = list(policy.parameters())
    total = [torch.zeros_like(p, dtype=torch.float64) for p in parameters]
    for task in tasks:
        instances = task.instances("train")
        chosen = instances.take(np.argsort(mix(seed, instances.key))[:episodes])
        with torch.no_grad():
            played = rollout(policy, task, chosen, seed=seed)
        for i in range(len(chosen)):
            logp = sum(part.logp.sum() for part in policy.predict(played.take(np.array([i]))))
            assert isinstance(logp, Tensor)
            for square, gradient in zip(total, torch.autograd.grad(logp, parameters), strict=True):
                square += gradient.double().square() / (len(chosen) * len(tasks))
    return total
