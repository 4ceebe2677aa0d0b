"""Fetch: states that their ids fix, physics bit for bit Gymnasium's, experts, and what wins an episode."""

from importlib.metadata import version
from typing import Any

import numpy as np
import pytest

from razorbench import Actions, Instances
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import ids, make
from razorbench.harness.core.rollout import Guesser, demonstrations, rollout
from razorbench.tasks.fetch.simulator import environment, scene
from razorbench.tasks.fetch.tasks import KINDS, PICK, Air, AirLast, Pretraining, Push, Reach, ReachLast

EVERY = [id for id in ids("task") if id.startswith("fetch-")]


def seen(episodes):
    """All that was seen, as one array for each turn."""
    return [np.concatenate([turn.seen.state[name] for name in turn.seen.state], 1) for turn in episodes.turns]


def ends(episodes) -> Any:
    """The outcomes, which pyright cannot know to be there."""
    return episodes.outcome


def protocol_of(task) -> Any:
    """The protocol on a task's card, which pyright cannot know to be there."""
    return task.card.protocol


def first_said(episodes) -> Any:
    """The values of the first turn."""
    return episodes.turns[0].done.value


def test_tasks_that_move_a_block_share_its_place_and_reach_shares_nothing():
    named = {
        kind: (task := make("task", f"fetch-{kind}-v1")).clusters(task.instances("test").first(5)) for kind in KINDS
    }
    assert all(np.array_equal(named[kind], named["push"]) for kind in ("lift", "place", "air"))
    assert len({*named["push"], *named["reach"]}) == 10
    places = [make("task", f"fetch-{kind}-v1").instances("test").first(5).data["block"] for kind in ("push", "air")]
    np.testing.assert_array_equal(*places)


class Still:
    """An agent that does nothing."""

    def act(self, asked, *, temperature=1.0):
        return Actions(np.zeros((len(asked), 4), np.float32))


@pytest.mark.parametrize("id", EVERY)
def test_initial_state_is_a_function_of_the_id(id):
    task = make("task", id)
    train, test = (task.instances(split) for split in ("train", "test"))
    assert not set(train.id) & set(test.id)
    again = make("task", id).instances("test")
    for name in ("block", "goal"):
        assert np.array_equal(test.data[name], again.data[name])
        assert len(np.unique(np.concatenate([train.data[name], test.data[name]]), axis=0)) > 0.99 * len(test)


def test_goals_are_where_the_cards_say():
    goals = {kind: (x := make("task", f"fetch-{kind}-v1").instances("test")).data["goal"] - x.data["block"]
             for kind in ("reach", "push", "lift", "place", "air")}  # fmt: skip
    assert np.allclose(goals["lift"], [0, 0, 0.1])
    for kind in ("push", "place"):
        assert (goals[kind][:, 2] == 0).all()
        assert np.linalg.norm(goals[kind], axis=1).min() >= 0.1
    assert goals["air"][:, 2].min() >= 0.1
    assert goals["air"][:, 2].max() <= 0.35


@pytest.mark.parametrize("kind", ["reach", "push", "air"])
def test_steps_are_bit_for_bit_those_of_the_plain_environment(kind):
    task = make("task", f"fetch-{kind}-last-v1")
    episode = demonstrations(task, task.instances("test").first(3))[1]
    env = environment(KINDS[kind].scene)
    env.reset(seed=0)
    env._mujoco.mj_resetData(env.model, env.data)  # `reset` places the block by its own seed
    env.data.time, env.data.qpos[:], env.data.qvel[:] = env.initial_time, env.initial_qpos, env.initial_qvel
    if env.has_object:
        env.data.joint("object0:joint").qpos[:2] = episode.instance.data["block"][:2]
    env._mujoco.mj_forward(env.model, env.data)
    env.goal, env.reward_type = episode.instance.data["goal"], "dense"
    assert episode.outcome
    assert episode.outcome.turn_rewards
    for step, action in enumerate(episode.actions[:-1]):
        plain, dense, *_ = env.step(action.value)
        assert dense == episode.outcome.turn_rewards[step]
        state = episode.observations[step + 1].state
        assert np.array_equal(state["gripper"], plain["observation"][:3].astype(np.float32))
        assert np.array_equal(state["block"], plain["achieved_goal"].astype(np.float32))
    assert step == 48


def test_velocities_are_gymnasiums():
    task = make("task", "fetch-air-v1")
    place = scene(PICK)
    sim = place.start(task.instances("test")[0].data["block"])
    for _ in range(3):
        place.step(sim, np.array([0.5, -1.0, -0.7, 1.0]))
    place.env.data = sim
    observation, dt = place.env._get_obs()["observation"], place.env.dt
    looked = place.look(sim)
    assert np.allclose(looked[11:14] * dt, observation[20:23])
    assert np.allclose((looked[14:17] - looked[11:14]) * dt, observation[14:17])
    assert np.array_equal(looked[9:11], observation[[10, 9]])


