"""Score an adapted policy on a track: gain, retention and drift against the base, on the same items and seeds."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from razorbench.harness.core.episodes import Episodes, Instances, Outcome, Outcomes
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent, Benchmark, Clustered, Task
from razorbench.harness.core.questions import data_digest
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.policy import Policy, Worded
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.measure import significance, statistics
from razorbench.harness.measure.answers import Tokens, answer_rows, flipped
from razorbench.harness.measure.cache import code_digest, kept
from razorbench.harness.measure.drift import Divergence, divergence, elements, floor, reverse_kl
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.record import SAMPLES, Drift, Point, Score
from razorbench.harness.tracks.bases import base_policy, policy_digest
from razorbench.harness.tracks.catalogue import add_track, other_track
from razorbench.harness.tracks.spec import Conditions, Track

T = TypeVar("T")

POINTS = 100.0
"""Scores are fractions in the engine and points on the board."""
GREEDY = Conditions()
"""The conditions of a track that says nothing else."""
FLOOR_EPISODES = 64
"""Episodes over which the floor of a drift is measured, each computed alone."""


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
    """What was seen and said; None of a benchmark that owns its loop."""
    cluster: np.ndarray | None = None
    """What items share, by name; None where each stands alone."""

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
        )

    def first(self, items: int) -> "Answers":
        """The first `items` of them, without what was said; 0: all."""
        return replace(self, played=None).take(np.arange(min(items, len(self)))) if items else self


def evaluate(
    agent: Agent, task: Task | Benchmark, *, items: int = 0, seed: int = 0, conditions: Conditions = GREEDY
) -> Answers:
    """The agent's answers to the first `items` test items (0: all), under the conditions, scored by the task."""
    if isinstance(task, Benchmark):
        samples = task.evaluate(agent, items or None)
        outcome = Outcomes.stack([Outcome(sample.score, sample.metrics, sample.error) for sample in samples])
        return answers([str(sample.id) for sample in samples], outcome)
    instances, names = questions(task, items, conditions)
    with torch.no_grad():
        played = rollout(agent, task, instances, seed=seed, temperature=conditions.temperature)
    assert played.outcome is not None
    found = replace(answers(names, played.outcome), played=played)
    if isinstance(task, Clustered):
        return replace(found, cluster=task.clusters(instances))
    kind = f"{type(task).__module__}.{type(task).__qualname__}"
    shared = np.array([f"{kind} {id}" for id in instances.id]) if conditions.samples > 1 else None
    return replace(found, cluster=shared)


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


