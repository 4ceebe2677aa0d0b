"""The law of forgetting against statsmodels and numbers worked out by hand."""

import numpy as np
import pytest
from statsmodels.api import OLS, add_constant
from statsmodels.stats.outliers_influence import OLSInfluence

from razorbench.harness.measure.law import fit_law

NAN = float("nan")


def cloud(m: int = 24) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    drift = rng.uniform(0, 2, m)
    forgetting = 0.1 - 0.2 * drift - 0.3 * drift**2 + rng.normal(0, 0.1, m)
    return drift, forgetting, np.array(["sft", "grpo", "kl"])[np.arange(m) % 3], rng.normal(size=m)


def test_the_law_is_the_quadratic_fit_of_statsmodels():
    drift, forgetting, method, _ = cloud()
    fit = fit_law(drift, forgetting, method)
    theirs = OLS(forgetting, add_constant(np.column_stack([drift, drift**2]))).fit()
    np.testing.assert_allclose(fit.coefficients, theirs.params)
    assert fit.r2 == pytest.approx(theirs.rsquared)
    np.testing.assert_allclose(fit.residual, theirs.resid, atol=1e-12)
    np.testing.assert_allclose(fit.leverage, np.asarray(OLSInfluence(theirs).hat_matrix_diag))
    np.testing.assert_allclose(fit.predict(drift), theirs.fittedvalues)


def test_a_method_is_predicted_from_the_others_alone():
    drift, forgetting, method, _ = cloud()
    fit = fit_law(drift, forgetting, method)
    predicted = np.empty_like(drift)
    for name in ("sft", "grpo", "kl"):
        out = method == name
        predicted[out] = np.polyval(np.polyfit(drift[~out], forgetting[~out], 2), drift[out])
        error = ((forgetting[out] - predicted[out]) ** 2).sum()
        assert fit.r2_left_out[name] == pytest.approx(1 - error / (np.var(forgetting[out]) * out.sum()))
    pooled = 1 - ((forgetting - predicted) ** 2).sum() / (np.var(forgetting) * len(drift))
    assert fit.r2_left_out_pooled == pytest.approx(pooled)


def test_a_method_off_the_curve_has_negative_left_out_r2():
    drift, forgetting, method, _ = cloud()
    assert fit_law(drift, np.where(method == "kl", forgetting + 5, forgetting), method).r2_left_out["kl"] < 0


def test_a_single_method_cannot_be_left_out():
    drift, forgetting, method, _ = cloud()
    fit = fit_law(drift, forgetting, np.full_like(method, "sft"))
    assert np.isnan(fit.r2_left_out["sft"])
    assert np.isnan(fit.r2_left_out_pooled)


def test_others_with_two_drifts_do_not_predict_a_method():
    fit = fit_law([1, 2, 1, 2, 3, 4], [1, 2, 2, 3, 5, 6], list("aaaabb"))
    assert np.isnan(fit.r2_left_out["b"])


def test_the_baseline_is_fitted_where_it_is_known():
    drift, forgetting, method, baseline = cloud()
    baseline[4] = NAN
    x, y = np.delete(baseline, 4), np.delete(forgetting, 4)
    expected = OLS(y, add_constant(np.column_stack([x, x**2]))).fit().rsquared
    assert fit_law(drift, forgetting, method, baseline).baseline_r2 == pytest.approx(expected)
    assert np.isnan(fit_law(drift, forgetting, method).baseline_r2)


def test_a_far_point_has_all_the_leverage():
    drift = np.array([0.1, 0.2, 0.3, 0.15, 100.0])
    assert fit_law(drift, drift**2, np.array(list("abcde"))).leverage[4] == pytest.approx(1, abs=1e-6)


def test_the_band_is_that_of_refitting_resampled_points():
    drift, forgetting, method, _ = cloud(60)
    rng = np.random.default_rng(9)
    drawn = rng.integers(0, 60, (2000, 60))
    curves = [np.polyval(np.polyfit(drift[i], forgetting[i], 2), [0.5, 1.5]) for i in drawn]
    low, high = fit_law(drift, forgetting, method, resamples=4000).band([0.5, 1.5])
    expected = np.quantile(curves, [0.025, 0.975], axis=0)
    np.testing.assert_allclose((low, high), expected, atol=0.08 * (expected[1] - expected[0]).max())


def test_points_of_one_run_are_resampled_together():
    drift, forgetting, method, _ = cloud(12)
    copied = fit_law(
        np.repeat(drift, 3), np.repeat(forgetting, 3), np.repeat(method, 3), cluster=np.repeat(range(12), 3)
    )
    np.testing.assert_allclose(copied.band([1.0]), fit_law(drift, forgetting, method).band([1.0]))


def test_fewer_than_four_distinct_points_are_refused():
    with pytest.raises(ValueError, match="found 3 distinct points"):
        fit_law([1, 2, 3, 3], [1, 2, 3, 3], list("abcd"))


def test_a_law_on_one_drift_explains_nothing_and_draws_no_band():
    fit = fit_law([1, 1, 1, 1], [1, 2, 3, 4], list("abcd"))
    assert fit.r2 == pytest.approx(0)
    np.testing.assert_allclose(fit.residual, [-1.5, -0.5, 0.5, 1.5])
    assert np.isnan(fit.band([1.0])).all()


def test_a_point_without_drift_keeps_its_place_and_takes_no_part():
    drift, forgetting, method, _ = cloud()
    gap = fit_law(np.insert(drift, 2, NAN), np.insert(forgetting, 2, 9), np.insert(method, 2, "sft"))
    np.testing.assert_allclose(gap.coefficients, fit_law(drift, forgetting, method).coefficients)
    assert np.isnan(gap.residual[2])
    assert (gap.n, len(gap.residual)) == (24, 25)
