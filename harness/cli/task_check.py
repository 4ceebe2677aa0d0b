"""Prove a task: play it in the ways that show whether its scores can be trusted (`razorbench task check NAME`).

Each check is one function of a `Trial` and stands in the table `PLAYED` (tasks) or `MEASURED` (benchmarks).
"""

import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core import registry
from razorbench.harness.core.columns import Column, row
from razorbench.harness.core.episodes import Actions, Asked, Episode, Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent, Benchmark, Card, Expert, Guessable, Task
from razorbench.harness.core.questions import canonical
from razorbench.harness.core.randomness import mix
from razorbench.harness.core.rollout import Demonstrator, Guesser, demonstrations, rollout


@dataclass(frozen=True)
class Check:
    """One thing that was proved or disproved."""

    name: str
    """One word, the same for every task."""
    ok: bool | None
    """None: it does not apply, or waits for another check; the detail says why."""
    detail: str
    """One sentence: what was found, and what to do where it is wrong."""


Verdict = tuple[bool | None, str]


def check(id: str, *, episodes: int = 256, seed: int = 0) -> list[Check]:
    """Everything that can be proved of the task or benchmark `id`, in the order in which to mend it.

    Episodes are played in batches of `episodes`: one or two a check and agent, and 16 for the share of right guesses.
    Refuses an unknown id, or a task whose data are not there.
    """
    if episodes < 2:
        raise Refused(f"{episodes} episodes prove nothing; ask for 2 or more")
    task, again = registry.make("task", id), registry.make("task", id)
    try:
        trial = Trial(task, again, episodes, seed)
        if isinstance(task, Task):
            return conclude(PLAYED, trial)
        if isinstance(task, Benchmark):
            return conclude(MEASURED, trial)
        lacks = [name for name in ("card", "instances", "play") if not hasattr(task, name)]
        return [Check("card", False, f"{type(task).__name__} is no task yet: it lacks {', '.join(lacks)}.")]
    finally:
        for made in (task, again):
            getattr(made, "close", lambda: None)()  # Workers keep processes


@dataclass(frozen=True)
class Trial:
    """A task on trial, made twice, so that nothing one of them remembers can help the other."""

    task: Any
    again: Any
    episodes: int
    seed: int

    @cached_property
    def test(self) -> Instances:
        """All test instances."""
        return self.task.instances("test")

    @cached_property
    def train(self) -> Instances:
        """All training instances; none where the task refuses the split, because it is for scoring only."""
        len(self.test)  # where the data are missing, this refuses first
        with suppress(Refused):
            return self.task.instances("train")
        return Instances(np.array([], np.int64))

    @cached_property
    def batch(self) -> Instances:
        """Up to `episodes` test instances, chosen by the seed."""
        return self.test.take(shuffled(self.test, self.seed)[: self.episodes])

    @cached_property
    def records(self) -> dict[str, Episodes]:
        """The batch as each of the task's own agents plays it: who played → episodes."""
        return {who: rollout(agent, self.task, self.batch, seed=self.seed) for who, agent in players(self.task).items()}


def shuffled(instances: Instances, seed: int) -> np.ndarray:
    """Indices [n] of all instances in an order that the seed fixes on every machine."""
    return np.argsort(mix(seed, instances.key), kind="stable")


def can_guess(task: Any) -> bool:
    """Whether the task has a `guess`."""
    return isinstance(task, Guessable)


def knows_answers(task: Any) -> bool:
    """Whether the task has `styles` and `solve`."""
    return isinstance(task, Expert)


def players(task: Any) -> dict[str, Agent]:
    """The agents that a task brings along: its guesser, and its expert in each style."""
    agents: dict[str, Agent] = {"guess": Guesser(task)} if can_guess(task) else {}
    if knows_answers(task):
        agents |= {f"solve in style {style!r}": Demonstrator(task, style) for style in task.styles}
    return agents


NOBODY = "the task has neither `guess` nor `solve`, so nobody can play it here"


# --- what it says of itself -------------------------------------------------------------------------------------------


