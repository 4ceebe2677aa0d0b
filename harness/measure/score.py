"""Score an adapted policy on a track: gain, retention and drift against the base, on the same items and seeds."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import Keep, codes, nothing, opening
from razorbench.harness.core.lanes import code_of
from razorbench.harness.core.protocols import Agent, Benchmark, Pinned, Task
from razorbench.harness.core.questions import data_digest
from razorbench.harness.core.rollout import if_small
from razorbench.harness.learn.policy import Policy, Worded, unlike
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.measure import significance, statistics
from razorbench.harness.measure.answers import FLIPS, Tokens, answer_rows, flipped, word_rows
from razorbench.harness.measure.cache import code_digest, kept, place
from razorbench.harness.measure.constrained import outside
from razorbench.harness.measure.drift import D, Divergence, along, divergence, elements, floor, reverse_kl
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.evaluation import Answers, answered, bare, evaluate, matched, questions
from razorbench.harness.measure.merging import Merged, merging
from razorbench.harness.measure.metrics import known_mean, metric_changes, metric_items, metric_means
from razorbench.harness.measure.record import SAMPLES, Drift, Point, Score
from razorbench.harness.tracks.bases import base_policy, policy_digest
from razorbench.harness.tracks.catalogue import add_track, other_track
from razorbench.harness.tracks.origins import origin_key
from razorbench.harness.tracks.spec import Track

T = TypeVar("T")

POINTS = 100.0
"""Scores are fractions in the engine and points on the board."""
FLOOR_EPISODES = 64
"""Episodes over which the floor of a drift is measured, each computed alone."""
NOT_ASKED = Estimate(np.nan, np.nan, np.nan, np.nan, 0, 0, "no new task")
"""The gain where a track has no new task."""


class Bench:
    """A track made ready to score on: its tasks, its base, and the base's own answers."""

    def __init__(
        self,
        track: Track,
        home: Path,
        runtime: Runtime = AUTO,
        made: Mapping[str, Task | Benchmark] | None = None,
        base: Policy | None = None,
    ):
        """Loads the data, and makes the base if `home` has none. `runtime` says how models are computed; tasks that are
        `made` already, and a `base` that is, are not made again.

        From then on the home knows the track; where it has another of that id, rows of this one have a table of their
        own. Raises Refused when data are missing, or the agent or this machine cannot do what `runtime` says.
        """
        if not other_track(track, home):
            add_track(track, home)
        self.track, self.home = track, home
        made = made or {}
        self.tasks: dict[str, Task | Benchmark] = {id: made.get(id) or track.task(id) for id in track.tasks}
        """The new task, then the priors."""
        self.base = base or base_policy(track.base, home, track.conditions.options, runtime)
        self.digests: dict[tuple[str, int], str] = {}

    @cached_property
    def base_id(self) -> str:
        """The digest of the base's weights."""
        return policy_digest(self.base)

    @property
    def new(self) -> Task:
        """The new task. Refuses a track whose new task is none that can be played."""
        if isinstance(task := self.tasks.get(self.track.new), Task):
            return task
        raise Refused(f"{self.track.id} has no new task that can be played; choose another track")

    @property
    def priors(self) -> dict[str, Task | Benchmark]:
        """The prior tasks."""
        return {id: self.tasks[id] for id in self.track.prior_tasks}

    @cached_property
    def answers(self) -> dict[str, Answers]:
        """The base's answers, by task; the new task first."""
        return {id: self.base_answers(id) for id in self.tasks}

    def base_answers(self, task: str) -> Answers:
        """The base's answers on one task, from `home`/answers if they were given before."""
        asked = self.tasks[task]

        def make() -> Answers:
            told = self.answer_task(self.base, task, self.track.items, codes)
            return replace(told, played=told.played and bare(told.played))

        told = self.once("answers", task, self.track.items, make, lambda answers: not answers.unscored)
        if told.played is None or not isinstance(asked, Task):
            return told
        instances, _ = questions(asked, self.track.items, self.track.conditions)
        return replace(told, played=replace(told.played, instances=instances))

    @cached_property
    def drift_instances(self) -> Instances:
        """What the base is asked where forward drift is measured: the first test instances of the new task."""
        return self.new.instances("test").first(self.track.drift_items)

    @cached_property
    def drawn(self) -> Episodes | None:
        """Episodes that the base sampled on them. None where these have seen too much to be kept (`rollout.HELD`)."""

        def make() -> Episodes | None:
            with torch.no_grad():
                played = if_small(self.base, self.new, self.drift_instances)
            return played and bare(played)

        drawn = self.once("drawn", self.track.new, self.track.drift_items, make, whole)
        return drawn and replace(drawn, instances=self.drift_instances)

    def along_base(self, measure: Callable[[Episodes], D], episodes: int = 0) -> D:
        """What a measure of drift finds along the base's episodes, or the first of them (0: all).

        Those that are too large to be kept the base plays again: on the same seed it does the same.
        """
        if self.drawn is None:
            return along(self.base, self.new, self.drift_instances.first(episodes), measure)
        return measure(self.drawn.take(np.arange(min(episodes, len(self.drawn)))) if episodes else self.drawn)

    def once(self, what: str, task: str, items: int, make: Callable[[], T], lasting: Callable[[T], bool]) -> T:
        """What the base does on a task, computed once for all who use this home; see `harness.measure.cache`.

        What the world has failed in is not `lasting`: it is asked again.
        """
        return kept(self.home / "answers", self.key(what, task, items), make, lasting)

    def key(self, what: str, task: str, items: int) -> dict[str, Any]:
        """All that decides what the base does on a task."""
        origin = self.track.base.origin
        return {
            "what": what,
            "task": task,
            "items": items,
            "base": self.base_id,
            "options": dict(self.track.base.options),
            "conditions": self.conditions,
            "data": self.questions_digest(task, items),
            "runtime": self.runtime,
            "code": code_digest(code_of(self.tasks[task]), type(self.base)),
            "torch": [torch.__version__, torch.backends.cpu.get_cpu_capability()],
            **({"origin": origin_key(origin)} if origin else {}),  # its config and tokenizer decide, too
        }

    def known(self, what: str, task: str, items: int) -> bool:
        """Whether `once` has been asked for that in this home."""
        return place(self.home / "answers", self.key(what, task, items)).exists()

    @cached_property
    def floor(self) -> Divergence | None:
        """What rounding alone makes of a drift: KL of the base to itself, computed in two ways. None: not measured."""

        def make() -> Divergence | None:
            return self.along_base(partial(floor, self.base), FLOOR_EPISODES)

        return self.once("floor", self.track.new, self.track.drift_items, make, lambda _: whole(self.drawn))

    def forward(self, policy: Policy) -> Divergence:
        """The drift of a policy: KL(base‖policy) along episodes of the base."""
        return self.along_base(partial(divergence, self.base, policy))

    @cached_property
    def data(self) -> dict[str, str]:
        """What is asked, by task: a digest of the ids and data of the items that are scored."""
        return {id: digest for id in self.tasks if (digest := self.questions_digest(id, self.track.items))}

    def questions_digest(self, task: str, items: int) -> str:
        """A digest of the first `items` test instances of a task; empty of a benchmark that does not tell any."""
        if (task, items) not in self.digests:
            asked = self.tasks[task]
            if isinstance(asked, Task):
                digest = data_digest(asked.instances("test").first(items))
            else:
                digest = asked.digest(items or None) if isinstance(asked, Pinned) else ""
            self.digests[task, items] = digest
        return self.digests[task, items]

    @property
    def floors(self) -> dict[str, float]:
        """The share of verdicts, by task, that differ where one policy plays the same states twice; where any do."""
        cards = {id: task.card.protocol for id, task in self.tasks.items()}
        return {id: protocol.floor for id, protocol in cards.items() if protocol and protocol.floor}

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
        """How the agent does on the first `items` of every task; of what it says nothing is kept."""
        return {id: self.answer_task(agent, id, items, nothing) for id in self.tasks}

    def answer_task(self, agent: Agent, task: str, items: int, keep: Keep) -> Answers:
        """The agent's answers on the first `items` of one task, of which is kept what `keep` says."""
        return evaluate(agent, self.tasks[task], items=items, conditions=self.track.conditions, keep=keep)

    def point(self, policy: Policy, step: int) -> Point:
        """A mid-training measurement on the track's `checkpoint_items`; step 0 is the base itself.

        A score is the base's plus the mean difference over the items that both have scored, so that an item that one
        of the two lacks moves nothing.
        """
        items = self.track.checkpoint_items * self.track.conditions.samples
        base = {id: ours.first(items) for id, ours in self.answers.items()}
        drift = 0.0
        adapted = base
        if policy is not self.base:
            adapted = self.answer(policy, self.track.checkpoint_items)
            drift = float(self.forward(policy).nats.mean())
        means = {
            id: POINTS * (known_mean(ours.score) + known_mean(matched(id, ours, adapted[id]).score - ours.score))
            for id, ours in base.items()
        }
        prior = float(np.mean([means[id] for id in self.track.prior_tasks]))
        return Point(step, new=means.get(self.track.new), prior=prior, drift=drift)

    def score(self, agent: Agent, tell: Callable[[str], Any] = lambda task: None) -> "Scored":
        """Everything that is measured of one adapted policy; of an agent for which there is `no_drift`, all but that.

        `tell` is called with each task, and at last with "drift", before it is measured.
        """
        started = time.perf_counter()
        answers, flips = {}, []
        for id in self.tasks:
            tell(id)
            answers[id], rows = self.compare(agent, id)
            flips += rows
        suites = {task: suite for suite, tasks in self.track.priors.items() for task in tasks}
        scores, estimates = [], {}
        for id, adapted in answers.items():
            estimates[id], p = statistics.judged(self.answers[id].score, adapted.score, adapted.cluster)
            scores.append(score_row(id, suites.get(id, ""), self.answers[id], adapted, estimates[id], p))
        held = significance.holm(np.array([np.nan if s.p is None else s.p for s in scores]))
        scores = [replace(s, p_holm=float(p)) for s, p in zip(scores, held, strict=True)]
        forward, drifts, merged, stray = None, [], [], []
        if isinstance(agent, Policy) and not self.no_drift(agent):
            tell("drift")
            forward = self.forward(agent)
            merged = merging(agent, self.new, self.drift_instances)
            stray = outside((self.base, agent), self.new, self.drift_instances)
            reverse = reverse_kl(self.base, agent, self.new, self.drift_instances)
            drifts = [
                row
                for direction, kl in (("forward", forward), ("reverse", reverse))
                for row in drift_rows(self.track.new, direction, kl, self.floor)
            ]
        return Scored(
            scores,
            estimates.get(self.track.new, NOT_ASKED),
            self.retention(answers, estimates),
            drifts,
            self.samples(answers, forward),
            flips,
            time.perf_counter() - started,
            merged,
            stray,
        )

    def no_drift(self, agent: Agent) -> str:
        """Why there is no drift of an agent on this track, in words; empty where there is."""
        if not self.track.new:
            return "no new task is named, and drift is measured on it"
        if not isinstance(self.tasks[self.track.new], Task):
            return f"{self.track.new} owns its loop, and drift is measured along replies to a task that is played"
        return unlike(self.base, agent)

    def samples(self, adapted: Mapping[str, Answers], forward: Divergence | None) -> dict[str, Any]:
        """Columns of the samples file: every item of every task, base beside adapted, in the order of the base."""
        drift = {}
        if forward is not None:
            drift = dict(zip(self.drift_instances.id.tolist(), forward.nats.tolist(), strict=True))
        return samples(self.answers, adapted, self.track.new, drift)

    def retention(self, answers: Mapping[str, Answers], estimates: Mapping[str, Estimate]) -> Estimate:
        """The mean difference over the prior tasks, whose items may share clusters."""
        differences = [answers[id].score - self.answers[id].score for id in self.priors]
        together = statistics.shared(differences, [answers[id].cluster for id in self.priors])
        return statistics.combine([estimates[id] for id in self.priors], together)

    def compare(self, agent: Agent, task: str) -> tuple[Answers, list[dict[str, Any]]]:
        """The agent's answers to the base's items of a task, and rows of the answers file, which are all that is kept
        of its episodes: what base and agent said where they score differently.
        """
        batches, rows, track = [], [], self.track
        for batch in answered(agent, self.tasks[task], items=track.items, conditions=track.conditions, keep=opening):
            rows += self.flips(agent, task, batch, FLIPS - len(rows))
            batches.append(replace(batch, played=None))
        return matched(task, self.answers[task], Answers.join(batches)), rows

    def flips(self, agent: Agent, task: str, some: Answers, most: int) -> list[dict[str, Any]]:
        """Rows of the answers file for the first `most` of some answers that differ from the base's in their score."""
        base = self.answers[task]
        if (base.played is None or some.played is None) and (base.words is None or some.words is None):
            return []
        places = {item: at for at, item in enumerate(base.id)}
        theirs = np.flatnonzero([item in places for item in some.id])
        ours = np.array([places[some.id[i]] for i in theirs], np.int64)
        index = flipped(base.score[ours], some.score[theirs], most)
        ours, theirs = ours[index], theirs[index]
        names = [some.id[i] for i in theirs]
        if not names:
            return []
        if base.words is not None and some.words is not None:
            return word_rows(task, names, [base.words[i] for i in ours], [some.words[i][1] for i in theirs])
        assert base.played is not None
        assert some.played is not None
        said = base.played.take(ours)
        return answer_rows(task, names, said, some.played.take(theirs), tokens(self.base, agent, said))


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
    merged: list[Merged] = field(default_factory=list)
    """How far the agent is from itself with its adapters merged; empty where it has none."""
    outside: list[float] = field(default_factory=list)
    """Of base and agent, the probability on what neither chooses; empty where they choose among everything."""


