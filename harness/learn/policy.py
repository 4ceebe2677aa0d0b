"""A trainable policy is a conditional distribution over the elements it chooses: tokens, bins, one class."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributions import Categorical, Distribution

from razorbench.harness.core.columns import Column
from razorbench.harness.core.episodes import Actions, Episodes, Turn
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Agent
from razorbench.harness.learn.checkpoint import files


@dataclass(frozen=True)
class Prediction:
    """A policy's teacher-forced distributions over what was done in one micro-batch of episodes.

    `dist` has batch shape [N, T] (rows × elements), `code` [N, T, …] is what was chosen, `mask` [N, T] marks real
    elements (None: all), and `owner` [N] says which episode of the batch each row belongs to.
    """

    dist: Distribution
    code: Tensor
    mask: Tensor | None
    owner: Tensor

    @cached_property
    def logp(self) -> Tensor:
        """Log-probability of each chosen element, [N, T] nats, 0 where masked."""
        return self.masked(self.dist.log_prob(self.code))

    def masked(self, x: Tensor) -> Tensor:
        """`x` [N, T] with 0 where there is no element."""
        return x if self.mask is None else x.masked_fill(~self.mask, 0.0)

    def per_episode(self, x: Tensor, episodes: int) -> Tensor:
        """Sums of `x` [N, T] over the elements of each episode, [episodes]."""
        return x.new_zeros(episodes).index_add(0, self.owner, self.masked(x).sum(-1))


@runtime_checkable
class Policy(Agent, Protocol):
    """Enough to be trained and compared."""

    def encode(self, values: Column) -> Column:
        """Codes of values, so that demonstrations become trainable; one row a value."""
        ...

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """Teacher-forced predictions in micro-batches of the policy's own size, split alike every time."""
        ...

    def parameters(self) -> Iterator[torch.nn.Parameter]:
        """What is trained."""
        ...

    def base(self) -> "Policy":
        """The unadapted self, frozen."""
        ...

    def copy(self) -> "Policy":
        """A policy of the same weights that trains apart from this one, with the same base."""
        ...

    def save(self, path: Path) -> None:
        """Write the weights as safetensors."""
        ...

    def load(self, path: Path) -> None:
        """Take over weights written by `save`; the base stays. Raises Refused when they do not fit."""
        ...


@runtime_checkable
class Weightless(Agent, Protocol):
    """An agent whose weights are elsewhere: it can be asked, and neither adapted nor compared by its probabilities."""

    @property
    def identity(self) -> Mapping[str, str]:
        """What it is known by."""
        ...


@runtime_checkable
class Enumerable(Policy, Protocol):
    """A policy of one element whose few possible values can be listed."""

    alphabet: Column
    """Values of the codes 0, 1, … in order."""


@runtime_checkable
class Comparable(Policy, Protocol):
    """A policy that may be compared with a base it is no copy of, and tells whether their elements are the same."""

    def unlike(self, base: Policy) -> str:
        """Why its elements are not those of a base, in words, so that there is no KL; empty where they are."""
        ...


@runtime_checkable
class Worded(Policy, Protocol):
    """A policy whose elements are pieces of a text."""

    def pieces(self, code: Tensor) -> list[str]:
        """The text of each element [T]; together they read as what was said."""
        ...


@runtime_checkable
class Constrained(Policy, Protocol):
    """A policy that chooses among fewer elements than its network knows: bins of a motion among all tokens."""

    def outside(self, episodes: Episodes) -> tuple[float, int]:
        """The probability that its network puts on what it never chooses, a mean over the elements of some episodes;
        and how many elements they have.
        """
        ...


@runtime_checkable
class Accountable(Policy, Protocol):
    """A policy that does something by no weight, and tells a record what."""

    def account(self) -> Mapping[str, Any]:
        """What decides its actions besides weights, as JSON has it: by which statistics a motion is made."""
        ...


@runtime_checkable
class LowRank(Policy, Protocol):
    """A policy that can be adapted by low-rank matrices beside its frozen weights (arXiv 2106.09685)."""

    def low_rank(self, rank: int) -> "LowRank":
        """A copy whose `parameters` are adapters of that rank, at first without effect; its base is this one's.

        What it saves, its own `load` takes for going on, and that of a plain copy of the base for scoring: the copy
        then holds the same parameters, so that one checkpoint has one digest.
        """
        ...

    def merged(self, dtype: torch.dtype = torch.float32) -> Policy:
        """A copy whose weights are these with what the adapters add, rounded to `dtype`; itself where it has none.

        Its base is this one's.
        """
        ...


@runtime_checkable
class Layered(Policy, Protocol):
    """A policy that tells the matrices of its inner layers, which Muon trains, from its other weights."""

    def matrices(self) -> Iterator[torch.nn.Parameter]:
        """Those of `parameters` that map one layer to the next: no embeddings, no heads, no norms."""
        ...