class Bench:
    """A track made ready to score on: its tasks, its base, and the base's own answers."""

    def __init__(self, track: Track, home: Path, runtime: Runtime = AUTO):
        """Loads the data, and makes the base if `home` has none. `runtime` says how models are computed.

        From then on the home knows the track; where it has another of that id, rows of this one have a table of their
        own. Raises Refused when data are missing, or the agent or this machine cannot do what `runtime` says.
        """
        if not other_track(track, home):
            add_track(track, home)
        self.track, self.home = track, home
        self.new: Task = make("task", track.new)
        self.priors: dict[str, Task | Benchmark] = {id: make("task", id) for id in track.prior_tasks}
        self.base = base_policy(track.base, home, track.conditions.options, runtime)
        self.base_id = policy_digest(self.base)
        self.digests: dict[tuple[str, int], str] = {}

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """The base's answers, by task; the new task first."""
        return {id: self.base_answers(id) for id in self.tasks}

    def base_answers(self, task: str) -> Answers:
        """The base's answers on one task, from `home`/answers if they were given before."""
        asked = self.tasks[task]

        def make() -> Answers:
            found = self.answer_task(self.base, task, self.track.items)
            return replace(found, played=found.played and bare(found.played))

        found = self.once("answers", task, self.track.items, make, lambda answers: not answers.unscored)
        if found.played is None or not isinstance(asked, Task):
            return found
        instances, _ = questions(asked, self.track.items, self.track.conditions)
        return replace(found, played=replace(found.played, instances=instances))

    @cached_property
    def drawn(self) -> Episodes:
        """Episodes that the base sampled on the new task, along which forward drift is measured."""
        instances = self.new.instances("test").first(self.track.drift_items)

        def make() -> Episodes:
            with torch.no_grad():
                return bare(rollout(self.base, self.new, instances))

        def scored(drawn: Episodes) -> bool:
            return not np.isnan(drawn.reward).any()

        found = self.once("drawn", self.track.new, self.track.drift_items, make, scored)
        return replace(found, instances=instances)

    def once(self, what: str, task: str, items: int, make: Callable[[], T], lasting: Callable[[T], bool]) -> T:
        """What the base does on a task, computed once for all who use this home; see `harness.measure.cache`.

        What the world has failed in is not `lasting`: it is asked again.
        """
        key = {
            "what": what,
            "task": task,
            "items": items,
            "base": self.base_id,
            "conditions": self.conditions,
            "data": self.questions_digest(task, items),
            "runtime": self.runtime,
            "code": code_digest(type(self.tasks[task]), type(self.base)),
            "torch": [torch.__version__, torch.backends.cpu.get_cpu_capability()],
        }
        return kept(self.home / "answers", key, make, lasting)

    @cached_property
    def floor(self) -> Divergence | None:
        """What rounding alone makes of a drift: KL of the base to itself, computed in two ways. None: not measured."""
        return floor(self.base, self.drawn.take(np.arange(min(FLOOR_EPISODES, len(self.drawn)))))

    @cached_property
    def data(self) -> dict[str, str]:
        """What is asked, by task: a digest of the ids and data of the items that are scored."""
        return {
            id: self.questions_digest(id, self.track.items) for id, task in self.tasks.items() if isinstance(task, Task)
        }

    def questions_digest(self, task: str, items: int) -> str:
        """A digest of the first `items` test instances of a task; empty of a benchmark that owns its loop."""
        if (task, items) not in self.digests:
            played = self.tasks[task]
            some = played.instances("test").first(items) if isinstance(played, Task) else None
            self.digests[task, items] = "" if some is None else data_digest(some)
        return self.digests[task, items]

    @property
    def conditions(self) -> dict[str, Any]:
        """Under which conditions items are answered, as a record tells it: with the agent's own limit."""
        told = asdict(self.track.conditions)
        return told | {"limit": told["limit"] or getattr(self.base, "limit", 0)}

    @property
    def runtime(self) -> dict[str, Any]:
        """How the models are computed, as a record tells it; empty for an agent that has no say in it."""
        runtime = getattr(self.base, "runtime", None)
        return asdict(runtime) if isinstance(runtime, Runtime) else {}

    def answer(self, agent: Agent, items: int) -> dict[str, Answers]:
        """The agent's answers on the first `items` of every task."""
        return {id: self.answer_task(agent, id, items) for id in self.tasks}

    def answer_task(self, agent: Agent, task: str, items: int) -> Answers:
        """The agent's answers on the first `items` of one task."""
        return evaluate(agent, self.tasks[task], items=items, conditions=self.track.conditions)

    @property
    def tasks(self) -> dict[str, Task | Benchmark]:
        """The new task, then the priors."""
        return {self.track.new: self.new, **self.priors}

    def point(self, policy: Policy, step: int) -> Point:
        """A mid-training measurement on the track's `checkpoint_items`; step 0 is the base itself.

        A score is the base's plus the mean difference over the items that both have scored, so that an item that one
        of the two lacks moves nothing.
        """
        items = self.track.checkpoint_items * self.track.conditions.samples
        base = {id: found.first(items) for id, found in self.answers.items()}
        drift = 0.0
        adapted = base
        if policy is not self.base:
            adapted = self.answer(policy, self.track.checkpoint_items)
            drift = float(divergence(self.base, policy, self.drawn).nats.mean())
        new, *priors = (
            POINTS * (known_mean(ours.score) + known_mean(matched(id, ours, adapted[id]).score - ours.score))
            for id, ours in base.items()
        )
        return Point(step, new=new, prior=float(np.mean(priors)), drift=drift)

    def score(self, agent: Agent) -> "Scored":
        """Everything that is measured of one adapted policy; of an agent that is none, all but drift."""
        started = time.perf_counter()
        answers = self.answer(agent, self.track.items)
        answers = {id: matched(id, self.answers[id], found) for id, found in answers.items()}
        suites = {task: suite for suite, tasks in self.track.priors.items() for task in tasks}
        scores, estimates = [], {}
        for id, adapted in answers.items():
            estimates[id], p = statistics.judged(self.answers[id].score, adapted.score, adapted.cluster)
            scores.append(score_row(id, suites.get(id, ""), self.answers[id], adapted, estimates[id], p))
        held = significance.holm(np.array([np.nan if s.p is None else s.p for s in scores]))
        scores = [replace(s, p_holm=float(p)) for s, p in zip(scores, held, strict=True)]
        forward, drifts = None, []
        if isinstance(agent, Policy):
            forward = divergence(self.base, agent, self.drawn)
            reverse = reverse_kl(self.base, agent, self.new, self.drawn.instances)
            drifts = [
                row
                for direction, found in (("forward", forward), ("reverse", reverse))
                for row in drift_rows(self.track.new, direction, found, self.floor)
            ]
        return Scored(
            scores,
            estimates[self.track.new],
            self.retention(answers, estimates),
            drifts,
            self.samples(answers, forward),
            self.flips(agent, answers),
            time.perf_counter() - started,
        )

    def samples(self, adapted: Mapping[str, Answers], forward: Divergence | None) -> dict[str, Any]:
        """Columns of the samples file: every item of every task, base beside adapted, in the order of the base."""
        drift = {}
        if forward is not None:
            drift = dict(zip(self.drawn.instances.id.tolist(), forward.nats.tolist(), strict=True))
        return samples(self.answers, adapted, self.track.new, drift)

    def retention(self, answers: Mapping[str, Answers], estimates: Mapping[str, Estimate]) -> Estimate:
        """The mean difference over the prior tasks, whose items may share clusters."""
        differences = [answers[id].score - self.answers[id].score for id in self.priors]
        together = statistics.shared(differences, [answers[id].cluster for id in self.priors])
        return statistics.combine([estimates[id] for id in self.priors], together)

    def flips(self, agent: Agent, answers: Mapping[str, Answers]) -> list[dict[str, Any]]:
        """Rows of the answers file: what base and agent said where they score differently."""
        rows = []
        for id, found in answers.items():
            base, index = self.answers[id], flipped(self.answers[id].score, found.score)
            if len(index) and base.played is not None and found.played is not None:
                ours, theirs = base.played.take(index), found.played.take(index)
                names = [base.id[i] for i in index]
                rows += answer_rows(id, names, ours, theirs, tokens(self.base, agent, ours))
        return rows


