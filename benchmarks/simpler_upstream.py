"""Upstream's own evaluator on recorded motions, in the interpreter that has SimplerEnv: verdicts, one an episode.

`python -m benchmarks.simpler_upstream GIVEN.npz TOLD.npy` calls SimplerEnv's `run_maniskill2_eval_single_episode` as it
is, to the horizon; but that nothing is drawn and no video is written, which would take most of the time.
"""

import sys
from importlib import import_module
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from razorbench.harness.core.registry import make
from razorbench.tasks.simpler.simulator import facing
from razorbench.tasks.simpler.vulkan import forgo


class Recorded:
    """A policy, as upstream's evaluator has one, that says recorded motions [n, 7] and then nothing more."""

    def __init__(self, motions: np.ndarray):
        self.left = list(motions)

    def reset(self, words: str) -> None:
        """Nothing to forget."""

    def step(self, image: Any, words: str) -> tuple[None, dict[str, np.ndarray]]:
        """The next motion, in upstream's parts."""
        motion = self.left.pop(0) if self.left else np.zeros(7)
        parts = {"world_vector": motion[:3], "rot_axangle": motion[3:6], "gripper": motion[6:]}
        return None, {**parts, "terminate_episode": np.zeros(1)}

    def visualize_epoch(self, *_: Any, **__: Any) -> None:
        """Draws nothing."""


def evaluator() -> Any:
    """Upstream's module, with what draws taken out."""
    drawing: Any = ModuleType("simpler_env.utils.visualization")
    drawing.write_video = lambda *_, **__: None
    sys.modules[drawing.__name__] = drawing
    module: Any = import_module("simpler_env.evaluation.maniskill2_evaluator")
    gym = import_module("gymnasium")
    module.build_maniskill2_env = lambda env, **told: gym.make(env, **{**told, "obs_mode": "none"})
    module.get_image_from_maniskill2_obs_dict = lambda *_, **__: np.zeros((2, 2, 3), np.uint8)
    return module


def main(given: str, told: str) -> None:
    """Write a verdict for each episode."""
    module = evaluator()
    forgo()
    with np.load(given, allow_pickle=False) as file:
        record = SimpleNamespace(**{name: file[name] for name in file.files})
    task = make("task", str(record.id))
    instances = task.instances("test")
    verdicts = []
    for id, motions in zip(record.instances, np.split(record.motions, record.stops[:-1]), strict=True):
        data = instances[int(np.flatnonzero(instances.id == id)[0])].data
        scene = task.row.scenes[int(data["scene"])]
        x, y, turned = data["robot"]
        where = (
            {"obj_episode_id": int(data["episode"])}
            if "episode" in data
            else {"obj_init_x": data["thing"][0], "obj_init_y": data["thing"][1]}
        )
        won = module.run_maniskill2_eval_single_episode(
            model=Recorded(motions),
            ckpt_path="recorded",
            robot_name=task.row.robot.name,
            env_name=scene.env,
            scene_name=scene.name,
            robot_init_x=x,
            robot_init_y=y,
            robot_init_quat=facing(turned),
            control_mode=task.row.robot.control,
            control_freq=task.row.robot.hertz,
            sim_freq=task.row.robot.physics,
            max_episode_steps=task.row.horizon,
            additional_env_build_kwargs=dict(scene.more),
            logging_dir="/tmp",
            **where,
        )
        verdicts.append(float(won))
    np.save(told, np.array(verdicts))


if __name__ == "__main__":
    main(*sys.argv[1:])
