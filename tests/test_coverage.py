"""How often the 95 % intervals hold the truth, over submissions as they come.

`python -m tests.test_coverage` prints the table of `docs/statistics.md`.

A simulated submission has a base accuracy, a chance to lose an item that the base had right and a chance to win one
that it had wrong, drawn anew each time: mostly small changes, some large, both directions.
"""

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from scipy import special

from harness.statistics import bootstrap_interval, dirichlet_interval, mean, paired, t_interval

SUBMISSIONS = 1000
RATES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def submissions(rng: np.random.Generator, count: int) -> np.ndarray:
    """Base accuracy, P(lost | right), P(won | wrong) of each, `[3, count]`."""
    return np.stack([rng.uniform(0.05, 0.95, count), rng.beta(1, 6, count), rng.beta(1, 4, count)])


def held(low: np.ndarray, high: np.ndarray, truth: np.ndarray) -> float:
    return float(((low <= truth) & (truth <= high)).mean())


@cache
def dirichlet_table(n: int) -> np.ndarray:
    """Interval for each (won, lost) of n pairs, `[2, n + 1, n + 1]`; half is computed and half mirrored."""
    table = np.full((2, n + 1, n + 1), np.nan)
    won, lost = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
    won, lost = won[won >= lost], lost[won >= lost]
    low, high, _ = dirichlet_interval(won, lost, n)
    table[:, won, lost] = low, high
    table[:, lost, won] = -high, -low
    return table


def few_binary_pairs(n: int, draw: Callable[[np.random.Generator, int], np.ndarray] = submissions) -> float:
    """Binary items below 200, 20,000 submissions by looking (won, lost) up in the table of `dirichlet_interval`."""
    rng = np.random.default_rng(n)
    accuracy, lose, win = draw(rng, 20 * SUBMISSIONS)
    p_won, p_lost = (1 - accuracy) * win, accuracy * lose
    won, lost, _ = rng.multinomial(n, np.stack([p_won, p_lost, 1 - p_won - p_lost], axis=1)).T
    low, high = dirichlet_table(n)[:, won, lost]
    return held(low, high, p_won - p_lost)


def binary_pairs(n: int, repeats: int = 1) -> float:
    """Binary items, each asked `repeats` times of instances that differ in difficulty, through `paired` itself."""
    rng = np.random.default_rng(n)
    bounds, truth = [], []
    for accuracy, lose, win in submissions(rng, SUBMISSIONS).T:
        alike = np.exp(rng.uniform(-1, 2))  # small: repeats of an instance nearly agree; large: nearly independent
        chances = [accuracy, lose, win]
        if repeats > 1:
            chances = [rng.beta(p * alike, (1 - p) * alike, (n, 1)) for p in chances]
        base = rng.random((n, repeats)) < chances[0]
        adapted = rng.random((n, repeats)) < np.where(base, 1 - chances[1], chances[2])
        instance = np.repeat(np.arange(n), repeats) if repeats > 1 else None
        estimate = paired(base.ravel(), adapted.ravel(), instance)
        bounds.append((estimate.low, estimate.high))
        truth.append((1 - accuracy) * win - accuracy * lose)
    low, high = np.array(bounds).T
    return held(low, high, np.array(truth))


def partial_credit(n: int, sizes: np.ndarray | None = None) -> float:
    """Scores in 0–1 of which a share moves towards 1 or 0, by an amount of its own; clusters when sizes are given.

    All submissions go through the interval in one batch, as columns.
    """
    rng, count = np.random.default_rng(n), SUBMISSIONS * (10 if n < 200 else 1)
    accuracy, alike = rng.uniform(0.1, 0.9, count), np.exp(rng.uniform(-1, 2, count))
    moves, up = rng.uniform(0.1, 1, count), rng.uniform(0, 1, count)
    truth = moves * 0.5 * (up * (1 - accuracy) - (1 - up) * accuracy)
    sizes = np.ones(n, dtype=int) if sizes is None else sizes
    instance = np.repeat(np.arange(n), sizes)
    base = rng.beta(accuracy * alike, (1 - accuracy) * alike, (n, count))[instance]  # the instance's own
    shape = base.shape
    step = np.where(rng.random(shape) < up, 1 - base, -base) * rng.random(shape) * (rng.random(shape) < moves)
    totals = np.add.reduceat(step, np.cumsum(sizes) - sizes, axis=0)
    interval = t_interval if n < 200 else bootstrap_interval
    low, high, _ = interval(totals, sizes.astype(float))
    return held(low, high, truth)


def one_column(n: int) -> float:
    """Accuracy of one agent, through `mean`."""
    rng = np.random.default_rng(n)
    accuracy = rng.uniform(0.02, 0.98, SUBMISSIONS)
    estimates = [mean(rng.random(n) < p) for p in accuracy]
    return held(np.array([e.low for e in estimates]), np.array([e.high for e in estimates]), accuracy)


def uneven(n: int) -> np.ndarray:
    return 1 + np.arange(n) % 7


