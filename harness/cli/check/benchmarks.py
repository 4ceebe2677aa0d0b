"""What is asked of a benchmark, which owns its loop: each question is a function of a `Trial`."""

import numpy as np

from razorbench.harness.cli.check.tasks import BATCHES, at_chance
from razorbench.harness.cli.check.trial import NOBODY, Trial, Verdict, can_guess, knows_answers, players
from razorbench.harness.core.rollout import Demonstrator, Guesser


def scored(trial: Trial) -> Verdict:
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


def seed(trial: Trial) -> Verdict:
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


def oracle(trial: Trial) -> Verdict:
    """The expert scores 100 %."""
    if not knows_answers(trial.task):
        return None, "The benchmark has no `styles` and `solve`, so no right answers are known."
    for style in trial.task.styles:
        samples = trial.task.evaluate(Demonstrator(trial.task, style), trial.episodes)
        missed = [sample for sample in samples if not sample.score >= 1 - 1e-6]
        if missed:
            return False, f"Style {style!r} misses on {len(missed)} of {len(samples)}, first on {missed[0].id}."
    return True, f"Right answers score 100 % in every style: {', '.join(trial.task.styles)}."


def chance(trial: Trial) -> Verdict:
    """The guesser's mean agrees with the card."""
    if not can_guess(trial.task):
        return None, "The benchmark has no `guess`, so chance is only claimed."
    samples = trial.task.evaluate(Guesser(trial.task), BATCHES * trial.episodes)
    return at_chance(np.array([sample.score for sample in samples], np.float64), trial.task.card.chance)
