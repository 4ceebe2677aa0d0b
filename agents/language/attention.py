"""Attention of query heads that share key heads, for packed answers and for decoding one token at a time."""

from typing import Any

from torch import Tensor
from torch.nn import functional as F
from transformers import AttentionInterface

ATTENTION = "razorbench"
"""The name by which transformers knows `attention`."""


def attention(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scaling: float, **_: Any
) -> tuple[Tensor, None]:
    """Attention of queries [N, H, T, D] to fewer heads of keys [N, K, S, D]; causal where there is no mask.

    In decoding (T = 1) the query heads that share a key head become its queries, so that no key is copied.
    """
    n, heads, length, size = query.shape
    group = heads // key.shape[1]
    if length == 1 and mask is not None:
        seen = F.scaled_dot_product_attention(query.view(n, -1, group, size), key, value, mask, scale=scaling)
        return seen.reshape(n, 1, heads, size), None
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    seen = F.scaled_dot_product_attention(query, key, value, mask, is_causal=mask is None, scale=scaling)
    return seen.transpose(1, 2), None


AttentionInterface.register(ATTENTION, attention)
