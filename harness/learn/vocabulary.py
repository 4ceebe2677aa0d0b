"""Distributions over a large vocabulary, from hidden states: no more than a chunk of logits is held at a time."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, kl_divergence, register_kl
from torch.utils.checkpoint import checkpoint

WHOLE = 2**25
"""Logits that are held at once: fewer are kept for the backward pass, more are computed in chunks, and again."""


class Vocabulary(Distribution):
    """Softmax over `head` [V, D] at hidden states [N, T, D]: a Categorical of batch shape [N, T] over V tokens.

    With a `cap` the logits are cap · tanh(logit / cap), as in Gemma 2.
    """

    def __init__(self, hidden: Tensor, head: Tensor, cap: float | None = None):
        """Nothing is computed until it is asked for."""
        super().__init__(hidden.shape[:-1], validate_args=False)
        self.hidden, self.head, self.cap = hidden, head, cap
        self.differentiable = torch.is_grad_enabled()

    @cached_property
    def logits(self) -> Tensor:
        """Log-probabilities [N, T, V] of every token, all at once: for small vocabularies."""
        with torch.set_grad_enabled(self.differentiable):  # they are kept, whoever asks first
            return log_softmax(self.hidden, self.head, self.cap)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the tokens [N, T], nats."""
        return in_chunks(lambda logits, code: logits.gather(-1, code[..., None])[..., 0], [self], value)

    def entropy(self) -> Tensor:
        """Entropy [N, T] nats, exact over the vocabulary."""
        return in_chunks(lambda logits: torch.special.entr(logits.exp()).sum(-1), [self])

    def top(self, k: int) -> Tensor:
        """Log-probabilities [N, T, k] of the k likeliest tokens, without gradient."""
        with torch.no_grad():
            return in_chunks(lambda logits: logits.topk(min(k, logits.shape[-1])).values, [self])


def logits_of(hidden: Tensor, head: Tensor, cap: float | None = None) -> Tensor:
    """Logits [..., V] of the head's tokens, capped if asked, multiplied and summed in single precision or better.

    Whatever the weights are kept in: products that are rounded to bf16 make a KL of 2e-4 nats a token of nothing.
    """
    precise = torch.promote_types(torch.promote_types(hidden.dtype, head.dtype), torch.float32)
    with torch.autocast(hidden.device.type, enabled=False):
        logits = hidden.to(precise) @ head.to(precise).T
        return cap * (logits / cap).tanh() if cap else logits


def log_softmax(hidden: Tensor, head: Tensor, cap: float | None = None) -> Tensor:
    """Log-probabilities [..., V] of the head's tokens, in single precision or better."""
    return logits_of(hidden, head, cap).log_softmax(-1)


def in_chunks(what: Callable[..., Tensor], dists: list[Vocabulary], *columns: Tensor) -> Tensor:
    """`what` of the distributions' log-probabilities and of columns [N, T], row by row.

    Where they are few the log-probabilities are kept; else a chunk at a time is made, dropped, and made again for the
    backward pass.
    """
    shape, v = dists[0].batch_shape, max(len(dist.head) for dist in dists)
    if shape.numel() * v <= WHOLE:
        return what(*(dist.logits for dist in dists), *columns)

    def chunk(*tensors: Tensor) -> Tensor:
        hidden, rest = tensors[: len(dists)], tensors[len(dists) :]
        return what(*(log_softmax(h, dist.head, dist.cap) for h, dist in zip(hidden, dists, strict=True)), *rest)

    rows = max(1, WHOLE // v)
    split = [tensor.flatten(0, 1).split(rows) for tensor in (*(dist.hidden for dist in dists), *columns)]
    parts: list[Any] = [
        checkpoint(chunk, *tensors, use_reentrant=False, preserve_rng_state=False)
        for tensors in zip(*split, strict=True)
    ]
    return torch.cat(parts).unflatten(0, shape)


@register_kl(Vocabulary, Vocabulary)
def kl_vocabulary(p: Vocabulary, q: Vocabulary) -> Tensor:
    """KL(p‖q) [N, T] nats, exact over the vocabulary, and never below 0."""
    return in_chunks(relative_entropy, [p, q])


NEAR = 0.1
"""Log-ratio below which a term of a KL is computed from its small difference."""


def relative_entropy(ours: Tensor, theirs: Tensor) -> Tensor:
    """KL(p‖q) [...] nats from log-probabilities [..., V]: Σ q − p − p·log(q/p), which Σ q = Σ p = 1 allows.

    Each term is at least 0 and of second order in the log-ratio, so rounding enters as ε·d and not as ε: two
    computations of one model that differ in their last bits are 1e-12 nats apart, where Σ p·log(p/q) says ± 1e-7.
    """
    p = ours.exp()
    far = (theirs - ours).masked_fill(p == 0, 0.0)  # an element that `ours` never takes adds Σ q alone
    near = far.clamp(-NEAR, NEAR)  # the branch that is not taken must be finite, too, for the backward pass
    close = (far.abs() < NEAR) & (p > 0)
    return torch.where(close, p * (near.expm1() - near), theirs.exp() - p - p * far).sum(-1).clamp(min=0)


def kl(p: Distribution, q: Distribution) -> Tensor:
    """KL(p‖q) [N, T] nats, exact over the alphabet."""
    if isinstance(p, Categorical) and isinstance(q, Categorical):
        return relative_entropy(p.logits, q.logits)
    return kl_divergence(p, q)


def rows(dist: Distribution, index: Tensor) -> Distribution:
    """The distributions of rows `index` [k] of a batch [N, T]."""
    if isinstance(dist, Vocabulary):
        return Vocabulary(dist.hidden[index], dist.head, dist.cap)
    assert isinstance(dist, Categorical), "only distributions over an alphabet are taken apart"
    return Categorical(logits=dist.logits[index], validate_args=False)


def joined(dists: Sequence[Distribution]) -> Distribution:
    """Batches [Nᵢ, T] of one kind as one, [ΣNᵢ, T]."""
    if isinstance(dists[0], Vocabulary):
        return Vocabulary(torch.cat([dist.hidden for dist in dists]), dists[0].head, dists[0].cap)  # type: ignore[attr-defined]
    return Categorical(logits=torch.cat([dist.logits for dist in dists]), validate_args=False)  # type: ignore[attr-defined]


def likeliest(dist: Distribution, k: int) -> Tensor:
    """Log-probabilities [N, T, k] of the k likeliest elements (of all, where they are fewer), without gradient."""
    if isinstance(dist, Vocabulary):
        return dist.top(k)
    assert isinstance(dist, Categorical), "only distributions over an alphabet have likeliest elements"
    return dist.logits.detach().topk(min(k, dist.logits.shape[-1])).values
