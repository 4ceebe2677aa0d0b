"""Estimates with 95 % intervals, tests, ranks and fits: every number that the board shows comes from here.

Functions are pure and unit-free: scores may be 0–1 or anything else, and the caller turns them into points.
A NaN score is *unscored*: it is dropped (from a pair, both sides) and counted, and never becomes a zero.
`docs/statistics.md` has the reasons and the measured coverage of each interval.
"""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats would take most of the time in which a command starts

from razorbench.harness.measure.estimate import Estimate

Array = np.ndarray
Interval = tuple[Array, Array, Array]  # low, high, standard error

FEW_CLUSTERS = 200
"""Below this many clusters no bootstrap is trusted (Bowyer et al. 2025: "a few hundred")."""
FEW_EVENTS = 20
"""With fewer changes (or successes, or failures) than this the posterior is kept, however many clusters there are."""
MADE_UP = 1.0
"""Changes of a whole unit that are added to those seen, for the size of a change; chosen by coverage."""
PRIOR = 0.85
"""Dirichlet concentration of each of the cells won, lost, same; chosen by coverage, see `dirichlet_interval`."""
SURE = 2.42
"""A sum of random signs exceeds so many of its standard deviations with a chance below 5 %, whatever the sizes: at most
3.18 times that of a normal variable (Pinelis 1994), both sides together."""
RESAMPLES = 4000
"""Bootstrap resamples of an interval."""
CHUNK = 1_000_000
"""Numbers held at once while resampling (8 MB)."""


# Means and paired differences


