"""What makes a result worth a second look. Flags are questions, never verdicts."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

SILENCE = 10
"""Steps in a row without a signal from which on a run says so."""
NUMBERS = {"gain": "points", "retention": "points", "drift": "nats"}
FAR = 3.0
"""Standard errors between a number and what its maker reports, from which it is flagged; and at least `NEAR`."""
NEAR = {"gain": 1.0, "retention": 1.0, "drift": 0.05}


def flags(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """What is to be asked about an entry, in sentences, from its rows of the table `runs`, one a seed.

    What its maker says is held against what was measured only where somebody submitted it: the commands of other rows
    are known.
    """
    sentences = unscored(runs) + silent(runs)
    told = runs[0]["brought"] if runs else None
    if not told:
        return sentences
    value, error = {}, {}
    for name in NUMBERS:
        numbers = np.array([np.nan if run[name] is None else run[name] for run in runs], np.float64)
        errors = np.array([np.nan if run[f"{name}_se"] is None else run[f"{name}_se"] for run in runs], np.float64)
        known = numbers[np.isfinite(numbers)]
        between = float(known.std(ddof=1) / len(known) ** 0.5) if len(known) > 1 else 0.0
        value[name], error[name] = mean(numbers), max(np.nan_to_num(mean(errors)), between)
    most = possible_gain(value["drift"] + 1.96 * error["drift"])
    if value["gain"] - 1.96 * error["gain"] > most:
        sentences.append(
            f"It gained {value['gain']:.1f} points at a drift of {value['drift']:.3g} nats, "
            f"which lets one expect at most {most:.1f}."
        )
    for name, reported in told["claim"]["reported"].items():
        if abs(reported - value[name]) > max(FAR * error[name], NEAR[name]):
            unit = NUMBERS[name]
            sentences.append(
                f"Its maker reports a {name} of {reported:g} {unit}; we measured {value[name]:.3g} {unit}."
            )
    if told["overlap"]:
        sentences.append(f"{told['overlap']} of its declared training questions are asked in the evaluation.")
    return sentences


def unscored(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether base and adapted differ in how many items are unscored, and whether the agent failed many."""
    sentences = []
    base, adapted, failed, lost = (
        sum(run[name] or 0 for run in runs)
        for name in ("unscored_base", "unscored_adapted", "failed_adapted", "failed_base")
    )
    if any(run["uneven"] for run in runs):
        sentences.append(
            f"The base has {base} unscored items and the adapted agent {adapted}: they were not measured alike, and "
            "only what both have scored is compared."
        )
    if failed > lost:
        sentences.append(
            f"{failed} items score 0 because the adapted agent gave no answer that could be judged (the base: {lost})."
        )
    return sentences


def silent(runs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Whether a run went on for long without anything to learn from."""
    most = max((run["silent"] or 0 for run in runs), default=0)
    if most < SILENCE:
        return []
    return [f"For {most} steps in a row no answer carried a signal, so nothing was learned there."]


def mean(numbers: np.ndarray) -> float:
    """The mean of those that are known; NaN if none is."""
    known = numbers[np.isfinite(numbers)]
    return float(known.mean()) if len(known) else np.nan


def possible_gain(nats: float) -> float:
    """The largest gain in points of sampled answers at a forward KL in nats an episode: 100 √(KL / 2), at most 100.

    Pinsker's inequality: what two distributions give to any set of answers differs by no more than √(KL / 2); averaged
    over questions the root of the mean bounds the mean of the roots. Greedy answers are not bound by it, for an answer
    at the edge may turn over at little cost; hence a question, not a verdict.
    """
    return 100.0 if nats != nats else min(100.0, 100.0 * (max(nats, 0.0) / 2.0) ** 0.5)
