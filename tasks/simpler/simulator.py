"""SimplerEnv's environments as numpy, in the interpreter that has them; elsewhere this can be imported and no more."""

import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Missing, Refused
from razorbench.tasks.google.facts import HANDLE, HELD
from razorbench.tasks.pool import Pool
from razorbench.tasks.simpler.environment import CURE, PINNED
from razorbench.tasks.simpler.table import Row
from razorbench.tasks.simpler.vulkan import forgo

PACKAGE = "mani_skill2_real2sim"
"""Where the environments are; `simpler_env` beside it has policies and upstream's evaluator."""
SEED = 40_194_941
"""Of every episode. Upstream's evaluator builds an environment for each, which seeds numpy's RandomState with 2022 and
draws randint(2³²) from it for the only reset: this. It decides where distractors stand, and nothing else here.
"""


def here() -> bool:
    """Whether this interpreter has SimplerEnv."""
    return find_spec(PACKAGE) is not None


def checked() -> None:
    """Raises Missing where this interpreter has no SimplerEnv, and Refused where it has another than the pinned one."""
    for name, pinned in PINNED.items():
        try:
            found = version(name)
        except PackageNotFoundError:
            raise Missing(f"{sys.executable} has no {name}; {CURE}") from None
        if found != pinned:
            raise Refused(f"{sys.executable} has {name} {found}, and these scores are {pinned}'s; {CURE}")


def facing(turned: float) -> np.ndarray:
    """A quaternion [4] (w x y z) of a robot that is turned by so many radians from facing −x, as upstream's."""
    return np.array([-np.sin(turned / 2), 0.0, 0.0, np.cos(turned / 2)])


class Simulator:
    """One scene of a row, in which one episode is played after the other; each in a scene that is built anew."""

    def __init__(self, row: Row, scene: int, overlay: str):
        """Build it. Raises Missing without the package or its large files, Refused for another version or no Vulkan."""
        checked()
        import_module(f"{PACKAGE}.envs")
        self.row, built, data = row, row.scenes[scene], Path(import_module(PACKAGE).ASSET_DIR)
        stage = data / "hab2_bench_assets" / "stages" / f"{built.name}.glb"
        if not built.name.startswith("dummy") and not stage.exists():
            raise Missing(f"{stage} is missing; clone ManiSkill2_real2sim with all its files")
        told: dict[str, Any] = {
            "obs_mode": "rgbd" if row.seen else "none",
            "robot": row.robot.name,
            "control_freq": row.robot.hertz,
            "sim_freq": row.robot.physics,
            "control_mode": row.robot.control,
            "max_episode_steps": row.horizon,
            "scene_name": built.name,
            "camera_cfgs": {"add_segmentation": True},
            "shader_dir": row.shader,
            **built.more,
        }
        if overlay and row.seen:
            told["rgb_overlay_path"] = str(data / "real_inpainting" / overlay)
            told["rgb_overlay_cameras"] = [row.robot.camera]
        self.env: Any = drawable(built.env, told)
        self.seen: Mapping[str, Any] = {}
        self.info: Mapping[str, Any] = {}
        self.before = np.zeros(0)  # the fingers' joints before the last motion

    def start(self, data: Mapping[str, Any]) -> None:
        """Begin the episode of an instance's data, as upstream's evaluator would."""
        x, y, turned = np.asarray(data["robot"], np.float64)
        things: dict[str, Any] = {"init_xy": np.asarray(data["thing"], np.float64)} if "thing" in data else {}
        if "episode" in data:
            things["episode_id"] = int(data["episode"])
        robot = {"init_xy": np.array([x, y]), "init_rot_quat": facing(turned)}
        options = {"robot_init_options": robot, "obj_init_options": things, "reconfigure": True}
        self.seen, self.info = self.env.reset(seed=SEED, options=options)
        self.before = self.joints()[1]

    def step(self, motion: np.ndarray) -> bool:
        """Execute a motion [7]; whether this step is a success. Raises ArithmeticError for what is no number."""
        if not np.isfinite(motion).all():
            raise ArithmeticError(f"the motion {motion} is not finite")
        self.before = self.joints()[1]
        self.seen, _, _, _, self.info = self.env.step(np.asarray(motion, np.float64))
        return bool(self.info["success"])

    @property
    def over(self) -> bool:
        """Whether nothing that follows can change the verdict of the last step: a can has been high long enough."""
        return self.info.get("episode_stats", {}).get("n_lift_significant", 0) >= HELD

    @property
    def words(self) -> str:
        """The instruction."""
        return str(self.env.unwrapped.get_language_instruction())

    def joints(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where arm and fingers are, and how fast the arm is; without the head."""
        agent = self.env.unwrapped.agent
        names = [joint.name for joint in agent.robot.get_active_joints()]
        arm = [names.index(name) for name in agent.config.arm_joint_names if "head" not in name]
        fingers = [names.index(name) for name in agent.config.gripper_joint_names]
        q, v = agent.robot.get_qpos(), agent.robot.get_qvel()
        return q[arm], q[fingers], v[arm]

    def look(self) -> dict[str, np.ndarray]:
        """What is known of robot and things, float32 by column (`Simpler` has them)."""
        env = self.env.unwrapped
        base, thing = env.agent.robot.pose.inv(), getattr(env, self.row.thing)
        arm, fingers, fast = self.joints()
        # Of fingers that stand still at a can SAPIEN 2 tells 4 rad/s, so theirs is what they have made.
        speed = np.concatenate([fast, (fingers - self.before) * self.row.robot.hertz])
        seen = {"arm": arm, "speed": speed, "fingers": fingers, "hand": flat(base * env.tcp.pose)}
        if self.row.thing == "drawer_obj":
            handle = thing.pose * type(thing.pose)(HANDLE)
            seen |= {"thing": flat(base * handle), "opened": env.art_obj.get_qpos()[[env.joint_idx]]}
        elif self.row.thing == "obj":
            seen |= {"thing": flat(base * thing.pose), "opened": np.zeros(1)}
        else:
            seen |= {"thing": flat(base * thing.pose), "target": flat(base * env.episode_target_obj.pose)}
        return {name: np.asarray(value, np.float32) for name, value in seen.items()}

    def pictures(self) -> dict[str, np.ndarray]:
        """What the robot's camera sees, uint8 [height, width, 3]; none where nothing is drawn."""
        if not self.row.seen:
            return {}
        return {self.row.robot.camera: np.asarray(self.seen["image"][self.row.robot.camera]["rgb"])}

    def close(self) -> None:
        """Give back what the environment holds."""
        with suppress(Exception):
            self.env.close()


def drawable(env: str, told: Mapping[str, Any]) -> Any:
    """An environment. Refused where there is no Vulkan that SAPIEN can draw with."""
    forgo()
    try:
        return import_module("gymnasium").make(env, **told)
    except RuntimeError as error:
        if "vk::" not in str(error) and "render" not in str(error):
            raise
        raise Refused(
            f"SAPIEN finds no Vulkan to draw with ({error}), and needs it for states, too; install a GPU's driver, or "
            "mesa-vulkan-drivers 25 or later (Debian 12: from bookworm-backports)"
        ) from error


def flat(pose: Any) -> np.ndarray:
    """A pose as [7]: metres, and a quaternion w x y z, w not negative."""
    return np.concatenate([pose.p, pose.q if pose.q[0] >= 0 else -pose.q])


POOL = Pool(lambda row, scene, overlay: Simulator(row, scene, overlay))