@dataclass(frozen=True)
class Scored:
    """The measured part of a record. Gain and retention are fractions."""

    scores: list[Score]
    gain: Estimate
    retention: Estimate
    drifts: list[Drift]
    """Empty where the agent tells no probabilities."""
    samples: dict[str, Any]
    answers: list[dict[str, Any]]
    """Rows of `record.ANSWERS`: the flips."""
    seconds: float


def score_row(task: str, suite: str, base: Answers, adapted: Answers, e: Estimate, p: float) -> Score:
    """One task of a record, in points, with the estimate and the p-value of its difference.

    Base and adapted have the same items in one order.
    """
    both = ~(np.isnan(base.score) | np.isnan(adapted.score))
    return Score(
        task,
        "prior" if suite else "new",
        suite,
        e.n,
        int((~both).sum()),
        POINTS * float(base.score[both].mean()) if both.any() else None,
        POINTS * float(adapted.score[both].mean()) if both.any() else None,
        POINTS * e.value,
        POINTS * e.low,
        POINTS * e.high,
        POINTS * e.se,
        p=p,
        mde=POINTS * statistics.minimum_detectable_effect(e.se),
        interval=e.method,
        metrics=metric_means(base, adapted),
        items=len(base),
        unscored_base=base.unscored,
        unscored_adapted=adapted.unscored,
        failed_base=base.failed,
        failed_adapted=adapted.failed,
    )