def paired(
    base: ArrayLike, adapted: ArrayLike, cluster: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean of adapted − base over items `[n]`; `cluster [n]` names what items share that are not independent (None, of
    one item: nothing).

    A score may be the mean over several seeds. What counts are the differences of the clusters: where few are not 0,
    or all of those have one size and clusters are fewer than 200, the interval is `effects_interval`, together with
    Student's t where sizes vary; else Student's t below 200 clusters and a percentile bootstrap over clusters (Efron
    1979; ratio of sums when sizes differ) from there on. It never excludes 0 where `sign_flip` has p ≥ 5 %: then it is
    stretched to hold it. Where p < 5 %, the side towards 0 does without the made-up change if that is what held 0.
    """
    base, adapted = columns(base, adapted)
    difference = adapted - base
    scored = ~np.isnan(difference)
    totals, sizes = _sums(difference[scored], scored, cluster)
    m, unscored = len(sizes), int((~scored).sum())
    if m == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    value = float(totals.sum() / sizes.sum())
    change, unit = totals * (m / sizes.sum()), _unit(base[scored], adapted[scored])
    few, alike = _events(change) < FEW_EVENTS, _one_size(change)
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
        if few and abs(totals.sum()) > 1.9 * np.sqrt((totals**2).sum()) and _told_apart(totals, 1 - level, seed):
            bare_low, bare_high, _ = effects_interval(change, unit, level, made_up=0)
            low, high = (max(low, bare_low), high) if value > 0 else (low, min(high, bare_high))
    elif not _told_apart(totals, 1 - level, seed):
        low, high = min(low, 0.0), max(high, 0.0)
    return Estimate(value, float(low), float(high), float(se), m, unscored, method)


def mean(values: ArrayLike, cluster: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of one score column `[n]`: bootstrap, or below 200 clusters Student's t, over clusters.

    Binary scores get `jeffreys_interval` below 200 clusters, or with fewer than 20 successes or failures, on the
    effective number of items when clusters repeat (Korn & Graubard 1998).
    """
    (values,) = columns(values)
    scored = ~np.isnan(values)
    kept, unscored = values[scored], int((~scored).sum())
    totals, sizes = _sums(kept, scored, cluster)
    m = len(sizes)
    if m == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    n = _effective_size(kept, totals, sizes)
    k = kept.mean() * n
    if _binary(kept) and (m < FEW_CLUSTERS or min(k, n - k) < FEW_EVENTS):
        method, (low, high, se) = "Jeffreys posterior", jeffreys_interval(k, n, level)
    elif m < FEW_CLUSTERS:
        method, (low, high, se) = "Student t", t_interval(totals, sizes, level)
    else:
        method, (low, high, se) = "bootstrap", bootstrap_interval(totals, sizes, level, seed)
    return Estimate(float(kept.mean()), float(low), float(high), float(se), m, unscored, method)


def effects_interval(change: ArrayLike, unit: float, level: float = 0.95, made_up: float = MADE_UP) -> Interval:
    """Low, high and standard deviation of the mean change of clusters, `change [m, ...]`, of which few are not 0.

    A change is taken for one of a common size s, up or down, and `dirichlet_interval` of so many won and lost is scaled
    by s. s is Σ change² / Σ |change|, which keeps the variance (so Fay & Feuer 1997 scale a Poisson variable), with
    `made_up` changes of a whole `unit` added to both sums: what was seen so far may have been small by chance. So the
    first change that is seen does not narrow the interval, and where none is, it is that of binary items.
    """
    change = np.asarray(change, dtype=float)
    up, down = np.maximum(change, 0).sum(0), np.maximum(-change, 0).sum(0)
    square, lengths = (change**2).sum(0) + made_up * unit**2, up + down + made_up * unit
    size = square / np.where(lengths > 0, lengths, 1)
    size = np.where(size > 0, size, unit)
    if unit == 0:
        return up, up, up
    low, high, sd = dirichlet_interval(up / size, down / size, len(change), level)
    return size * low, size * high, size * sd


def dirichlet_interval(
    won: ArrayLike, lost: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[Array, Array, Array]:
    """Low, high and standard deviation of P(won) − P(lost) given counts; arrays broadcast, counts may be fractions.

    Equal-tailed posterior interval under Dirichlet(0.85, 0.85, 0.85) on (won, lost, same), stretched to hold the raw
    difference where the prior pulls past it. It is the paired Bayesian setting of Bowyer et al. 2025 (arXiv
    2503.01747) with a conjugate model in place of their importance-sampled bivariate Gaussian, so nothing is drawn at
    random. The concentration was chosen by frequentist coverage, see `docs/statistics.md`: it is the smallest of those
    tried whose worst cell is covered 93 % of the time, at 30 and 100 pairs and in the limit of many.

    The discordant share is Beta(won + lost, same) and the won share of it an independent Beta(won, lost); 64-point
    Gauss quadrature over the former leaves an error below a thousandth of the width.
    """
    won, lost, n = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (won, lost, n)))
    a, b, same = won + PRIOR, lost + PRIOR, np.maximum(n - won - lost, 0) + PRIOR
    node, weight = _nodes(64)
    share = special.betaincinv((a + b)[..., None], same[..., None], (node + 1) / 2)  # [..., 64] discordant share
    raw, total = (won - lost) / n, a + b + same
    sd = np.sqrt(((a + b) / total - ((a - b) / total) ** 2) / (total + 1))

    def beyond(difference: Array) -> Array:
        """P(P(won) − P(lost) ≤ difference) less that of the low and of the high limit, [2, ...]."""
        won_share = np.clip((difference[..., None] / share + 1) / 2, 0, 1)
        p = np.stack([np.full(a.shape, (1 - level) / 2), np.full(a.shape, (1 + level) / 2)])
        return special.betainc(a[..., None], b[..., None], won_share) @ (weight / 2) - p

    far = np.sqrt(2 / (1 - level)) * sd  # both limits are nearer, by Chebyshev's inequality
    left, right = (np.stack([(a - b) / total + side] * 2) for side in (-far, far))
    below, above = beyond(left), beyond(right)
    for _ in range(40):  # the method of Ridders 1979: a few steps are enough
        middle = (left + right) / 2
        at = beyond(middle)
        root = np.sqrt(at**2 - below * above)
        found = middle + (right - left) / 2 * -at / np.where(root > 0, root, 1)
        there = beyond(found)
        low, high = np.minimum(middle, found), np.maximum(middle, found)
        at_low, at_high = np.where(found < middle, there, at), np.where(found < middle, at, there)
        for x, value in ((low, at_low), (high, at_high)):
            rise = (value < 0) & (x >= left)
            left, below = np.where(rise, x, left), np.where(rise, value, below)
        for x, value in ((high, at_high), (low, at_low)):
            fall = (value >= 0) & (x <= right)
            right, above = np.where(fall, x, right), np.where(fall, value, above)
        if (right - left).max(initial=0) < 1e-12 or np.abs(there).max(initial=0) < 1e-13:
            break
    limit = np.where(np.abs(below) < np.abs(above), left, right)
    return np.minimum(limit[0], raw), np.maximum(limit[1], raw), sd


