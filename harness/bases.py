"""The base of a track: the unadapted policy that every row is compared with."""

import os
from hashlib import sha256
from pathlib import Path

from harness.adapt import Adaptation
from harness.methods import METHODS
from harness.policy import Policy
from harness.registry import make
from harness.tracks import Track
from harness.types import Refused, Task


def base_policy(track: Track, home: Path) -> Policy:
    """The track's base, made on first use and kept in `home`/bases, with weights that `copy` starts from.

    Made by the recipe, it is the same on every machine of one kind. Its sha256 stands in each record, and adaptations
    of different bases are different entries.
    """
    policy: Policy = make("agent", track.agent, seed=track.pretraining.seed)
    weights = base_path(track, home)
    if not weights.exists():
        task: Task = make("task", track.pretraining.task)
        for _ in Adaptation(policy, task, METHODS["sft"], track.pretraining.settings, seed=track.pretraining.seed):
            pass
        weights.parent.mkdir(parents=True, exist_ok=True)
        fresh = weights.with_name(f".{weights.name}.{os.getpid()}")  # another process may make the same base
        policy.save(fresh)
        fresh.replace(weights)
    try:
        policy.load(weights)
    except Refused:
        raise Refused(f"{weights} is damaged; remove it, and the same command makes the base again") from None
    return policy


def base_path(track: Track, home: Path) -> Path:
    """Where the weights of a track's base are kept: the name holds a hash of the recipe that makes them."""
    recipe = sha256(repr((track.agent, track.pretraining)).encode()).hexdigest()[:12]
    return home / "bases" / f"{track.agent}-{recipe}.safetensors"


def policy_digest(policy: Policy) -> str:
    """sha256 of the policy's weights, name by name: the identity of a base or a checkpoint."""
    digest = sha256()
    for parameter in policy.parameters():
        digest.update(str((tuple(parameter.shape), parameter.dtype)).encode())
        digest.update(parameter.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
