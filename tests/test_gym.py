"""Gymnasium both ways: its environments are tasks that pass our checks, tasks environments that pass its checker."""

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from robot_tasks import Arm

from razorbench import Actions, Expert, Refused, WorldFailed
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core.registry import REGISTERED, make
from razorbench.harness.core.rollout import Guesser, demonstrations, rollout
from razorbench.tasks.fetch.experts import pushing
from razorbench.tasks.gym.envs import as_env
from razorbench.tasks.gym.tasks import gym_task


def balanced(step):
    return step.number == 100 and not step.terminated


def leaning(state):
    """Push to where the pole falls."""
    _, speed, angle, turning = state["observation"].T
    return (angle + 0.3 * turning + 0.05 * speed > 0).astype(np.int64)


def pushed(state):
    """Our expert, who knows the columns of Gymnasium-Robotics by other names."""
    seen = state["observation"]
    named = {"gripper": seen[:, :3], "block": state["achieved_goal"], "goal": state["desired_goal"]}
    return pushing(named).astype(np.float32)


Balance = gym_task("CartPole-v1", horizon=100, success=balanced, expert=leaning, card={"chance": 0.001}, at_once=3)
Push = gym_task("FetchPush-v4", horizon=50, expert=pushed, text="push the block", at_once=2)
Sparse = gym_task("FetchPush-v4", horizon=50, score="once", at_once=2)


def observed(episode):
    return [np.concatenate([*seen.state.values()]) for seen in episode.observations]


# --- an environment as a task -----------------------------------------------------------------------------------------


def test_an_episode_is_that_of_a_plain_loop_over_the_environment():
    task = Balance()
    episodes = rollout(Guesser(task), task, task.instances("test").first(7))
    env = gymnasium.make("CartPole-v1")
    for episode in episodes:
        seen, paid = [env.reset(seed=int(episode.instance.id))[0]], []
        for action in episode.actions:
            observation, reward, terminated, *_ = env.step(int(action.value))
            seen.append(observation)
            paid.append(reward)
        assert np.array_equal(observed(episode), seen[:-1])
        assert episode.outcome
        assert (episode.outcome.turn_rewards, episode.outcome.metrics["return"]) == (paid, sum(paid))
        assert terminated
        assert episode.outcome.reward == 0.0


def test_who_is_done_makes_room_for_the_next():
    task = Balance()
    episodes = rollout(Guesser(task), task, task.instances("test").first(7))
    assert max(len(turn.rows) for turn in episodes.turns) == 3
    assert all((np.diff(turn.rows) > 0).all() for turn in episodes.turns)
    assert sorted({int(row) for turn in episodes.turns for row in turn.rows}) == [*range(7)]


@pytest.mark.slow
def test_cart_pole_passes_every_check_of_tasks(monkeypatch):
    monkeypatch.setitem(REGISTERED["task"], "balance-v1", Balance)
    found = {finding.name: finding for finding in check("balance-v1", episodes=16)}
    assert [(name, finding.detail) for name, finding in found.items() if finding.ok is False] == []
    assert found["determinism"].ok
    assert "in a fresh process" in found["determinism"].detail


@pytest.mark.slow
def test_a_robot_of_gymnasium_is_found_by_its_name_and_solved_by_an_expert(monkeypatch):
    monkeypatch.setitem(REGISTERED["task"], "gym-push-v1", Push)
    task = Push()
    some = task.instances("test").first(3)
    shown = demonstrations(task, some)
    assert shown.reward.tolist() == [1.0] * 3
    assert shown.turns[0].seen.text == ["push the block"] * 2
    assert set(shown.turns[0].seen.state) == {"observation", "achieved_goal", "desired_goal"}
    assert isinstance(task, Expert)
    assert not isinstance(Sparse(), Expert)


def test_success_once_and_at_the_end_are_told_and_one_is_the_score():
    class Leaves:
        """Balances, and lets the pole fall in the end."""

        def act(self, asked, *, temperature=1.0):
            return Actions(np.where(asked.turn < 20, leaning(asked.now.state), 0))

    def early(step):
        return step.number == 10

    for score, reward in (("once", 1.0), ("end", 0.0)):
        task = gym_task("CartPole-v1", horizon=60, success=early, score=score)()
        (episode,) = rollout(Leaves(), task, task.instances("test").first(1))
        assert episode.outcome
        assert episode.outcome.reward == reward
        assert [episode.outcome.metrics[name] for name in ("success_once", "success_at_end")] == [1.0, 0.0]
        assert 20 < episode.outcome.metrics["steps"] < 60