@runtime_checkable
class Shardable(Policy, Protocol):
    """A policy whose weights several processes can hold together, a part each: its `parameters` are DTensors then.

    A forward or backward pass with shared weights asks the others for theirs, so all processes make equally many.
    """

    def shard(self, mesh: DeviceMesh) -> None:
        """Keep a part of each weight from now on. Gradients are summed over the processes by the backward pass."""
        ...

    def whole(self) -> AbstractContextManager[None]:
        """Within it all weights are here, and passes without gradients ask nobody. All processes must come here."""
        ...

    def passes(self, episodes: Episodes) -> int:
        """How many micro-batches `predict` makes of these episodes."""
        ...

    def idle(self) -> Tensor:
        """A pass for the others alone: 0, with a gradient of 0 for every weight."""
        ...


class Piece(NamedTuple):
    """Work of one kind, as it is counted: operations (a product and a sum are two), and bytes of memory moved."""

    operations: float
    bytes: float


@runtime_checkable
class Counted(Policy, Protocol):
    """A policy of shapes alone: it is asked and learns as any other, and instead of computing counts what it would."""

    @property
    def pieces_of_work(self) -> list[Piece]:
        """What it was asked to compute so far."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        """Its weights by the names that they have in files, without numbers."""
        ...

    def held_while(self) -> Mapping[str, float]:
        """Bytes beside weights, at most, of a micro-batch that is learned (`activations`) and of answers that are
        drawn (`keys`).
        """
        ...


def whole(agent: Agent) -> AbstractContextManager[None]:
    """Within it an agent may be asked, whether its weights are shared out or not."""
    return agent.whole() if isinstance(agent, Shardable) else nullcontext()


def unlike(base: Policy, agent: Agent) -> str:
    """Why there is no KL between a base and an agent, in words; empty where there is."""
    for each in (base, agent):
        if not isinstance(each, Policy):
            return f"{type(each).__name__} tells no probabilities"
    assert isinstance(agent, Policy)
    return agent.unlike(base) if isinstance(agent, Comparable) else ""


def encoded(policy: Policy, episodes: Episodes) -> Episodes:
    """The same episodes with the policy's codes for what was done."""
    turns = [Turn(t.rows, t.seen, Actions(t.done.value, policy.encode(t.done.value))) for t in episodes.turns if t.done]
    return Episodes(episodes.instances, turns, episodes.outcome)


def draw(dist: Distribution, u: np.ndarray, temperature: float = 1.0) -> Tensor:
    """Codes [n, T] from uniform numbers [n, T] by inverting the distribution function: one number, one element.

    At a temperature other than 1 the logits are divided by it; at 0 the likeliest element is taken. The distribution
    function is summed in double precision, for in single precision the tail of a large vocabulary is lost to rounding.
    """
    if not isinstance(dist, Categorical):
        raise TypeError(f"cannot draw from {type(dist).__name__} by inversion; only Categorical is supported")
    if temperature == 0:
        return dist.logits.argmax(-1)
    logits = dist.logits.double()  # [n, T, A]; a Categorical keeps them normalised
    cdf = (logits if temperature == 1 else (logits / temperature).log_softmax(-1)).exp().cumsum(-1)
    # Scaled by the sum, which is 1 but for rounding, and below it, so that the search never ends beyond the last
    # element that has any probability.
    at = torch.from_numpy(u).to(cdf).clamp(max=1 - 2.0**-50) * cdf[..., -1]
    return torch.searchsorted(cdf, at[..., None], right=True)[..., 0]


def drawn_with(dist: Categorical, code: Tensor, temperature: float = 1.0) -> Tensor:
    """The log-probabilities [n, T] with which `draw` took `code` [n, T], nats; 0 at temperature 0, where it is sure."""
    if temperature == 0:
        return torch.zeros(code.shape, device=code.device)
    logits = dist.logits if temperature == 1 else (dist.logits / temperature).log_softmax(-1)
    return logits.gather(-1, code[..., None])[..., 0]


def adapters(base: Policy, rank: int) -> LowRank:
    """The base with low-rank adapters to be trained. Refuses a policy that has none."""
    if not isinstance(base, LowRank):
        raise Refused(f"{type(base).__name__} has no low-rank adapters; leave lora at 0")
    return base.low_rank(rank)


def log_probabilities(policy: Policy, episodes: Episodes) -> Tensor:
    """Log-probability of each episode's actions under the policy, [N] nats, without gradient."""
    total = torch.zeros(len(episodes))
    with torch.no_grad():
        for part in policy.predict(episodes):
            total = total.to(part.logp.device) + part.per_episode(part.logp, len(episodes))
    return total


def read_weights(path: Path) -> dict[str, Tensor]:
    """The named tensors of a safetensors file, or of those that an index names. Refuses what cannot be read."""
    try:
        return {name: x for file in files(path) for name, x in load_file(file).items()}
    except (SafetensorError, OSError) as error:
        raise Refused(f"{path} is not a readable safetensors file ({error}); save the weights again") from None


def load_exactly(net: torch.nn.Module, path: Path, id: str) -> None:
    """Take over the weights in a file; refuses one that is no safetensors file of exactly this network, `id`."""
    weights = read_weights(path)
    expected = {name: tuple(tensor.shape) for name, tensor in net.state_dict().items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in weights.items()}
    if shapes != expected:
        raise Refused(f"{path} holds {shapes}, and {id} has {expected}; bring weights of that network")
    if not all(tensor.isfinite().all() for tensor in weights.values()):
        raise Refused(f"{path} holds weights that are not finite; bring a checkpoint that has not diverged")
    net.load_state_dict(weights)
