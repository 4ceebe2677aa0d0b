"""Estimates with 95 % intervals, tests, ranks and fits: every number that the board shows comes from here.

Functions are pure and unit-free: scores may be 0–1 or anything else, and the caller turns them into points.
A NaN score is *unscored*: it is dropped (from a pair, both sides) and counted, and never becomes a zero.
`docs/statistics.md` has the reasons and the measured coverage of each interval.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats would take most of the time in which a command starts

from harness.estimate import Estimate

Array = np.ndarray
Interval = tuple[Array, Array, Array]  # low, high, standard error

FEW_CLUSTERS = 200
"""Below this many clusters no bootstrap is trusted (Bowyer et al. 2025: "a few hundred")."""
FEW_EVENTS = 20
"""Binary scores with fewer discordant pairs (or successes, or failures) than this keep the posterior at any size."""
PRIOR = 0.75
"""Dirichlet concentration of each of the cells won, lost, same; chosen by coverage, see `dirichlet_interval`."""
RESAMPLES = 4000
"""Bootstrap resamples of an interval."""
CHUNK = 1_000_000
"""Numbers held at once while resampling (8 MB)."""


# Means and paired differences


def paired(
    base: ArrayLike, adapted: ArrayLike, cluster: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0
) -> Estimate:
    """Mean of adapted − base over items `[n]`; `cluster [n]` names the instance when one is asked several times.

    The interval is a percentile bootstrap over clusters (Efron 1979; ratio of sums when sizes differ), except
    that fewer than 200 clusters, or fewer than 20 discordant binary pairs, call for one that holds up there:
    `dirichlet_interval` for binary scores, on the effective number of items when clusters repeat
    (Korn & Graubard 1998); Student's t over clusters for other scores, where an all-equal column has width 0.
    """
    base, adapted = columns(base, adapted)
    difference = adapted - base
    scored = ~np.isnan(difference)
    binary = _binary(base[scored], adapted[scored])
    return _estimate(difference, cluster, _won_and_lost if binary else None, level, seed)


def mean(values: ArrayLike, cluster: ArrayLike | None = None, *, level: float = 0.95, seed: int = 0) -> Estimate:
    """Mean of one score column `[n]`, with the same choice of interval as `paired`.

    Binary scores get `jeffreys_interval` below 200 clusters, or with fewer than 20 successes or failures.
    """
    (values,) = columns(values)
    return _estimate(values, cluster, _successes if _binary(values[~np.isnan(values)]) else None, level, seed)


Posterior = Callable[[Array, float], tuple[float, str, Callable[[float], Interval]]]


def _won_and_lost(difference: Array, n: float) -> tuple[float, str, Callable[[float], Interval]]:
    won, lost = (difference > 0).mean() * n, (difference < 0).mean() * n
    return won + lost, "Dirichlet posterior", lambda level: dirichlet_interval(won, lost, n, level)


def _successes(values: Array, n: float) -> tuple[float, str, Callable[[float], Interval]]:
    k = values.mean() * n
    return min(k, n - k), "Jeffreys posterior", lambda level: jeffreys_interval(k, n, level)


def _estimate(
    values: Array, cluster: ArrayLike | None, posterior: Posterior | None, level: float, seed: int
) -> Estimate:
    """The mean of the values that are not NaN; `posterior` makes the interval when events or clusters are few."""
    scored = ~np.isnan(values)
    kept, unscored = values[scored], int((~scored).sum())
    totals, sizes = _sums(kept, scored, cluster)
    m = len(sizes)
    if m == 0:
        return Estimate(np.nan, np.nan, np.nan, np.nan, 0, unscored, "nothing scored")
    method, interval = "Student t", lambda level: t_interval(totals, sizes, level)
    if m >= FEW_CLUSTERS:
        method, interval = "bootstrap", lambda level: bootstrap_interval(totals, sizes, level, seed)
    if posterior is not None:
        events, name, exact = posterior(kept, _effective_size(kept, totals, sizes))
        if m < FEW_CLUSTERS or events < FEW_EVENTS:
            method, interval = name, exact
    low, high, se = interval(level)
    return Estimate(float(kept.mean()), float(low), float(high), float(se), m, unscored, method)


def dirichlet_interval(
    won: ArrayLike, lost: ArrayLike, n: ArrayLike, level: float = 0.95
) -> tuple[Array, Array, Array]:
    """Low, high and standard deviation of P(won) − P(lost) given counts; arrays broadcast, counts may be fractions.

    Equal-tailed posterior interval under Dirichlet(3/4, 3/4, 3/4) on (won, lost, same), stretched to hold the raw
    difference where the prior pulls past it. It is the paired Bayesian setting of Bowyer et al. 2025 (arXiv
    2503.01747) with a conjugate model in place of their importance-sampled bivariate Gaussian, so nothing is drawn at
    random. The concentration was chosen by frequentist coverage at 30 and 100 pairs, see `docs/statistics.md`: it is
    the smallest of those tried whose worst cell on a grid is covered 93 % of the time.

    The discordant share is Beta(won + lost, same) and the won share of it an independent Beta(won, lost); 64-point
    Gauss quadrature over the former leaves an error below a thousandth of the width.
    """
    won, lost, n = np.broadcast_arrays(*(np.asarray(a, dtype=float) for a in (won, lost, n)))
    a, b, same = won + PRIOR, lost + PRIOR, np.maximum(n - won - lost, 0) + PRIOR
    node, weight = np.polynomial.legendre.leggauss(64)
    share = special.betaincinv((a + b)[..., None], same[..., None], (node + 1) / 2)  # [..., 64] discordant share

    def below(difference: Array) -> Array:
        """P(P(won) − P(lost) ≤ difference)."""
        won_share = np.clip((difference[..., None] / share + 1) / 2, 0, 1)
        return special.betainc(a[..., None], b[..., None], won_share) @ (weight / 2)

    def quantile(p: float) -> Array:
        left, right = -np.ones(a.shape), np.ones(a.shape)
        for _ in range(40):  # bisection: 2⁻³⁹ is finer than any score
            middle = (left + right) / 2
            short = below(middle) < p
            left, right = np.where(short, middle, left), np.where(short, right, middle)
        return (left + right) / 2

    raw, total = (won - lost) / n, a + b + same
    sd = np.sqrt(((a + b) / total - ((a - b) / total) ** 2) / (total + 1))
    return np.minimum(quantile((1 - level) / 2), raw), np.maximum(quantile((1 + level) / 2), raw), sd


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


def _sums(values: Array, scored: Array, cluster: ArrayLike | None) -> tuple[Array, Array]:
    """Sum and number of the scored values in each cluster, `[m]` and `[m]`."""
    if cluster is None:
        return values, np.ones(len(values))
    names = np.asarray(cluster)
    if names.shape != scored.shape:
        raise ValueError(f"found clusters of shape {names.shape}; expected {scored.shape}: one name an item")
    _, index = np.unique(names[scored], return_inverse=True)
    return np.bincount(index, weights=values), np.bincount(index).astype(float)


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


def combine(estimates: Sequence[Estimate]) -> Estimate:
    """Mean of independent estimates, such as retention over several benchmarks; each weighs the same.

    Variances add, and so do squared distances from value to limit, each side by itself, which keeps asymmetric
    intervals asymmetric: MOVER, Zou & Donner 2008. A NaN stays NaN, for a mean over fewer
    benchmarks would be another quantity. Raises ValueError when there is nothing to combine.
    """
    if not estimates:
        raise ValueError("found no estimates to combine; expected at least one")
    k = len(estimates)
    value, low, high, se = np.array([(e.value, e.low, e.high, e.se) for e in estimates]).T
    centre = value.mean()
    return Estimate(
        value=float(centre),
        low=float(centre - np.sqrt(((value - low) ** 2).sum()) / k),
        high=float(centre + np.sqrt(((high - value) ** 2).sum()) / k),
        se=float(np.sqrt((se**2).sum()) / k),
        n=sum(e.n for e in estimates),
        unscored=sum(e.unscored for e in estimates),
        method="MOVER",
    )


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

    Exact by enumeration up to 12 clusters that differ; beyond, Monte Carlo with the observed signs counted in
    (Phipson & Smyth 2010), so p is never below 1/(resamples + 1). With no difference p is 1.
    """
    base, adapted = columns(base, adapted)
    scored = ~np.isnan(base + adapted)
    totals, _ = _sums((adapted - base)[scored], scored, cluster)
    totals = totals[totals != 0]  # the sign of a zero does not matter
    k, observed = len(totals), abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if k <= 12:
        signs = 1 - 2 * ((np.arange(2**k)[:, None] >> np.arange(k)) & 1)  # [2ᵏ, k]
        return float((np.abs(signs @ totals) >= observed).mean())
    rng, extreme, step = np.random.default_rng(seed), 0, max(1, CHUNK // k)
    for start in range(0, resamples, step):
        signs = 1.0 - 2 * rng.integers(0, 2, (min(step, resamples - start), k), dtype=np.int8)
        extreme += int((np.abs(signs @ totals) >= observed).sum())
    return (extreme + 1) / (resamples + 1)


def paired_test(base: ArrayLike, adapted: ArrayLike, cluster: ArrayLike | None = None, seed: int = 0) -> float:
    """Two-sided p-value of no difference: `mcnemar` for binary items without repeats, else `sign_flip`."""
    base, adapted = columns(base, adapted)
    scored = ~np.isnan(base + adapted)
    repeats = cluster is not None and len(np.unique(np.asarray(cluster)[scored])) < scored.sum()
    if _binary(base[scored], adapted[scored]) and not repeats:
        return mcnemar(base, adapted)
    return sign_flip(base, adapted, seed, cluster=cluster)


def holm(p: ArrayLike) -> Array:
    """Step-down adjusted p-values `[k]` (Holm 1979). A NaN stays NaN and is not counted among the tests."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    k = len(order)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (k - np.arange(k))), 1)
    return adjusted


# Fronts


def pairwise_se(scores: ArrayLike) -> Callable[[slice], Array]:
    """A function that gives the standard error `[r, k]` of the mean paired difference of some rows of `scores [k, n]`
    to every row: a part of the rows at a time, for k² numbers may be too many.

    Each pair uses the items that both rows scored; with fewer than two it is NaN. Two rows of 0 and 1 (or of gains −1,
    0, 1) get one made-up win and loss, after Bonett & Price 2012, rescaled so that a raw difference beyond 1.96 se is
    one whose adjusted interval excludes 0: plain Wald would call four discordant items of four a win. With repeats,
    pass cluster means.
    """
    scores = np.asarray(scores, dtype=float)
    scored = ~np.isnan(scores)
    x = np.where(scored, scores, 0.0)
    whole = ((x == 0) | (np.abs(x) == 1)).all(1)
    squared, sums = x * x, x.sum(1)
    w = None if scored.all() else scored.astype(float)  # else one number of items and one sum a row do, not one a pair

    def error(rows: slice) -> Array:
        if w is None:
            n, total = float(x.shape[1]), sums[rows, None] - sums  # items that both scored, Σ (xᵢ − xⱼ)
            square = squared[rows].sum(1)[:, None] + squared.sum(1)
        else:
            n, total = w[rows] @ w.T, x[rows] @ w.T - w[rows] @ x.T
            square = squared[rows] @ w.T + w[rows] @ squared.T
        square -= 2 * (x[rows] @ x.T)  # Σ (xᵢ − xⱼ)²
        with np.errstate(divide="ignore", invalid="ignore"):
            wald = (square - total**2 / n) / (n * (n - 1))
            adjusted = (square + 2 - total**2 / (n + 2)) / n**2
            variance = np.where(whole[rows, None] & whole, adjusted, wald)
            se = np.where(n > 1, np.sqrt(np.maximum(variance, 0)), np.nan)
        itself = np.arange(len(x))[rows]
        se[np.arange(len(itself)), itself] = 0.0
        return se

    return error


def beats(difference: ArrayLike, se: ArrayLike, *, level: float = 0.95) -> Array:
    """Whether the interval of a difference lies above 0, any shape; a NaN beats nobody."""
    return np.asarray(difference, dtype=float) > special.ndtri((1 + level) / 2) * np.asarray(se, dtype=float)


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
