"""How a result is computed: device, precision, micro-batches. *What* is computed stands in `Settings` and `Conditions`.

A result must not depend on it beyond the floor that a record keeps beside its drift.
"""

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args

from razorbench.harness.core.errors import Refused

Dtype = Literal["auto", "float32", "bfloat16"]
Sampler = Literal["own", "vllm"]


@dataclass(frozen=True)
class Runtime:
    """How a result is computed. Every field is a flag of the commands that compute one, and stands in its record."""

    device: str = "auto"
    """Where models are computed: cpu, cuda or cuda:1; auto: a GPU where there is one."""
    dtype: Dtype = "auto"
    """Precision of forward and backward passes; auto: bfloat16 on a GPU, else float32. Weights that are trained,
    moments, logits and probabilities are in float32 always."""
    micro_batch: int = 0
    """Elements (tokens) that are computed at once; 0: as many as the agent thinks right."""
    checkpointing: bool = False
    """Whether the backward pass computes activations again instead of keeping them: less memory, a third more time."""
    shard: bool = False
    """Whether each of the processes that share an adaptation holds a part of all weights, instead of all of them."""
    sampler: Sampler = "own"
    """Who draws the answers of a language model: its own loop, or vLLM with the same weights and random numbers."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        for name, kinds in {"dtype": get_args(Dtype), "sampler": get_args(Sampler)}.items():
            if (given := getattr(self, name)) not in kinds:
                raise Refused(f"{name} {given!r} is unknown; choose {', '.join(kinds)}")
        if self.micro_batch < 0:
            raise Refused(f"micro_batch {self.micro_batch} cannot be; give a number that is at least 0")

    def otherwise(self, usual: "Runtime") -> "Runtime":
        """The same with what is left open taken from `usual`."""
        left = {f.name: getattr(usual, f.name) for f in fields(self) if getattr(self, f.name) == f.default}
        return replace(self, **left)

    def resolved(self) -> "Runtime":
        """The same with what is left open decided for this machine.

        Raises Refused where it has no such device, or weights are to be shared out and nobody is there to share.
        """
        import torch  # the command line reads these fields and waits for no library

        device = self.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and "LOCAL_RANK" in os.environ:  # each of several processes has a GPU of its own
            device = f"cuda:{os.environ['LOCAL_RANK']}"
        kind, _, number = device.partition(":")
        count = {"cpu": 1, "meta": 1, "cuda": torch.cuda.device_count()}.get(kind, 0)  # meta: shapes alone
        if not (number.isdecimal() or device == kind) or int(number or 0) >= count:
            raise Refused(f"this machine has no device {device!r}; give cpu, or cuda where there is a GPU")
        dtype = self.dtype
        if dtype == "auto":
            dtype = "float32" if kind == "cpu" else "bfloat16"
        if self.shard and int(os.environ.get("WORLD_SIZE", 1)) == 1:
            raise Refused(
                "one process has nobody to share its weights with; start several by torchrun, or leave out --shard"
            )
        return replace(self, device=device, dtype=dtype)

    def autocast(self) -> AbstractContextManager[Any]:
        """Computes in `dtype` what is called in it, with weights kept as they are. For a runtime that is resolved."""
        import torch

        return torch.autocast(self.device.partition(":")[0], torch.bfloat16, enabled=self.dtype == "bfloat16")


AUTO = Runtime()
"""All of it decided by the machine and the agent."""