def card(trial: Trial) -> Verdict:
    """The card is filled in."""
    shown = trial.task.card
    if not isinstance(shown, Card):
        return False, f"`card` is {shown!r}; it should be a razorbench.Card."
    empty = [name for name in ("asks", "rule", "source", "licence") if not getattr(shown, name)]
    if empty:
        return False, f"The card says nothing under {', '.join(empty)}."
    if not 0 <= shown.chance <= 1:
        return False, f"The card's chance is {shown.chance}; it should be a share between 0 and 1."
    if knows_answers(trial.task) and not trial.task.styles:
        return False, "The task has `solve` but `styles` is empty; name at least one."
    return True, f"asks: {shown.asks}"


def splits(trial: Trial) -> Verdict:
    """Ids are unique, and train and test share none."""
    ids = {"train": trial.train.id.tolist(), "test": trial.test.id.tolist()}
    if not ids["test"]:
        return False, "There are no test instances, so nothing can be scored."
    for split, listed in ids.items():
        if len(set(listed)) < len(listed):
            return False, f"{len(listed) - len(set(listed))} ids of {split} stand there more than once."
    shared = set(ids["train"]) & set(ids["test"])
    if shared:
        return False, f"{len(shared):,} ids stand in both train and test, such as {next(iter(shared))!r}."
    return True, f"{len(ids['train']):,} train and {len(ids['test']):,} test instances, no id twice."


SCANNED, TOLERATED = 50_000, 0.01


def overlap(trial: Trial) -> Verdict:
    """Test questions do not stand in train under other ids (published data sets repeat a few: up to 1 % passes)."""
    if not trial.test.columns:
        return None, "The instances have no data beside their ids."
    if not len(trial.train):
        return None, "There is no training data."
    known = set(fingerprints(trial.train))
    tested = list(fingerprints(trial.test))
    shared = sum(question in known for question in tested)
    found = f"{shared:,} of {len(tested):,} test questions stand in train, too, under other ids"
    if shared > TOLERATED * len(tested):
        return False, f"{found}; split by the question, not by the row."
    return True, f"{found}."


def fingerprints(instances: Instances) -> Iterator[bytes]:
    """A hash of the data of each of the first 50,000 instances."""
    for i in range(min(len(instances), SCANNED)):
        yield blake2b(canonical(instances[i].data), digest_size=16).digest()


# --- how it plays -----------------------------------------------------------------------------------------------------


def scored(trial: Trial) -> Verdict:
    """Whoever plays, every episode ends with a finite reward."""
    if not players(trial.task):
        return None, f"Nothing was played: {NOBODY}."
    for who, episodes in trial.records.items():
        for turn in episodes.turns:
            given = None if turn.done is None else turn.done.value
            if isinstance(given, list | np.ndarray) and len(given) != len(turn.rows):
                return False, f"`{who}` gave {len(given)} values where {len(turn.rows)} were asked."
        if episodes.outcome is None or len(episodes.reward) != len(episodes):
            return False, f"`play` ended with {episodes.outcome!r}; it should return Outcomes of {len(episodes)}."
        unscored, failed = ~np.isfinite(episodes.reward), episodes.outcome.failed
        for lost, how in ((unscored, "are unscored"), (failed, "count as failed by the agent")):
            if lost.any():
                first = int(np.flatnonzero(lost)[0])
                why = episodes.outcome[first].error or f"the reward is {episodes.reward[first]}"
                at = f"instance {episodes.instances.id[first]}"
                return False, f"{lost.sum()} of {len(episodes)} episodes ({who}) {how}; first {at}: {why}."
    return True, f"{len(trial.batch):,} episodes each of {', '.join(trial.records)}: all have a finite reward."


class Deviated(Exception):
    """A game asked for something that the record does not hold."""


