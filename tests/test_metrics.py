"""What tasks measure beside the score: means, changes item by item, and what a record keeps of each item."""

import numpy as np
import pytest
from scipy import stats

from razorbench.harness.measure.evaluation import Answers
from razorbench.harness.measure.metrics import metric_changes, metric_items, metric_means

NAN = float("nan")


def answered(score, cluster=None, **metrics) -> Answers:
    """Answers to items 0, 1, …"""
    columns = {name: np.array(column) for name, column in metrics.items()}
    names = [str(i) for i in range(len(score))]
    return Answers(names, np.array(score, float), [None] * len(score), columns, cluster=cluster)


def test_metrics_are_means_of_base_and_adapted_over_the_items_that_have_them():
    base = answered([0, 0], steps=[1.0, 3], late=[NAN, NAN], far=[1.0, 2])
    adapted = answered([0, 0], steps=[NAN, 5])
    assert metric_means(base, adapted) == {"steps": [3.0, 5.0], "late": [None, None], "far": [1.5, None]}
    assert adapted.first(1).metrics["steps"].shape == (1,)


def test_a_change_is_that_of_items_which_have_the_metric_and_a_score_on_both_sides():
    base = answered([0, 0, NAN, 0, 0], nats=[-5.0, -7, -9, -40, -3], late=[NAN] * 5)
    adapted = answered([0, 0, 0, 0, NAN], nats=[-6.0, -5.5, 50, NAN, 50], far=[1.0] * 5)
    changes = metric_changes(base, adapted)
    assert [*changes] == ["nats"]
    assert changes["nats"][0] == pytest.approx((-1 + 1.5) / 2)


def test_a_change_is_paired_and_its_interval_is_near_that_of_student():
    """Items differ by 30 nats from each other and by one or so from themselves."""
    rng = np.random.default_rng(0)
    ours, change = rng.normal(-60, 30, 150), rng.normal(-0.5, 1, 150)
    value, low, high = metric_changes(answered(ours * 0, nats=ours), answered(ours * 0, nats=ours + change))["nats"]
    theirs = stats.ttest_1samp(change, 0).confidence_interval()
    assert value == pytest.approx(change.mean())
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.05)


def test_how_far_items_lie_apart_says_nothing_of_how_far_they_moved():
    rng = np.random.default_rng(2)
    change = rng.normal(-0.5, 1, 10)
    far, near = rng.normal(-200, 90, 10), np.full(10, -200.0)
    first, second = (metric_changes(answered(x * 0, nats=x), answered(x * 0, nats=x + change)) for x in (far, near))
    assert first["nats"] == pytest.approx(second["nats"])
    value, low, high = np.array(first["nats"], float)
    assert low < value < high < 3


def test_fractions_that_none_has_changed_may_yet_change():
    same = answered([0.0] * 30, formed=[1.0] * 30)
    value, low, high = np.array(metric_changes(same, same)["formed"], float)
    assert low < value == 0 < high


def test_answers_that_share_a_question_are_no_further_evidence():
    rng = np.random.default_rng(1)
    ours, change = rng.normal(-60, 30, 40), rng.normal(0, 1, 40)
    alone = metric_changes(answered(ours * 0, nats=ours), answered(ours * 0, nats=ours + change))["nats"]
    ours, change = np.repeat(ours, 8), np.repeat(change, 8)
    shared = np.repeat(np.arange(40).astype(str), 8)
    base, adapted = answered(ours * 0, shared, nats=ours), answered(ours * 0, shared, nats=ours + change)
    assert metric_changes(base, adapted)["nats"] == pytest.approx(alone)


def test_what_never_varies_has_not_changed():
    same = answered([0.0] * 30, steps=[50.0] * 30)
    assert metric_changes(same, same) == {"steps": [0.0, 0.0, 0.0]}


def test_each_item_keeps_its_metrics_of_both_sides():
    base = answered([0, NAN, 0], nats=[-1.0, -2, NAN])
    adapted = answered([0, 0, 0], nats=[-1.5, NAN, NAN], late=[NAN, 1, NAN])
    assert metric_items(base, adapted) == [
        {"nats": [-1.0, -1.5]},
        {"nats": [-2.0, None], "late": [None, 1.0]},
        None,
    ]
