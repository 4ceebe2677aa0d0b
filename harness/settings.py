"""How an adaptation runs: one value that decides it, from which the command line is made and which a record keeps."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, Literal, get_args

from harness.types import Refused

Schedule = Literal["constant", "cosine"]


@dataclass(frozen=True)
class Settings:
    """How an adaptation runs. A track and a method set some of these; every field is a flag of `razorbench adapt`."""

    lr: float = 1e-4
    """Peak learning rate of AdamW."""
    schedule: Schedule = "constant"
    """What the learning rate does after the warm-up: stays, or falls to 0 along a cosine."""
    warmup: int = 50
    """Steps of linear warm-up."""
    epochs: float = 1.0
    """Passes over the training instances; counts only when steps is 0."""
    steps: int = 0
    """Steps of adaptation; 0: as many as the epochs take."""
    batch: int = 128
    """Training instances (prompts) a step."""
    group: int = 16
    """Answers sampled for each instance, for methods that sample."""
    iterations: int = 1
    """Optimiser updates on each batch of episodes (μ of GRPO)."""
    clip: float = 0.2
    """Half-width of the clipped probability ratio (ε of PPO and GRPO)."""
    kl: float = 0.0
    """Weight of the exact KL from the policy to its base, summed and divided as the method does its own elements."""
    ewc: float = 0.0
    """Weight of elastic weight consolidation on the prior tasks' Fisher information."""
    l2: float = 0.0
    """Weight of half the squared distance of the weights from the base."""
    horizon: int = 1
    """Elements that Dr. GRPO divides by: the longest answer allowed. A constant, so it only rescales the loss."""
    margin: float = 1.0
    """Target log-probability margin of SimPO, nats (γ)."""
    top_k: int = 20
    """Alternatives whose entropy gates EAFT (K)."""
    style: str = ""
    """Style of the demonstrations; empty: the task's first."""
    teacher: str = ""
    """Checkpoint folder of the adapted teacher, for distillation."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    weight_decay: float = 0.0
    """Decoupled weight decay of AdamW."""

    def __post_init__(self) -> None:
        """Refuses what no adaptation can run with."""
        if self.schedule not in get_args(Schedule):
            raise Refused(f"schedule {self.schedule!r} is unknown; choose {' or '.join(get_args(Schedule))}")
        for name, value in vars(self).items():
            least = {"batch": 1, "group": 1, "iterations": 1, "horizon": 1, "top_k": 2}.get(name, 0)
            if name != "margin" and not isinstance(value, str) and not (isfinite(value) and value >= least):
                raise Refused(f"{name} {value} cannot be; give a number that is at least {least}")


OBJECTIVE = ("kl", "ewc", "l2", "style", "margin", "top_k", "clip", "horizon", "iterations", "group")
"""Settings that change what is optimised, not only how fast or how long."""


def variant(method: str, settings: Mapping[str, Any]) -> str:
    """A method with what changes its objective, as one competitor: `grpo kl 0.1`, `sft style zero-four`."""
    usual = Settings()
    named = {name: settings.get(name, getattr(usual, name)) for name in OBJECTIVE}
    return " ".join([method, *(f"{name} {value}" for name, value in named.items() if value != getattr(usual, name))])
