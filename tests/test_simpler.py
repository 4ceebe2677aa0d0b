"""SimplerEnv: its table and states here, and episodes in another interpreter, which has a stand-in that misbehaves."""

import mmap
import subprocess
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from razorbench import Actions, Expert, Missing, Refused
from razorbench.harness.cli.check.verdicts import check
from razorbench.harness.core.keeping import everything
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import find, make
from razorbench.harness.core.rollout import Guesser, rollout
from razorbench.tasks.google.facts import CAN_X, CAN_Y, PLACES
from razorbench.tasks.google.tasks import COLUMNS
from razorbench.tasks.simpler import simulator, vulkan
from razorbench.tasks.simpler.motions import openx, speaker
from razorbench.tasks.simpler.table import GOOGLE, TABLE, row
from tests.simpler_stand_in import ENVS, installed

UPRIGHT = "simpler-coke-can-upright-state-v1"
CANS = tuple(f"simpler-coke-can-{way}-state-v1" for way in ("upright", "lengthwise", "crosswise"))
PYTHON = "$RAZORBENCH_SIMPLER_PYTHON"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Names an interpreter that has the stand-in."""
    monkeypatch.setenv("RAZORBENCH_SIMPLER_PYTHON", installed(tmp_path))


def counts(*names: str) -> int:
    return sum(len(make("task", f"simpler-{name}-v1").instances("test")) for name in names)


DRAWERS = tuple(f"{verb}-{which}-drawer" for verb in ("open", "close") for which in ("top", "middle", "bottom"))

# --- the table, and where episodes begin ------------------------------------------------------------------------------


def test_there_are_as_many_episodes_as_were_published():
    cans = ("coke-can-upright", "coke-can-lengthwise", "coke-can-crosswise")
    assert counts(*cans) == 300
    assert counts(*DRAWERS) == 216
    assert counts("move-near") == 240
    assert counts(*(f"{name}-variants" for name in cans)) == 825
    assert counts(*(f"{name}-variants" for name in DRAWERS)) == 378
    assert counts("move-near-variants") == 600
    for name in ("spoon-on-towel", "carrot-on-plate", "stack-cube", "eggplant-in-basket"):
        assert counts(name) == 24
    assert counts("coke-can-grid") == 100


def test_cans_stand_where_upstreams_script_puts_them_in_its_order():
    """--obj-init-x -0.35 -0.12 5 --obj-init-y -0.02 0.42 5, the second running first, for one colour after another."""
    some = make("task", "simpler-coke-can-upright-v1").instances("test")
    assert np.allclose(
        some.data["thing"][:6], [[-0.35, y] for y in (-0.02, 0.09, 0.2, 0.31, 0.42)] + [[-0.2925, -0.02]]
    )
    assert some.data["scene"].tolist() == np.repeat(np.arange(4), 25).tolist()
    assert np.allclose(some.data["robot"], [0.35, 0.2, 0.0])
    colours = [scene.more["urdf_version"] for scene in row("coke-can-upright-v1").scenes]
    assert colours[0] == "None"
    assert len({*colours}) == 4


def test_a_drawer_has_the_picture_of_the_place_that_the_robot_stands_at():
    some = make("task", "simpler-open-top-drawer-v1").instances("test")
    assert some.data["overlay"][:9].tolist() == [f"open_drawer_{place}.png" for place in PLACES]
    assert np.allclose(some.data["robot"][:9], list(PLACES.values()))
    varied = make("task", "simpler-open-top-drawer-variants-v1").instances("test")
    assert {*varied.data["overlay"]} == {""}
    assert np.allclose(varied.data["robot"][[0, 1, 8]], [[0.65, -0.2, 0], [0.65, 0.0, 0], [0.85, 0.2, 0]])


def test_the_papers_protocol_trains_on_a_grid_and_tests_a_hundred_uniform_places_each_way_of_lying_in_turn():
    task = make("task", "simpler-coke-can-grid-v1")
    train, test = task.instances("train"), task.instances("test")
    assert (len(train), len(test)) == (100, 100)
    assert np.allclose(train.data["thing"][[0, -1]], [[CAN_X[0], CAN_Y[0]], [CAN_X[1], CAN_Y[1]]])
    assert np.bincount(train.data["scene"]).tolist() == np.bincount(test.data["scene"]).tolist() == [34, 33, 33]
    shared = {tuple(place) for place in train.data["thing"]} & {tuple(place) for place in test.data["thing"]}
    assert not shared


def test_what_is_published_as_tests_alone_is_not_trained_on():
    for name in ("move-near", "spoon-on-towel", "coke-can-upright-variants"):
        with pytest.raises(Refused, match="for scoring"):
            make("task", f"simpler-{name}-v1").instances("train")
    train, test = (make("task", "simpler-coke-can-upright-v1").instances(split) for split in ("train", "test"))
    assert not {tuple(place) for place in train.data["thing"]} & {tuple(place) for place in test.data["thing"]}
    assert len(train) == 96


@pytest.mark.parametrize(
    "rest",
    ["coke-can-v1", "coke-can-upright-v2", "coke-can-upright-grid-v1", "coke-can-upright-raster-v1", "nothing-v1",
     "open-top-drawer-dummy-v1", "spoon-on-towel-variants-v1", "coke-can-upright-variants-dummy-v1",
     "coke-can-upright-variants-state-v1", "coke-can-upright-openx-state-v1"],
)  # fmt: skip
def test_an_id_that_names_no_row_is_refused(rest):
    with pytest.raises(Refused, match=f"unknown task 'simpler-{rest}'; it should be simpler-NAME-v1"):
        make("task", f"simpler-{rest}")


def test_a_state_of_one_place_is_one_cluster_in_all_scenes():
    task = make("task", "simpler-coke-can-upright-v1")
    assert len({*task.clusters(task.instances("test"))}) == 25
    near = make("task", "simpler-move-near-v1")
    assert len({*near.clusters(near.instances("test"))}) == 60


def test_cards_tell_the_protocol_without_simpler_env():
    for name, rows in TABLE.items():
        for protocol, told in rows.items():
            card = make("task", f"simpler-{name}{'-' * bool(protocol)}{protocol}-v1").card
            assert (card.protocol.success, card.protocol.horizon) == ("end", told.horizon)
            assert card.protocol.cameras == {told.robot.camera: told.robot.pixels}
            assert card.protocol.control_hz == (3 if told.robot is GOOGLE else 5)
            assert "SAPIEN 2.2.2" in card.protocol.simulator
    assert "ray tracer" in make("task", "simpler-close-top-drawer-v1").card.protocol.renderer
    assert "rasteriser" in make("task", "simpler-close-top-drawer-raster-v1").card.protocol.renderer
    assert make("task", UPRIGHT).card.protocol.cameras == {}
    assert isinstance(make("task", UPRIGHT), Expert)
    assert not isinstance(make("task", "simpler-spoon-on-towel-v1"), Expert)


def test_scenes_are_told_what_upstreams_scripts_tell_them():
    varied = row("coke-can-crosswise-variants-v1").scenes
    assert [scene.env for scene in varied].count("GraspSingleOpenedCokeCanDistractorInScene-v0") == 2
    assert all(scene.more["lr_switch"] for scene in varied)
    assert {scene.env for scene in row("move-near-variants-v1").scenes} == {
        "MoveNearGoogleInScene-v0", "MoveNearAltGoogleCameraInScene-v0", "MoveNearAltGoogleCamera2InScene-v0",
    }  # fmt: skip
    assert {scene.name for scene in row("coke-can-upright-dummy-v1").scenes} == {"dummy_tabletop"}
    assert (row("open-top-drawer-v1").shader, row("open-top-drawer-raster-v1").shader) == ("rt", "ibl")
    sink = row("eggplant-in-basket-v1")
    assert (sink.robot.name, sink.horizon, sink.scenes[0].name) == (
        "widowx_sink_camera_setup",
        120,
        "bridge_table_1_v2",
    )


def test_sapien_asks_for_no_extension_that_no_device_has(tmp_path, monkeypatch):
    file, at = tmp_path / "libsapien.so", 5000
    file.write_bytes(bytes(at) + vulkan.ASKED + b"\0 and more")
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ) as loaded:
        for devices, asks in (([], vulkan.ASKED), ([set(), {vulkan.ASKED}], vulkan.ASKED), ([set()], vulkan.INSTEAD)):
            monkeypatch.setattr(vulkan, "offered", lambda devices=devices: devices)
            vulkan.forgo()
            assert loaded[at:].startswith(asks + b"\0")
            assert loaded[at:].endswith(b"\0 and more")
    assert vulkan.ASKED in file.read_bytes()


# --- motions ----------------------------------------------------------------------------------------------------------


def said(id: str, *open: float) -> list[float]:
    """What the fingers are told where a policy says how open they should be."""
    told = speaker(row(f"{id}-v1"))
    return [float(told.executed(np.array([0, 0, 0, 0, 0, 0, each]))[6]) for each in open]


def test_the_google_robots_fingers_go_on_for_fifteen_motions_with_what_they_have_begun():
    """Upstream's `step` by hand: a change counts from the second motion on; while it lasts nothing else is heard."""
    assert said("coke-can-grid-openx", 1.0, 1.0, 0.0, *[0.0] * 14, 0.0) == [0.0, 0.0, *[1.0] * 15, 0.0]
    assert said("coke-can-grid-openx", 1.0, 0.0, 1.0, *[1.0] * 14) == [0.0, *[1.0] * 15, 0.0]
    assert said("coke-can-grid-openx", 0.9, 0.2)[1] == pytest.approx(0.7)  # as much as was said
    assert said("coke-can-grid-openx", 0.9, 0.5)[1] == pytest.approx(0.4)  # and no longer than that is said
    assert said("spoon-on-towel-openx", 0.6, 0.4) == [1.0, -1.0]
    assert said("coke-can-upright", 0.6, -0.4) == [0.6, -0.4]