def test_an_episode_is_the_same_alone_and_in_company():
    task = make("task", "fetch-push-v1")
    some = task.instances("test").first(5)
    together, alone = demonstrations(task, some), demonstrations(task, some.take(np.array([3])))
    assert np.array_equal(together[3].observations[-1].state["block"], alone[0].observations[-1].state["block"])
    assert together[3].outcome == alone[0].outcome


@pytest.mark.slow
@pytest.mark.parametrize(
    "id", [id if "reach" in id or "push" in id else pytest.param(id, marks=pytest.mark.slow) for id in EVERY]
)
def test_experts_solve_it_in_every_style(id):
    task = make("task", id)
    if isinstance(task, Pretraining):
        some = task.instances("train").take(np.arange(0, len(task.instances("train")), 80))
    else:
        some = task.instances("test").first(12)
    for style in task.styles:
        assert demonstrations(task, some, style).reward.mean() >= 0.9, style


def test_styles_of_air_differ():
    task = make("task", "fetch-air-v1")
    some = task.instances("test").first(6)
    steps = {style: ends(demonstrations(task, some, style)).metrics["steps"].mean() for style in task.styles}
    assert steps["slow"] > 1.3 * steps["usual"]
    up = demonstrations(task, some, "straight-up")
    usual = demonstrations(task, some)
    assert max_height(up) > max_height(usual) + 0.02


def max_height(episodes):
    """Mean of the greatest height of the blocks, metres."""
    return np.mean([max(seen.state["block"][2] for seen in episode.observations) for episode in episodes])


class Scripted:
    """A scene in which the thing is at the goal in some steps, and far from it in the others."""

    def __init__(self, near):
        self.near, self.step_at = near, 0

    def start(self, block):
        return self

    def step(self, data, motion):
        if self.near[self.step_at] is None:
            raise ArithmeticError("the simulation became unstable")
        self.step_at += 1

    def look(self, data):
        there = self.step_at and self.near[self.step_at - 1]
        return np.concatenate([np.zeros(3), np.zeros(3) if there else np.ones(3), np.zeros(11)])


@pytest.mark.parametrize(
    ("near", "held", "last", "last_once"),
    [
        ([1, 1, 1, 0, 0, 0], 1, 0, 1),
        ([1, 1, 0, 1, 1, 0], 0, 0, 1),
        ([0, 0, 0, 0, 0, 1], 0, 1, 1),
        ([0, 0, 0, 1, 1, 1], 1, 1, 1),
        ([0, 0, 0, 0, 0, 0], 0, 0, 0),
    ],
)
def test_success_at_once_and_at_the_end_are_told_and_the_card_says_which_is_the_score(
    monkeypatch, near, held, last, last_once
):
    monkeypatch.setattr("razorbench.tasks.fetch.tasks.STEPS", len(near))
    for task, once, at_end in ((Reach(), held, held), (ReachLast(), last_once, last)):
        monkeypatch.setattr("razorbench.tasks.fetch.tasks.scene", lambda name: Scripted(near))
        some = Instances(np.arange(1), {"kind": np.zeros(1, int), "block": np.zeros((1, 3)), "goal": np.zeros((1, 3))})
        (played,) = rollout(Still(), task, some)
        assert played.outcome
        assert (played.outcome.metrics["success_once"], played.outcome.metrics["success_at_end"]) == (once, at_end)
        assert played.outcome.reward == protocol_of(task).score(once, at_end)
    assert (protocol_of(Reach).success, protocol_of(ReachLast).success) == ("once", "end")


def test_successes_of_a_simulator_that_died_are_not_known(monkeypatch):
    monkeypatch.setattr("razorbench.tasks.fetch.tasks.scene", lambda name: Scripted([1, 1, None]))
    some = Instances(np.arange(1), {"kind": np.zeros(1, int), "block": np.zeros((1, 3)), "goal": np.zeros((1, 3))})
    (played,) = rollout(Still(), ReachLast(), some)
    assert played.outcome
    assert np.isnan(
        [played.outcome.reward, *(played.outcome.metrics[n] for n in ("success_once", "success_at_end"))]
    ).all()


def test_episode_stops_after_three_steps_at_the_goal_and_is_asked_no_more():
    task = make("task", "fetch-reach-v1")
    episodes = demonstrations(task, task.instances("test").first(8))
    for i, episode in enumerate(episodes):
        distance = [np.linalg.norm(seen.state["gripper"] - seen.state["goal"]) for seen in episode.observations]
        assert (np.array(distance[-2:]) < 0.05).all()  # and after the last motion, which nobody is shown
        assert len(episode.actions) == ends(episodes).metrics["steps"][i] < 15