def grid(n: int) -> dict[tuple[float, float, float], float]:
    """Exact coverage, summed over every (won, lost), for each base accuracy, P(lost | right) and P(won | wrong)."""
    won, lost = np.nonzero(np.add.outer(np.arange(n + 1), np.arange(n + 1)) <= n)
    low, high = dirichlet_table(n)[:, won, lost]
    ways = (
        special.gammaln(n + 1)
        - special.gammaln(won + 1)
        - special.gammaln(lost + 1)
        - special.gammaln(n - won - lost + 1)
    )
    coverage = {}
    for accuracy in (0.1, 0.3, 0.5, 0.7, 0.9):
        for lose in RATES:
            for win in RATES:
                p, q = (1 - accuracy) * win, accuracy * lose
                log = special.xlogy(won, p) + special.xlogy(lost, q) + special.xlogy(n - won - lost, 1 - p - q)
                coverage[accuracy, lose, win] = float(np.exp(ways + log)[(low <= p - q) & (p - q <= high)].sum())
    return coverage


FIGURES: dict[str, Callable[[], float]] = {
    "binary pairs, n = 30": lambda: few_binary_pairs(30),
    "binary pairs, n = 100": lambda: few_binary_pairs(100),
    "binary pairs, n = 200": lambda: binary_pairs(200),
    "binary pairs, n = 1,000": lambda: binary_pairs(1000),
    "binary pairs, 30 instances × 4": lambda: binary_pairs(30, 4),
    "binary pairs, 100 instances × 4": lambda: binary_pairs(100, 4),
    "binary pairs, 1,000 instances × 4": lambda: binary_pairs(1000, 4),
    "partial credit, n = 100": lambda: partial_credit(100),
    "partial credit, n = 200": lambda: partial_credit(200),
    "partial credit, n = 1,000": lambda: partial_credit(1000),
    "partial credit, 100 instances × 1–7": lambda: partial_credit(100, uneven(100)),
    "partial credit, 1,000 instances × 1–7": lambda: partial_credit(1000, uneven(1000)),
    "one binary column, n = 30": lambda: one_column(30),
    "one binary column, n = 100": lambda: one_column(100),
    "one binary column, n = 1,000": lambda: one_column(1000),
}

OTHER_SPREADS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "small changes: both Beta(1, 20)": lambda rng, k: np.stack([rng.uniform(0.05, 0.95, k), *rng.beta(1, 20, (2, k))]),
    "large changes: both uniform to 0.5": lambda rng, k: rng.uniform(0, [[0.95], [0.5], [0.5]], (3, k)),
    "losses only: Beta(1, 4) and 0": lambda rng, k: submissions(rng, k)[[0, 2, 1]] * [[1], [1], [0]],
}
"""Not looked at when the prior was chosen."""


@pytest.mark.parametrize("figure", FIGURES)
def test_the_95_percent_interval_holds_the_truth_in_93_to_97_percent_of_submissions(figure):
    assert 0.93 <= FIGURES[figure]() <= 0.97


@pytest.mark.parametrize("n", [30, 100])
def test_no_cell_of_the_grid_is_covered_less_than_93_percent(n):
    assert min(grid(n).values()) >= 0.93


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("spread", OTHER_SPREADS)
def test_other_spreads_of_submissions_are_covered_at_least_93_percent(spread, n):
    assert few_binary_pairs(n, OTHER_SPREADS[spread]) >= 0.93


def test_thirty_partial_credits_fall_short_of_the_promise_by_a_known_amount():
    """Student's t on skewed scores that mostly stay put: a documented limit, not a success."""
    assert 0.91 <= partial_credit(30) < 0.93


def test_the_table_holds_what_paired_returns():
    base, adapted = np.zeros(30), np.zeros(30)
    base[:2], adapted[2:7] = 1, 1  # 5 won, 2 lost
    estimate = paired(base, adapted)
    np.testing.assert_allclose(dirichlet_table(30)[:, 5, 2], (estimate.low, estimate.high), atol=1e-9)


def test_a_column_of_the_batch_has_the_interval_that_paired_returns():
    rng = np.random.default_rng(0)
    scores = rng.random((300, 3))
    low, high, _ = bootstrap_interval(scores, np.ones(300))
    estimate = paired(np.zeros(300), scores[:, 1])
    np.testing.assert_allclose((low[1], high[1]), (estimate.low, estimate.high), rtol=1e-12)


if __name__ == "__main__":
    print("| scores | coverage |\n| --- | --- |")
    for name, figure in FIGURES.items():
        print(f"| {name} | {100 * figure():.1f} % |")
    for n in (30, 50):
        print(f"| partial credit, n = {n} (not asserted to reach 93 %) | {100 * partial_credit(n):.1f} % |")
    print("\n| other submissions | n = 30 | n = 100 |\n| --- | --- | --- |")
    for name, draw in OTHER_SPREADS.items():
        print(f"| {name} | {100 * few_binary_pairs(30, draw):.1f} % | {100 * few_binary_pairs(100, draw):.1f} % |")
    print("\n| binary pairs | worst cell: accuracy, P(lost), P(won) | its coverage | mean of the grid |")
    print("| --- | --- | --- | --- |")
    for n in (30, 100):
        cells = grid(n)
        worst = min(cells, key=lambda cell: cells[cell])
        print(f"| n = {n} | {worst} | {100 * cells[worst]:.1f} % | {100 * np.mean(list(cells.values())):.1f} % |")
