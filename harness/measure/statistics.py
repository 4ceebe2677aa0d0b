"""Estimates with 95 % intervals, of one column of scores or of two, and the p-value that agrees with the interval.

What they are made of is in `intervals` and `significance`, ranks are in `ranking` and the law's fit in `law`.
Functions are pure and unit-free: scores may be 0–1 or anything else, and the caller turns them into points.
A NaN score is *unscored*: it is dropped (from a pair, both sides) and counted, and never becomes a zero.
`docs/statistics.md` has the reasons and the measured coverage of each interval.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats would take most of the time in which a command starts

from razorbench.harness.measure.clusters import Array, binary, columns, one_size, sums
from razorbench.harness.measure.estimate import Estimate, Paired
from razorbench.harness.measure.intervals import (
    MADE_UP,
    bootstrap_interval,
    effects_interval,
    jeffreys_interval,
    t_interval,
)
from razorbench.harness.measure.significance import sign_flip, told_apart

FEW_CLUSTERS = 200
"""Below this many clusters no bootstrap is trusted (Bowyer et al. 2025: "a few hundred")."""
FEW_EVENTS = 20
"""With fewer changes (or successes, or failures) than this the posterior is kept, however many clusters there are."""


def paired(
    base: ArrayLike,
    adapted: ArrayLike,
    cluster: ArrayLike | None = None,
    *,
    level: float = 0.95,
    seed: int = 0,
    unit: float | None = None,
) -> Estimate:
    """Mean of adapted − base over items `[n]`; `cluster [n]` names what items share that are not independent (None, of
    one item: nothing). `unit` is the largest change that an item can make; None: 1 of scores in 0–1, else as much as
    scores are seen to differ.

    A score may be the mean over several seeds. What counts are the differences of the clusters: where few are not 0,
    or all of those have one size and clusters are fewer than 200, the interval is `effects_interval`, together with
    Student's t where sizes vary; else Student's t below 200 clusters and a percentile bootstrap over clusters (Efron
    1979; ratio of sums when sizes differ) from there on. It never excludes 0 where `sign_flip` has p ≥ 5 %: then it is
    stretched to hold it. Where p < 5 %, the side towards 0 does without the made-up change if that is what held 0.
    """
    base, adapted = columns(base, adapted)
    difference = adapted - base
    scored = ~np.isnan(difference)
    totals, sizes = sums(difference[scored], scored, cluster)
    m, unscored = len(sizes), int((~scored).sum())
    if m == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    value = float(totals.sum() / sizes.sum())
    change = totals * (m / sizes.sum())
    unit = _unit(base[scored], adapted[scored]) if unit is None else unit
    few, alike = _events(change) < FEW_EVENTS, one_size(change)
    if few or (m < FEW_CLUSTERS and alike):
        method, (low, high, se) = "Dirichlet posterior", effects_interval(change, unit, level)
        if not alike:
            t_low, t_high, _ = t_interval(totals, sizes, level)
            low, high = np.minimum(low, t_low), np.maximum(high, t_high)
    elif m < FEW_CLUSTERS:
        method, (low, high, se) = "Student t", t_interval(totals, sizes, level)
    else:
        method, (low, high, se) = "bootstrap", bootstrap_interval(totals, sizes, level, seed)
    if low <= 0 <= high:
        if few and abs(totals.sum()) > 1.9 * np.sqrt((totals**2).sum()) and told_apart(totals, 1 - level, seed):
            bare_low, bare_high, _ = effects_interval(change, unit, level, made_up=0)
            low, high = (max(low, bare_low), high) if value > 0 else (low, min(high, bare_high))
    elif not told_apart(totals, 1 - level, seed):
        low, high = min(low, 0.0), max(high, 0.0)
    return Estimate(value, float(low), float(high), float(se), m, unscored, method)


def _unit(*columns: Array) -> float:
    """The largest change that a score can make: 1 of scores in 0–1, else as much as scores are seen to differ."""
    low, high = min(column.min() for column in columns), max(column.max() for column in columns)
    return 1.0 if low >= 0 and high <= 1 else float(high - low)


def _events(change: Array) -> float:
    """How many changes of one size would be as telling as these, (Σ |change|)² / Σ change²."""
    square = (change**2).sum()
    return float(np.abs(change).sum() ** 2 / square) if square else 0.0


def mean(values: ArrayLike, cluster: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of one score column `[n]`: bootstrap, or below 200 clusters Student's t, over clusters.

    Binary scores get `jeffreys_interval` below 200 clusters, or with fewer than 20 successes or failures, on the
    effective number of items when clusters repeat (Korn & Graubard 1998).
    """
    (values,) = columns(values)
    scored = ~np.isnan(values)
    kept, unscored = values[scored], int((~scored).sum())
    totals, sizes = sums(kept, scored, cluster)
    m = len(sizes)
    if m == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    n = _effective_size(kept, totals, sizes)
    k = kept.mean() * n
    if binary(kept) and (m < FEW_CLUSTERS or min(k, n - k) < FEW_EVENTS):
        method, (low, high, se) = "Jeffreys posterior", jeffreys_interval(k, n, level)
    elif m < FEW_CLUSTERS:
        method, (low, high, se) = "Student t", t_interval(totals, sizes, level)
    else:
        method, (low, high, se) = "bootstrap", bootstrap_interval(totals, sizes, level, seed)
    return Estimate(float(kept.mean()), float(low), float(high), float(se), m, unscored, method)


