"""What is asked about a submission, from both sides of each bound."""

import math

import pytest

from razorbench.harness.report.flags import flags, possible_gain


def run(gain=20.0, retention=-1.0, drift: float | None = 0.5, reported=None, overlap=None, se=1.0, drift_se=0.0):
    """A row of the table `runs`, as far as flags read it."""
    told = {"claim": {"reported": reported or {}}, "overlap": overlap}
    return {
        **{
            "gain": gain,
            "gain_se": se,
            "retention": retention,
            "retention_se": se,
            "drift": drift,
            "drift_se": drift_se,
        },
        **dict.fromkeys(("unscored_base", "unscored_adapted", "failed_base", "failed_adapted"), 0),
        "uneven": False,
        "silent": None,
        "brought": told,
    }


def test_plausible_submission_has_no_flags():
    assert flags([run(reported={"gain": 21.0, "retention": -2.5, "drift": 0.52})]) == []


def test_row_that_nobody_submitted_has_none():
    assert flags([{**run(gain=100.0, drift=0.0), "brought": None}]) == []
    assert flags([]) == []


@pytest.mark.parametrize(("nats", "points"), [(0.0, 0.0), (0.02, 10.0), (0.5, 50.0), (2.0, 100.0), (9.0, 100.0)])
def test_possible_gain_is_pinskers(nats, points):
    assert possible_gain(nats) == pytest.approx(points)


def test_possible_gain_bounds_what_a_biased_coin_can_gain():
    for base in (0.1, 0.5, 0.9):
        for adapted in (0.05, 0.3, 0.7, 0.95):
            nats = base * math.log(base / adapted) + (1 - base) * math.log((1 - base) / (1 - adapted))
            assert 100 * abs(adapted - base) <= possible_gain(nats) + 1e-9


def test_gain_without_drift_is_asked_about():
    (flag,) = flags([run(gain=20.0, drift=0.02)])
    assert "20.0 points at a drift of 0.02 nats" in flag
    assert flags([run(gain=11.9, drift=0.02)]) == []  # within its own interval of the 10 points that are possible
    assert flags([run(gain=20.0, drift=0.02, drift_se=0.1)]) == []  # the drift is hardly known
    assert flags([run(gain=20.0, drift=None)]) == []  # nor here


@pytest.mark.parametrize(
    ("name", "near", "far"), [("gain", 22.9, 23.1), ("retention", -3.9, -4.1), ("drift", 0.54, 0.56)]
)
def test_other_number_than_reported_is_asked_about(name, near, far):
    assert flags([run(reported={name: near})]) == []
    (flag,) = flags([run(reported={name: far})])
    assert f"reports a {name} of {far:g}" in flag


def test_seeds_are_averaged_and_their_spread_counts():
    seeds = [run(gain=10.0, reported={"gain": 25.0}), run(gain=30.0, reported={"gain": 25.0})]
    assert flags(seeds) == []  # 20 ± 10
    assert len(flags([run(gain=20.0, reported={"gain": 25.0})] * 2)) == 1


def test_sides_that_were_not_measured_alike_are_told_of_any_row():
    ours = {**run(), "brought": None}
    assert flags([{**ours, "unscored_base": 3, "unscored_adapted": 3}]) == []
    (flag,) = flags([{**ours, "unscored_base": 1, "unscored_adapted": 4, "uneven": True}])
    assert "base has 1 unscored items and the adapted agent 4" in flag


def test_agent_that_gives_no_answer_more_often_than_its_base_is_told():
    assert flags([{**run(), "failed_base": 5, "failed_adapted": 5}]) == []
    (flag,) = flags([{**run(), "failed_base": 5, "failed_adapted": 8}])
    assert flag.startswith(
        "8 items score 0 because the adapted agent gave no answer that could be judged (the base: 5)"
    )
    old = dict.fromkeys(("unscored_base", "unscored_adapted", "failed_base", "failed_adapted"))  # schema 1: not told
    assert flags([{**run(), **old}]) == []


def test_training_questions_that_are_evaluated_are_told():
    assert flags([run(overlap=0)]) == []
    assert flags([run(overlap=3)]) == ["3 of its declared training questions are asked in the evaluation."]
