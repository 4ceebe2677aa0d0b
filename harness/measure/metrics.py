"""What a task measures beside the score, base against adapted: means, paired changes, and the values of each item."""

from collections.abc import Iterator

import numpy as np

from razorbench.harness.measure import statistics
from razorbench.harness.measure.evaluation import Answers

Numbers = list[float | None]


def known_mean(column: np.ndarray) -> float:
    """The mean of the numbers that are known; NaN if none is."""
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else np.nan


def metric_means(base: Answers, adapted: Answers) -> dict[str, Numbers]:
    """Means of what the task measures beside the score, by metric: of the base, then of the adapted.

    They are paired as scores are: over the items that both have scored and for which both have it. Where none has it on
    both sides, each has its own mean. Both have the same items in one order.
    """
    averages: dict[str, Numbers] = {}
    for name, sides in _sides(base, adapted):
        both = np.isfinite(sides).all(0)
        averages[name] = [_known(known_mean(side[both] if both.any() else side)) for side in sides]
    return averages


def metric_changes(base: Answers, adapted: Answers) -> dict[str, Numbers]:
    """By metric adapted − base and its 95 % interval, [difference, low, high], each item paired with itself.

    The interval is that of scores (`statistics.paired`), over what items share; in the unit of the metric. What no item
    has on both sides is left out. Of what is no fraction the largest change that was seen counts for the largest that
    there can be: how far items lie apart, as long texts and short ones do, says nothing of how far they move.
    """
    changes: dict[str, Numbers] = {}
    for name, (ours, theirs) in _sides(base, adapted):
        moved = np.abs(theirs - ours)
        if not np.isnan(moved).all():
            fraction = np.nanmin([ours, theirs]) >= 0 and np.nanmax([ours, theirs]) <= 1
            unit = 1.0 if fraction else float(np.nanmax(moved))
            e = statistics.paired(ours, theirs, adapted.cluster, unit=unit)
            changes[name] = [_known(e.value), _known(e.low), _known(e.high)]
    return changes


def metric_items(base: Answers, adapted: Answers) -> list[dict[str, Numbers] | None]:
    """The metrics of each item [n], by name: [of the base, of the adapted]; None of an item that has none."""
    names = dict.fromkeys([*base.metrics, *adapted.metrics])
    sides = [[side.metrics.get(name) for side in (base, adapted)] for name in names]
    told = []
    for i in range(len(base)):
        pairs = [[None if side is None else _known(side[i]) for side in pair] for pair in sides]
        known = {name: pair for name, pair in zip(names, pairs, strict=True) if pair != [None, None]}
        told.append(known or None)
    return told


def _sides(base: Answers, adapted: Answers) -> Iterator[tuple[str, np.ndarray]]:
    """Each metric with its values [2, n] of base and adapted; NaN where they lack it, or one has no score."""
    scored = np.isfinite(base.score) & np.isfinite(adapted.score)
    for name in dict.fromkeys([*base.metrics, *adapted.metrics]):
        sides = np.stack([side.metrics.get(name, np.full(len(side), np.nan)) for side in (base, adapted)])
        yield name, np.where(scored & np.isfinite(sides), sides, np.nan)


def _known(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
