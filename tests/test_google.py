"""The google robot on SAPIEN 3: where episodes begin, SimplerEnv's own steps, verdicts, replays, agreement."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from razorbench import Instances, Missing, Refused
from razorbench.harness.core.registry import ids, make
from razorbench.harness.core.rollout import demonstrations
from razorbench.tasks.google.facts import CAN_X, CAN_Y, JOINTS, PLACES, RESTING
from razorbench.tasks.google.tasks import COLUMNS, CloseTop, Upright
from tests.conftest import absent, needs_assets

pytest.importorskip("razorbench.tasks.google.sapien3", reason="sapien is not installed")

from razorbench.tasks.google.agreement import RECORDED
from razorbench.tasks.google.assets import asset
from razorbench.tasks.google.can import CanScene, angle
from razorbench.tasks.google.drawers import DrawerScene
from razorbench.tasks.google.sapien3 import physx, sapien
from razorbench.tasks.google.simulator import flat

EVERY = [id for id in ids("task") if id.startswith("google-") and "camera" not in id and "pretraining" not in id]
UPRIGHT = "google-coke-can-upright-sapien3-v1"
CANS = [id for id in EVERY if "can" in id]
HERE = np.array(PLACES["b0"])


def seen(episodes) -> list[np.ndarray]:
    """All that was seen, an array a turn."""
    return [np.concatenate([turn.seen.state[name] for name in COLUMNS], 1) for turn in episodes.turns]


def one(id: str, number: int = 12) -> tuple[Any, Instances]:
    """A task and one of its test instances."""
    task = make("task", id)
    return task, task.instances("test").take(np.array([number]))


# --- where episodes begin ---------------------------------------------------------------------------------------------


def test_test_states_are_those_of_visual_matching_then_a_hundred_uniform_ones():
    can = Upright().instances("test")
    assert len(can) == 125
    at = can.data["can"][:, :2] - RESTING["upright"][:2]
    steps = {tuple(np.round(point, 6)) for point in at[:25]}
    assert steps == {(x, y) for x in (-0.35, -0.2925, -0.235, -0.1775, -0.12) for y in (-0.02, 0.09, 0.2, 0.31, 0.42)}
    for k, (low, high) in enumerate((CAN_X, CAN_Y)):
        assert low < at[25:, k].min() < low + 0.05 * (high - low)
        assert high - 0.05 * (high - low) < at[25:, k].max() < high
    place = CloseTop().instances("test").data["place"]
    assert place[:9].tolist() == [list(known) for known in PLACES.values()]
    assert len(place) == 109


@pytest.mark.parametrize("id", EVERY)
def test_train_and_test_share_no_state(id):
    task = make("task", id)
    train, test = (
        {tuple(row) for row in next(iter(task.instances(split).data.values()))} for split in ("train", "test")
    )
    assert not train & test
    assert len(train) == (96 if "can" in id else 100)


def test_one_id_is_one_place_however_the_can_lies_and_whatever_the_drawer_is_asked():
    for kind in (CANS, [id for id in EVERY if "drawer" in id]):
        named = [make("task", id).clusters(make("task", id).instances("test")) for id in kind]
        assert all((names == named[0]).all() for names in named)
    spots = [make("task", id).instances("test").data["can"][:, :2] for id in CANS]
    assert max(np.abs(spot - spots[0]).max() for spot in spots) < 2e-3  # a can rolls a little where it is dropped


def test_without_the_data_files_the_cure_is_told(monkeypatch, tmp_path):
    task, some = one("google-close-top-drawer-sapien3-v1")
    monkeypatch.delenv("RAZORBENCH_ASSETS", raising=False)
    with pytest.raises(Missing, match="RAZORBENCH_ASSETS is not set; run `git clone --depth 1 https"):
        demonstrations(task, some)
    monkeypatch.setenv("RAZORBENCH_ASSETS", str(tmp_path))
    with pytest.raises(Missing, match=r"\.urdf is missing; put there what ManiSkill2_real2sim has"):
        demonstrations(task, some)


# --- what a motion does -----------------------------------------------------------------------------------------------


@needs_assets
def test_a_motion_is_simpler_envs_own():
    """Its own simulator, SAPIEN 2.2.2, made these of them (agreement.py, first episode): the hand, in the world."""
    scene = CanScene(np.array([-0.23535152, 0.1997074, 0.95094126, 0.7056318, 0.70857424, -0.00180451, 0.00179251]))
    hand = scene.controller.hand
    assert np.allclose(hand.entity_pose.p, [-0.08938442, 0.41841692, 1.0409188], atol=1e-6)
    scene.step(np.array([0.02827268, 0.05221289, 0.00862955, 0.0, 0.0, 0.0, 0.0]))
    assert np.allclose(hand.entity_pose.p, [-0.09287298, 0.41335255, 1.041619], atol=2e-5)


@needs_assets
def test_fingers_repeat_their_target_where_they_are_told_nothing():
    scene = DrawerScene(HERE, "top", False)
    controller = scene.controller
    still, close, small = (np.array([0.0] * 6 + [by]) for by in (0.0, 1.0, 5e-4))
    controller.plan(close)
    assert controller.told == pytest.approx(1.31 * np.ones(2))
    for motion in (still, small):
        controller.plan(motion)
        assert controller.told == pytest.approx(1.31 * np.ones(2))


@needs_assets
def test_what_cannot_be_reached_leaves_the_arm_where_it_is():
    scene = DrawerScene(HERE, "top", False)
    controller = scene.controller
    far = np.array([5.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0])
    assert controller.reached(far) is None
    targets, _ = controller.plan(far)
    assert np.allclose(targets[:, :9], controller.measured()[0][:9], atol=1e-6)


@needs_assets
def test_a_scene_leaves_the_settings_of_the_process_as_they_were():
    def told():
        material = physx.get_default_material()
        return (str(physx.get_scene_config()), str(physx.get_body_config()), str(physx.get_shape_config()),
                material.static_friction, physx.get_body_config().solver_velocity_iterations)  # fmt: skip

    before = told()
    scene = DrawerScene(HERE, "top", False)
    assert told() == before
    assert scene.robot.links[0].articulation.solver_velocity_iterations == 0
    assert {joint.friction for joint in scene.robot.active_joints} == {0.0}


# --- verdicts ---------------------------------------------------------------------------------------------------------


@needs_assets
@pytest.mark.parametrize(
    ("closing", "out", "success"),
    [(True, 0.05, 1), (True, 0.06, 0), (True, 0.2, 0), (False, 0.15, 1), (False, 0.14, 0), (False, 0.0, 0)],
)
def test_a_drawer_is_judged_by_how_far_it_is_out(closing, out, success):
    scene = DrawerScene(HERE, "middle", closing)
    assert scene.opened == pytest.approx(0.2 * closing)
    assert not scene.success
    pulled = np.zeros(3)
    pulled[scene.slide] = out + (1e-4 if not closing else -1e-4)
    scene.cabinet.set_qpos(pulled)
    assert scene.success == success


def test_a_finger_presses_within_eighty_degrees_of_the_way_it_opens():
    up, over = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.1])
    assert angle(up, 5 * up) == 0
    assert angle(up, over) == pytest.approx(84.29, abs=0.01)
    assert angle(up, np.zeros(3)) == 90


# --- episodes ---------------------------------------------------------------------------------------------------------


@needs_assets
@pytest.mark.slow
def test_an_episode_is_the_same_bit_for_bit_alone_in_company_and_in_another_process():
    task, some = one(UPRIGHT)
    alone = seen(demonstrations(task, some))
    two = demonstrations(task, task.instances("test").take(np.array([3, 12])))
    assert two.reward.tolist() == [1.0, 1.0]
    company = [np.concatenate([turn.seen.state[name][turn.rows == 1] for name in COLUMNS], 1) for turn in two.turns]
    assert all((a == b).all() for a, b in zip(alone, company, strict=False))
    assert len(alone) == sum(map(len, company))
    code = f"""