@dataclass(frozen=True)
class Replay:
    """An agent that gives the recorded values again."""

    record: list[Episode]
    like: Column

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The value that stands in the record for each episode and turn."""
        try:
            values = [
                self.record[i].actions[t].value for i, t in zip(asked.rows.tolist(), asked.turn.tolist(), strict=True)
            ]
        except IndexError:
            raise Deviated("asks for more turns than the record has") from None
        return Actions(joined(values, self.like))


def joined(values: list[Any], like: Column) -> Column:
    """One column of the values, of the same kind as the column `like`."""
    if isinstance(like, Mapping):
        return {name: joined([value[name] for value in values], inner) for name, inner in like.items()}
    if isinstance(like, list | tuple):
        return values
    if isinstance(like, np.ndarray):
        return np.stack(values)
    if like is None or isinstance(like, str):
        return like
    import torch  # the column is a tensor, so torch is loaded

    return torch.stack(values)


def replay(trial: Trial) -> Verdict:
    """A game is a function of instance and actions: recorded values give the record again, whatever the seed."""
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    for who, episodes in trial.records.items():
        record = list(episodes)
        try:
            agent = Replay(record, episodes.turns[0].done.value if episodes.turns and episodes.turns[0].done else None)
            second = rollout(agent, trial.again, trial.batch, seed=trial.seed + 1)
        except Deviated as error:
            return False, f"Played again with the recorded actions ({who}), the game {error}."
        if found := first_difference(record, list(second)):
            return False, f"Played again with the recorded actions ({who}), {found}; draw from `instance.key` only."
    return True, "Recorded actions give the same observations and rewards again."


def seed(trial: Trial) -> Verdict:
    """One seed, one result: a second object of the task gives the same instances and episodes."""
    test = trial.again.instances("test")
    if len(test) != len(trial.test) or (test.id != trial.test.id).any():
        return False, "`instances` gives other ids the second time; make them from fixed seeds."
    batch = test.take(shuffled(test, trial.seed)[: trial.episodes])
    if list(fingerprints(batch)) != list(fingerprints(trial.batch)):
        return False, "`instances` gives other data for the same ids the second time; make them from fixed seeds."
    if not trial.records:
        return None, f"The instances are the same each time; no more is known: {NOBODY}."
    for who, agent in players(trial.again).items():
        second = rollout(agent, trial.again, batch, seed=trial.seed)
        if found := first_difference(list(trial.records[who]), list(second)):
            return False, f"With the same seed ({who}), {found}; draw from `asked.uniform` only."
    return True, f"Two runs with seed {trial.seed} agree."


def companions(trial: Trial) -> Verdict:
    """An episode does not depend on who else is in the batch, nor on their order."""
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    everyone = np.arange(len(trial.batch))
    arrangements = {
        "in reverse order": everyone[::-1],
        "with half of the companions": everyone[::2],
        **{f"alone (instance {trial.batch.id[i]})": everyone[i : i + 1] for i in everyone[:3]},
    }
    for who, agent in players(trial.task).items():
        record = list(trial.records[who])
        for how, index in arrangements.items():
            episodes = rollout(agent, trial.task, trial.batch.take(index), seed=trial.seed)
            if found := first_difference([record[i] for i in index], list(episodes)):
                return False, f"Played {how} ({who}), {found}; use nothing but the row's own data."
    return True, "Episodes are the same in another order, in half the company, and alone."


def first_difference(before: list[Episode], after: list[Episode]) -> str | None:
    """What differs first between two lists of episodes, or None. Floats may differ by 1e-4."""
    for a, b in zip(before, after, strict=True):
        if (what := difference(a, b)) is not None:
            return f"instance {a.instance.id} differs in {what}"
    return None


def difference(a: Episode, b: Episode) -> str | None:
    """What differs between two episodes of one instance: observations, values, reward (metrics may hold times)."""
    for turn, (one, other) in enumerate(zip(a.observations, b.observations, strict=False)):
        for part in ("text", "images", "state", "role"):
            if not same(getattr(one, part), getattr(other, part)):
                return f"the {part} of observation {turn}"
        if turn < len(a.actions) and turn < len(b.actions) and not same(a.actions[turn].value, b.actions[turn].value):
            return f"action {turn}"
    if len(a.observations) != len(b.observations):
        return f"its length ({len(a.observations)} turns, then {len(b.observations)})"
    if a.outcome and b.outcome and not same(a.outcome.reward, b.outcome.reward):
        return f"the reward ({a.outcome.reward:g}, then {b.outcome.reward:g})"
    return None


def same(a: Any, b: Any) -> bool:
    """Whether two values are equal, floats to 1e-4 (contact dynamics amplify last bits); NaN equals NaN."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if any(hasattr(value, "__array__") or isinstance(value, float) for value in (a, b)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape == b.shape and "f" in a.dtype.kind + b.dtype.kind:
            return bool(np.allclose(a, b, rtol=1e-4, atol=1e-4, equal_nan=True))
        return a.shape == b.shape and bool((a == b).all())
    return bool(a == b)


# --- what it scores ---------------------------------------------------------------------------------------------------