@cache
def _nodes(n: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on (−1, 1), which take longer than what they are used for."""
    return np.polynomial.legendre.leggauss(n)


def jeffreys_interval(successes: ArrayLike, n: ArrayLike, level: float = 0.95) -> Interval:
    """Low, high and standard deviation of a proportion given counts; arrays broadcast, counts may be fractions.

    Equal-tailed posterior interval under Beta(1/2, 1/2), stretched to the raw proportion at 0 and 1 (Brown, Cai &
    DasGupta 2001).
    """
    successes, n = np.asarray(successes, dtype=float), np.asarray(n, dtype=float)
    a, b = successes + 0.5, n - successes + 0.5
    low = np.minimum(special.betaincinv(a, b, (1 - level) / 2), successes / n)
    high = np.maximum(special.betaincinv(a, b, (1 + level) / 2), successes / n)
    return low, high, np.sqrt(a * b / (a + b + 1)) / (a + b)


def bootstrap_interval(totals: Array, sizes: Array, level: float = 0.95, seed: int = 0) -> Interval:
    """Percentile interval and standard deviation of Σ totals / Σ sizes over clusters, `totals [m, ...]`, `sizes [m]`.

    Every column of `totals` meets the same `RESAMPLES` resamples. Binary scores have a handful of distinct clusters,
    so the number of times each kind is drawn is one multinomial vector whatever m is; other scores go by chunks.
    """
    rng, m = np.random.default_rng(seed), len(sizes)
    rows, count = np.unique(np.column_stack([sizes, totals]), axis=0, return_counts=True)
    if len(rows) <= 64:
        drawn = rng.multinomial(m, count / m, RESAMPLES) @ rows  # [b, 1 + columns]
    else:
        rows, step, parts = np.column_stack([sizes, totals]), max(1, CHUNK // m), []
        for start in range(0, RESAMPLES, step):
            k = min(step, RESAMPLES - start)
            cell = rng.integers(0, m, (k, m)) + m * np.arange(k)[:, None]
            parts.append(np.bincount(cell.ravel(), minlength=k * m).reshape(k, m).astype(float) @ rows)
        drawn = np.concatenate(parts)
    means = (drawn[:, 1:] / drawn[:, :1]).reshape(RESAMPLES, *totals.shape[1:])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return low, high, means.std(0, ddof=1)


def t_interval(totals: Array, sizes: Array, level: float = 0.95) -> Interval:
    """Limits and standard error of Σ totals / Σ sizes over clusters, `totals [m, ...]`, `sizes [m]`; NaN for one.

    Student's t with m − 1 degrees of freedom on the linearised ratio (Cochran 1977).
    """
    m, items = len(sizes), sizes.sum()
    value = totals.sum(0) / items
    if m < 2:
        nan = np.full(np.shape(value), np.nan)
        return nan, nan, nan
    residual = totals - np.multiply.outer(sizes, value)
    se = np.sqrt((residual**2).sum(0) * m / (m - 1)) / items
    half = special.stdtrit(m - 1, (1 + level) / 2) * se
    return value - half, value + half, se


def columns(*columns: ArrayLike) -> list[Array]:
    """The columns as floats; raises ValueError unless they are one-dimensional and of one length."""
    arrays = [np.asarray(column, dtype=float) for column in columns]
    if any(array.ndim != 1 or len(array) != len(arrays[0]) for array in arrays):
        shapes = " and ".join(str(array.shape) for array in arrays)
        raise ValueError(f"found columns of shape {shapes}; expected one dimension and one length: one score an item")
    return arrays


def _binary(*columns: Array) -> bool:
    return all(bool(np.isin(column, (0.0, 1.0)).all()) for column in columns)


def _unit(*columns: Array) -> float:
    """The largest change that a score can make: 1 of scores in 0–1, else as much as scores are seen to differ."""
    low, high = min(column.min() for column in columns), max(column.max() for column in columns)
    return 1.0 if low >= 0 and high <= 1 else float(high - low)


def _events(change: Array) -> float:
    """How many changes of one size would be as telling as these, (Σ |change|)² / Σ change²."""
    square = (change**2).sum()
    return float(np.abs(change).sum() ** 2 / square) if square else 0.0


def _one_size(change: Array) -> bool:
    """Whether all changes that are not 0 are as large as each other."""
    size = np.abs(change[change != 0])
    return bool(len(size) == 0 or size.max() - size.min() <= 1e-6 * size.max())


def _told_apart(totals: Array, alpha: float, seed: int) -> bool:
    """Whether the sign-flip test of cluster totals `[m]` tells their sum from 0."""
    root = np.sqrt((totals**2).sum())
    if abs(totals.sum()) > SURE * root and alpha >= 0.05:
        return True
    return _sign_flip(totals, seed, 9999) < alpha


def _sums(values: Array, scored: Array, cluster: ArrayLike | None) -> tuple[Array, Array]:
    """Sum and number of the scored values in each cluster, `[m]` and `[m]`."""
    if cluster is None:
        return values, np.ones(len(values))
    names = np.asarray(cluster)
    if names.shape != scored.shape:
        raise ValueError(f"found clusters of shape {names.shape}; expected {scored.shape}: one name an item")
    index = places(names[scored])
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


def places(names: Array) -> Array:
    """The number, from 0, of the cluster of each item `[n]`, given their names; each None is one by itself."""
    if names.dtype != object:
        return np.unique(names, return_inverse=True)[1]
    named = np.array([name is not None for name in names], bool)
    found, at = np.unique(names[named], return_inverse=True)
    index = np.empty(len(names), int)
    index[named], index[~named] = at, len(found) + np.arange((~named).sum())
    return index


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


# Tests


def mcnemar(base: ArrayLike, adapted: ArrayLike) -> float:
    """Exact two-sided p-value of McNemar's test on binary items `[n]`: binomial(1/2) on the discordant pairs.

    Raises ValueError for scores other than 0 and 1. With no discordant pair p is 1.
    """
    base, adapted = columns(base, adapted)
    scored = ~np.isnan(base + adapted)
    base, adapted = base[scored], adapted[scored]
    if not _binary(base, adapted):
        raise ValueError("found scores other than 0 and 1; McNemar's test is for binary ones: use sign_flip")
    won, lost = int((adapted > base).sum()), int((adapted < base).sum())
    return min(1.0, 2 * float(special.bdtr(min(won, lost), won + lost, 0.5)))


def sign_flip(
    base: ArrayLike, adapted: ArrayLike, seed: int = 0, *, cluster: ArrayLike | None = None, resamples: int = 9999
) -> float:
    """Two-sided p-value of the paired permutation test (Fisher 1935): each cluster's difference may change its sign.

    Exact where all differences have one size (then it is McNemar's test), and by enumeration up to 12 clusters that
    differ; beyond, Monte Carlo with the observed signs counted in (Phipson & Smyth 2010), so p is never below
    1/(resamples + 1). With no difference p is 1.
    """
    base, adapted = columns(base, adapted)
    scored = ~np.isnan(base + adapted)
    return _sign_flip(_sums((adapted - base)[scored], scored, cluster)[0], seed, resamples)


def _sign_flip(totals: Array, seed: int, resamples: int) -> float:
    totals = totals[np.abs(totals) > 1e-12 * np.abs(totals).max(initial=0)]  # the sign of a zero does not matter
    k, observed = len(totals), abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if _one_size(totals):
        fewer = min(int((totals > 0).sum()), int((totals < 0).sum()))
        return min(1.0, 2 * float(special.bdtr(fewer, k, 0.5)))
    if k <= 12:
        signs = 1 - 2 * ((np.arange(2**k)[:, None] >> np.arange(k)) & 1)  # [2ᵏ, k]
        return float((np.abs(signs @ totals) >= observed).mean())
    rng, extreme, step = np.random.default_rng(seed), 0, max(1, CHUNK // k)
    for start in range(0, resamples, step):
        signs = 1.0 - 2 * rng.integers(0, 2, (min(step, resamples - start), k), dtype=np.int8)
        extreme += int((np.abs(signs @ totals) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


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


def holm(p: ArrayLike) -> Array:
    """Step-down adjusted p-values `[k]` (Holm 1979). A NaN stays NaN and is not counted among the tests."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    k = len(order)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (k - np.arange(k))), 1)
    return adjusted


# Fronts


def wins(blocks: Sequence[ArrayLike], *, level: float = 0.95) -> Callable[[slice], Array]:
    """A function that tells of some rows whether each has more than every row, `[r, k]`, by the test of their
    difference: a part of the rows at a time, for k² numbers may be too many.

    A block `[k, m]` holds a score a cluster, NaN where there is none, weighted so that the sum over all blocks is what
    is compared; clusters are independent. A pair is held against each other on the clusters that both scored, and not
    at all where those of a block are fewer than two. i beats j if Σd − s > z √Σd², d the differences of clusters: the
    normal approximation of `sign_flip`, less a continuity correction s = √(Σd⁴ / Σd²), the size of a difference where
    all have one. Whatever the sizes, fewer than six differences are no win: for q of them (Σd − s)² / Σd² is at most
    (q − 1)² / q, by the inequalities of Cauchy and of power means.
    """
    z, parts = special.ndtri((1 + level) / 2), [_powers(block) for block in blocks]

    def beaten(rows: slice) -> Array:
        total, square, fourth, known = 0.0, 0.0, 0.0, True
        for powers, sums, scored in parts:
            x, x2, x3, x4 = powers
            if scored is None:  # one sum a row does, not one a pair
                one, two, four = ((each[rows, None], each) for each in sums)
                known = known and x.shape[1] > 1
            else:
                one, two, four = ((each[rows] @ scored.T, scored[rows] @ each.T) for each in (x, x2, x4))
                known = known & (scored[rows] @ scored.T > 1)
            product = x[rows] @ x.T
            cubes = 2 * product if x3 is x else x3[rows] @ x.T + x[rows] @ x3.T
            total = total + one[0] - one[1]
            square = square + two[0] + two[1] - 2 * product
            fourth = fourth + four[0] + four[1] - 4 * cubes + 6 * (x2[rows] @ x2.T)
        square = np.maximum(square, 0)
        items = sum(powers[0].shape[1] for powers, _, _ in parts)
        fourth = np.maximum(fourth, square**2 / max(items, 1))  # at least, but for rounding
        root = np.sqrt(square)
        step = np.sqrt(fourth) / np.where(root > 0, root, 1.0)
        return known & (total - step > z * root)

    return beaten


def _powers(block: ArrayLike) -> tuple[list[Array], list[Array], Array | None]:
    """x, x², x³, x⁴ of scores `[k, m]`, 0 where there is none; the sums of a row; and which are scored, None: all."""
    scores = np.asarray(block, dtype=float)
    scored = ~np.isnan(scores)
    x = np.where(scored, scores, 0.0)
    cube = x**3
    powers = [x, x * x, x if np.array_equal(cube, x) else cube, x**4]  # −1, 0 and 1 are their own cubes
    return powers, [powers[at].sum(1) for at in (0, 1, 3)], None if scored.all() else scored.astype(float)


def fronts(on_x: ArrayLike, on_y: ArrayLike, known: ArrayLike) -> Array:
    """Rank `[k]` by non-dominated sorting, 0 is the best front, −1 a point that is not `known [k]`.

    `on_x`, `on_y` `[k, k]` say who beats whom on an axis. A dominates B when it beats B on one axis and is not
    beaten on the other. So defined dominance is not transitive and can go in a circle: points that dominate each
    other round a circle (a strongly connected component) are tied and move as one, so that peeling always ends.
    """
    from scipy import sparse  # only who writes ranks
    from scipy.sparse import csgraph

    on_x, on_y, known = (np.asarray(each, dtype=bool) for each in (on_x, on_y, known))
    dominates = ((on_x & ~on_y.T) | (on_y & ~on_x.T)) & known[:, None] & known
    circles, circle = csgraph.connected_components(sparse.csr_array(dominates), connection="strong")
    above = np.zeros((circles, circles), dtype=bool)
    winner, loser = np.nonzero(dominates)
    above[circle[winner], circle[loser]] = True
    np.fill_diagonal(above, False)

    rank, dominators, front = np.full(circles, -1), above.sum(0), 0
    while (rank < 0).any():  # `above` has no circle left, so each front has a member
        free = (rank < 0) & (dominators == 0)
        rank[free] = front
        dominators = dominators - above[free].sum(0)
        front += 1
    return np.where(known, rank[circle], -1)


# Sequences of tasks: P[t, j] is the score on task j after adapting to tasks 0…t, in the unit of the scores


def avg_acc(P: ArrayLike) -> float:
    """Mean over tasks j of P[T, j], T the last row."""
    return float(_square(P)[-1].mean())


def forgetting_measure(P: ArrayLike) -> float:
    """Mean over j < T of P[T, j] − max over t of P[t, j]: at most 0 (Lai 2025). NaN cells are left out of the max."""
    P = _square(P)
    return float((P[-1] - np.fmax.reduce(P, axis=0))[:-1].mean()) if len(P) > 1 else np.nan


def backward_transfer(P: ArrayLike) -> float:
    """Mean over j < T of P[T, j] − P[j, j] (Lopez-Paz & Ranzato 2017); NaN for one task."""
    P = _square(P)
    return float((P[-1] - np.diag(P))[:-1].mean()) if len(P) > 1 else np.nan


def _square(P: ArrayLike) -> Array:
    P = np.asarray(P, dtype=float)
    if P.ndim != 2 or P.shape[0] != P.shape[1] or not P.size:
        raise ValueError(f"found a matrix of shape {P.shape}; expected [T, T]: a row after each task, a column a task")
    return P