def test_rotations_of_open_x_embodiment_are_roll_pitch_and_yaw_about_fixed_axes():
    told = speaker(row("coke-can-grid-openx-v1")).executed(np.array([0.1, 0.2, 0.3, np.pi / 2, 0.0, np.pi / 2, 1.0]))
    assert np.allclose(told[:3], [0.1, 0.2, 0.3])
    third = 2 * np.pi / 3 / np.sqrt(3)  # x is turned to y, y to z, z to x
    assert np.allclose(told[3:6], [third, third, third])


def test_an_experts_motions_are_said_so_that_they_come_back():
    motions = np.array([[0.01, -0.02, 0.03, 0.1, -0.2, 0.25, fingers] for fingers in (1.0, -1.0, 0.0, 0.0, 1.0)])
    speed = np.array([[0.1] * 9] * 4 + [[0.0] * 9])
    fingers = np.array([[0.0] * 2, [1.0] * 2, [0.1] * 2, [1.3] * 2, [0.0] * 2])
    given = openx(motions, speed, fingers)
    assert given[:, 6].tolist() == [0.0, 1.0, 1.0, 0.0, 1.0]  # the last one is the first of its episode
    back = [speaker(row("coke-can-grid-openx-v1")).executed(each) for each in given]
    assert np.allclose(np.array(back)[:, :6], motions[:, :6])