import numpy as np
from tests.test_google import one, seen
from razorbench.harness.core.rollout import demonstrations
print(np.concatenate(seen(demonstrations(*one({UPRIGHT!r})))).tobytes().hex())
"""
    ran = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[1], capture_output=True, text=True)
    assert ran.stdout.strip() == np.concatenate(alone).tobytes().hex(), ran.stderr


@needs_assets
@pytest.mark.long
@pytest.mark.parametrize("id", EVERY)
def test_experts_solve_simpler_envs_own_states(id):
    """At least 95 % of the 25 places of a can, and of the nine before a drawer: all of those."""
    task = make("task", id)
    some = task.instances("test").first(25 if "can" in id else len(PLACES))
    assert demonstrations(task, some).reward.mean() >= 0.95


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(scene_of, *arguments) -> np.ndarray:
    """What a new scene looks like; skips where there is no Vulkan, which a machine of CI has."""
    try:
        scene = scene_of(*arguments, True)
    except Refused as why:
        absent(str(why))
    return scene.picture()


@needs_assets
@pytest.mark.long
def test_pictures_show_the_can_where_a_pinhole_puts_it_before_the_real_scene():
    """By SimplerEnv's focal length of 425 pixels about (320, 256), on a camera that looks along its link's z."""
    can = Upright().instances("test").data["can"]
    with Image.open(asset(CanScene.studio.behind)) as file:
        behind = np.asarray(file.convert("RGB").resize((640, 512), Image.Resampling.BILINEAR))
    for lies in (can[12], can[6]):
        shown, scene = picture(CanScene, lies), CanScene(lies)
        assert (shown.shape, shown.dtype) == ((512, 640, 3), np.uint8)
        assert 0.9 < (shown == behind).all(2).mean() < 0.99  # the robot and the can take the rest
        red = shown[..., 0] - shown[..., 1:].max(2).astype(int) > 100
        x, y, z = (next(k for k in scene.robot.links if k.name == "link_camera").entity_pose.inv() * scene.thing).p
        seen_at = [place.mean() for place in np.nonzero(red)[::-1]]
        assert np.allclose(seen_at, [320 + 425 * x / z, 256 + 425 * y / z], atol=6)


@needs_assets
@pytest.mark.long
def test_pictures_change_no_step():
    picture(DrawerScene, HERE, "top", True)
    motion = np.array([0.0, 0.05, -0.05, 0.0, 0.0, 0.0, 1.0])
    plain, seen = DrawerScene(HERE, "top", True), DrawerScene(HERE, "top", True, True)
    for _ in range(3):
        plain.step(motion)
        seen.step(motion)
        seen.picture()
        assert (plain.look() == seen.look()).all()


@needs_assets
def test_without_vulkan_pictures_are_refused_with_the_cure(monkeypatch):
    def nowhere():
        raise RuntimeError("Failed to find a rendering device")

    monkeypatch.setattr(sapien.render, "RenderSystem", nowhere)
    with pytest.raises(Refused, match=r"Failed to find a rendering device\); install a GPU's driver, or mesa"):
        CanScene(Upright().instances("test").data["can"][0], True)


def test_tasks_with_pictures_are_the_others_with_a_camera():
    for id in EVERY:
        plain, pictured = make("task", id), make("task", id.replace("-sapien3", "-camera-sapien3"))
        assert (pictured.text, pictured.steps, pictured.seen) == (plain.text, plain.steps, True)
        assert pictured.card.protocol.cameras == {"overhead_camera": "512x640"}
        assert pictured.card.protocol.digest != plain.card.protocol.digest
        assert pictured.instances("test").id.tolist() == plain.instances("test").id.tolist()


# --- how near SimplerEnv is -------------------------------------------------------------------------------------------


def recorded(scene, motions) -> dict[str, np.ndarray]:
    """What a recording holds of an episode: the joints before and after each motion, the can, the verdict."""
    order = [JOINTS.index(name) for name in RECORDED]
    states = [[*scene.controller.measured(), flat(scene.thing), False]]
    for motion in motions:
        scene.step(motion)
        states.append([*scene.controller.measured(), flat(scene.thing), scene.success])
    q, qd, thing, won = (np.array(column) for column in zip(*states, strict=True))
    return {"q": q[:, order], "qd": qd[:, order], "can": thing, "won": won[1:]}


@needs_assets
@pytest.mark.slow
def test_replayed_recordings_of_our_own_agree_and_changed_ones_do_not(tmp_path, razorbench):
    motions = np.tile(np.array([0.02, 0.03, 0.0, 0.0, 0.0, 0.0, 0.0], np.float32), (3, 1))
    lies = Upright().instances("test")[7].data["can"]
    can, drawer = recorded(CanScene(lies), motions), recorded(DrawerScene(HERE, "top", True), motions)
    starts, nothing = np.array([0, 3]), np.zeros((3, 2), bool)
    np.savez(tmp_path / "original_can_x.npz", actions=motions, actions_start=starts, ori=np.array(["upright"]),
             info=nothing, re_same_info=~nothing, q=can["q"], qd=can["qd"], can=can["can"])  # fmt: skip
    np.savez(tmp_path / "original_drawers_x.npz", actions=motions, actions_start=starts, info=~drawer["won"],
             task=np.array(["close_top"]), place=np.array(["b0"]))  # fmt: skip
    upright, again, closing = razorbench("robots", "agreement", tmp_path, "--json").json
    assert (upright["recordings"], upright["episodes"], upright["agree"]) == ("original_can_x: can upright", 1, 1)
    assert 0 <= upright["one step off, median"] <= upright["p95"] < 1e-5
    assert (again["recordings"], again["agree"]) == ("original_can_x: the original again, same", 0)
    assert (closing["recordings"], closing["agree"]) == ("original_drawers_x: close top", 0)
    assert closing["success in the original"] == 1


def test_a_folder_without_recordings_is_refused(tmp_path, razorbench):
    ran = razorbench("robots", "agreement", tmp_path)
    assert ran.code == 2
    assert "has no original_can*.npz" in ran.sentence
