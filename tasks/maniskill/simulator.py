"""Environments of ManiSkill3 as numpy: an episode is the same for the same seed, whatever was played before."""

from collections import defaultdict
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import numpy as np

from razorbench import Missing, Refused, missing
from razorbench.tasks.maniskill.table import Row

CURE = (
    "ManiSkill3 needs a Vulkan driver, for states too; on Debian 12 its own is too old: `apt-get install "
    "{mesa-vulkan-drivers,libdrm2,libdrm-amdgpu1}/bookworm-backports`, with backports among its sources"
)
"""What to do where nothing can be drawn."""


class Simulator:
    """One environment, in which one episode is played after the other."""

    def __init__(self, row: Row, camera: bool = False, filmed: bool = False):
        """Build it: a second, with a camera seven. Raises Missing without the package, Refused without Vulkan."""
        try:
            import_module("mani_skill").logger.setLevel("ERROR")  # it would tell of poses for each scene
            import_module("mani_skill.envs")
        except ModuleNotFoundError as error:
            raise Missing(f"ManiSkill3: {missing(error) or error}") from error
        try:
            self.env: Any = import_module("gymnasium").make(
                row.env,
                obs_mode="rgb" if camera else "state_dict",
                control_mode=row.control,
                render_mode="rgb_array" if filmed else None,
                sim_backend="physx_cpu",
                render_backend="sapien_cpu",  # pictures that a GPU draws are other ones
                max_episode_steps=row.horizon,
            )
        except RuntimeError as error:  # of SAPIEN's, whose words differ with what Vulkan lacks
            raise Refused(f"{CURE} ({error})") from error
        self.row, self.camera, self.sound = row, camera, True

    def start(self, seed: int) -> dict[str, Any]:
        """Begin the episode of a seed; what is seen, as upstream nests it, tensors [1, …].

        The scene is built anew, in a fifth of a second: in a used one, what the solver keeps of the last episode's
        contacts changes this one's in the sixth digit, and what a seed draws of shapes would stay.
        """
        self.sound = False  # until it is over: what raises is not used again
        seen, _ = self.env.reset(seed=seed, options={"reconfigure": True})
        self.sound = True
        return seen

    def step(self, motion: np.ndarray) -> tuple[dict[str, Any], bool, float]:
        """Execute a motion; what is seen, whether that is a success, and the environment's reward."""
        self.sound = False
        said: Any = np.asarray(motion, np.float32)
        if robots := getattr(self.env.action_space, "spaces", None):  # several: a part of the motion each
            said = dict(zip(robots, np.split(said, len(robots)), strict=True))
        seen, reward, *_, info = self.env.step(said)
        self.sound = True
        return seen, bool(info["success"]), float(reward)

    def frame(self) -> np.ndarray:
        """A picture for people, uint8 [512, 512, 3], of one that was made to be filmed."""
        return np.asarray(self.env.render())[0]

    def close(self) -> None:
        """Give back what the environment holds."""
        with suppress(Exception):
            self.env.close()


IDLE: dict[tuple[Row, bool], list[Simulator]] = defaultdict(list)
"""Environments of this process in which nobody plays."""


class World:
    """Where one episode after the other is played, of whatever row: it has an environment that nobody else has."""

    def __init__(self, row: Row, camera: bool):
        """Raises Missing or Refused where there can be no environment, before anything is played."""
        self.camera, self.simulator = camera, None
        self.of(row)

    def of(self, row: Row) -> Simulator:
        """An environment of this row."""
        if self.simulator is None or self.simulator.row != row:
            self.close()
            idle = IDLE[row, self.camera]
            self.simulator = idle.pop() if idle else Simulator(row, self.camera)
        return self.simulator

    def close(self) -> None:
        """Leave the environment for others; one in which something was raised is ended."""
        simulator, self.simulator = self.simulator, None
        if simulator and simulator.sound:
            IDLE[simulator.row, simulator.camera].append(simulator)
        elif simulator:
            simulator.close()


def columns(seen: Mapping[str, Any], row: Row) -> dict[str, np.ndarray]:
    """What is seen without pictures, each float32 [k]: under common names where the row says what the thing is."""
    told = flat(seen)
    if row.thing not in told:  # it names none, or it is to be seen in the pictures
        return told
    common = {name: told[name] for name in ("qpos", "qvel", "tcp_pose")}
    goal = told[row.goal][:3] if row.goal else np.zeros(3, np.float32)
    return {**common, "obj_pose": told[row.thing], "goal_pos": goal}


def flat(seen: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Everything but pictures, by the simulator's own names."""
    told: dict[str, np.ndarray] = {}
    for name, value in seen.items():
        if not isinstance(value, Mapping):
            told[name] = np.array(value, np.float32)[0].reshape(-1)
        elif not name.startswith("sensor_"):
            told |= flat(value)
    return told


def pictures(seen: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What each camera sees, uint8 [height, width, 3]."""
    return {name: np.array(camera["rgb"])[0] for name, camera in seen["sensor_data"].items()}
