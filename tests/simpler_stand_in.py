"""A stand-in for SimplerEnv: the few names of it that are used, and a can that is held while the fingers are closed.

`installed(folder)` writes an interpreter that has it. A motion's third number lifts the hand, and the can (or the
drawer) where it is held; its seventh closes (above 0) or opens. Success is the original's rule: the can is 1 cm up now,
or has been 2 cm up in five steps. `STAND_IN_TROUBLE` names what happens at a can that stands at x = −0.35, y = 0.2, in
the second step.
"""

import sys
from pathlib import Path

ENVS = """
import os, signal, time
from types import SimpleNamespace as Names
import numpy as np

class Pose:
    def __init__(self, p=(0, 0, 0), q=(1, 0, 0, 0)):
        self.p, self.q = np.array(p, float), np.array(q, float)
    def inv(self):
        return Pose(-self.p)
    def __mul__(self, other):
        return Pose(self.p + other.p, other.q)

class Robot:
    pose = Pose((0.35, 0.2, 0.0))
    def __init__(self, joints):
        self.joints, self.q = joints, np.zeros(len(joints))
    def get_active_joints(self):
        return [Names(name=name) for name in self.joints]
    def get_qpos(self):
        return self.q.copy()
    def get_qvel(self):
        return np.zeros(len(self.q))

class Env:
    def __init__(self, env, **told):
        self.told, self.unwrapped = {"env": env, **told}, self
        self.art_obj, self.joint_idx = Names(get_qpos=lambda: np.array([self.up])), 0
        arm = [f"joint_{k}" for k in range(7)] + ["joint_head_pan"]
        fingers = ["finger_right", "finger_left"]
        config = Names(arm_joint_names=arm, gripper_joint_names=fingers)
        self.agent = Names(robot=Robot([*arm, *fingers]), config=config)
    def reset(self, seed=None, options=None):
        assert seed == 40194941 and options["reconfigure"], (seed, options)
        things = options["obj_init_options"]
        self.at = np.array([*things.get("init_xy", (things.get("episode_id", 0) / 100, 0.0)), 0.9])
        self.steps = self.high = 0
        self.hand = self.up = 0.0
        self.agent.robot.q[:] = 0.0
        self.place()
        return self.seen(), {}
    def place(self):
        self.tcp = Names(pose=Pose(self.at + (0, 0, self.hand)))
        self.obj = self.drawer_obj = self.episode_source_obj = Names(pose=Pose(self.at + (0, 0, self.up)))
        self.episode_target_obj = Names(pose=Pose(self.at + (0, 0.1, 0)))
    def step(self, motion):
        assert motion.shape == (7,) and motion.dtype == np.float64, motion
        self.steps += 1
        if self.steps == 2 and np.allclose(self.at[:2], (-0.35, 0.2)):
            self.trouble(os.environ.get("STAND_IN_TROUBLE", ""))
        held = motion[6] > 0
        self.hand = max(self.hand + motion[2], 0.0)
        self.up = max(self.up + motion[2], 0.0) if held else 0.0
        self.agent.robot.q[-2:] = float(held)
        self.place()
        self.high += self.up > 0.02
        success = self.up > 0.01 or self.high >= 5
        info = {"success": success, "episode_stats": {"n_lift_significant": self.high}}
        return self.seen(), 0.0, success, self.steps == self.told["max_episode_steps"], info
    def trouble(self, kind):
        if kind == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            time.sleep(600)
        if kind == "raise":
            raise RuntimeError("the arm fell off")
        if kind == "nan":
            self.at = self.at * np.nan
        if kind == "flood":
            self.agent.config.arm_joint_names = self.agent.config.arm_joint_names * 100_000
    def seen(self):
        assert self.told["obs_mode"] in ("none", "rgbd"), self.told
        if self.told["obs_mode"] == "none":
            return {}
        shade = 100 + 10 * ("coke_can" in self.told.get("rgb_overlay_path", "")) + self.steps
        widow = "widowx" in self.told["robot"]
        camera, high = ("3rd_view_camera", 480) if widow else ("overhead_camera", 512)
        return {"image": {camera: {"rgb": np.full((high, 640, 3), shade, np.uint8)}}}
    def get_language_instruction(self):
        return "do " + self.told["env"]
    def close(self):
        pass
"""

HELD = {"sapien": "2.2.2", "mani_skill2_real2sim": "0.5.3", "numpy": "1.26.4"}


def installed(folder: Path, **others: str) -> str:
    """The path of an interpreter that has the stand-in, with other versions where they are told."""
    site = folder / "site"
    package = site / "mani_skill2_real2sim"
    stages = package / "data" / "hab2_bench_assets" / "stages"
    stages.mkdir(parents=True)
    for name in ("google_pick_coke_can_1_v4", "bridge_table_1_v1"):
        (stages / f"{name}.glb").touch()
    (package / "__init__.py").write_text("from pathlib import Path\nASSET_DIR = Path(__file__).parent / 'data'\n")
    (package / "envs.py").write_text(ENVS)
    (site / "gymnasium.py").write_text("from mani_skill2_real2sim.envs import Env as make\n")
    for name, version in {**HELD, **others}.items():
        (about := site / f"{name}-{version}.dist-info").mkdir()
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = folder / "python"
    python.write_text(f'#!/bin/sh\nPYTHONPATH="{site}" exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return str(python)
