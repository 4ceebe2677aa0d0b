"""The google robot's track: what its base is cloned from, the base, and the whole way at a fraction of its size."""

from dataclasses import replace
from types import MappingProxyType

import numpy as np
import pytest

from razorbench.agents.bins import GoogleRobot
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import FRESH, TRACKS
from razorbench.tasks.google.pretraining import NAMES, Pretraining
from tests.conftest import needs_assets

pytest.importorskip("razorbench.tasks.google.sapien3", reason="sapien is not installed")

TRACK = TRACKS["google-coke-can-sapien3-v1"]


class Few(Pretraining):
    """One demonstration of each instruction."""

    shares = dict.fromkeys(NAMES, 1)


# --- what the base is cloned from -------------------------------------------------------------------------------------


def test_demonstrations_say_what_the_track_says_and_begin_where_nothing_is_tested():
    task = Pretraining()
    train, test = task.instances("train"), task.instances("test")
    assert len(train) == len(test) == sum(task.shares.values())
    assert set(task.told(train)) == {make("task", id).text for id in TRACK.tasks}
    assert not set(train.id) & set(test.id)
    for id, column in ((TRACK.new, "can"), (TRACK.prior_tasks[0], "place")):
        scored = {tuple(row) for row in make("task", id).instances("test").data[column]}
        assert not scored & {tuple(row) for row in train.data[column]}


def test_a_smaller_share_leaves_the_other_states_as_they_are():
    few, many = Few().instances("train"), Pretraining().instances("train")
    at = [many.id.tolist().index(id) for id in few.id]
    assert all(np.array_equal(few.data[name], many.data[name][at]) for name in ("kind", "can", "place"))


@needs_assets
@pytest.mark.slow(seconds=8)
def test_the_arm_is_disturbed_what_is_said_stays_clean_and_what_lasts_ends_the_episode():
    class Quiet(Few):
        noise = np.zeros(7)
        shares = MappingProxyType({"pick coke can": 1})

    disturbed, clean = (demonstrations(task, task.instances("train")) for task in (Few(), Quiet()))
    closed, opened, picked = disturbed
    assert np.array_equal(picked.actions[0].value, clean[0].actions[0].value)
    assert not np.array_equal(picked.observations[1].state["arm"], clean[0].observations[1].state["arm"])
    assert closed.observations[-1].state["opened"] < 0.05
    assert opened.observations[-1].state["opened"] > 0.15
    assert disturbed.reward.tolist() == [1.0] * 3
    assert max(len(episode.actions) for episode in disturbed) < Pretraining.steps


# --- the base ---------------------------------------------------------------------------------------------------------


def test_a_fresh_machine_that_lacks_its_files_is_not_asked_to_run_it():
    assert TRACK not in FRESH


def test_the_base_is_shipped_and_small(tmp_path):
    assert TRACK.base.shipped.stat().st_size < 4e6
    assert isinstance(base_policy(TRACK.base, tmp_path), GoogleRobot)


@needs_assets
@pytest.mark.long(seconds=80)
def test_the_base_has_its_priors_and_picks_some_cans(tmp_path):
    base = base_policy(TRACK.base, tmp_path)

    def share(id: str, items: int) -> float:
        task = make("task", id)
        return float(rollout(base, task, task.instances("test").first(items), temperature=0.0).reward.mean())

    assert min(share(id, 6) for id in TRACK.prior_tasks) >= 0.8
    assert 0.1 <= share(TRACK.new, 12) <= 0.5


# --- the whole way ----------------------------------------------------------------------------------------------------


@needs_assets
@pytest.mark.robots
def test_the_track_goes_its_whole_way_at_a_fraction_of_its_size(goes_its_whole_way):
    small = replace(
        TRACK,
        id="can-v1",
        settings=replace(TRACK.settings, steps=1, warmup=0, batch=1, group=2, examples=2),
        priors={"drawers": TRACK.prior_tasks[:1]},
        **{"items": 2, "drift_items": 2},
    )
    goes_its_whole_way(small, "reinforce,sft")
