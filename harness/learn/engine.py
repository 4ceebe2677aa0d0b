"""Who computes an adaptation: this process alone, or several that share every step and end with the same weights."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from razorbench.harness.core.errors import Refused

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

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank. All of them must come here."""
        ...

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Put into each tensor, in place, the sum of it over all processes. All of them must come here."""
        ...


@dataclass(frozen=True)
class Local:
    """This process alone."""

    rank: int = 0
    size: int = 1

    def gathered(self, value: T) -> list[T]:
        """The value."""
        return [value]

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Nothing is to be added."""


@dataclass(frozen=True)
class Parallel:
    """Processes that torchrun has started, on one machine or several. Each holds all weights (data parallelism)."""

    rank: int
    size: int

    def gathered(self, value: T) -> list[T]:
        """The values of all processes, by rank."""
        values: list[Any] = [None] * self.size
        torch.distributed.all_gather_object(values, value)
        return values

    def add_up(self, gradients: Sequence[Tensor]) -> None:
        """Sum each tensor over all processes."""
        for gradient in gradients:
            torch.distributed.all_reduce(gradient)


LOCAL = Local()


def started() -> Engine:
    """The processes that this one was started with: by torchrun several, else it alone."""
    size, rank = int(os.environ.get("WORLD_SIZE", 1)), int(os.environ.get("RANK", 0))
    if size == 1:
        return LOCAL
    if not torch.distributed.is_initialized():
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return Parallel(rank, size)


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
