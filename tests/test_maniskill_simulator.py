"""ManiSkill3 itself: rows, states, successes, experts, pictures, and the track at a fraction of its size.

`make robots-tests`.
"""

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from razorbench import Actions, Episodes, Refused
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Guesser, demonstrations, rollout
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.maniskill.experts import EXPERTS
from razorbench.tasks.maniskill.simulator import Simulator, flat
from razorbench.tasks.maniskill.table import TABLE
from tests.conftest import absent

pytestmark = [pytest.mark.robots, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
TRACK = TRACKS["maniskill-pick-cube-v1"]
SHOWN = {name: row for name, row in TABLE.items() if row.env in EXPERTS}


@pytest.fixture(scope="module", autouse=True)
def simulator() -> Simulator:
    """An environment; where there can be none, the reason and the cure."""
    if not find_spec("mani_skill"):
        absent("ManiSkill3 is not installed; run `make robots-tests`")
    try:
        return Simulator(TABLE["pick-cube"])
    except Refused as error:
        absent(str(error))


def seen(simulator: Simulator, seed: int, steps: int = 3) -> list[bytes]:
    """All that is seen in the first steps of an episode of random motions."""
    motions = np.random.default_rng(seed).uniform(-1, 1, (steps, simulator.row.motion))
    first = simulator.start(seed)
    told = [first, *(simulator.step(motion)[0] for motion in motions)]
    return [b"".join(column.tobytes() for column in flat(each).values()) for each in told]


@pytest.mark.parametrize("name", TABLE)
def test_a_row_is_what_the_package_has_and_its_seed_is_its_state(name):
    row = TABLE[name]
    registered = import_module("mani_skill.utils.registration").REGISTERED_ENVS[row.env]
    assert registered.max_episode_steps == row.horizon
    assert not registered.asset_download_ids
    one, other = Simulator(row), Simulator(row)
    plain, space = one.env.unwrapped, one.env.action_space
    boxes = getattr(space, "spaces", {"": space}).values()
    assert (plain.control_freq, sum(box.shape[0] for box in boxes)) == (row.hertz, row.motion)
    assert all((box.low == -1).all() and (box.high == 1).all() for box in boxes)
    cameras = {name: f"{camera.config.height}x{camera.config.width}" for name, camera in plain._sensors.items()}
    assert cameras == dict(row.cameras)
    names = set(flat(one.start(0)))
    assert {row.thing, row.goal} - {""} <= names
    first, another = seen(one, 7), seen(one, 8)
    assert seen(one, 7) == first
    assert seen(other, 7) == first
    assert first[0] != another[0]
    for simulator in (one, other):
        simulator.close()


def test_the_new_task_of_the_track_passes_its_checks():
    """And so it repeats itself to the last bit: at once, after other episodes, in a fresh process."""
    checks = check(TRACK.new, episodes=4)
    assert [f"{finding.name}: {finding.detail}" for finding in checks if finding.ok is False] == []
    assert {finding.name: finding.ok for finding in checks}["determinism"] is True


@pytest.mark.parametrize("name", SHOWN)
def test_experts_succeed_in_every_style(name):
    task: Any = make("task", f"maniskill-{name}-v1")
    for style in task.styles:
        assert demonstrations(task, task.instances("test").first(5), style).reward.mean() == 1.0, style


@pytest.mark.parametrize("name", ["pick-cube", "push-cube"])
def test_successes_and_rewards_are_those_that_the_simulator_counts_itself(name):
    task: Any = make("task", f"maniskill-{name}-v1")
    some = task.instances("test").first(4)
    for played in (demonstrations(task, some), rollout(Guesser(task), task, some)):
        for episode in played:
            assert episode.outcome
            metrics, (once, at_end, rewards) = episode.outcome.metrics, recounted(task.row, episode)
            assert (metrics["success_once"], metrics["success_at_end"]) == (once, at_end)
            assert episode.outcome.turn_rewards == rewards


def recounted(row, episode) -> tuple[float, float, list[float]]:
    """Successes and rewards of the recorded motions by ManiSkill3's own wrapper, in an environment of its own."""
    wrapper = import_module("mani_skill.utils.wrappers.gymnasium").CPUGymWrapper
    plain = import_module("gymnasium").make(row.env, obs_mode="state", control_mode=row.control, sim_backend="cpu")
    env, rewards, info = wrapper(plain, ignore_terminations=True, record_metrics=True), [], {}
    env.reset(seed=int(episode.instance.id))
    for action in episode.actions:
        _, reward, _, _, info = env.step(action.value)
        rewards.append(float(reward))
    env.close()
    return float(info["episode"]["success_once"]), float(info["episode"]["success_at_end"]), rewards


class Again:
    """Says the motions of recorded episodes."""

    def __init__(self, episodes: Episodes):
        self.motions = [[action.value for action in episode.actions] for episode in episodes]

    def act(self, asked, *, temperature=1.0):
        return Actions(np.array([self.motions[i][t] for i, t in zip(asked.rows, asked.turn, strict=True)]))


def test_with_a_camera_one_picture_a_step_is_seen_and_the_world_goes_the_same_way():
    task, camera = (make("task", f"maniskill-push-cube{form}-v1") for form in ("", "-camera"))
    some = task.instances("test").first(2)
    shown = demonstrations(task, some)
    filmed = rollout(Again(shown), camera, some)
    assert filmed.reward.tolist() == shown.reward.tolist() == [1.0, 1.0]
    for turn, plain in zip(filmed.turns, shown.turns, strict=True):
        assert turn.seen.images
        assert {name: (picture.shape, picture.dtype) for name, picture in turn.seen.images.items()} == {
            "base_camera": ((2, 128, 128, 3), np.uint8)
        }
        assert "obj_pose" not in turn.seen.state
        assert np.array_equal(turn.seen.state["qpos"], plain.seen.state["qpos"])
    first, last = (filmed.turns[at].seen.images["base_camera"][0].astype(int) for at in (0, -1))  # type: ignore[index]
    assert np.abs(first - last).max() > 50
    frames = list(task.frames(some[0], [action.value for action in shown[0].actions[:1]]))
    assert [frame.shape for frame in frames] == [(512, 512, 3)] * 2


def test_the_track_goes_its_whole_way_at_a_fraction_of_its_size(goes_its_whole_way):
    track = replace(
        TRACK,
        id="pick-v1",
        base=replace(TRACK.base, id="few-steps-v1", settings=replace(TRACK.base.settings, steps=2, warmup=1, batch=2)),
        settings=replace(TRACK.settings, steps=1, warmup=0, batch=1, group=2),
        priors={"maniskill": TRACK.prior_tasks[:1]},
        **{"items": 2, "drift_items": 2, "checkpoints": 0},
    )
    goes_its_whole_way(track, "dr-grpo,sft:steps=1")
