"""The statistics of `harness.measure` against hand-worked numbers and independent implementations."""

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.multitest import multipletests

from razorbench.harness.measure.continual import avg_acc, backward_transfer, forgetting_measure
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.intervals import bootstrap_interval, dirichlet_interval, jeffreys_interval
from razorbench.harness.measure.ranking import fronts, wins
from razorbench.harness.measure.significance import holm, mcnemar, sign_flip
from razorbench.harness.measure.statistics import (
    between_seeds,
    combine,
    judged,
    mean,
    minimum_detectable_effect,
    paired,
    paired_test,
    shared,
    spread,
)

NAN = float("nan")
ALL = slice(None)


def table(won: int, lost: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Binary base and adapted `[n]` with so many won and lost items; of the others half are right."""
    base, adapted = np.zeros(n), np.zeros(n)
    adapted[:won] = 1
    base[won : won + lost] = 1
    both = won + lost + (n - won - lost) // 2
    base[won + lost : both] = adapted[won + lost : both] = 1
    return base, adapted


# Means and paired differences


def test_the_value_is_the_mean_of_adapted_minus_base():
    assert paired(*table(won=3, lost=1, n=20)).value == pytest.approx(0.1)


def test_the_bootstrap_interval_agrees_with_scipy_on_continuous_scores():
    rng = np.random.default_rng(0)
    base = rng.random(400)
    adapted = base + rng.exponential(0.1, 400)
    ours = paired(base, adapted)
    theirs = stats.bootstrap((adapted - base,), np.mean, n_resamples=9999, method="percentile", rng=1)
    assert ours.method == "bootstrap"
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * (ours.high - ours.low))
    assert ours.se == pytest.approx(theirs.standard_error, rel=0.05)


def test_the_multinomial_bootstrap_of_binary_scores_agrees_with_scipy():
    base, adapted = table(won=90, lost=40, n=1000)
    ours = paired(base, adapted)
    theirs = stats.bootstrap((adapted - base,), np.mean, n_resamples=9999, method="percentile", batch=500, rng=1)
    assert ours.method == "bootstrap"
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * (ours.high - ours.low))


def test_one_seed_gives_one_interval_and_another_seed_another():
    rng = np.random.default_rng(0)
    base, adapted = rng.random(300), rng.random(300)
    assert paired(base, adapted, seed=1) == paired(base, adapted, seed=1)
    assert paired(base, adapted, seed=1).low != paired(base, adapted, seed=2).low


def test_copies_of_the_items_do_not_narrow_a_clustered_interval():
    base, adapted = table(won=60, lost=30, n=300)
    once = paired(base, adapted)
    copied = paired(np.repeat(base, 5), np.repeat(adapted, 5), np.repeat(np.arange(300), 5))
    assert (copied.value, copied.low, copied.high, copied.n) == pytest.approx((once.value, once.low, once.high, 300))


def test_copies_of_few_binary_items_do_not_narrow_their_posterior():
    base, adapted = table(won=6, lost=3, n=40)
    once = paired(base, adapted)
    copied = paired(np.repeat(base, 5), np.repeat(adapted, 5), np.repeat(np.arange(40), 5))
    assert (copied.low, copied.high) == pytest.approx((once.low, once.high), abs=1e-6)


def test_an_item_whose_cluster_has_no_name_is_one_by_itself():
    base, adapted = table(won=6, lost=3, n=40)
    assert paired(base, adapted, np.full(40, None)) == paired(base, adapted)
    names = np.array(["x", "x", *[None] * 38], object)
    one, other = paired(base, adapted, names), paired(base, adapted, ["x", "x", *map(str, range(38))])
    assert (one.low, one.high, one.n) == pytest.approx((other.low, other.high, 39))


@pytest.mark.parametrize("seeds", [3, 10])
def test_the_first_item_that_changes_in_one_seed_does_not_narrow_the_interval(seeds):
    none, one = paired(np.ones(150), np.ones(150)), paired(np.ones(150), np.r_[1 - 1 / seeds, np.ones(149)])
    assert one.high - one.low > 0.9 * (none.high - none.low)


def test_four_items_lost_in_one_seed_of_three_do_not_exclude_0():
    estimate, p = judged(np.ones(150), np.repeat([2 / 3, 1], [4, 146]))
    assert p == pytest.approx(0.125)
    assert estimate.low < 0 <= estimate.high


def test_p_is_not_below_5_percent_beside_an_interval_that_holds_0():
    adapted = np.r_[1, np.full(12, 0.05), np.zeros(17)]  # all for the better, but one makes most of it
    assert sign_flip(np.zeros(30), adapted) < 0.01
    estimate, p = judged(np.zeros(30), adapted)
    assert estimate.low < 0
    assert p == paired_test(np.zeros(30), adapted) == 0.05


def test_clusters_of_unequal_size_give_the_ratio_of_sums():
    estimate = paired([0, 0, 0, 0], [1, 1, 1, 0.5], ["a", "a", "a", "b"])
    assert estimate.value == pytest.approx(3.5 / 4)  # not (1 + 0.5) / 2
    assert estimate.n == 2


def test_few_continuous_items_get_the_t_interval_of_scipy():
    rng = np.random.default_rng(0)
    base, adapted = rng.random(25), rng.random(25)
    low, high = stats.ttest_1samp(adapted - base, 0).confidence_interval()
    estimate = paired(base, adapted)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))


@pytest.mark.parametrize(("won", "lost", "n"), [(0, 0, 30), (5, 2, 30), (30, 0, 30), (3, 9, 1000), (1.5, 0.5, 12.5)])
def test_the_dirichlet_interval_has_the_quantiles_of_a_sampled_posterior(won, lost, n):
    cell = np.random.default_rng(0).dirichlet([won + 0.85, lost + 0.85, n - won - lost + 0.85], 400_000)
    low, high, sd = dirichlet_interval(won, lost, n)
    expected = np.quantile(cell[:, 0] - cell[:, 1], [0.025, 0.975])
    raw, tolerance = (won - lost) / n, 0.01 * np.ptp(expected)
    assert (float(low), float(high)) == pytest.approx((min(expected[0], raw), max(expected[1], raw)), abs=tolerance)
    assert float(sd) == pytest.approx((cell[:, 0] - cell[:, 1]).std(), rel=0.01)


@pytest.mark.parametrize("n", [1, 30, 500])
def test_equal_binary_pairs_still_leave_a_width(n):
    estimate = paired(np.ones(n), np.ones(n))
    assert estimate.low < 0 == estimate.value < estimate.high
    assert estimate.se > 0


def test_many_items_with_few_discordances_get_the_posterior():
    assert paired(*table(won=10, lost=9, n=1000)).method == "Dirichlet posterior"
    assert paired(*table(won=10, lost=10, n=1000)).method == "bootstrap"


def test_swapping_base_and_adapted_mirrors_the_interval():
    base, adapted = table(won=7, lost=2, n=50)
    one, other = paired(base, adapted), paired(adapted, base)
    assert (one.low, one.high) == pytest.approx((-other.high, -other.low), abs=1e-9)


def test_an_unscored_item_is_dropped_and_counted_and_is_no_zero():
    base, adapted = table(won=4, lost=1, n=40)
    gaps = paired(np.append(base, [NAN, 1, NAN]), np.append(adapted, [1, NAN, NAN]))
    whole = paired(base, adapted)
    assert gaps.unscored == 3
    assert (gaps.value, gaps.low, gaps.high, gaps.n) == (whole.value, whole.low, whole.high, 40)


def test_nothing_scored_gives_nan_and_not_zero():
    estimate = paired([NAN, 1], [1, NAN])
    assert np.isnan([estimate.value, estimate.low, estimate.high]).all()
    assert (estimate.n, estimate.unscored) == (0, 2)


def test_columns_of_different_length_are_refused():
    with pytest.raises(ValueError, match="one score an item"):
        paired([0, 1], [0, 1, 1])


def test_the_jeffreys_interval_has_the_quantiles_of_the_beta_posterior():
    low, high, _ = jeffreys_interval(4, 15)
    assert (float(low), float(high)) == pytest.approx(stats.beta(4.5, 11.5).interval(0.95))


def test_the_mean_of_a_column_without_success_reaches_from_zero_upwards():
    estimate = mean(np.zeros(50))
    assert estimate.low == 0
    assert estimate.high == pytest.approx(stats.beta(0.5, 50.5).ppf(0.975))


def test_the_mean_of_a_long_column_agrees_with_scipys_bootstrap():
    values = (np.arange(2000) % 5 == 0).astype(float)
    ours = mean(values)
    theirs = stats.bootstrap((values,), np.mean, n_resamples=9999, method="percentile", batch=500, rng=1)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs.confidence_interval), abs=0.05 * (ours.high - ours.low))


def test_the_clustered_bootstrap_agrees_with_resampling_clusters_by_index():
    rng = np.random.default_rng(0)
    sizes = 1.0 + np.arange(250) % 3
    totals = sizes * rng.normal(size=250)
    low, high, _ = bootstrap_interval(totals, sizes)
    drawn = rng.integers(0, 250, (9999, 250))
    expected = np.quantile(totals[drawn].sum(1) / sizes[drawn].sum(1), [0.025, 0.975])
    np.testing.assert_allclose((low, high), expected, atol=0.05 * np.ptp(expected))


def test_combining_averages_the_values_and_adds_the_variances():
    one = Estimate(0.2, 0.1, 0.5, 0.03, 10, 1)
    other = Estimate(-0.4, -0.8, -0.3, 0.04, 20, 2)
    both = combine([one, other])
    assert both.value == pytest.approx(-0.1)
    assert both.se == pytest.approx(0.025)  # √(0.03² + 0.04²) / 2
    assert both.low == pytest.approx(-0.1 - np.sqrt(0.1**2 + 0.4**2) / 2)
    assert both.high == pytest.approx(-0.1 + np.sqrt(0.3**2 + 0.1**2) / 2)
    assert (both.n, both.unscored) == (30, 3)


def test_combining_what_goes_together_does_not_narrow():
    one = Estimate(0.2, 0.1, 0.5, 0.03, 10)
    both = combine([one, one], np.ones((2, 2)))
    assert (both.value, both.low, both.high, both.se) == pytest.approx((one.value, one.low, one.high, one.se))
    some = combine([one, one], [[1, 0.5], [0.5, 1]])
    assert some.low == pytest.approx(0.2 - np.sqrt(0.1**2 + 0.1**2 + 2 * 0.5 * 0.1 * 0.1) / 2)


def test_tasks_correlate_by_what_their_clusters_share():
    names = np.array([f"box {i}" for i in range(100)], object)
    change = np.repeat([-1.0, 0.0], [20, 80])
    apart = np.roll(change, 50)
    together = shared([change, change, change, apart], [names, names, None, names])
    assert together is not None
    assert together[0, 1] == pytest.approx(1)  # the same items
    assert together[0, 2] == 0  # nothing is shared
    assert together[0, 3] == 0  # each loses where the other does not: held at 0
    half = shared([change, change], [names, np.array([f"box {i}" if i % 2 else None for i in range(100)])])
    # Centred at −0.2: 16 in all, half of it on shared boxes, and one change made up, √(1/2) of it shared.
    assert half is not None
    assert half[0, 1] == pytest.approx((8 + 50 / 100) / 17)


def test_tasks_without_a_change_count_as_one_where_they_share_all():
    names = np.array(["a", "b", "c"], object)
    together = shared([np.zeros(3), np.zeros(3)], [names, names])
    assert together is not None
    assert together.tolist() == [[1, 1], [1, 1]]
    assert shared([np.zeros(3), np.zeros(3)], [names, np.array(["d", "e", None])]) is None
    assert shared([np.zeros(3), np.zeros(3)], [names, None]) is None


def test_combining_with_an_unknown_estimate_stays_unknown():
    assert np.isnan(combine([Estimate(0.2, 0.1, 0.3, 0.05, 9), Estimate(NAN, NAN, NAN, NAN, 0)]).value)


def test_combining_nothing_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        combine([])


def test_the_detectable_effect_is_found_with_its_power():
    effect = minimum_detectable_effect(2.0, power=0.8)
    assert effect == pytest.approx(2 * (1.959964 + 0.841621), rel=1e-6)
    assert stats.norm.sf(1.959964 - effect / 2.0) == pytest.approx(0.8, abs=1e-5)


def test_seeds_get_students_t_interval():
    values = [0.61, 0.58, 0.66, 0.60]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    estimate = between_seeds(values)
    assert (estimate.low, estimate.high) == pytest.approx((low, high))
    assert estimate.se == pytest.approx(stats.sem(values))
    assert spread(values) == pytest.approx(np.std(values, ddof=1))


def test_one_seed_has_a_value_but_no_width():
    estimate = between_seeds([0.7])
    assert estimate.value == 0.7
    assert np.isnan([estimate.low, estimate.high, estimate.se, spread([0.7])]).all()


# Tests


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 5), (9, 2), (30, 61)])
def test_mcnemar_is_that_of_statsmodels_and_of_the_binomial_test(won, lost):
    p = mcnemar(*table(won, lost, 120))
    assert p == pytest.approx(vars(statsmodels_mcnemar([[9, won], [lost, 9]], exact=True))["pvalue"])
    if won + lost:
        assert p == pytest.approx(float(stats.binomtest(won, won + lost).pvalue))


def test_mcnemar_ignores_unscored_items():
    base, adapted = table(8, 1, 30)
    assert mcnemar(np.append(base, NAN), np.append(adapted, 1)) == mcnemar(base, adapted)


def test_mcnemar_refuses_partial_credit():
    with pytest.raises(ValueError, match="sign_flip"):
        mcnemar([0, 0.5], [1, 1])


def test_sign_flip_enumerates_few_differences():
    assert sign_flip([0, 0, 0], [1, 2, 3]) == pytest.approx(2 / 8)  # only +++ and −−− reach |6|
    assert sign_flip([0, 0, 0], [1, 2, -3]) == 1


@pytest.mark.parametrize("n", [10, 40])
def test_sign_flip_agrees_with_scipys_permutation_test(n):
    rng = np.random.default_rng(n)
    base = rng.random(n)
    adapted = base + rng.normal(0.1, 0.3, n)
    theirs = stats.permutation_test(
        (adapted, base), lambda a, b: np.mean(a - b), permutation_type="samples", n_resamples=9999, rng=1
    )
    assert sign_flip(base, adapted) == pytest.approx(theirs.pvalue, abs=0.02)


def test_sign_flip_stays_exact_among_many_items_that_agree():
    assert sign_flip(np.zeros(100), np.repeat([0.5, 0], [5, 95])) == pytest.approx(2 / 32)


def test_sign_flip_flips_a_cluster_as_one():
    assert sign_flip(np.zeros(6), np.ones(6), cluster=[1, 1, 1, 2, 2, 2]) == pytest.approx(2 / 4)


def test_the_paired_test_uses_mcnemar_for_single_binary_items_only():
    base, adapted = table(6, 0, 20)
    assert paired_test(base, adapted) == mcnemar(base, adapted) == pytest.approx(2 / 64)
    pairs = np.arange(20) // 2  # the six won items are three instances
    assert paired_test(base, adapted, pairs) == pytest.approx(2 / 8)
    assert paired_test(base / 2, adapted / 2) == sign_flip(base, adapted)


def test_holm_is_that_of_statsmodels():
    p = np.random.default_rng(0).random(12) ** 3
    np.testing.assert_allclose(holm(p), np.asarray(multipletests(p, method="holm")[1]))


def test_holm_neither_counts_nor_changes_a_nan():
    np.testing.assert_allclose(holm([0.01, NAN, 0.04]), [0.02, NAN, 0.04])


# Fronts


def won(first: np.ndarray, second: np.ndarray) -> bool:
    """Whether the first row beats the second."""
    return bool(wins([np.array([first, second])])(ALL)[0, 1])


@pytest.mark.parametrize("size", [1, 1 / 3, 1 / 10])
@pytest.mark.parametrize("n", [30, 100, 400, 1000])
@pytest.mark.parametrize("k", range(3, 9))
def test_rank_test_and_interval_agree_where_few_items_differ(k: int, n: int, size: float):
    """What differs by 1/3 or 1/10 are means of three and of ten seeds; six of six are a difference, five are none."""
    base, adapted = np.zeros(n), np.repeat([size, 0], [k, n - k])
    estimate, p = judged(base, adapted)
    assert p == sign_flip(base, adapted) == pytest.approx(2 / 2**k)
    assert won(adapted, base) == (estimate.low > 0) == (p < 0.05) == (k >= 6)
    assert not won(base, adapted)


def test_a_binary_row_beats_another_when_mcnemar_says_so():
    for more in range(25):
        for less in range(more):
            base, adapted = table(more, less, 100)
            p = mcnemar(base, adapted)
            assert won(adapted, base) == (p < (0.05 if more + less < 17 else 0.047)), (more, less)
            assert won(adapted / 3, base / 3) == won(adapted, base)


def test_a_binary_interval_excludes_0_when_mcnemar_says_so():
    for more in range(16):
        for less in range(more):
            base, adapted = table(more, less, 100)
            assert (paired(base, adapted).low > 0) == (mcnemar(base, adapted) < 0.05), (more, less)


def test_fewer_than_six_differences_of_any_sizes_are_no_win():
    rng = np.random.default_rng(0)
    for _ in range(200):
        row = np.zeros(50)
        row[:5] = rng.uniform(0, 1, 5) ** rng.uniform(0.1, 4)
        assert not won(row, np.zeros(50))


def test_a_win_is_one_of_the_sign_flip_test():
    rng, times = np.random.default_rng(0), 0
    for _ in range(100):
        first, second = np.round(3 * rng.random((2, 40))) / 3
        first[:20] = np.maximum(first[:20], second[:20])
        if won(first, second):
            times += 1
            assert sign_flip(second, first) < 0.05
    assert 10 < times < 90


def test_wins_use_the_items_that_both_rows_scored():
    scores = np.random.default_rng(0).integers(0, 2, (3, 60)).astype(float)
    scores[0, :30] = 1
    gaps = scores.copy()
    gaps[0, 50:], gaps[1, 45:52] = NAN, NAN
    assert wins([gaps])(ALL)[0, 1] == won(scores[0, :45], scores[1, :45])
    assert not wins([np.where([[True], [False]], 1.0, np.r_[0, np.full(59, NAN)])])(ALL).any()  # one item tells nothing


@pytest.mark.parametrize("unscored", [0, 3])
def test_wins_of_some_rows_are_those_of_all(unscored):
    scores = np.random.default_rng(0).random((5, 30)) + np.arange(5)[:, None] / 5
    scores[1, :unscored] = NAN
    beaten = wins([scores, 2 * scores[:, :10]])
    assert beaten(ALL).any()
    np.testing.assert_array_equal(beaten(slice(2, 5)), beaten(ALL)[2:5])


def test_wins_over_blocks_are_those_over_one():
    scores = np.random.default_rng(0).random((6, 40)) + np.arange(6)[:, None] / 8
    whole = wins([scores])(ALL)
    assert whole.any()
    np.testing.assert_array_equal(wins([scores[:, :15], scores[:, 15:]])(ALL), whole)


@pytest.mark.parametrize("third", [np.full(100, 1 / 3), np.full(100, NAN), np.zeros(100)])
def test_what_a_third_row_holds_does_not_matter_to_the_other_two(third):
    for k in (5, 6):
        base, adapted = table(k, 0, 100)
        assert wins([[adapted, base, third]])(ALL)[0, 1] == (k == 6)


def ranked(x, y, x_se, y_se) -> list[int]:
    """Fronts of points with the standard errors of their pairwise differences."""
    x, y = np.asarray(x, float), np.asarray(y, float)
    on_x, on_y = (values[:, None] - values > 1.96 * se for values, se in ((x, x_se), (y, y_se)))
    return fronts(on_x, on_y, ~np.isnan(x + y)).tolist()


def test_fronts_peel_points_that_are_far_apart():
    sure = np.full((5, 5), 0.01)
    assert ranked([1, 2, 3, 1, 0], [3, 2, 1, 1, 0], sure, sure) == [0, 0, 0, 1, 2]


def test_points_within_their_error_are_tied():
    assert ranked([1, 2], [1, 2], np.full((2, 2), 1.0), np.full((2, 2), 1.0)) == [0, 0]
    assert ranked([1, 2], [1, 2], np.full((2, 2), 0.4), np.full((2, 2), 1.0)) == [1, 0]


def test_a_point_that_wins_one_axis_and_loses_the_other_is_tied():
    assert ranked([1, 2], [2, 1], np.full((2, 2), 0.1), np.full((2, 2), 0.1)) == [0, 0]


def test_points_that_dominate_each_other_in_a_circle_are_tied_and_peeling_ends():
    x, y = [3, 2, 1, -9], [1, 3, 2, -9]  # 0 beats 1 on x, 1 beats 2 on y, 2 beats 0 on y; every other pair is unsure
    x_se, y_se = np.full((4, 4), 9.0), np.full((4, 4), 9.0)
    x_se[0, 1] = x_se[1, 0] = y_se[1, 2] = y_se[2, 1] = y_se[2, 0] = y_se[0, 2] = 0.1
    x_se[0, 3] = x_se[3, 0] = 0.1
    assert ranked(x, y, x_se, y_se) == [0, 0, 0, 1]


def test_a_point_without_a_coordinate_has_no_rank_and_beats_nobody():
    sure = np.full((3, 3), 0.01)
    assert ranked([9, 1, 2], [NAN, 1, 2], sure, sure) == [-1, 1, 0]


def test_fronts_of_exact_points_are_those_of_plain_peeling():
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 60))
    expected, left, rank = np.full(60, -1), set(range(60)), 0
    while left:
        best = {i for i in left if not any(x[j] > x[i] and y[j] > y[i] for j in left)}
        expected[list(best)] = rank
        left, rank = left - best, rank + 1
    assert ranked(x, y, np.zeros((60, 60)), np.zeros((60, 60))) == expected.tolist()


# Sequences

P = [[0.8, 0.1, 0.2], [0.9, 0.7, 0.3], [0.5, 0.6, 0.6]]


def test_average_accuracy_is_that_of_the_last_row():
    assert avg_acc(P) == pytest.approx((0.5 + 0.6 + 0.6) / 3)


def test_forgetting_is_measured_from_the_best_that_ever_was():
    assert forgetting_measure(P) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.7)) / 2)


def test_backward_transfer_is_measured_from_the_tasks_own_turn():
    assert backward_transfer(P) == pytest.approx(((0.5 - 0.8) + (0.6 - 0.7)) / 2)


def test_an_unmeasured_future_task_does_not_spoil_forgetting_but_a_missing_end_does():
    unmeasured = [[0.8, NAN, NAN], [0.9, 0.7, NAN], [0.5, 0.6, 0.6]]
    assert forgetting_measure(unmeasured) == pytest.approx(((0.5 - 0.9) + (0.6 - 0.7)) / 2)
    assert np.isnan(forgetting_measure([[0.8, 0.1], [NAN, 0.7]]))


def test_a_matrix_that_is_not_square_is_refused():
    with pytest.raises(ValueError, match="expected \\[T, T\\]"):
        avg_acc([[1, 2, 3], [4, 5, 6]])
