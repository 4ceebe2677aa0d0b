"""Distributions over a large vocabulary, from hidden states: no more than a chunk of logits is held at a time."""

from collections.abc import Callable
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical, Distribution, register_kl
from torch.utils.checkpoint import checkpoint

WHOLE = 2**25
"""Logits that are held at once: fewer are kept for the backward pass, more are computed in chunks, and again."""


class Vocabulary(Distribution):
    """Softmax over `head` [V, D] at hidden states [N, T, D]: a Categorical of batch shape [N, T] over V tokens."""

    def __init__(self, hidden: Tensor, head: Tensor):
        """Nothing is computed until it is asked for."""
        super().__init__(hidden.shape[:-1], validate_args=False)
        self.hidden, self.head = hidden, head
        self.differentiable = torch.is_grad_enabled()

    @cached_property
    def logits(self) -> Tensor:
        """Log-probabilities [N, T, V] of every token, all at once: for small vocabularies."""
        with torch.set_grad_enabled(self.differentiable):  # they are kept, whoever asks first
            return log_softmax(self.hidden, self.head)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-probability of the tokens [N, T], nats."""
        return in_chunks(lambda logits, code: logits.gather(-1, code[..., None])[..., 0], [self], value)

    def top(self, k: int) -> Tensor:
        """Log-probabilities [N, T, k] of the k likeliest tokens, without gradient."""
        with torch.no_grad():
            return in_chunks(lambda logits: logits.topk(min(k, logits.shape[-1])).values, [self])


def log_softmax(hidden: Tensor, head: Tensor) -> Tensor:
    """Log-probabilities [..., V] of the head's tokens, in single precision or better."""
    logits = hidden @ head.T
    return (logits if logits.dtype == torch.float64 else logits.float()).log_softmax(-1)


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
        return what(*(log_softmax(h, dist.head) for h, dist in zip(hidden, dists, strict=True)), *rest)

    rows = max(1, WHOLE // v)
    split = [tensor.flatten(0, 1).split(rows) for tensor in (*(dist.hidden for dist in dists), *columns)]
    parts: list[Any] = [
        checkpoint(chunk, *tensors, use_reentrant=False, preserve_rng_state=False)
        for tensors in zip(*split, strict=True)
    ]
    return torch.cat(parts).unflatten(0, shape)


@register_kl(Vocabulary, Vocabulary)
def kl_vocabulary(p: Vocabulary, q: Vocabulary) -> Tensor:
    """KL(p‖q) [N, T] nats, exact over the vocabulary."""
    return in_chunks(lambda ours, theirs: (ours.exp() * (ours - theirs)).sum(-1), [p, q])


def likeliest(dist: Distribution, k: int) -> Tensor:
    """Log-probabilities [N, T, k] of the k likeliest elements (of all, where they are fewer), without gradient."""
    if isinstance(dist, Vocabulary):
        return dist.top(k)
    assert isinstance(dist, Categorical), "only distributions over an alphabet have likeliest elements"
    return dist.logits.detach().topk(min(k, dist.logits.shape[-1])).values
