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

from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.intervals import bootstrap_interval, dirichlet_interval, effects_interval, t_interval
from razorbench.harness.measure.ranking import wins
from razorbench.harness.measure.statistics import FEW_EVENTS, combine, mean, paired, shared

pytestmark = pytest.mark.slow

SUBMISSIONS = 1000
A_CELL = 4000
"""Entries a cell of the table by seeds: ± 0.35 %, so that the worst of a hundred cells is no chance."""
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
    rng, count = np.random.default_rng(n), SUBMISSIONS * (2 if n < 200 else 1)
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
    if n < 200:  # where few changes count, `paired` reaches further
        change = totals * (n / sizes.sum())
        few = np.abs(change).sum(0) ** 2 < FEW_EVENTS * (change**2).sum(0)
        more = effects_interval(change[:, few], 1.0)
        low[few], high[few] = np.minimum(low[few], more[0]), np.maximum(high[few], more[1])
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


# Entries of several seeds: of each item the mean change over seeds, in −1…1. A share of the items is vulnerable: where
# the base was right they are lost, where it was wrong won, with chance q in each seed.


def entry(rng: np.random.Generator, seeds: int, lose: np.ndarray, win: np.ndarray | float = 0.0) -> np.ndarray:
    """Mean change of items, given their chances of being lost and won in a seed; an item has one of the two."""
    return (rng.binomial(seeds, win, lose.shape) - rng.binomial(seeds, lose)) / seeds


@cache
def estimate_of(n: int, changes: tuple[float, ...]) -> Estimate:
    """What `paired` makes of n items of which some change."""
    change = np.r_[changes, np.zeros(n - len(changes))]
    base = (change < 0).astype(float)
    return paired(base, base + change)


def estimated(change: np.ndarray) -> Estimate:
    """What `paired` makes of these changes, in any order."""
    return estimate_of(len(change), tuple(np.sort(change[change != 0]).round(9).tolist()))


def seeds_held(n: int, seeds: int, vulnerable: float, q: float, won: float = 0.0, count: int = SUBMISSIONS) -> float:
    """Coverage of one task by entries of several seeds; of the vulnerable the base has a share `won` wrong."""
    rng, covered = np.random.default_rng([n, seeds, int(1e4 * vulnerable), int(100 * q)]), []
    truth = vulnerable * q * (2 * won - 1)
    for _ in range(count):
        u = rng.random(n)
        lose, win = u < vulnerable * (1 - won), u > 1 - vulnerable * won
        e = estimated(entry(rng, seeds, lose * q, win * q))
        covered.append(e.low <= truth <= e.high)
    return float(np.mean(covered))


def retention_held(
    vulnerable: tuple[float, ...], q: float, n: int, seeds: int, *, boxes: bool, told: bool = True, count: int = 400
) -> float:
    """Coverage of the mean over tasks, of which each has a share of vulnerable items. With `boxes` the items of one
    number are vulnerable and lost together in all tasks, which `shared` is told, or not.
    """
    rng, covered = np.random.default_rng([n, seeds, len(vulnerable), int(100 * q)]), []
    truth, names = -np.mean(vulnerable) * q, np.array([f"box {i}" for i in range(n)], object)
    for _ in range(count):
        if boxes:
            u, fate = rng.random(n), rng.random((seeds, n))
            tasks = [-((u < rate) & (fate < q)).mean(0) for rate in vulnerable]
        else:
            tasks = [entry(rng, seeds, (rng.random(n) < rate) * q) for rate in vulnerable]
        together = shared(tasks, [names if boxes and told else None] * len(tasks))
        e = combine([estimated(task) for task in tasks], together)
        covered.append(e.low <= truth <= e.high)
    return float(np.mean(covered))


def wins_of_fronts(n: int, seeds: int, vulnerable: float, q: float, better: float = 0.0, worlds: int = 20) -> float:
    """How often one of two entries beats the other; they lose alike, but that a share `better` of the items is kept by
    the first of them alone.
    """
    rng, shares = np.random.default_rng([n, seeds, int(1e4 * vulnerable), int(100 * q)]), []
    for _ in range(worlds):
        lose = np.tile((rng.random(n) < vulnerable) * q, (60, 1))
        lose[30:] = np.where(rng.random(n) < better, 0.9, lose[30:])
        beaten = wins([entry(rng, seeds, lose)])(slice(None))
        alike = [
            np.triu((beaten | beaten.T)[half, half], 1).sum() / (30 * 29 / 2) for half in (slice(30), slice(30, 60))
        ]
        shares.append(beaten[:30, 30:].mean() if better else np.mean(alike))
    return float(np.mean(shares))


FAULTS = [(150, 3, 0.03, 0.33), (400, 3, 0.01, 0.33), (400, 3, 0.02, 0.33), (150, 10, 0.03, 0.1)]
"""Items, seeds, share of the vulnerable, q: where Student's t or the bootstrap over seed means covered 87–92 %."""
FEW: list[tuple[float, ...]] = [
    (0.01, 0.33),
    (0.02, 0.5),
    (0.02, 0.5, 0.33),
    (0.04, 0.1),
    (0.04, 0.33),
    (0.05, 0.5),
    (0.05, 0.9, 0.33),
]
MANY: list[tuple[float, ...]] = [(0.2, 0.5), (0.3, 0.5, 0.33), (0.7, 0.33), (0.7, 0.9, 0.2)]
"""Share of the vulnerable, q, and of the vulnerable those that the base had wrong."""
RETENTION = {
    "seven tasks, one loses": ((0.03, 0, 0, 0, 0, 0, 0), 0.5),
    "seven tasks, all lose a little": ((0.01,) * 7, 0.5),
    "seven tasks, two lose": ((0.05, 0.02, 0, 0, 0, 0, 0), 0.5),
    "seven tasks, all lose much": ((0.2,) * 7, 0.5),
    "three tasks": ((0.02,) * 3, 0.5),
    "three tasks, all lose much": ((0.2,) * 3, 0.5),
}

