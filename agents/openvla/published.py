"""A published OpenVLA, or one that was fine-tuned from it, whichever its folder holds."""

from pathlib import Path

from razorbench.agents.openvla.policy import OpenVLA, Over
from razorbench.harness.learn.runtime import AUTO, Runtime


def openvla(
    seed: int = 0,
    *,
    folder: Path,
    unnorm_key: str = "",
    camera: str = "",
    crop: float = 0.0,
    gripper: str = "",
    over: Over = "bins",
    runtime: Runtime = AUTO,
) -> OpenVLA:
    """The checkpoint in `folder`: config.json, tokenizer.json, safetensors, and statistics. Nothing is random.

    `unnorm_key` names the statistics that turn −1…1 into a motion: those of dataset_statistics.json, where the folder
    has one, go before those of config.json. `camera` names whose picture is seen, where a task has several; `crop` the
    share of its area around the centre (0.9 for checkpoints that were tuned on random crops); `gripper` what a
    gripper's 1 does in the task, "opens" or "closes", where it is told −1…1. An element is one of the 256 bins, or with
    `over` "vocabulary" any token.
    """
    return OpenVLA.read(
        folder, unnorm_key=unnorm_key, camera=camera, crop=crop, gripper=gripper, over=over, runtime=runtime
    )