def test_by_the_last_rule_every_episode_takes_fifty_steps():
    task = make("task", "fetch-reach-last-v1")
    assert (ends(demonstrations(task, task.instances("test").first(3))).metrics["steps"] == 50).all()


def test_who_does_nothing_solves_nothing():
    for kind in ("reach", "push", "air"):
        task = make("task", f"fetch-{kind}-v1")
        assert rollout(Still(), task, task.instances("test").first(6)).reward.sum() == 0


def test_pretraining_disturbs_the_arm_and_keeps_what_was_said_clean():
    task, quiet = make("task", "fetch-pretraining-v1"), make("task", "fetch-pretraining-v1")
    quiet.noise = 0.0
    some = task.instances("train").take(np.array([0, 400, 800]))
    disturbed, again, clean = (demonstrations(t, some) for t in (task, task, quiet))
    assert np.array_equal(seen(disturbed)[4], seen(again)[4])
    assert np.array_equal(first_said(disturbed), first_said(clean))
    assert not np.array_equal(seen(disturbed)[1], seen(clean)[1])


class Upset:
    """An agent that says nonsense to the third episode, in its second step."""

    def __init__(self, task):
        self.guesser = Guesser(task)

    def act(self, asked, *, temperature=1.0):
        motion = self.guesser.act(asked).value
        motion[(asked.rows == 2) & (asked.turn == 1)] = np.nan
        return Actions(motion)


def test_a_motion_that_is_no_number_fails_one_episode():
    task = make("task", "fetch-lift-v1")
    some = task.instances("test").first(4)
    hurt, whole = rollout(Upset(task), task, some), rollout(Guesser(task), task, some)
    assert ends(hurt).failed.tolist() == [False, False, True, False]
    assert hurt.reward[2] == 0
    assert "not finite" in ends(hurt).error[2]
    assert hurt[3].outcome == whole[3].outcome


class Killer:
    """An agent that kills the worker that plays the first episode it is asked for, once, then does nothing."""

    def __init__(self, pool):
        self.pool = pool

    def act(self, asked, *, temperature=1.0):
        if self.pool is not None and asked.turn.max() == 1:
            victim = next(worker for worker in self.pool.workers if asked.rows[0] in worker.rows)
            self.dead, self.pool = int(asked.rows[0]), None
            victim.process.kill()
        return Still().act(asked)


@pytest.mark.slow
def test_a_dead_simulator_costs_one_episode_unscored():
    with Workers("fetch-reach-v1", lanes=2) as pool:
        killer = Killer(pool)
        episodes = rollout(killer, pool, pool.instances("test").first(3))
    assert np.flatnonzero(np.isnan(episodes.reward)).tolist() == [killer.dead]
    assert ends(episodes).error[killer.dead]


def test_workers_play_what_the_thread_plays():
    task = make("task", "fetch-reach-v1")
    some = task.instances("test").first(4)
    with Workers("fetch-reach-v1", lanes=1, scenes=2) as pool:
        there = demonstrations(pool, some)
    here = demonstrations(task, some)
    assert np.array_equal(there.reward, here.reward)
    for a, b in zip(there, here, strict=True):
        assert np.array_equal(a.observations[-1].state["gripper"], b.observations[-1].state["gripper"])


def test_no_instances_make_no_episodes():
    none = Reach().instances("test").take(np.array([], np.int64))
    assert len(rollout(Still(), Reach(), none)) == 0
    assert isinstance(none, Instances)


def test_demonstrations_of_pretraining_go_on_for_ten_steps_at_the_goal():
    task = make("task", "fetch-pretraining-v1")
    shown = demonstrations(task, task.instances("train").take(np.array([0, 1])))
    for episode in shown:
        distance = [np.linalg.norm(seen.state["gripper"] - seen.state["goal"]) for seen in episode.observations]
        assert (np.array(distance[-9:]) < 0.05).all()


def test_rules_stand_on_the_cards():
    assert "3 steps in a row" in Air.card.rule
    assert "last of 50" in AirLast.card.rule


def test_cards_hold_the_protocol_with_the_versions_that_are_installed():
    protocol = protocol_of(Air)
    assert (protocol.horizon, protocol.control_hz, protocol.determinism) == (50, 25.0, "bitwise")
    assert f"mujoco {version('mujoco')}" in protocol.simulator
    assert protocol.control_hz == pytest.approx(1 / scene(PICK).env.dt)
    assert protocol.digest == protocol_of(Push).digest != protocol_of(AirLast).digest
