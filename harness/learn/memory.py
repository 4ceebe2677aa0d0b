"""What an adaptation holds in memory besides activations, and what on disk; docs/design.md has figures."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.shards import here

SINGLE = 4
"""Bytes of a weight, of its gradient, and of each of AdamW's two moments: all are in float32."""


@dataclass(frozen=True)
class Held:
    """Bytes that are held from the first step on."""

    base: int
    """The unadapted weights, which base and adapters share."""
    trained: int
    """The weights that are trained: all once more, or the adapters."""
    gradients: int
    moments: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.base + self.trained + self.gradients + self.moments


def held(weights: int, adapters: int = 0, processes: int = 1) -> Held:
    """Of a base of so many weights, of which all are trained; or beside which `adapters` numbers are (LoRA).

    By each of `processes` that share all of it; adapters then have a part of the base to themselves.
    """
    trained = (adapters or weights) / processes
    base = weights / processes * (2 if adapters and processes > 1 else 1)
    return Held(*(int(SINGLE * numbers) for numbers in (base, trained, trained, 2 * trained)))


def available(device: torch.device) -> int | None:
    """Bytes that may still be taken on a device; None where the system does not say, or only shapes are kept."""
    if device.type == "meta":
        return None
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None


def check_room(trained: list[torch.nn.Parameter]) -> None:
    """Refuses to begin with weights whose gradients and moments do not fit beside them."""
    of = held(sum(here(parameter).numel() for parameter in trained))
    needed, free = of.gradients + of.moments, available(trained[0].device)
    if free is not None and needed > free:
        raise Refused(
            f"gradients and moments of {of.trained / SINGLE / 1e9:.2f} billion weights take {needed / 1e9:.0f} GB, and "
            f"{free / 1e9:.0f} GB are free on {trained[0].device.type}; train adapters with --lora, share the weights "
            "among several processes with --shard, or train elsewhere"
        )


@contextmanager
def released(policy: Policy, weights: Path) -> Iterator[None]:
    """Within it the memory of a policy's weights is free; at its end they are read again from their file."""
    shapes = [(weight, weight.shape) for weight in policy.parameters()]
    for weight, _ in shapes:
        weight.data = weight.data.new_empty(0)
    try:
        yield
    finally:
        for weight, shape in shapes:
            weight.data = weight.data.new_empty(shape)
        policy.load(weights)


def written(trained: int, waypoints: int = 0, copies: int = 1) -> int:
    """Bytes that the folder of an adaptation has at most, of `trained` weights and so many sets of them on the way.

    A state holds `copies` policies and AdamW's moments; while one is written, the one before it still stands.
    """
    return SINGLE * trained * (2 * (copies + 2) + waypoints)


def check_disk(folder: Path, needed: int) -> None:
    """Refuses to begin in a folder, which need not be there, that has no room for so many bytes."""
    place = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    there = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    if (free := shutil.disk_usage(place).free) < needed - there:
        raise Refused(
            f"weights and moments will take up to {needed / 1e9:.0f} GB in {folder}, and {free / 1e9:.0f} GB are free; "
            "train adapters with --lora, take a track with fewer checkpoints, or name a folder on another disk"
        )
