"""What is asked of a task: what it says of itself, how it plays, what it scores, what a broken agent does to it.

Each question is a function of a `Trial`.
"""

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from math import sqrt
from typing import Any

import numpy as np

from razorbench.harness.cli.check.trial import (
    NOBODY,
    Poisoner,
    Trial,
    Verdict,
    can_guess,
    knows_answers,
    place,
    players,
    poisoning,
    shuffled,
)
from razorbench.harness.core.episodes import Episode, Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Card
from razorbench.harness.core.questions import canonical
from razorbench.harness.core.rollout import Deviated, Guesser, Replay, demonstrations, rollout

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
    known = set(data_hashes(trial.train))
    tested = list(data_hashes(trial.test))
    shared = sum(question in known for question in tested)
    sentence = f"{shared:,} of {len(tested):,} test questions stand in train, too, under other ids"
    if shared > TOLERATED * len(tested):
        return False, f"{sentence}; split by the question, not by the row."
    return True, f"{sentence}."


def data_hashes(instances: Instances) -> Iterator[bytes]:
    """A hash of the data of each of the first 50,000 instances."""
    for i in range(min(len(instances), SCANNED)):
        yield blake2b(canonical(instances[i].data), digest_size=16).digest()


# --- how it plays -----------------------------------------------------------------------------------------------------


def scored(trial: Trial) -> Verdict:
    """Whoever plays, every episode ends with a finite reward; where turns have rewards, each has a finite one."""
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
    try:
        turns = sums_of_turns(list(trial.records.values()))
    except Refused as error:
        return False, f"{error}."
    return True, f"{len(trial.batch):,} episodes each of {', '.join(trial.records)}: all have a finite reward{turns}."


def sums_of_turns(played: list[Episodes]) -> str:
    """Whether the rewards of turns add up to those of their episodes, in words; nothing where there are none.

    Refuses turns whose rewards are not one finite number each.
    """
    if all(episodes.outcome is None or episodes.outcome.turn_rewards is None for episodes in played):
        return ""
    apart = max(np.abs(np.nansum(each.turn_rewards(), axis=1) - each.reward).max(initial=0.0) for each in played)
    if apart < 1e-6:
        return ", and turns add up to it"
    return f", and turns have others, whose sums are up to {apart:.3g} away"


def replay(trial: Trial) -> Verdict:
    """A game is a function of instance and actions: recorded values give the record again, whatever the seed."""
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    for who, episodes in trial.records.items():
        record = list(episodes)
        try:
            second = rollout(Replay.of(episodes), trial.again, trial.batch, seed=trial.seed + 1)
        except Deviated as error:
            return False, f"Played again with the recorded actions ({who}), the game {error}."
        if differing := first_difference(record, list(second)):
            return False, f"Played again with the recorded actions ({who}), {differing}; draw from `instance.key` only."
    return True, "Recorded actions give the same observations and rewards again."


def seed(trial: Trial) -> Verdict:
    """One seed, one result: a second object of the task gives the same instances and episodes."""
    test = trial.again.instances("test")
    if len(test) != len(trial.test) or (test.id != trial.test.id).any():
        return False, "`instances` gives other ids the second time; make them from fixed seeds."
    batch = test.take(shuffled(test, trial.seed)[: trial.episodes])
    if list(data_hashes(batch)) != list(data_hashes(trial.batch)):
        return False, "`instances` gives other data for the same ids the second time; make them from fixed seeds."
    if not trial.records:
        return None, f"The instances are the same each time; no more is known: {NOBODY}."
    for who, agent in players(trial.again).items():
        second = rollout(agent, trial.again, batch, seed=trial.seed)
        if differing := first_difference(list(trial.records[who]), list(second)):
            return False, f"With the same seed ({who}), {differing}; draw from `asked.uniform` only."
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
            if differing := first_difference([record[i] for i in index], list(episodes)):
                return False, f"Played {how} ({who}), {differing}; use nothing but the row's own data."
    return True, "Episodes are the same in another order, in half the company, and alone."


CLOSE = 1e-4
"""How far floats may be apart that are the same: contact dynamics amplify last bits."""


def first_difference(before: list[Episode], after: list[Episode], within: float = CLOSE) -> str | None:
    """What differs first between two lists of episodes, or None. Floats may differ by `within`."""
    for a, b in zip(before, after, strict=True):
        if (what := difference(a, b, within)) is not None:
            return f"instance {a.instance.id} differs in {what}"
    return None


def difference(a: Episode, b: Episode, within: float = CLOSE) -> str | None:
    """What differs between two episodes of one instance: observations, values, reward (metrics may hold times)."""
    for turn, (one, other) in enumerate(zip(a.observations, b.observations, strict=False)):
        for part in ("text", "images", "state", "role"):
            if not same(getattr(one, part), getattr(other, part), within):
                return f"the {part} of observation {turn}"
        done = [episode.actions[turn].value for episode in (a, b) if turn < len(episode.actions)]
        if len(done) == 2 and not same(done[0], done[1], within):
            return f"action {turn}"
    if len(a.observations) != len(b.observations):
        return f"its length ({len(a.observations)} turns, then {len(b.observations)})"
    if a.outcome and b.outcome and not same(a.outcome.reward, b.outcome.reward, within):
        return f"the reward ({a.outcome.reward:g}, then {b.outcome.reward:g})"
    if a.outcome and b.outcome and not same(a.outcome.turn_rewards, b.outcome.turn_rewards, within):
        return "the rewards of its turns"
    return None


def same(a: Any, b: Any, within: float = CLOSE) -> bool:
    """Whether two values are equal, floats within so much; NaN equals NaN."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[name], b[name], within) for name in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y, within) for x, y in zip(a, b, strict=True))
    if any(hasattr(value, "__array__") or isinstance(value, float) for value in (a, b)):
        a, b = np.asarray(a), np.asarray(b)
        if a.shape == b.shape and "f" in a.dtype.kind + b.dtype.kind:
            return bool(np.allclose(a, b, rtol=within, atol=within, equal_nan=True))
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
        if lack := shortfall(episodes):
            return False, f"Style {style!r} {lack}."
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
        if lack := shortfall(shown):
            return False, f"Style {style!r} {lack}."
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
    sentence = f"{len(rewards):,} guesses score {mean:.4f} (99.9 % interval {low:.4f} to {high:.4f})"
    if inside:
        return True, f"{sentence}; the card says {claimed:.4f}."
    return False, f"{sentence}, but the card says {claimed:.4f}; correct `card.chance` or `guess`."


# --- when an agent is broken ------------------------------------------------------------------------------------------


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
    if differing := first_difference([episodes[i] for i in others], [hurt[i] for i in others]):
        return False, f"{poison} in another row, and {differing}."
    left = f"and the other {len(others)} as they were"
    if np.isnan(hurt.reward[victim]):
        why = "what an agent does cannot leave its item out: score it 0, or let the error through to `@each`"
        return False, f"{poison} in one row leaves that episode unscored {left}; {why}."
    return True, f"{poison} in one row leaves that episode scored {hurt.reward[victim]:g} {left}."