# --- in the other interpreter -----------------------------------------------------------------------------------------


def verdict(at: np.ndarray, motions: list[np.ndarray]) -> float:
    """The stand-in's own evaluation, as upstream's evaluator has it: to the horizon, and the last step's success."""
    module: Any = ModuleType("stand_in")
    exec(ENVS, vars(module))
    env = module.Env("GraspSingleOpenedCokeCanInScene-v0", obs_mode="none", max_episode_steps=80)
    env.reset(seed=simulator.SEED, options={"reconfigure": True, "obj_init_options": {"init_xy": at}})
    done, truncated, left = False, False, list(motions)
    while not truncated:
        motion = left.pop(0) if left else np.array([0, 0, 0, 0, 0, 0, 1.0])
        _, _, done, truncated, _ = env.step(np.asarray(motion, np.float64))
    return float(done)


class Wavering:
    """An agent that holds the can more often than not, and the longer the further from the robot it stands."""

    def act(self, asked, *, temperature=1.0):
        u = asked.uniform(2)
        motions = np.zeros((len(asked), 7))
        motions[:, 2] = 0.02 * (u[:, 0] - 0.55)
        motions[:, 6] = np.where(u[:, 1] < 0.8 + 0.4 * np.abs(np.asarray(asked.now.state["thing"])[:, 1]), 1.0, -1.0)
        return Actions(motions)


