"""ManiSkill3 without ManiSkill3: the table, ids, what wins an episode, experts and the policy that sees their world."""

from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from razorbench import Actions, Asked, Episodes, Instances, Missing, Observations, Refused
from razorbench.agents.bins import BODIES, inputs
from razorbench.harness.core.protocols import Expert
from razorbench.harness.core.registry import find, make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.maniskill.experts import EXPERTS
from razorbench.tasks.maniskill.simulator import columns
from razorbench.tasks.maniskill.table import TABLE

TRACK = TRACKS["maniskill-pick-cube-v1"]
RNG = np.random.default_rng(0)


def states(rows: int) -> dict[str, np.ndarray]:
    """Any states of arm, thing and goal."""
    poses = {name: RNG.normal(size=(rows, 7)).astype(np.float32) for name in ("tcp_pose", "obj_pose")}
    for pose in poses.values():
        pose[:, 3:] /= np.linalg.norm(pose[:, 3:], axis=1, keepdims=True)
    joints = {name: RNG.normal(size=(rows, 9)).astype(np.float32) for name in ("qpos", "qvel")}
    return {**joints, **poses, "goal_pos": RNG.normal(size=(rows, 3)).astype(np.float32)}


def test_each_row_is_a_task_with_a_state_and_one_with_pictures():
    assert len(TABLE) == len({row.env for row in TABLE.values()}) == 33
    for name, row in TABLE.items():
        task: Any = make("task", f"maniskill-{name}-v1")
        camera: Any = make("task", f"maniskill-{name}-camera-v1")
        assert isinstance(task, Expert) == (row.env in EXPERTS)
        assert not isinstance(camera, Expert)  # where things are cannot be read from a picture
        assert task.card.protocol.horizon == row.horizon
        assert task.valid(np.stack([np.ones(row.motion), np.full(row.motion, 1.1)])).tolist() == [True, False]
        assert not task.card.protocol.cameras
        assert dict(camera.card.protocol.cameras) == dict(row.cameras)
        assert camera.card.protocol.digest != task.card.protocol.digest


@pytest.mark.parametrize("id", ["maniskill-pick-cub-v1", "maniskill-pick-cube-v2"])
def test_an_id_that_there_is_not_is_refused_with_those_that_there_are(id):
    with pytest.raises(Refused, match="maniskill-pick-cube-v1"):
        find("task", id)


def test_state_i_is_seed_i_and_the_same_for_all_tasks():
    pick, push = (make("task", f"maniskill-{name}-v1") for name in ("pick-cube", "push-cube"))
    train, test = (pick.instances(split) for split in ("train", "test"))
    assert not set(train.id) & set(test.id)
    assert list(test.id[:2]) == [1_000_000, 1_000_001]
    assert list(pick.clusters(test.first(3))) == list(push.clusters(push.instances("test").first(3)))


def test_pretraining_shows_the_priors_and_few_of_the_new_task_from_states_of_its_own():
    task = make("task", "maniskill-pretraining-v1")
    shown = task.instances("train")
    asked = [task.row_of(id).env for id in shown.id]
    count = {env: asked.count(env) for env in set(asked)}
    new, *priors = (TABLE[id.removeprefix("maniskill-").removesuffix("-v1")].env for id in TRACK.tasks)
    assert count.keys() == {new, *priors}
    assert count[new] < min(count[env] for env in priors)
    assert shown.id.min() > make("task", TRACK.new).instances("test").id.max()
    assert not set(shown.id) & set(task.instances("test").id)


def test_pretraining_disturbs_the_arm_by_numbers_that_the_episode_fixes_and_leaves_the_fingers():
    task, still = make("task", "maniskill-pretraining-v1"), np.zeros(7, np.float32)
    moved = task.executed(still, 5, 2)
    assert np.array_equal(moved, task.executed(still, 5, 2))
    assert not np.array_equal(moved, task.executed(still, 5, 3))
    assert 0 < np.abs(moved[:6]).max() <= 0.3
    assert moved[6] == 0
    assert np.abs(task.executed(np.ones(7), 5, 2)).max() <= 1


class Scripted:
    """An environment that is solved in some steps, and raises where that is None."""

    def __init__(self, row, wins):
        self.row, self.wins, self.number = row, wins, 0

    def of(self, row):
        return self

    def start(self, seed):
        self.number = 0
        return self.seen()

    def seen(self):
        joints = {name: np.zeros((1, 9)) for name in ("qpos", "qvel")}
        return {"agent": joints, "extra": {"tcp_pose": np.zeros((1, 7)), "obj_pose": np.ones((1, 7))}}

    def step(self, motion):
        won = self.wins[self.number]
        self.number += 1
        if won is None:
            raise ValueError("the physics blew up")
        return self.seen(), bool(won), 0.25 * self.number

    def close(self):
        pass


