"""Who computes an adaptation: this process alone, or several that share every step and end with the same weights."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.policy import Policy, Shardable

T = TypeVar("T")


class Engine(Protocol):
    """Processes that go through an adaptation side by side, each with a share of every batch."""

    @property
    def rank(self) -> int:
        """Which of them this is, from 0."""
        ...

    @property
    def size(self) -> int:
        """How many there are."""
        ...

    @property
    def sharded(self) -> bool:
        """Whether each holds a part of all weights (FSDP2), instead of all of them."""
        ...

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank. All of them must come here."""
        ...

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Put into each tensor, in place, the sum of it over all processes. All of them must come here."""
        ...

    def share_out(self, policy: Policy) -> None:
        """Where it is sharded, leave of a policy's weights a part in each process. Refused for one that cannot be."""
        ...


@dataclass(frozen=True)
class Local:
    """This process alone."""

    rank: int = 0
    size: int = 1
    sharded: bool = False

    def gathered(self, value: T) -> list[T]:
        """The value."""
        return [value]

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Nothing is to be added."""

    def share_out(self, policy: Policy) -> None:
        """Nobody is there to share."""


@dataclass(frozen=True)
class Parallel:
    """Processes that torchrun has started, on one machine or several. Each holds all weights, or a part of them."""

    rank: int
    size: int
    sharded: bool = False

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes; where weights are shared out the backward pass has done so."""
        for gradient in () if self.sharded else gradients:
            torch.distributed.all_reduce(gradient)

    def share_out(self, policy: Policy) -> None:
        """Leave of each weight a part in each process, where that is asked for."""
        if not self.sharded:
            return
        if not isinstance(policy, Shardable):
            raise Refused(f"the weights of {type(policy).__name__} cannot be shared out; leave out --shard")
        policy.shard(mesh(next(policy.parameters()).device.type, self.size))


LOCAL = Local()


@cache
def mesh(kind: str, size: int) -> DeviceMesh:
    """All processes in a row, on devices of a kind."""
    return init_device_mesh(kind, (size,))


def started(sharded: bool = False) -> Engine:
    """The processes that this one was started with: by torchrun several, else it alone."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if size == 1:
        return LOCAL
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Parallel(rank, size, sharded)


def share(engine: Engine, prompts: np.ndarray) -> np.ndarray:
    """The prompts of this process, of all [P] of a step. Refused where there is not one for each process."""
    if len(prompts) < engine.size:
        raise Refused(f"{len(prompts)} prompts a step cannot be shared by {engine.size} processes; give a larger batch")
    return prompts[engine.rank :: engine.size]


def summed(engine: Engine, sums: Mapping[str, float]) -> dict[str, float]:
    """Each number summed over all processes."""
    everywhere = engine.gathered(dict(sums))
    return {name: sum(each[name] for each in everywhere) for name in sums}


def first_does(engine: Engine, work: Callable[[], Any]) -> None:
    """The first process does something, and the others wait for it. Raises Refused in all of them if it is refused."""
    refused = None
    if engine.rank == 0:
        try:
            work()
        except Refused as error:
            refused = str(error)
    if why := engine.gathered(refused)[0]:
        raise Refused(why)