@pytest.mark.slow
def test_our_verdicts_are_the_stand_ins_own_in_75_episodes(stand_in):
    ours, theirs, once = [], [], []
    for id in CANS:
        with Workers(id, lanes=1, python=PYTHON) as task:
            played = rollout(Wavering(), task, task.instances("test"), seed=5, keep=everything)
        assert played.outcome
        ours += played.reward.tolist()
        once += list(played.outcome.metrics["success_once"])
        theirs += [
            verdict(place, [action.value for action in episode.actions])
            for place, episode in zip(played.instances.data["thing"], played, strict=True)
        ]
    assert len(ours) == 75
    assert ours == theirs
    assert 10 < sum(ours) < sum(once) < 75  # some have never been lifted, and some have fallen again


def test_a_task_that_is_made_here_is_played_there(stand_in):
    task = make("task", UPRIGHT)
    played = rollout(Wavering(), task, task.instances("test").first(3), keep=everything)
    assert np.isfinite(played.reward).all()
    seen = played[0].observations[0]
    assert (seen.text, seen.images) == ("do GraspSingleOpenedCokeCanInScene-v0", None)
    assert {name: value.shape for name, value in seen.state.items()} == {
        name: (size,) for name, size in COLUMNS.items()
    }
    task.close()


def test_pictures_come_under_the_cameras_name_with_the_overlay_behind(stand_in):
    task = make("task", "simpler-coke-can-upright-v1")
    played = rollout(Guesser(task), task, task.instances("test").first(1), keep=everything)
    shades = [dict(turn.images or {})["overhead_camera"] for turn in played[0].observations[:3]]
    assert [shade.shape for shade in shades] == [(512, 640, 3)] * 3
    assert [int(shade[0, 0, 0]) for shade in shades] == [110, 111, 112]
    frames = list(task.frames(task.instances("test")[0], [np.zeros(7)] * 2))
    assert [frame.shape for frame in frames] == [(512, 640, 3)] * 3
    task.close()


@pytest.mark.parametrize(
    ("name", "env", "columns"),
    [
        ("move-near", "MoveNearGoogleBakedTexInScene-v0", {"thing": [-0.32, -0.2, 0.9], "target": [-0.32, -0.1, 0.9]}),
        ("spoon-on-towel", "PutSpoonOnTableClothInScene-v0", {"thing": [-0.32, -0.2, 0.9]}),
        ("open-top-drawer-raster", "OpenTopDrawerCustomInScene-v0", {"thing": [-0.0075, -0.2, 0.92], "opened": [0.0]}),
    ],
)
def test_other_rows_begin_where_they_are_told_and_show_what_they_have(stand_in, name, env, columns):
    """The stand-in puts the thing of episode k at x = k/100 in the world, where the robot's base is at (0.35, 0.2)."""
    task = make("task", f"simpler-{name}-v1")
    one = task.instances("test").take(np.array([3]))
    game = task.play(one)
    seen = next(game)
    assert list(seen.text) == [f"do {env}"]
    assert {camera: shown.shape[1:] for camera, shown in seen.images.items()} == {
        camera: (*map(int, pixels.split("x")), 3) for camera, pixels in task.card.protocol.cameras.items()
    }
    for column, value in columns.items():
        assert np.allclose(seen.state[column][0][: len(value)], value), column
    game.close()
    task.close()


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        ("die", "the worker died (SIGKILL)"),
        ("hang", "the worker gave no sign of life for 2 s"),
        ("raise", "RuntimeError: the arm fell off"),
        ("nan", "the world showed what is no number"),
        ("flood", "the worker floods: its answer is of "),
    ],
)
def test_what_goes_wrong_costs_its_own_episode_and_is_told(stand_in, monkeypatch, trouble, sentence):
    monkeypatch.setenv("STAND_IN_TROUBLE", trouble)
    monkeypatch.setattr("razorbench.harness.core.processes.LARGEST", 1 << 18)
    with Workers(UPRIGHT, lanes=1, python=PYTHON, timeout=2.0) as task:
        played = rollout(Wavering(), task, task.instances("test").first(4))
    assert np.isnan(played.reward).tolist() == [False, False, True, False]
    assert played.outcome
    assert played.outcome.error is not None
    assert sentence in played.outcome.error[2]
    assert played.outcome.error[:2] == [None, None]


