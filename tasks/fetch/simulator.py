"""The Fetch arm of Gymnasium-Robotics on MuJoCo: one model, of which each episode has its own data; and a camera."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from functools import cache
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np

from razorbench import Missing, Refused, missing

SIZE = 256
"""Pixels a side of a rendered frame."""
CAMERA = {"distance": 1.5, "azimuth": 132.0, "elevation": -20.0, "lookat": np.array([1.3, 0.75, 0.55])}
"""Where a frame is taken from: nearer than Gymnasium-Robotics does."""


def environment(scene: str, **kwargs: Any) -> Any:
    """A Gymnasium-Robotics environment; `scene` is "module:class" below `gymnasium_robotics.envs.fetch`.

    Raises Missing where the simulator is not installed.
    """
    module, _, name = scene.partition(":")
    try:
        with redirect_stderr(StringIO()):  # it prints news of other environments when it is imported
            return getattr(import_module(f"gymnasium_robotics.envs.fetch.{module}"), name)(**kwargs)
    except ModuleNotFoundError as error:
        raise Missing(f"the robot's simulator: {missing(error) or error}") from error


class Scene:
    """One MuJoCo model, of which every episode has its own data; steps bit for bit as the environment it is from."""

    def __init__(self, name: str):
        """Take over the model and the initial state of the environment `name`."""
        self.name, self.env = name, environment(name)
        self.model = model = self.env.model
        self.mujoco: Any = import_module("mujoco")
        self.grip = model.site("robot0:grip").id
        self.hand = int(model.eq_obj2id[0])
        self.fingers = [model.joint(f"robot0:{side}_gripper_finger_joint").qposadr[0] for side in "lr"]
        self.block = model.site("object0").id if self.env.has_object else None
        self.free = model.joint("object0:joint") if self.env.has_object else None
        self.jacobian = np.zeros((3, model.nv))

    def start(self, block: np.ndarray) -> Any:
        """The data of a new episode, the block lying at `block` [3]."""
        data = self.mujoco.MjData(self.model)
        data.time, data.qpos[:], data.qvel[:] = self.env.initial_time, self.env.initial_qpos, self.env.initial_qvel
        if self.free is not None:
            at = self.free.qposadr[0]
            data.qpos[at : at + 2] = block[:2]
        self.mujoco.mj_forward(self.model, data)
        return data

    def step(self, data: Any, motion: np.ndarray) -> None:
        """Execute a motion [4] for 40 ms. Raises ArithmeticError when it is no number, or the physics blow up."""
        if not np.isfinite(motion).all():
            raise ArithmeticError(f"the motion {motion} is not finite")
        motion = np.clip(np.asarray(motion, np.float32), -1.0, 1.0)
        data.mocap_pos[0] = data.xpos[self.hand] + motion[:3] * np.float32(0.05)
        data.mocap_quat[0] = data.xquat[self.hand] + [1.0, 0.0, 1.0, 0.0]
        if self.model.nu:  # where the fingers are blocked, they have no motors
            data.ctrl[:] = motion[3] + data.qpos[self.fingers]
        self.mujoco.mj_step(self.model, data, nstep=self.env.n_substeps)
        if self.env.block_gripper:
            data.qpos[self.fingers] = 0.0
            self.mujoco.mj_forward(self.model, data)
        if data.warning.number.any():  # MuJoCo has then silently begun anew
            raise ArithmeticError("the simulation became unstable")

    def look(self, data: Any) -> np.ndarray:
        """What an agent sees of the arm and the block, [17]: see `COLUMNS`. Without a block, the gripper is the thing.

        Positions in metres, velocities in metres a second.
        """
        gripper = data.site_xpos[self.grip]
        self.mujoco.mj_jacSite(self.model, data, self.jacobian, None, self.grip)
        moving = self.jacobian @ data.qvel
        if self.free is None:
            block, facing, pushed = gripper, (1.0, 0.0, 0.0), moving
        else:
            at = self.free.dofadr[0]
            block, facing = data.site_xpos[self.block], data.site_xmat[self.block][::3]
            pushed = data.qvel[at : at + 3]
        return np.concatenate([gripper, block, facing, data.qpos[self.fingers], moving, pushed])


COLUMNS = {"gripper": 3, "block": 3, "facing": 3, "fingers": 2, "moving": 3, "pushed": 3}
"""Columns of the state and their widths: `facing` is the block's x axis, the last two are velocities."""

scene = cache(Scene)


@contextmanager
def studio(name: str) -> Iterator[Any]:
    """A second environment that renders without a display. Raises Refused where there is no OpenGL for that."""
    os.environ.setdefault("MUJOCO_GL", "egl")
    env = environment(name, render_mode="rgb_array", width=SIZE, height=SIZE, default_camera_config=CAMERA)
    try:
        env.reset(seed=0)
        env.render()
    except Exception as error:
        raise Refused(
            f"there is no OpenGL to render with ({type(error).__name__}: {error}); apt-get install libegl1, "
            "or libosmesa6 and set MUJOCO_GL=osmesa"
        ) from error
    try:
        yield env
    finally:
        env.close()