def test_an_environment_that_tells_no_success_is_refused_with_the_cure():
    task = gym_task("CartPole-v1", horizon=5)()
    with pytest.raises(Refused, match="give gym_task a function `success`"):
        rollout(Guesser(task), task, task.instances("test").first(1))
    with pytest.raises(Refused, match="write MODULE:ID"):
        _ = gym_task("NoSuchThing-v0", horizon=5)().spaces


class Odd(gymnasium.Env):
    """Nested observations with a picture, actions in a matrix; instance 2 breaks, and what it is told is kept."""

    observation_space = gymnasium.spaces.Dict(
        {
            "wrist": gymnasium.spaces.Box(0, 255, (4, 6, 3), np.uint8),
            "arm": gymnasium.spaces.Dict({"joints": gymnasium.spaces.Box(-1, 1, (2, 2))}),
            "held": gymnasium.spaces.Discrete(3),
        }
    )
    action_space = gymnasium.spaces.Box(-2, 2, (2, 2))

    def reset(self, *, seed=None, options=None):
        self.seed, self.steps = seed, 0
        return self.shown(), {}

    def shown(self):
        return {"wrist": np.full((4, 6, 3), self.steps, np.uint8), "arm": {"joints": np.ones((2, 2))}, "held": 2}

    def step(self, action):
        assert action.shape == (2, 2)
        if str(self.seed).endswith("2"):
            raise RuntimeError("the motor burnt out")
        self.steps += 1
        return self.shown(), float(action.sum()), False, self.steps == 2, {"is_success": np.array([self.steps == 2])}


gymnasium.register("Odd-v0", lambda **options: Odd(**options))


def test_pictures_nested_states_and_actions_of_any_shape_are_named_and_a_broken_environment_costs_one_episode():
    task = gym_task("Odd-v0", horizon=5)()
    episodes = rollout(Guesser(task), task, task.instances("test").first(4))
    assert np.isnan(episodes.reward).tolist() == [False, False, True, False]
    assert episodes.outcome
    assert episodes.outcome.error
    assert "the motor burnt out" in str(episodes.outcome.error[2])
    assert np.nansum(episodes.reward) == 3.0
    seen = episodes[0].observations[1]
    assert {name: picture.shape for name, picture in (seen.images or {}).items()} == {"wrist": (4, 6, 3)}
    assert {name: part.tolist() for name, part in seen.state.items()} == {"arm/joints": [1.0] * 4, "held": [2.0]}
    assert task.valid(np.array([np.zeros((2, 2)), np.full((2, 2), 2.1)])).tolist() == [True, False]
    assert gym_task("CartPole-v1", horizon=5)().valid(np.array([0, 1, 2, 0.5])).tolist() == [True, True, False, False]


# --- a task as an environment -----------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*infinity")
@pytest.mark.filterwarnings("ignore:.*smaller than 36x36")
@pytest.mark.parametrize("made", [Arm, Balance, lambda: make("task", "fetch-push-v1")])
def test_a_task_passes_gymnasiums_own_checker(made):
    check_env(as_env(made()), skip_render_check=True)


def test_an_episode_of_the_environment_is_one_of_the_task():
    task, at = make("task", "fetch-reach-v1"), 5
    (there,) = demonstrations(task, task.instances("train").take(np.array([at])))
    env = as_env(task)
    seen, info = env.reset(options={"instance": at})
    assert (info["instance"], info["text"]) == (there.instance.id, "reach the goal")
    for observation, action in zip(there.observations, there.actions, strict=True):
        assert all(np.array_equal(seen[name], observation.state[name]) for name in observation.state)
        seen, reward, terminated, truncated, info = env.step(action.value)
    assert there.outcome
    assert (reward, terminated, truncated) == (1.0, True, False)
    assert info["turn_rewards"] == there.outcome.turn_rewards
    with pytest.raises(Refused, match="call reset"):
        env.step(action.value)


def test_an_unscored_episode_is_no_zero():
    env = as_env(gym_task("Odd-v0", horizon=5)(), "test")
    env.reset(options={"instance": 2})
    with pytest.raises(WorldFailed, match="the motor burnt out"):
        env.step(np.zeros((2, 2), np.float32))


def test_a_task_without_spaces_is_no_environment():
    with pytest.raises(Refused, match="MiniMath declares no `spaces`"):
        as_env(make("task", "mini-math-v1"))