def oracle(trial: Trial) -> Verdict:
    """The expert scores 100 % on test instances, in every style; an expert of motions 98 %."""
    if not knows_answers(trial.task):
        return None, "The task has no `styles` and `solve`, so no right answers are known."
    least = 1.0
    for style in trial.task.styles:
        episodes = trial.records[f"solve in style {style!r}"]
        if found := shortfall(episodes):
            return False, f"Style {style!r} {found}."
        least = min(least, 1 - len(missed(episodes)) / len(episodes))
    return True, f"Right answers score {100 * least:.4g} % in every style: {', '.join(trial.task.styles)}."


def demonstrated(trial: Trial) -> Verdict:
    """Demonstrations of the training instances earn the reward, in every style."""
    if not knows_answers(trial.task):
        return None, "The task has no `styles` and `solve`, so it has no demonstrations."
    if not len(trial.train):
        return None, "There is no training data."
    index = shuffled(trial.train, trial.seed)[: trial.episodes]
    lost = 0
    for style in trial.task.styles:
        shown = demonstrations(trial.task, trial.train.take(index), style, seed=trial.seed)
        if found := shortfall(shown):
            return False, f"Style {style!r} {found}."
        lost += len(missed(shown))
    every = f"all but {lost} demonstrations earn" if lost else "every demonstration earns"
    return True, f"{len(index):,} training instances: {every} the reward."


MISSES = 0.02
"""Share of episodes that an expert of motions may miss, for contacts may defeat any plan; no other expert may."""


def missed(episodes: Episodes) -> np.ndarray:
    """Indices of the episodes without the full reward."""
    return np.flatnonzero(~(episodes.reward >= 1 - 1e-6))


def shortfall(episodes: Episodes) -> str | None:
    """How these episodes miss the full reward, or None where each has it (of motions: nearly each)."""
    lost = missed(episodes)
    done = next((turn.done.value for turn in episodes.turns if turn.done is not None), None)
    motion = "float" in str(getattr(done, "dtype", ""))  # a numpy array or a tensor
    if len(lost) <= (MISSES * len(episodes) if motion else 0):
        return None
    episode = episodes[int(lost[0])]
    said = f"{episode.actions[-1].value!r}" if episode.actions else "no action"
    if len(said) > 60:
        said = said[:60] + "…"
    reward = episodes.reward[lost[0]]
    return f"misses on {len(lost)} of {len(episodes)}: instance {episode.instance.id}, {said}, earns {reward:g}"


BATCHES, CONFIDENCE, DEVIATIONS = 16, 0.999, 3.2905


def chance(trial: Trial) -> Verdict:
    """The guesser's mean agrees with the card: `card.chance` lies in the 99.9 % interval of 16 batches of guesses."""
    if not can_guess(trial.task):
        return None, "The task has no `guess`, so chance is only claimed."
    order = np.resize(shuffled(trial.test, trial.seed), BATCHES * len(trial.batch))
    rewards = np.concatenate(
        [
            rollout(Guesser(trial.task), trial.task, trial.test.take(index), seed=trial.seed + 1 + number).reward
            for number, index in enumerate(np.split(order, BATCHES))
        ]
    )
    return at_chance(rewards, trial.task.card.chance)


def at_chance(rewards: np.ndarray, claimed: float) -> Verdict:
    """Whether a claimed mean lies in the 99.9 % interval of rewards [n]: Clopper–Pearson if all 0 or 1, else CLT."""
    if not np.isfinite(rewards).all():
        return False, f"{(~np.isfinite(rewards)).sum()} of {len(rewards):,} guesses were not scored."
    mean = rewards.mean()
    if np.isin(rewards, (0, 1)).all():
        from scipy.stats import binomtest  # slow to import

        low, high = binomtest(int(rewards.sum()), len(rewards)).proportion_ci(CONFIDENCE, method="exact")
    else:
        half = DEVIATIONS * rewards.std(ddof=1) / sqrt(len(rewards)) + 1e-9
        low, high = mean - half, mean + half
    inside = bool(low <= claimed <= high)
    found = f"{len(rewards):,} guesses score {mean:.4f} (99.9 % interval {low:.4f} to {high:.4f})"
    if inside:
        return True, f"{found}; the card says {claimed:.4f}."
    return False, f"{found}, but the card says {claimed:.4f}; correct `card.chance` or `guess`."


# --- when an agent is broken ------------------------------------------------------------------------------------------


def explode(*_: Any) -> Any:
    """What every operation of a `Poison` does."""
    raise RuntimeError("this value is poisonous")


