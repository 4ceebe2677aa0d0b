"""Observers of an adaptation: they see gradients and weights as it goes on, and say what they measured.

What they say stands among the measures of the step: in the curve, in the record, on the board, and as a predictor of
forgetting. They change nothing, so they are in no id.
"""

from collections.abc import Iterator, Mapping
from typing import ClassVar, Protocol, runtime_checkable

import torch

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import find
from razorbench.harness.learn.measures import MEASURES
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.shards import number

Weights = Mapping[str, torch.nn.Parameter]
"""The weights that are trained, by their names."""


class Observer:
    """Sees all and says nothing: override what you need. Each method returns what it measured, name → number.

    Under `--shard` weights and gradients are DTensors; `learn.shards.number` makes a number of a sum of one.
    """

    measures: ClassVar[Mapping[str, str]] = {}
    """Each name that it may return → what it is, in a sentence."""

    def begin(self, weights: Weights) -> None:
        """Before the first step, also of a run that goes on: the weights are those that the adaptation starts from."""

    def after_backward(self, step: int, weights: Weights) -> Mapping[str, float]:
        """The gradients of an update, penalties included, before they are clipped. `step` counts from 1."""
        return {}

    def after_step(self, step: int, weights: Weights) -> Mapping[str, float]:
        """The optimiser has moved the weights."""
        return {}

    def at_checkpoint(self, step: int, weights: Weights) -> Mapping[str, float]:
        """At each point that is measured in mid-training, and at the end."""
        return {}


class Update(Observer):
    """How far the weights have moved, and how many of them (arXiv 2505.11711: RL moves a small share)."""

    measures: ClassVar[Mapping[str, str]] = {name: MEASURES[name] for name in ("update_norm", "update_sparsity")}
    NEAR = 1e-5

    def begin(self, weights: Weights) -> None:
        """Keep a copy of the weights."""
        self.start = {name: weight.detach().clone() for name, weight in weights.items()}

    def at_checkpoint(self, step: int, weights: Weights) -> Mapping[str, float]:
        """Both measures; sums are in double precision."""
        moved = [weight.detach() - self.start[name] for name, weight in weights.items()]
        square = sum(number(away.double().square().sum()) for away in moved)
        near = sum(number((away.abs() <= self.NEAR).sum()) for away in moved)
        return {"update_norm": square**0.5, "update_sparsity": near / sum(away.numel() for away in moved)}


OBSERVERS: dict[str, type[Observer]] = {"update": Update}
"""Our observers by id."""


def find_observer(id: str) -> type[Observer]:
    """The observer of that id: ours, a script's or another package's. Refuses an unknown one and names the nearest."""
    made = find("measure", id)
    if not (isinstance(made, type) and issubclass(made, Observer)):
        raise Refused(f"what is registered as the measure {id!r} is not one: it should be a subclass of Observer")
    return made


@runtime_checkable
class Naming(Protocol):
    """A policy whose trained weights have names."""

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """The weights of `parameters()`, in the same order, with their names."""
        ...


def named(policy: Policy) -> dict[str, torch.nn.Parameter]:
    """The weights that are trained, by name; those of a policy that names none by their place: "0", "1", …"""
    if isinstance(policy, Naming):
        return dict(policy.named_parameters())
    return {str(i): weight for i, weight in enumerate(policy.parameters())}