def test_a_motion_that_is_no_number_is_not_executed(stand_in):
    class Lost:
        def act(self, asked, *, temperature=1.0):
            return Actions(np.full((len(asked), 7), np.nan))

    with Workers(UPRIGHT, lanes=1, python=PYTHON) as task:
        assert rollout(Lost(), task, task.instances("test").first(2)).reward.tolist() == [0.0, 0.0]


def test_motions_of_open_x_embodiment_are_executed_as_upstream_does(stand_in):
    class Lifts:
        """Says open once and closed from then on, and goes up."""

        def act(self, asked, *, temperature=1.0):
            motions = np.zeros((len(asked), 7))
            motions[:, 2] = 0.004
            motions[:, 6] = asked.turn == 0
            return Actions(motions)

    id = "simpler-coke-can-upright-state-openx-v1"
    with Workers(id, lanes=1, python=PYTHON) as task:
        played = rollout(Lifts(), task, task.instances("test").first(1))
    assert played.outcome
    assert played.outcome.metrics["steps"].tolist() == [11]  # from 2 to 7 it rises to 2.4 cm; five steps above 2 cm


def test_another_version_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_SIMPLER_PYTHON", installed(tmp_path, sapien="3.0.3"))
    with (
        Workers(UPRIGHT, lanes=1, python=PYTHON) as task,
        pytest.raises(Refused, match=r"has sapien 3\.0\.3, and these"),
    ):
        rollout(Wavering(), task, task.instances("test").first(1))


def test_a_checkout_without_its_large_files_is_told(stand_in, tmp_path):
    next(tmp_path.rglob("google_pick_coke_can_1_v4.glb")).unlink()
    with Workers(UPRIGHT, lanes=1, python=PYTHON) as task, pytest.raises(Refused, match=r"v4\.glb is missing; clone"):
        rollout(Wavering(), task, task.instances("test").first(1))


def test_without_an_interpreter_or_with_one_that_has_no_simpler_env_the_cure_is_told(monkeypatch, tmp_path):
    monkeypatch.delenv("RAZORBENCH_SIMPLER_PYTHON", raising=False)
    task = make("task", UPRIGHT)
    with pytest.raises(
        Missing, match="set RAZORBENCH_SIMPLER_PYTHON to the interpreter that `razorbench simpler setup"
    ):
        rollout(Wavering(), task, task.instances("test").first(1))
    monkeypatch.setenv("RAZORBENCH_SIMPLER_PYTHON", sys.executable)
    task = make("task", UPRIGHT)
    with pytest.raises(Refused, match=r"no worker could begin .*: Missing: SimplerEnv is not in .*git clone"):
        rollout(Wavering(), task, task.instances("test").first(1))


@pytest.mark.slow
def test_task_check_plays_it_and_finds_the_card_right(stand_in):
    wrong = {told.name: told.detail for told in check(UPRIGHT, episodes=3) if told.ok is False}
    assert {*wrong} == {"oracle", "chance"}  # any motion lifts the stand-in's can, but for the expert's


def test_nothing_of_it_is_needed_to_read_the_table():
    code = (
        "import razorbench.tasks.simpler.tasks, sys; print(sorted({'sapien', 'gymnasium', 'torch'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert find("task", UPRIGHT).card