class Still:
    """An agent that does nothing."""

    def act(self, asked, *, temperature=1.0):
        return Actions(np.zeros((len(asked), 7), np.float32))


@pytest.mark.parametrize(
    ("wins", "once", "at_end"),
    [([0, 1, 0], 1.0, 0.0), ([0, 0, 1], 1.0, 1.0), ([0, 0, 0], 0.0, 0.0), ([1, None, 1], np.nan, np.nan)],
)
def test_an_episode_goes_on_to_the_horizon_so_that_both_successes_are_known(monkeypatch, wins, once, at_end):
    task = make("task", "maniskill-pick-cube-v1")
    monkeypatch.setattr(type(task), "row", replace(TABLE["pick-cube"], horizon=3, goal=""))
    monkeypatch.setattr(type(task), "made", lambda self: Scripted(self.row, wins))
    played = rollout(Still(), task, task.instances("test").first(10))  # type: ignore[arg-type]
    assert len(played) == 10
    assert np.array_equal(played.reward, [once] * 10, equal_nan=True)
    assert [turn.seen.state["obj_pose"].shape for turn in played.turns[:1]] == [(8, 7)]
    if not np.isnan(once):
        assert played.outcome
        assert (played.outcome.metrics["success_at_end"] == at_end).all()
        assert (played.outcome.metrics["steps"] == 3).all()
        assert played.turn_rewards().tolist() == [[0.25, 0.5, 0.75]] * 10


@pytest.mark.skipif(find_spec("mani_skill") is not None, reason="ManiSkill3 is installed")
def test_without_the_simulator_the_cure_is_told():
    task = make("task", "maniskill-pick-cube-v1")
    with pytest.raises(Missing, match=r"pip install 'razorbench\[maniskill\]'"):
        rollout(Still(), task, task.instances("test").first(1))  # type: ignore[arg-type]


def test_what_a_row_names_is_seen_under_common_names_and_else_everything_as_it_is():
    joints = {name: np.ones((1, 9)) for name in ("qpos", "qvel")}
    cubes = {"tcp_pose": np.ones((1, 7)), "cubeA_pose": np.full((1, 7), 2.0), "cubeB_pose": np.full((1, 7), 3.0)}
    seen = {"agent": joints, "extra": cubes, "sensor_data": {"base_camera": {"rgb": np.zeros((1, 4, 4, 3))}}}
    stacked = columns(seen, TABLE["stack-cube"])
    assert set(stacked) == set(states(1))
    assert stacked["obj_pose"].tolist() == [2.0] * 7
    assert stacked["goal_pos"].tolist() == [3.0] * 3
    assert set(columns(seen, TABLE["stack-pyramid"])) == {*joints, *cubes}


@pytest.mark.parametrize("env", EXPERTS)
def test_experts_say_motions_in_any_state_and_styles_differ(env):
    seen = states(200)
    seen["obj_pose"][100:, :3] = seen["tcp_pose"][100:, :3] + 0.005
    seen["qpos"][150:, -2:] = 0.02  # closed around it
    said = {style: EXPERTS[env].act(seen, style) for style in EXPERTS[env].styles}
    for style, motions in said.items():
        assert motions.shape == (200, 7)
        assert np.abs(motions).max() <= 1, style
    assert len({motions.tobytes() for motions in said.values()}) == len(said)


def test_the_policy_hears_every_word_of_the_track_and_sees_one_pose_whatever_its_quaternion():
    body, told = BODIES["mini-panda-v1"], {make("task", id).row.words for id in TRACK.tasks}
    assert {word for text in told for word in text.split()} == set(body.words)
    heard = [inputs(body, Observations(text, state=states(1)))[0, -len(body.words) :].tolist() for text in told]
    assert len({tuple(row) for row in heard}) == len(told)
    seen = states(5)
    turned = {**seen, "obj_pose": seen["obj_pose"] * np.r_[[1] * 3, [-1] * 4].astype(np.float32)}
    assert inputs(body, Observations("", state=seen)).allclose(inputs(body, Observations("", state=turned)))


def test_the_policy_says_seven_numbers():
    policy = make("agent", "mini-panda-v1")
    some = Instances(np.arange(4))
    seen = Observations("push the cube to the goal", state=states(4))
    done = policy.act(Asked(Episodes(some), np.arange(4), seen, some.key, np.zeros(4, np.int64)))
    assert done.value.shape == (4, 7)
    assert np.abs(done.value).max() < 1