def _effective_size(values: Array, totals: Array, sizes: Array) -> float:
    """Number of independent items that would estimate the mean as well (Korn & Graubard 1998, with their t factor).

    Between (Σ size)² / Σ size², as if the items of a cluster were copies of each other, and the number of items.
    """
    items, m = len(values), len(sizes)
    if m == items:
        return float(items)
    copies = items**2 / (sizes**2).sum()
    if m == 1 or values.var() == 0:
        return float(copies)
    se = float(t_interval(totals, sizes)[2])
    if se == 0:
        return float(items)
    factor = special.stdtrit(items - 1, 0.975) / special.stdtrit(m - 1, 0.975)
    return float(np.clip(values.var() / se**2 * factor**2, copies, items))


def paired_test(base: ArrayLike, adapted: ArrayLike, cluster: ArrayLike | None = None, seed: int = 0) -> float:
    """Two-sided p-value of no difference, which agrees with the interval of `paired`: that of `sign_flip`, but never
    below 5 % beside an interval that holds 0.
    """
    return judged(base, adapted, cluster, seed=seed)[1]


def judged(
    base: ArrayLike, adapted: ArrayLike, cluster: ArrayLike | None = None, *, seed: int = 0
) -> tuple[Estimate, float]:
    """The estimate of `paired` and its two-sided p-value: two differ where p < 5 % and, which is the same, the interval
    excludes 0. Where test and interval disagree, the one that is not sure counts: the interval is stretched to 0, or p
    is raised to 5 %. NaN where nothing is scored.
    """
    estimate, p = paired(base, adapted, cluster, seed=seed), sign_flip(base, adapted, seed, cluster=cluster)
    if not estimate.n:
        return estimate, np.nan
    return estimate, max(p, 0.05) if estimate.low <= 0 <= estimate.high else p


def compared(first: ArrayLike, second: ArrayLike, cluster: ArrayLike | None = None) -> Paired:
    """Two agents on the same items [n] of a task, by their scores from 0 to 1 (NaN: unscored)."""
    x, y = columns(first, second)
    scored = ~np.isnan(x + y)
    estimate, p = judged(x, y, cluster)
    difference = estimate.points()
    return Paired(
        first=100 * float(x[scored].mean()) if scored.any() else np.nan,
        second=100 * float(y[scored].mean()) if scored.any() else np.nan,
        difference=difference,
        p=p,
        mde=minimum_detectable_effect(difference.se),
        first_alone=int(((x >= 0.5) & (y < 0.5)).sum()),
        second_alone=int(((y >= 0.5) & (x < 0.5)).sum()),
    )