def whole(drawn: Episodes | None) -> bool:
    """Whether the world has failed in no episode; of those that are not kept it is not known, and taken to be so."""
    return drawn is None or not np.isnan(drawn.reward).any()


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
        metric_changes=metric_changes(base, adapted),
    )


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
    """What the base said in each episode, piece by piece, with the drift there; None where it has no pieces, or what it
    has seen is too large to be kept.
    """
    if not (isinstance(base, Worded) and isinstance(agent, Policy) and all(turn.whole for turn in said.turns)):
        return None
    if unlike(base, agent):
        return None
    return [list(zip(base.pieces(code), nats.tolist(), strict=True)) for code, nats in elements(base, agent, said)]


def samples(
    base: Mapping[str, Answers], adapted: Mapping[str, Answers], new: str, drift: Mapping[Any, float]
) -> dict[str, Any]:
    """Columns of the samples file: every item of every task, base beside adapted, which stand in one order.

    `drift` is that of instances of the new task, by their ids.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SAMPLES.names}
    for id, given in adapted.items():
        n, nats, said = len(given), np.full(len(given), np.nan), base[id].played
        if id == new and drift and said is not None:
            nats = np.array([drift.get(instance, np.nan) for instance in said.instances.id.tolist()])
        columns["task"] += [id] * n
        columns["role"] += ["new" if id == new else "prior"] * n
        columns["item"] += given.id
        columns["base"].append(base[id].score)
        columns["adapted"].append(given.score)
        columns["error"] += [theirs or ours for theirs, ours in zip(given.error, base[id].error, strict=True)]
        columns["drift"].append(nats)
        columns["cluster"] += [None] * n if given.cluster is None else given.cluster.tolist()
        columns["metrics"] += metric_items(base[id], given)
    return {
        name: np.concatenate(column) if name in ("base", "adapted", "drift") else column
        for name, column in columns.items()
    }
