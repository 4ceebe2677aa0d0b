"""Videos: what is filmed is what was played, and the pictures are of the agents' own motions."""

import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO

import av
import numpy as np
import pytest
from PIL import Image

from razorbench import Actions, Refused
from razorbench.agents.mlp import Mlp
from razorbench.harness.core.errors import Missing
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Demonstrator, demonstrations
from razorbench.harness.report.film import HOLD, film
from razorbench.tasks.fetch.simulator import scene, studio
from razorbench.tasks.fetch.tasks import PICK
from razorbench.tasks.parity_mnist import ParityMNIST
from tests.conftest import absent


class Still:
    """An agent that does nothing."""

    def act(self, asked, *, temperature=1.0):
        return Actions(np.zeros((len(asked), 4), np.float32))


@pytest.fixture(scope="module")
def task():
    try:
        with studio(PICK):
            return make("task", "fetch-reach-v1")
    except Refused as refused:
        absent(str(refused))


@pytest.mark.slow
def test_film_shows_both_agents_from_the_same_state(task, tmp_path):
    id = int(task.instances("test").id[1])
    steps = len(demonstrations(task, task.instances("test").take(np.array([1])))[0].actions)
    rewards = film(task, id, {"base": Still(), "adapted": Demonstrator(task, "usual")}, tmp_path / "flip.mp4")
    assert rewards == {"base": 0.0, "adapted": 1.0}
    with av.open(str(tmp_path / "flip.mp4")) as video:
        assert video.streams.video[0].codec_context.name == "h264"
        pictures = [frame.to_ndarray(format="rgb24").astype(float) for frame in video.decode(video=0)]
    assert len(pictures) == 1 + 50 + HOLD
    assert pictures[0].shape == (278, 512, 3)
    left, right = (np.array([picture[:256, side] for picture in pictures]) for side in (np.s_[:256], np.s_[256:]))
    assert abs(left[0] - right[0]).mean() < 1
    assert abs(left[steps] - right[steps]).mean() > 2 * abs(left[0] - right[0]).mean()
    assert abs(right[steps] - right[-1]).mean() < 1  # over, it stands still


def test_pictures_do_not_change_what_is_filmed(task):
    """`render` moves the warm start of the solver, so it happens in another environment."""
    air = make("task", "fetch-air-v1")
    episode = demonstrations(air, air.instances("test").first(1))[0]
    frames = air.frames(episode.instance, [action.value for action in episode.actions])
    sims = []
    place = scene(PICK)
    start = place.start

    def kept(block):
        sims.append(start(block))
        return sims[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, "start", kept)
        for seen, picture in zip(episode.observations, frames, strict=False):
            assert np.array_equal(place.look(sims[0])[3:6].astype(np.float32), seen.state["block"])
            assert picture.shape == (256, 256, 3)


def test_refuses_an_unknown_instance_and_a_task_without_pictures(tmp_path, task):
    with pytest.raises(Refused, match="has no instance 77777"):
        film(task, 77_777, {"base": Still()}, tmp_path / "x.mp4")
    with pytest.raises(Refused, match="has no pictures"):
        film(ParityMNIST(), 0, {"base": Mlp()}, tmp_path / "x.mp4")


def test_refuses_a_file_of_another_kind(tmp_path, task):
    with pytest.raises(Refused, match=r"name a file \.mp4, or \.rrd for the Rerun viewer"):
        film(task, 0, {"base": Still()}, tmp_path / "x.avi")


@pytest.mark.skipif(bool(find_spec("rerun")), reason="rerun-sdk is installed here")
def test_says_what_a_recording_needs(tmp_path, task):
    with pytest.raises(Missing, match=r"rerun is not installed; run `pip install 'razorbench\[rerun\]'`"):
        film(task, task.instances("test").id[1], {"base": Still()}, tmp_path / "x.rrd")
    assert not list(tmp_path.iterdir())


@pytest.mark.robots
def test_recording_holds_what_was_seen_done_and_earned_by_each_agent(task, tmp_path):
    one = task.instances("test").take(np.array([1]))
    expert = Demonstrator(task, "usual")
    episode = demonstrations(task, one)[0]
    rewards = film(task, one.id[0], {"the base": Still(), "adapted": expert}, tmp_path / "flip.rrd")
    assert rewards == {"the base": 0.0, "adapted": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["flip.rrd"]
    told = recorded(tmp_path / "flip.rrd")
    seen = np.array([observation.state["gripper"] for observation in episode.observations])
    assert np.array_equal(column(told, "/adapted/state/gripper", "Scalars:scalars"), seen)
    done = np.array([action.value for action in episode.actions])
    assert np.array_equal(column(told, "/adapted/action", "Scalars:scalars"), done)
    steps = len(done)
    assert told["/adapted/action"]["step"] == list(range(steps))
    assert [each.total_seconds() for each in told["/adapted/action"]["time"]] == pytest.approx(np.arange(steps) / 25)
    assert episode.outcome is not None
    assert column(told, "/adapted/reward", "Scalars:scalars").tolist() == episode.outcome.turn_rewards
    assert len(told["/adapted/camera/film"]["step"]) == steps + 1
    first, other = (
        Image.open(BytesIO(bytes(told[f"{who}/camera/film"]["EncodedImage:blob"][0][0])))
        for who in ("/adapted", "/the\\ base")
    )
    assert first.size == (256, 256)
    assert np.abs(np.asarray(first, float) - np.asarray(other, float)).mean() < 1
    assert told["/adapted/outcome"]["TextDocument:text"][0][0].startswith("solved\n\n")
    assert told["/the\\ base/outcome"]["TextDocument:text"][0][0].startswith("not solved\n\n")


def recorded(path):
    """The columns of a recording, by entity."""
    told = {}
    for chunk in import_module("rerun.chunk").RrdReader(path).stream():
        for name, values in chunk.to_record_batch().to_pydict().items():
            told.setdefault(chunk.entity_path, {}).setdefault(name, []).extend(values)
    return told


def column(told, entity, name):
    """What is logged under an entity, step by step."""
    return np.squeeze(np.array(told[entity][name]))


def test_says_what_to_install_where_there_is_no_opengl():
    program = f"from razorbench.tasks.fetch.simulator import studio\nwith studio({PICK!r}): pass"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env={"MUJOCO_GL": "glfw", "PATH": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "razorbench.harness.core.errors.Refused" in ran.stderr
    assert "apt-get install libegl1" in ran.stderr