def metric_means(base: Answers, adapted: Answers) -> dict[str, list[float | None]]:
    """Means of what the task measures beside the score, by metric: of the base, then of the adapted.

    They are paired as scores are: over the items that both have scored and for which both have it. Where none has it on
    both sides, each has its own mean.
    """
    found: dict[str, list[float | None]] = {}
    scored = np.isfinite(base.score) & np.isfinite(adapted.score)
    for name in dict.fromkeys([*base.metrics, *adapted.metrics]):
        sides = [side.metrics.get(name, np.full(len(side), np.nan))[scored] for side in (base, adapted)]
        both = np.isfinite(sides).all(0)
        means = [known_mean(side[both] if both.any() else side) for side in sides]
        found[name] = [None if np.isnan(mean) else mean for mean in means]
    return found


def known_mean(column: np.ndarray) -> float:
    """The mean of the numbers that are known; NaN if none is."""
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else np.nan


def drift_rows(task: str, direction: str, d: Divergence, floor: Divergence | None = None) -> list[Drift]:
    """Drift per episode, and per element as a ratio of means, each with its Monte-Carlo standard error and floor."""
    nats, elements = d.nats.double().numpy(), d.elements.double().numpy()
    n, rate = len(nats), float(nats.sum() / elements.sum())
    error = float(nats.std(ddof=1) / n**0.5)
    ratio_error = float((nats - rate * elements).std(ddof=1) / n**0.5 / elements.mean())  # delta method
    least = None if floor is None else float(floor.nats.double().mean())
    least_element = None if floor is None else float(floor.nats.double().sum() / floor.elements.double().sum())
    return [
        Drift(task, direction, "episode", float(nats.mean()), error, n, least),
        Drift(task, direction, "element", rate, ratio_error, n, least_element),
    ]


def tokens(base: Policy, agent: Agent, said: Episodes) -> list[Tokens] | None:
    """What the base said in each episode, piece by piece, with the drift there; None where it has no pieces."""
    if not (isinstance(base, Worded) and isinstance(agent, Policy)):
        return None
    return [list(zip(base.pieces(code), nats.tolist(), strict=True)) for code, nats in elements(base, agent, said)]


def samples(
    base: Mapping[str, Answers], adapted: Mapping[str, Answers], new: str, drift: Mapping[Any, float]
) -> dict[str, Any]:
    """Columns of the samples file: every item of every task, base beside adapted, which stand in one order.

    `drift` is that of instances of the new task, by their ids.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SAMPLES.names}
    for id, found in adapted.items():
        n, nats = len(found), np.full(len(found), np.nan)
        if id == new and drift and found.played is not None:
            nats = np.array([drift.get(instance, np.nan) for instance in found.played.instances.id.tolist()])
        columns["task"] += [id] * n
        columns["role"] += ["new" if id == new else "prior"] * n
        columns["item"] += found.id
        columns["base"].append(base[id].score)
        columns["adapted"].append(found.score)
        columns["error"] += [theirs or ours for theirs, ours in zip(found.error, base[id].error, strict=True)]
        columns["drift"].append(nats)
        columns["cluster"] += [None] * n if found.cluster is None else found.cluster.tolist()
    return {
        name: np.concatenate(column) if name in ("base", "adapted", "drift") else column
        for name, column in columns.items()
    }
