"""Intervals of counts and of sums over clusters: posteriors, the bootstrap, Student's t.

`statistics` chooses among them; `docs/statistics.md` has the reasons and the measured coverage.
"""

from functools import cache

import numpy as np
from numpy.typing import ArrayLike
from scipy import special  # scipy.stats would take most of the time in which a command starts

from razorbench.harness.measure.clusters import Array

Interval = tuple[Array, Array, Array]  # low, high, standard error

MADE_UP = 1.0
"""Changes of a whole unit that are added to those seen, for the size of a change; chosen by coverage."""
PRIOR = 0.85
"""Dirichlet concentration of each of the cells won, lost, same; chosen by coverage, see `dirichlet_interval`."""
RESAMPLES = 4000
"""Bootstrap resamples of an interval."""
CHUNK = 1_000_000
"""Numbers held at once while resampling (8 MB)."""


def effects_interval(change: ArrayLike, unit: float, level: float = 0.95, made_up: float = MADE_UP) -> Interval:
    """Low, high and standard deviation of the mean change of clusters, `change [m, ...]`, of which few are not 0.

    A change is taken for one of a common size s, up or down, and `dirichlet_interval` of so many won and lost is scaled
    by s. s is `Σ change² / Σ |change|`, which keeps the variance (so Fay & Feuer 1997 scale a Poisson variable), with
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
        guess = middle + (right - left) / 2 * -at / np.where(root > 0, root, 1)
        there = beyond(guess)
        low, high = np.minimum(middle, guess), np.maximum(middle, guess)
        at_low, at_high = np.where(guess < middle, there, at), np.where(guess < middle, at, there)
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
