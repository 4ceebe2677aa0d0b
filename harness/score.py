"""Score an adapted policy on a track: gain, retention and drift against the base, on the same items and seeds."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from harness import statistics
from harness.answers import Tokens, answer_rows, flipped
from harness.bases import base_policy, policy_digest
from harness.drift import Divergence, divergence, elements, reverse_kl
from harness.estimate import Estimate
from harness.policy import Policy, Worded
from harness.record import SAMPLES, Drift, Point, Score
from harness.registry import make
from harness.rollout import rollout
from harness.tracks import Track
from harness.types import Agent, Benchmark, Clustered, Episodes, Outcome, Outcomes, Task

POINTS = 100.0
"""Scores are fractions in the engine and points on the board."""


@dataclass(frozen=True)
class Answers:
    """How an agent did on the items of one task: id, score (NaN: unscored), error and metrics of each, [n]."""

    id: Any
    score: np.ndarray
    error: Sequence[str | None]
    metrics: Mapping[str, np.ndarray] = field(default_factory=dict)
    """What the task measures beside the score; NaN where an item lacks it."""
    played: Episodes | None = None
    """What was seen and said; None of a benchmark that owns its loop."""
    cluster: np.ndarray | None = None
    """What items share, by name; None where each stands alone."""

    def first(self, items: int) -> "Answers":
        """The first `items` of them, without what was said; 0: all."""
        metrics = {name: column[:items] for name, column in self.metrics.items()}
        cluster = None if self.cluster is None else self.cluster[:items]
        first = Answers(self.id[:items], self.score[:items], self.error[:items], metrics, cluster=cluster)
        return first if items else self


def evaluate(agent: Agent, task: Task | Benchmark, *, items: int = 0, seed: int = 0) -> Answers:
    """The agent's greedy answers to the first `items` test items (0: all), scored by the task."""
    if isinstance(task, Benchmark):
        samples = task.evaluate(agent, items or None)
        outcome = Outcomes.stack([Outcome(sample.score, sample.metrics, sample.error) for sample in samples])
        return answers([sample.id for sample in samples], outcome)
    with torch.no_grad():
        played = rollout(agent, task, task.instances("test").first(items), seed=seed, greedy=True)
    assert played.outcome is not None
    cluster = task.clusters(played.instances) if isinstance(task, Clustered) else None
    return replace(answers(played.instances.id, played.outcome), played=played, cluster=cluster)


def answers(id: Any, outcome: Outcomes) -> Answers:
    """The outcomes of the items `id` [n]."""
    metrics = {name: np.asarray(column, np.float64) for name, column in outcome.metrics.items()}
    return Answers(id, np.asarray(outcome.reward, np.float64), outcome.error or [None] * len(outcome), metrics)


class Bench:
    """A track made ready to score on: its tasks, its base, and the base's own answers."""

    def __init__(self, track: Track, home: Path):
        """Loads the data, and makes the base if `home` has none. Raises Refused when data are missing."""
        self.track = track
        self.new: Task = make("task", track.new)
        self.priors: dict[str, Task | Benchmark] = {id: make("task", id) for id in track.prior_tasks}
        self.base = base_policy(track.base, home)
        self.base_id = policy_digest(self.base)

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """The base's answers, by task; the new task first."""
        return self.answer(self.base, self.track.items)

    @cached_property
    def drawn(self) -> Episodes:
        """Episodes that the base sampled on the new task, along which forward drift is measured."""
        with torch.no_grad():
            return rollout(self.base, self.new, self.new.instances("test").first(self.track.drift_items))

    def answer(self, agent: Agent, items: int) -> dict[str, Answers]:
        """The agent's answers on the first `items` of every task."""
        return {id: evaluate(agent, task, items=items) for id, task in self.tasks.items()}

    @property
    def tasks(self) -> dict[str, Task | Benchmark]:
        """The new task, then the priors."""
        return {self.track.new: self.new, **self.priors}

    def point(self, policy: Policy, step: int) -> Point:
        """A mid-training measurement on the track's `checkpoint_items`; step 0 is the base itself."""
        items = self.track.checkpoint_items
        if policy is self.base:
            answers = {id: found.first(items) for id, found in self.answers.items()}
            drift = 0.0
        else:
            answers = self.answer(policy, items)
            drift = float(divergence(self.base, policy, self.drawn).nats.mean())
        scores = [POINTS * float(np.nanmean(found.score)) for found in answers.values()]
        return Point(step, new=scores[0], prior=float(np.mean(scores[1:])), drift=drift)

    def score(self, agent: Agent) -> "Scored":
        """Everything that is measured of one adapted policy; of an agent that is none, all but drift."""
        started = time.perf_counter()
        answers = self.answer(agent, self.track.items)
        suites = {task: suite for suite, tasks in self.track.priors.items() for task in tasks}
        scores, estimates = [], {}
        for id, adapted in answers.items():
            pair = self.answers[id].score, adapted.score
            estimates[id], p = statistics.judged(*pair, adapted.cluster)
            row = score_row(id, suites.get(id, ""), *pair, estimates[id], p)
            scores.append(replace(row, metrics=metric_means(self.answers[id], adapted)))
        held = statistics.holm(np.array([np.nan if s.p is None else s.p for s in scores]))
        scores = [replace(s, p_holm=float(p)) for s, p in zip(scores, held, strict=True)]
        forward, drifts = None, []
        if isinstance(agent, Policy):
            forward = divergence(self.base, agent, self.drawn)
            reverse = reverse_kl(self.base, agent, self.new, self.drawn.instances)
            drifts = [*drift_rows(self.track.new, "forward", forward), *drift_rows(self.track.new, "reverse", reverse)]
        return Scored(
            scores,
            estimates[self.track.new],
            self.retention(answers, estimates),
            drifts,
            samples(self.answers, answers, self.track.new, forward),
            self.flips(agent, answers),
            time.perf_counter() - started,
        )

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
                rows += answer_rows(id, ours, theirs, tokens(self.base, agent, ours))
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


