"""What is asked of a robot's task besides: is it played by its card's protocol, and does it repeat itself as that says?

Each question is a function of a `Trial`.
"""

from math import comb
from typing import Any

import numpy as np

from razorbench.harness.cli.check.tasks import first_difference
from razorbench.harness.cli.check.trial import NOBODY, Trial, Verdict, players
from razorbench.harness.core.episodes import Episodes
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.rollout import Deviated, Replay, rollout

FEW = 8
"""Episodes that are played again and again, at most."""


def protocol(trial: Trial) -> Verdict:
    """Episodes are played by the card's protocol: horizon, cameras, both successes, and which of them is the score."""
    card = trial.task.card.protocol
    for who, episodes in trial.records.items():
        longest = max((len(episode.actions) for episode in episodes), default=0)
        if longest > card.horizon:
            return False, f"An episode ({who}) takes {longest} steps, and the card's horizon is {card.horizon}."
        if wrong := unlike_cameras(episodes, dict(card.cameras)):
            return False, f"{wrong} ({who})."
        told: Any = episodes.outcome
        lacking = [name for name in ("success_once", "success_at_end") if name not in told.metrics]
        if lacking:
            return False, f"Outcomes ({who}) have no metric {' and no '.join(lacking)}."
        once, at_end = (np.asarray(told.metrics[name], float) for name in ("success_once", "success_at_end"))
        if (at_end > once).any():
            return False, f"An episode ({who}) is a success at its end and at no step."
        if (card.score(once, at_end) != episodes.reward).any():
            return False, f"The reward ({who}) is not the success that the card names, {card.success!r}."
    if not trial.records:
        return None, f"Nothing was played: {NOBODY}."
    return True, f"At most {card.horizon} steps; the score is success {card.success!r}."


def unlike_cameras(episodes: Episodes, declared: dict[str, str]) -> str:
    """How what was seen differs from the cameras on the card, in words; empty where it does not."""
    for turn in episodes.turns:
        seen = {name: np.asarray(column) for name, column in (turn.seen.images or {}).items()}
        if seen.keys() != declared.keys():
            return f"There are pictures of {sorted(seen) or 'no camera'}, and the card has {sorted(declared) or 'none'}"
        for name, column in seen.items():
            size = f"{column.shape[1]}x{column.shape[2]}"
            if column.dtype != np.uint8 or size != declared[name]:
                return f"Pictures of {name} are {size} of {column.dtype}, and the card says {declared[name]} of uint8"
    return ""


def determinism(trial: Trial) -> Verdict:
    """The same actions give the same episode, to the last bit: at once, after other episodes, in a fresh process."""
    declared = trial.task.card.protocol.determinism
    if declared == "none":
        return None, "The card declares none."
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    some, others = (trial.batch.take(np.arange(len(trial.batch))[part]) for part in (slice(FEW), slice(-FEW, None)))
    agent = list(players(trial.task).values())[-1]
    record = rollout(agent, trial.task, some, seed=trial.seed)
    again = Replay.of(record)
    ways = {"at once": trial.task, "after other episodes": trial.task}
    workers = Workers(trial.id) if declared == "bitwise" else None
    try:
        for how, task in (ways | ({"in a fresh process": workers} if workers else {})).items():
            if how == "after other episodes":
                rollout(agent, trial.task, others, seed=trial.seed)
            try:
                second = rollout(again, task, some)
            except Deviated as error:
                return False, f"Played again {how}, the game {error}; the card declares {declared!r}."
            if differing := first_difference(list(record), list(second), within=0.0):
                return False, f"Played again {how}, {differing}; the card declares {declared!r}."
    finally:
        if workers:
            workers.close()
    places = "at once, after other episodes, in a fresh process" if workers else "at once and after other episodes"
    return True, f"{len(some)} episodes are the same to the last bit: {places}."


def verdicts(trial: Trial) -> Verdict:
    """How many verdicts differ where one policy plays the same states twice: the floor under every difference here."""
    if not trial.records:
        return None, f"Nothing was recorded: {NOBODY}."
    card, (who, record) = trial.task.card.protocol, list(trial.records.items())[-1]
    second = rollout(players(trial.again)[who], trial.again, trial.batch, seed=trial.seed)
    differ = int((record.reward != second.reward).sum())
    said = f"{differ} of {len(record)} verdicts differ where `{who}` plays the same states twice"
    if tail(differ, len(record), card.floor) < 1e-3:
        return False, f"{said}; the card's floor is {card.floor:g}: correct `floor`, or what makes them differ."
    return True, f"{said}; the card's floor is {card.floor:g}."


def tail(seen: int, of: int, share: float) -> float:
    """The probability of so many or more, where each is one with probability `share` (binomial)."""
    return sum(comb(of, k) * share**k * (1 - share) ** (of - k) for k in range(seen, of + 1))