def combine(estimates: Sequence[Estimate], correlation: ArrayLike | None = None) -> Estimate:
    """Mean of estimates, such as retention over several benchmarks; each weighs the same.

    Variances add, and so do squared distances from value to limit, each side by itself, which keeps asymmetric
    intervals asymmetric: MOVER, Zou & Donner 2008. `correlation` `[k, k]` of the estimates adds twice their products
    (`shared`); None: they are independent. A NaN stays NaN, for a mean over fewer benchmarks would be another quantity.
    Raises ValueError when there is nothing to combine.
    """
    if not estimates:
        raise ValueError("found no estimates to combine; expected at least one")
    k = len(estimates)
    value, low, high, se = np.array([(e.value, e.low, e.high, e.se) for e in estimates]).T
    r, centre = np.eye(k) if correlation is None else np.asarray(correlation, dtype=float), value.mean()

    def length(distance: Array) -> float:
        return float(np.sqrt(distance @ r @ distance) / k)

    return Estimate(
        value=float(centre),
        low=float(centre - length(value - low)),
        high=float(centre + length(high - value)),
        se=length(se),
        n=sum(e.n for e in estimates),
        unscored=sum(e.unscored for e in estimates),
        method="MOVER",
    )


def shared(differences: Sequence[ArrayLike], clusters: Sequence[ArrayLike | None]) -> Array | None:
    """Correlation `[k, k]` of the mean differences of k tasks whose items share clusters; None where they share none.

    `differences` are adapted − base of each task's items `[n]`, 0–1 or any other unit, and `clusters` the names of what
    they share, None for an item (or a task) that shares nothing. Correlations are of what clusters add to the means;
    one made-up change of a whole unit, of all tasks, is counted in, so that tasks with no change, of which nothing is
    known, count as one in the part of their clusters that they share. Never below 0: sharing widens only.
    """
    named = [None if each is None else np.asarray(each, dtype=object) for each in clusters]
    sets = [set() if each is None else set(each.tolist()) - {None} for each in named]
    both = set().union(*(one & other for i, one in enumerate(sets) for other in sets[:i]))
    if not both:
        return None
    place, k = {name: at for at, name in enumerate(sorted(both))}, len(differences)
    change, count, square, total = np.zeros((k, len(place))), np.zeros((k, len(place))), np.zeros(k), np.zeros(k)
    for t, (each, name) in enumerate(zip(differences, named, strict=True)):
        d = np.asarray(each, dtype=float)
        scored = ~np.isnan(d)
        d = d[scored] - d[scored].mean() if scored.any() else d[scored]
        own = [None] * len(d) if name is None else name[scored].tolist()
        at = np.array([place.get(one, len(place)) for one in own], dtype=int)
        change[t], count[t] = (np.bincount(at, weights, len(place) + 1)[: len(place)] for weights in (d, None))
        alone = at == len(place)
        square[t], total[t] = (d[alone] ** 2).sum() + (change[t] ** 2).sum(), alone.sum() + (count[t] > 0).sum()
    unit = max([1.0] + [float(np.abs(np.nan_to_num(each)).max(initial=0)) for each in differences])
    together = (count > 0).astype(float)
    made_up = MADE_UP * unit**2 * (together @ together.T) / np.sqrt(np.maximum(np.outer(total, total), 1))
    spread = np.sqrt(square + MADE_UP * unit**2)
    r = np.clip((change @ change.T + made_up) / np.outer(spread, spread), 0, 1)
    np.fill_diagonal(r, 1.0)
    return r


def minimum_detectable_effect(se: float, *, power: float = 0.8, level: float = 0.95) -> float:
    """The true effect that a two-sided test at 1 − level would find with probability `power`: (z₁₋α/₂ + z_power)·se.

    In the unit of `se`. A smaller effect may be there and yet be missed more often than that.
    """
    return float((special.ndtri((1 + level) / 2) + special.ndtri(power)) * se)


def spread(values: ArrayLike) -> float:
    """Standard deviation between seeds `[s]` (n − 1); NaN for fewer than two."""
    scored = np.asarray(values, dtype=float)
    scored = scored[~np.isnan(scored)]
    return float(scored.std(ddof=1)) if len(scored) > 1 else np.nan


def between_seeds(values: ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean over seeds `[s]`, se = sd/√s, Student-t interval. One seed gives no width: the interval is NaN."""
    (values,) = columns(values)
    scored = values[~np.isnan(values)]
    s, unscored = len(scored), int(np.isnan(values).sum())
    if s == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    low, high, se = t_interval(scored, np.ones(s), level)
    return Estimate(float(scored.mean()), float(low), float(high), float(se), s, unscored, "Student t between seeds")