def score_row(task: str, suite: str, base: np.ndarray, adapted: np.ndarray, e: Estimate, p: float) -> Score:
    """One task of a record, in points, with the estimate and the p-value of its difference."""
    both = ~(np.isnan(base) | np.isnan(adapted))
    return Score(
        task,
        "prior" if suite else "new",
        suite,
        e.n,
        int((~both).sum()),
        POINTS * float(base[both].mean()) if both.any() else None,
        POINTS * float(adapted[both].mean()) if both.any() else None,
        POINTS * e.value,
        POINTS * e.low,
        POINTS * e.high,
        POINTS * e.se,
        p=p,
        mde=POINTS * statistics.minimum_detectable_effect(e.se),
        interval=e.method,
    )


def metric_means(base: Answers, adapted: Answers) -> dict[str, list[float | None]]:
    """Means of what the task measures beside the score, by metric: of the base, then of the adapted."""

    def mean(column: np.ndarray | None) -> float | None:
        known = [] if column is None else column[np.isfinite(column)]
        return float(np.mean(known)) if len(known) else None

    names = dict.fromkeys([*base.metrics, *adapted.metrics])
    return {name: [mean(found.metrics.get(name)) for found in (base, adapted)] for name in names}


def drift_rows(task: str, direction: str, d: Divergence) -> list[Drift]:
    """Drift per episode, and per element as a ratio of means, each with its Monte-Carlo standard error."""
    nats, elements = d.nats.double().numpy(), d.elements.double().numpy()
    n, rate = len(nats), float(nats.sum() / elements.sum())
    error = float(nats.std(ddof=1) / n**0.5)
    ratio_error = float((nats - rate * elements).std(ddof=1) / n**0.5 / elements.mean())  # delta method
    return [
        Drift(task, direction, "episode", float(nats.mean()), error, n),
        Drift(task, direction, "element", rate, ratio_error, n),
    ]


def tokens(base: Policy, agent: Agent, said: Episodes) -> list[Tokens] | None:
    """What the base said in each episode, piece by piece, with the drift there; None where it has no pieces."""
    if not (isinstance(base, Worded) and isinstance(agent, Policy)):
        return None
    return [list(zip(base.pieces(code), nats.tolist(), strict=True)) for code, nats in elements(base, agent, said)]


def samples(
    base: Mapping[str, Answers], adapted: Mapping[str, Answers], new: str, forward: Divergence | None
) -> dict[str, Any]:
    """Columns of the samples file: every item of every task, base beside adapted."""
    columns: dict[str, list[Any]] = {name: [] for name in SAMPLES.names}
    for id, found in adapted.items():
        n = len(found.score)
        drift = np.full(n, np.nan)
        if id == new and forward is not None:
            drift[: len(forward.nats)] = forward.nats.numpy()[:n]
        columns["task"] += [id] * n
        columns["role"] += ["new" if id == new else "prior"] * n
        columns["item"] += [str(item) for item in found.id]
        columns["base"].append(base[id].score)
        columns["adapted"].append(found.score)
        columns["error"] += [theirs or ours for theirs, ours in zip(found.error, base[id].error, strict=True)]
        columns["drift"].append(drift)
        columns["cluster"] += [None] * n if found.cluster is None else found.cluster.tolist()
    return {
        name: np.concatenate(column) if name in ("base", "adapted", "drift") else column
        for name, column in columns.items()
    }
