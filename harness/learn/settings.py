"""How an adaptation runs: one value that decides it, from which the command line is made and which a record keeps."""

import ast
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from typing import Any, Literal, get_args

from razorbench.harness.core.errors import Refused

Schedule = Literal["constant", "cosine"]
Optimizer = Literal["adamw", "muon"]


@dataclass(frozen=True)
class Settings:
    """How an adaptation runs. A track and a method set some of these; every field is a flag of `razorbench adapt`."""

    lr: float = 1e-4
    """Peak learning rate."""
    optimizer: Optimizer = "adamw"
    """AdamW for all weights, or Muon for the matrices of inner layers and AdamW for the others."""
    schedule: Schedule = "constant"
    """What the learning rate does after the warm-up: stays, or falls to 0 along a cosine."""
    warmup: int = 50
    """Steps of linear warm-up."""
    epochs: float = 1.0
    """Passes over the training instances; counts only when steps is 0."""
    steps: int = 0
    """Steps of adaptation; 0: as many as the epochs take."""
    examples: int = 0
    """Training instances that are used, the first ones; 0: all."""
    batch: int = 128
    """Training instances (prompts) a step."""
    group: int = 16
    """Answers sampled for each instance, for methods that sample."""
    iterations: int = 1
    """Optimiser updates on each batch of episodes (μ of GRPO)."""
    clip: float = 0.2
    """Half-width of the clipped probability ratio (ε of PPO and GRPO)."""
    gamma: float = 1.0
    """What a reward counts for the turn before it, 0–1, for methods that weigh each turn (γ)."""
    importance_cap: float = 0.0
    """Cap C of the weight min(π/π_sampler, C) of each element, for a sampler that computes π otherwise than the trainer
    does (`mismatch` says how far apart they are); 2 is usual. 0: no such weight."""
    kl: float = 0.0
    """Weight of KL(π‖π₀) to the base, exact over the alphabet at each element, summed and divided as the method does
    its own elements. The gradient is that of each element's KL given those before it: what an element does to the KL
    of later ones is left out, as in GRPO (arXiv 2402.03300, eq. 4). For answers of one element that is all of it."""
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
    """Style of the demonstrations; empty: the task's first; file:PATH: those that `razorbench demonstrations` wrote."""
    teacher: str = ""
    """Checkpoint folder of the adapted teacher, for distillation."""
    max_grad_norm: float = 1.0
    """Gradients are clipped to this norm."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    lora: int = 0
    """Rank of the low-rank adapters that are trained instead of the weights; 0: the weights themselves."""

    def __post_init__(self) -> None:
        """Refuses what no adaptation can run with."""
        for name, known in (("schedule", get_args(Schedule)), ("optimizer", get_args(Optimizer))):
            if getattr(self, name) not in known:
                raise Refused(f"{name} {getattr(self, name)!r} is unknown; choose {' or '.join(known)}")
        for name, value in vars(self).items():
            least = {"batch": 1, "group": 1, "iterations": 1, "horizon": 1, "top_k": 2}.get(name, 0)
            if name != "margin" and not isinstance(value, str) and not (isfinite(value) and value >= least):
                raise Refused(f"{name} {value} cannot be; give a number that is at least {least}")
        if self.gamma > 1:
            raise Refused(f"gamma {self.gamma} would count later rewards for more than they are; give one of 0 to 1")
        if not (self.steps or self.epochs):
            raise Refused("epochs 0 and steps 0 are no adaptation; give one of the two")
        if not self.max_grad_norm:
            raise Refused("max_grad_norm 0 makes every gradient 0; give a large number to clip nothing")


OBJECTIVE = (
    *("kl", "ewc", "l2", "style", "margin", "top_k", "clip", "horizon", "iterations", "group", "lora"),
    *("gamma", "importance_cap"),
)
"""Settings that change what is optimised, not only how fast or how long."""

ADDED = {"optimizer": "adamw", "examples": 0, "lora": 0, "gamma": 1.0, "importance_cap": 0.0}
"""Settings that came after the first records, with the value that all runs had before."""


def explained() -> dict[str, str]:
    """What each setting means: the line under its field."""
    (made,) = ast.parse(inspect.getsource(Settings)).body
    assert isinstance(made, ast.ClassDef)
    texts = {}
    for field, line in pairwise(made.body):
        if isinstance(field, ast.AnnAssign) and isinstance(line, ast.Expr):
            texts[ast.unparse(field.target)] = " ".join(ast.literal_eval(line.value).split())
    return texts


def lasting(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings by which a run is known: one of `ADDED` that is at its old value is left out, so ids stay.

    A teacher is known by the digest of its weights (`teacher_sha256`), wherever they lie, and a file of demonstrations
    by that of its content (`style_sha256`).
    """
    paths = {name for name in ("teacher", "style") if f"{name}_sha256" in settings}
    return {name: value for name, value in settings.items() if name not in paths and ADDED.get(name, ...) != value}


def variant(method: str, settings: Mapping[str, Any], usual: "Settings | None" = None) -> str:
    """A method with what changes its objective, as one competitor: `grpo kl 0.1`, `sft style zero-four`.

    Settings are named where they differ from `usual`, those of the track (None: the defaults).
    """
    usual = usual or Settings()
    named = {name: settings.get(name, getattr(usual, name)) for name in OBJECTIVE}
    if digest := settings.get("style_sha256"):
        named["style"] = f"file:{digest[:8]}"
    return " ".join([method, *(f"{name} {value}" for name, value in named.items() if value != getattr(usual, name))])
