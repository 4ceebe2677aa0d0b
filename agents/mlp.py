"""The paper's perceptron: 785-512-256-10 with ReLU over an image and an indicator (arXiv 2509.04259, B.3)."""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from razorbench import Actions, Asked, Column, Episodes, Observations
from razorbench.agents.network import OneNetwork
from razorbench.harness.learn.policy import Prediction, draw, drawn_with

SIZES = (785, 512, 256, 10)


def network() -> nn.Sequential:
    """785-512-256-10 with ReLU between, torch's default initialisation."""
    layers: list[nn.Module] = []
    for inner, outer in pairwise(SIZES):
        layers += [nn.Linear(inner, outer), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def inputs(seen: Observations) -> Tensor:
    """The network's input [n, 785] float32: pixels scaled to 0–1, then the indicator ±1."""
    assert seen.images is not None
    (image,) = seen.images.values()  # [n, 28, 28]
    x = torch.empty(len(image), SIZES[0])
    x[:, :-1] = torch.from_numpy(image.reshape(len(image), -1))
    x[:, :-1] /= 255
    x[:, -1] = torch.from_numpy(seen.state["indicator"])
    return x


def shared(key: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Which rows start a run of one instance, [k], and the run of each row, [n]; None where no instance repeats.

    The first observation is a function of the instance, so a group that answers one question costs one forward pass.
    """
    new = np.r_[True, key[1:] != key[:-1]]
    return None if new.all() else (np.flatnonzero(new), np.cumsum(new) - 1)


class Mlp(OneNetwork):
    """A policy whose one action is one of ten classes."""

    id = "mlp-785-v1"
    network = staticmethod(network)
    memoryless = True
    alphabet = np.arange(SIZES[-1])

    def __init__(self, seed: int = 0):
        """Random weights from `seed`; they are the base until other weights are loaded as one."""
        super().__init__(seed)
        self.latest: tuple[Observations, tuple[int, ...], Categorical] | None = None

    def distribution(self, seen: Observations, key: np.ndarray) -> Categorical:
        """Distributions [n, 1] over ten classes for what is seen; equal neighbours in `key` [n] are computed once."""
        groups = shared(key)
        logits = self.net(inputs(seen if groups is None else seen.take(groups[0])))  # [k, 10]
        if groups is not None:
            logits = logits.index_select(0, torch.from_numpy(groups[1]))  # [n, 10]
        return Categorical(logits=logits[:, None], validate_args=False)

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """A class drawn by the episode's own random number, or the likeliest."""
        dist = self.distribution(asked.now, asked.instances.key)
        if dist.logits.requires_grad:
            self.latest = (asked.now, self.version(), dist)
        with torch.no_grad():
            code = draw(dist, asked.uniform(1), temperature)  # [n, 1]
            logp = drawn_with(dist, code, temperature)
        return Actions(code[:, 0].numpy(), code, logp)

    def version(self) -> tuple[int, ...]:
        """Changes whenever a weight does."""
        return tuple(parameter._version for parameter in self.net.parameters())

    def encode(self, values: Column) -> Tensor:
        """Codes [n, 1] of classes [n]."""
        return torch.as_tensor(np.asarray(values), dtype=torch.int64)[:, None]

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """One micro-batch a turn. What `act` has just computed with gradients is used once, if no weight has moved."""
        for turn in episodes.turns:
            assert turn.done is not None, "an episode that waits for an answer cannot be predicted"
            latest, self.latest = self.latest, None
            if latest and latest[0] is turn.seen and latest[1] == self.version():
                dist = latest[2]
            else:
                dist = self.distribution(turn.seen, episodes.instances.key[turn.rows])
            yield Prediction(dist, turn.done.code, None, torch.from_numpy(turn.rows))
