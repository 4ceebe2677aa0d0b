"""What policies of one small network share: weights from a seed, a base, copies and files."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import save_file
from torch import nn

from razorbench.harness.learn.policy import load_exactly


class OneNetwork:
    """The weights of a policy: all those of `net`. What it sees and does is left to the class that says `network`."""

    id: str
    network: Callable[[], nn.Module]
    """Makes the network, with random weights."""
    net: nn.Module

    def __init__(self, seed: int = 0):
        """Random weights from `seed`; they are the base until other weights are loaded as one."""
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.net = self.network()
        self.reference: Self | None = None

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights."""
        return self.net.parameters()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """All weights with their names."""
        return self.net.named_parameters()

    def base(self) -> Self:
        """The policy that `copy` was first called on."""
        return self.reference or self

    def copy(self) -> Self:
        """The same weights, trained apart; its base is this policy's base."""
        twin = type(self)()
        twin.net.load_state_dict(self.net.state_dict())
        twin.reference = self.base()
        return twin

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        save_file(self.net.state_dict(), path)

    def load(self, path: Path) -> None:
        """Take over weights; refuses a file that is no safetensors file of exactly this network."""
        load_exactly(self.net, path, self.id)
