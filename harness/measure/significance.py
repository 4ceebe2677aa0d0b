"""Tests of paired differences, McNemar's and by flipping signs, and Holm's correction for several of them."""

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from razorbench.harness.measure.clusters import Array, binary, columns, one_size, sums
from razorbench.harness.measure.intervals import CHUNK

SURE = 2.42
"""A sum of random signs exceeds so many of its standard deviations with a chance below 5 %, whatever the sizes: at most
3.18 times that of a normal variable (Pinelis 1994), both sides together."""


def mcnemar(base: ArrayLike, adapted: ArrayLike) -> float:
    """Exact two-sided p-value of McNemar's test on binary items `[n]`: binomial(1/2) on the discordant pairs.

    Raises ValueError for scores other than 0 and 1. With no discordant pair p is 1.
    """
    base, adapted = columns(base, adapted)
    scored = ~np.isnan(base + adapted)
    base, adapted = base[scored], adapted[scored]
    if not binary(base, adapted):
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
    return _sign_flip(sums((adapted - base)[scored], scored, cluster)[0], seed, resamples)


def _sign_flip(totals: Array, seed: int, resamples: int) -> float:
    totals = totals[np.abs(totals) > 1e-12 * np.abs(totals).max(initial=0)]  # the sign of a zero does not matter
    k, observed = len(totals), abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if one_size(totals):
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


def told_apart(totals: Array, alpha: float, seed: int) -> bool:
    """Whether the sign-flip test of cluster totals `[m]` tells their sum from 0."""
    root = np.sqrt((totals**2).sum())
    if abs(totals.sum()) > SURE * root and alpha >= 0.05:
        return True
    return _sign_flip(totals, seed, 9999) < alpha


def holm(p: ArrayLike) -> Array:
    """Step-down adjusted p-values `[k]` (Holm 1979). A NaN stays NaN and is not counted among the tests."""
    p = np.asarray(p, dtype=float)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]  # NaN sorts last
    k = len(order)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * (k - np.arange(k))), 1)
    return adjusted
