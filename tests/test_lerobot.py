"""Demonstrations in LeRobot's layout: what is written reads back as it was played, and can be learnt from."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from robot_tasks import Arm

from razorbench import Actions, Refused
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.tasks.lerobot import lerobot_task, write


def test_demonstrations_come_back_as_they_were(tmp_path):
    task = make("task", "fetch-reach-v1")
    played = demonstrations(task, task.instances("train").first(3))
    write(tmp_path / "reach", played, fps=25, robot="fetch")
    there = lerobot_task(tmp_path / "reach", "MIT")()
    again = demonstrations(there, there.instances("train"))
    for one, other in zip(played, again, strict=True):
        assert len(one.actions) == len(other.actions)
        for a, b in zip(one.observations, other.observations, strict=True):
            assert (a.text, b.text) == ("reach the goal",) * 2
            assert a.state.keys() == b.state.keys()
            assert all(np.array_equal(a.state[name], b.state[name]) for name in a.state)
        assert all(np.array_equal(a.value, b.value) for a, b in zip(one.actions, other.actions, strict=True))
    with pytest.raises(Refused, match="nobody can be scored"):
        there.instances("test")
    with pytest.raises(Refused, match="exists; name another"):
        write(tmp_path / "reach", played, fps=25)


def test_the_layout_is_the_published_one(tmp_path):
    task = make("task", "fetch-reach-v1")
    played = demonstrations(task, task.instances("train").first(2))
    write(tmp_path / "reach", played, fps=25)
    lengths = [len(episode.actions) for episode in played]
    info = json.loads((tmp_path / "reach/meta/info.json").read_text())
    assert (info["codebase_version"], info["fps"], info["total_episodes"]) == ("v2.1", 25, 2)
    assert (info["total_frames"], info["splits"], info["video_path"]) == (sum(lengths), {"train": "0:2"}, None)
    assert info["features"]["action"] == {"dtype": "float32", "shape": [4], "names": None}
    assert info["features"]["observation.state"]["shape"] == [20]
    assert info["features"]["observation.state"]["names"][:4] == ["gripper.0", "gripper.1", "gripper.2", "block.0"]
    second = pq.read_table(tmp_path / "reach/data/chunk-000/episode_000001.parquet")
    assert set(second.column_names) == set(info["features"])
    assert second["index"].to_pylist() == [*range(lengths[0], sum(lengths))]
    assert second["timestamp"].to_pylist()[:2] == pytest.approx([0, 0.04])
    lines = (tmp_path / "reach/meta/episodes.jsonl").read_text().splitlines()
    assert [json.loads(line)["length"] for line in lines] == lengths
    stats = json.loads((tmp_path / "reach/meta/episodes_stats.jsonl").read_text().splitlines()[0])["stats"]
    values = np.stack([action.value for action in played[0].actions])
    assert stats["action"]["max"] == pytest.approx(values.max(0).tolist())
    assert stats["action"]["count"] == [lengths[0]]


class Vectors(Arm):
    """The same with pictures of 16 × 24, and motions in vectors of one."""

    def play(self, instances):
        game, said = super().play(instances), None
        while True:
            try:
                seen = game.send(said)
            except StopIteration as end:
                return end.value
            assert seen.images is not None
            large = np.repeat(np.repeat(seen.images["front"], 8, axis=1), 6, axis=2)
            said = (yield type(seen)(images={"front": large}, state=seen.state))[:, 0]


class One:
    def act(self, asked, *, temperature=1.0):
        return Actions(np.full((len(asked), 1), 0.3, np.float32))


def test_pictures_are_videos(tmp_path):
    task = Vectors()
    played = rollout(One(), task, task.instances("train").first(2))
    write(tmp_path / "arm", played, fps=10)
    there = lerobot_task(tmp_path / "arm", "CC0-1.0")()
    assert there.info["features"]["observation.images.front"]["shape"] == [16, 24, 3]
    again = demonstrations(there, there.instances("train"))
    for one, other in zip(played, again, strict=True):
        for a, b in zip(one.observations, other.observations, strict=True):
            assert a.images is not None
            assert b.images is not None
            assert b.images["front"].shape == (16, 24, 3)
            assert np.abs(a.images["front"].astype(int) - b.images["front"]).max() <= 6  # a video loses a little


def test_what_has_no_vectors_is_refused(tmp_path):
    task = Arm()
    with pytest.raises(Refused, match="an action that is no vector"):
        write(tmp_path / "arm", demonstrations(task, task.instances("train").first(1)), fps=10)