FIGURES: dict[str, Callable[[], float]] = {
    "binary pairs, n = 30": lambda: few_binary_pairs(30),
    "binary pairs, n = 100": lambda: few_binary_pairs(100),
    "binary pairs, n = 200": lambda: binary_pairs(200),
    "binary pairs, n = 1,000": lambda: binary_pairs(1000),
    "binary pairs, 30 instances × 4": lambda: binary_pairs(30, 4),
    "binary pairs, 100 instances × 4": lambda: binary_pairs(100, 4),
    "binary pairs, 1,000 instances × 4": lambda: binary_pairs(1000, 4),
    "partial credit, n = 30": lambda: partial_credit(30),
    "partial credit, n = 50": lambda: partial_credit(50),
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
def test_the_95_percent_interval_holds_the_truth_in_93_to_99_percent_of_submissions(figure):
    assert 0.93 <= FIGURES[figure]() <= 0.99


@pytest.mark.parametrize("fault", FAULTS)
def test_an_entry_of_several_seeds_with_few_changes_is_covered(fault):
    assert seeds_held(*fault, count=300) >= 0.93


@pytest.mark.parametrize("seeds", [1, 3, 10])
def test_an_entry_with_many_changes_is_covered(seeds):
    assert seeds_held(100, seeds, 0.3, 0.5, 1 / 3, count=200) >= 0.92  # 95 %, of 200


def test_retention_over_tasks_that_share_boxes_is_covered_when_that_is_told():
    case = {"n": 150, "seeds": 1, "boxes": True}
    assert retention_held((0.015,) * 3, 0.9, **case) >= 0.93
    assert retention_held((0.015,) * 3, 0.9, **case, told=False) < 0.9  # else a box that is lost counts three times
    assert retention_held((0.2,) * 3, 0.5, **case, count=150) >= 0.91


@pytest.mark.parametrize("seeds", [1, 3, 10])
@pytest.mark.parametrize(("vulnerable", "q"), [(0.03, 0.5), (0.3, 0.5)])
def test_entries_that_lose_alike_seldom_beat_each_other(seeds, vulnerable, q):
    assert wins_of_fronts(150, seeds, vulnerable, q) <= 0.05


@pytest.mark.parametrize("n", [30, 100])
def test_no_cell_of_the_grid_is_covered_less_than_93_percent(n):
    assert min(grid(n).values()) >= 0.93


@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("spread", OTHER_SPREADS)
def test_other_spreads_of_submissions_are_covered_at_least_93_percent(spread, n):
    assert few_binary_pairs(n, OTHER_SPREADS[spread]) >= 0.93


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
    print("\n| other submissions | n = 30 | n = 100 |\n| --- | --- | --- |")
    for name, draw in OTHER_SPREADS.items():
        print(f"| {name} | {100 * few_binary_pairs(30, draw):.1f} % | {100 * few_binary_pairs(100, draw):.1f} % |")
    print("\n| binary pairs | worst cell: accuracy, P(lost), P(won) | its coverage | mean of the grid |")
    print("| --- | --- | --- | --- |")
    for n in (30, 100):
        exact = grid(n)
        worst = min(exact, key=lambda cell: exact[cell])
        print(f"| n = {n} | {worst} | {100 * exact[worst]:.1f} % | {100 * np.mean(list(exact.values())):.1f} % |")

    print("\n| items | seeds | few changes: mean, worst cell | many: mean, worst cell |\n| --- | --- | --- | --- |")
    for n in (30, 100, 400, 1000):
        for seeds in (1, 3, 10):
            row = []
            for cells in (FEW, MANY):
                rates = [seeds_held(n, seeds, *cell, count=A_CELL) for cell in cells if n * cell[0] >= 1]
                row.append(f"{100 * np.mean(rates):.1f} %, {100 * min(rates):.1f} %")
            print(f"| {n} | {seeds} | {row[0]} | {row[1]} |", flush=True)
    print("\n| retention, 150 items a task | 1 seed | 3 seeds | 10 seeds |\n| --- | --- | --- | --- |")
    for called, (rates, q) in RETENTION.items():
        for boxes, told, how in ((False, True, ""), (True, True, ", shared boxes"), (True, False, ", the same untold")):
            if not boxes or len(rates) == 3:
                cells = [
                    retention_held(rates, q, 150, seeds, boxes=boxes, told=told, count=200) for seeds in (1, 3, 10)
                ]
                print(f"| {called}{how} | " + " | ".join(f"{100 * cell:.1f} %" for cell in cells) + " |", flush=True)
    print(
        "\n| fronts: entries that lose alike | items | 1 seed | 3 seeds | 10 seeds |\n| --- | --- | --- | --- | --- |"
    )
    for share, q in ((0.03, 0.5), (0.3, 0.5)):
        for n in (30, 150, 400, 1000):
            cells = [wins_of_fronts(n, seeds, share, q) for seeds in (1, 3, 10)]
            row = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
            print(f"| {100 * share:.0f} % vulnerable: a win | {n} | {row} |", flush=True)
    for better in (0.05, 0.1, 0.2):
        cells = [wins_of_fronts(150, seeds, 0.1, 0.5, better) for seeds in (1, 3, 10)]
        row = " | ".join(f"{100 * cell:.1f} %" for cell in cells)
        print(f"| the first keeps {100 * better:.0f} % of the items more: its win | 150 | {row} |", flush=True)
