"""Attention of query heads that share key heads, for packed answers and for decoding one token at a time."""

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

ATTENTION = "razorbench"
"""The name by which transformers knows `attention`."""


def attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scaling: float,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention of queries [N, H, T, D] to fewer heads of keys [N, K, S, D]; causal where there is no mask.

    In decoding (T = 1) the query heads that share a key head become its queries, so that no key is copied. Windows
    are in the masks (`architecture.masks`).
    """
    attend = partial(capped, softcap) if softcap else F.scaled_dot_product_attention
    n, heads, length, size = query.shape
    group = heads // key.shape[1]
    if length == 1 and mask is not None:
        seen = attend(query.view(n, -1, group, size), key, value, mask, scale=scaling)
        return seen.reshape(n, 1, heads, size), None
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    seen = attend(query, key, value, mask, is_causal=mask is None, scale=scaling)
    return seen.transpose(1, 2), None


def capped(
    cap: float,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    is_causal: bool = False,
    scale: float = 1.0,
) -> Tensor:
    """Attention whose scores are bounded, cap · tanh(score / cap), as in Gemma 2 (arXiv 2408.00118, section 2).

    No fused kernel does that: scores [N, H, T, S] are held, in single precision or better.
    """
    scores = (query @ key.mT) * scale
    scores = cap * (scores.to(torch.promote_types(scores.dtype, torch.float32)) / cap).tanh()
    if is_causal:
        hole = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1)
        scores = scores.masked_fill(hole, -torch.inf)
    if mask is not None:
        scores = scores + mask
    return scores.softmax(-1).to(value.dtype) @ value


AttentionInterface.register(ATTENTION, attention)