OPERATIONS = (
    "getattr str repr format bool len iter next contains getitem hash eq ne lt le gt ge add radd sub rsub mul rmul "
    "matmul truediv rtruediv floordiv rfloordiv mod rmod pow rpow neg pos abs invert and rand or ror xor rxor int "
    "float index round array call"
)

Poison = type("Poison", (), {f"__{name}__": explode for name in OPERATIONS.split()})
"""A value of which every operation raises: the worst that an agent could answer."""


@dataclass(frozen=True)
class Poisoner:
    """An agent that answers like another one, but the row `victim` gets a poisonous value."""

    agent: Agent
    victim: int
    poisoned: Callable[[Column, int], Column]

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The other agent's values, one of them replaced."""
        values = self.agent.act(asked, temperature=temperature).value
        at = np.flatnonzero(asked.rows == self.victim)
        return Actions(self.poisoned(values, int(at[0])) if len(at) else values)


def crash(trial: Trial) -> Verdict:
    """A value that breaks the game ends one episode, as a zero; its companions stay as they were."""
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    if len(trial.batch) < 2:
        return None, "There is one test instance only, so it has no companions."
    who, episodes = next(iter(trial.records.items()))
    turn = next((turn for turn in episodes.turns if turn.done is not None), None)
    if turn is None or turn.done is None:
        return None, "The game asks nothing, so nothing can be answered wrongly."
    poisoned, poison = poisoning(trial.task, turn.done.value)
    if poisoned is None:
        return None, f"`play` takes whole batches, and {poison}."
    victim = int(turn.rows[len(turn.rows) // 2])
    agent = Poisoner(players(trial.task)[who], victim, poisoned)
    try:
        with np.errstate(all="ignore"):  # a NaN may well be cast or compared
            hurt = rollout(agent, trial.task, trial.batch, seed=trial.seed)
    except Exception as error:
        return False, f"{poison} in one row ended the whole batch with {place(error)}; put `@each` over `play`."
    others = [i for i in range(len(trial.batch)) if i != victim]
    if found := first_difference([episodes[i] for i in others], [hurt[i] for i in others]):
        return False, f"{poison} in another row, and {found}."
    left = f"and the other {len(others)} as they were"
    if np.isnan(hurt.reward[victim]):
        why = "what an agent does cannot leave its item out: score it 0, or let the error through to `@each`"
        return False, f"{poison} in one row leaves that episode unscored {left}; {why}."
    return True, f"{poison} in one row leaves that episode scored {hurt.reward[victim]:g} {left}."


def poisoning(task: Any, values: Column) -> tuple[Callable[[Column, int], Column] | None, str]:
    """How one row of such a column is poisoned, and what with; (None, why not) where nothing poisonous fits."""
    if hasattr(type(task).play, "__wrapped__") or isinstance(values, list):  # `@each` reads single rows
        return with_poison, "A value that raises whatever is done with it"
    if isinstance(values, Mapping | str) or values is None:
        return None, "its answers are not one list or array"
    if "float" in str(values.dtype):  # a numpy array or a tensor
        return with_nan, "NaN"
    return None, f"no poisonous value fits into its answers, a column of {values.dtype}"


def with_poison(values: Column, at: int) -> Column:
    """The column as a list, with a poison at one row."""
    length = len(next(iter(values.values())) if isinstance(values, Mapping) else values)
    return [Poison() if i == at else row(values, i) for i in range(length)]


def with_nan(values: Column, at: int) -> Column:
    """A copy of the column, with NaN at one row: what a diverged policy says."""
    changed = values[np.arange(len(values))]
    changed[at] = np.nan
    return changed


# --- benchmarks, which own their loop ---------------------------------------------------------------------------------


def benchmark_scored(trial: Trial) -> Verdict:
    """Item ids are unique, and every item has a finite score."""
    for who, agent in players(trial.task).items():
        samples = trial.task.evaluate(agent, trial.episodes)
        if not 0 < len(samples) <= trial.episodes:
            return False, f"{len(samples)} items were scored ({who}) where `limit` was {trial.episodes}."
        if len({sample.id for sample in samples}) < len(samples):
            return False, "Items share an id, so two agents cannot be compared item by item."
        lost = [sample for sample in samples if not np.isfinite(sample.score)]
        if lost:
            first = f"{lost[0].id}: {lost[0].error}"
            return False, f"{len(lost)} of {len(samples)} items ({who}) are unscored; first {first}."
    return (True, "Every item has a finite score.") if players(trial.task) else (None, f"Nothing was run: {NOBODY}.")


def benchmark_seed(trial: Trial) -> Verdict:
    """A second run gives the same scores, and a smaller limit gives their beginning."""
    for (who, agent), twin in zip(players(trial.task).items(), players(trial.again).values(), strict=True):
        first = [(sample.id, sample.score) for sample in trial.task.evaluate(agent, trial.episodes)]
        second = [(sample.id, sample.score) for sample in trial.again.evaluate(twin, trial.episodes)]
        if first != second:
            return False, f"A second run ({who}) gives other items or scores."
        half = [sample.id for sample in trial.task.evaluate(agent, len(first) // 2)]
        if half != [id for id, _ in first[: len(half)]] or len(half) != len(first) // 2:
            return False, f"`limit` {len(first) // 2} does not give the first {len(first) // 2} items."
    return (True, "A second run agrees.") if players(trial.task) else (None, f"Nothing was run: {NOBODY}.")


def benchmark_oracle(trial: Trial) -> Verdict:
    """The expert scores 100 %."""
    if not knows_answers(trial.task):
        return None, "The benchmark has no `styles` and `solve`, so no right answers are known."
    for style in trial.task.styles:
        samples = trial.task.evaluate(Demonstrator(trial.task, style), trial.episodes)
        missed = [sample for sample in samples if not sample.score >= 1 - 1e-6]
        if missed:
            return False, f"Style {style!r} misses on {len(missed)} of {len(samples)}, first on {missed[0].id}."
    return True, f"Right answers score 100 % in every style: {', '.join(trial.task.styles)}."


def benchmark_chance(trial: Trial) -> Verdict:
    """The guesser's mean agrees with the card."""
    if not can_guess(trial.task):
        return None, "The benchmark has no `guess`, so chance is only claimed."
    samples = trial.task.evaluate(Guesser(trial.task), BATCHES * trial.episodes)
    return at_chance(np.array([sample.score for sample in samples], np.float64), trial.task.card.chance)


# --- all of them ------------------------------------------------------------------------------------------------------

Table = dict[str, tuple[Callable[[Trial], Verdict], tuple[str, ...]]]

PLAYED: Table = {
    "card": (card, ()),
    "splits": (splits, ()),
    "overlap": (overlap, ("splits",)),
    "scored": (scored, ("splits",)),
    "replay": (replay, ("splits", "scored")),
    "seed": (seed, ("splits", "scored", "replay")),
    "companions": (companions, ("splits", "scored", "replay", "seed")),
    "oracle": (oracle, ("splits", "scored", "replay")),
    "demonstrations": (demonstrated, ("splits", "scored", "replay", "oracle")),
    "chance": (chance, ("card", "splits", "scored", "replay")),
    "crash": (crash, ("splits", "scored", "replay", "seed", "companions")),
}
"""Name → (question, the checks that must not have failed before: what a failure also breaks is not reported twice)."""

MEASURED: Table = {
    "card": (card, ()),
    "scored": (benchmark_scored, ()),
    "seed": (benchmark_seed, ("scored",)),
    "oracle": (benchmark_oracle, ("scored",)),
    "chance": (benchmark_chance, ("card", "scored", "seed")),
}
"""The checks that a benchmark can be put to."""


def conclude(table: Table, trial: Trial) -> list[Check]:
    """Ask every question of the table. An exception is a failure of its check, unless it is a refusal."""
    checks: dict[str, Check] = {}
    for name, (question, needs) in table.items():
        failed = [need for need in needs if checks[need].ok is False]
        if failed:
            checks[name] = Check(name, None, f"Waits until {failed[0]!r} passes.")
            continue
        try:
            checks[name] = Check(name, *question(trial))
        except Refused:
            raise
        except Exception as error:
            checks[name] = Check(name, False, f"It raised {place(error)}.")
    return list(checks.values())


def place(error: Exception) -> str:
    """The exception, with the last line of code outside the harness that it came through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = Path(__file__).parents[1]
    theirs = [frame for frame in frames if ours not in Path(frame.filename).parents] or list(frames)
    return f"{type(error).__name__}: {error} ({Path(theirs[-1].filename).name}, line {theirs[-1].lineno})"
