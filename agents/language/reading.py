"""What a model without its head makes of tokens that are laid out as a batch."""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from razorbench.agents.language import architecture
from razorbench.agents.language.decoding import Prefix
from razorbench.agents.language.packing import Laid


def states(trunk: Callable[..., Any], config: Any, head: Tensor, laid: Laid, prefix: Prefix | None = None) -> Tensor:
    """The last hidden states [B, L, D] of a batch of packs, or of trees that all go on from a prefix.

    `trunk` is the model without its `head`, which says in what dtype and where masks are, and `config` its config.
    """
    ids = torch.from_numpy(laid.ids).to(head.device)
    if not laid.forks and prefix is None:  # one tail a prompt: plain causal attention
        mask = architecture.causal(config, head, ids.shape[1])
        return trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    column = torch.arange(ids.shape[1], device=ids.device)
    own = column[:, None] < torch.from_numpy(laid.until).to(head.device)[:, None]  # [B, L, L]
    hole = ~own.tril_()
    mask = torch.zeros_like(hole, dtype=head.dtype).masked_fill_(hole, -math.inf)[:, None]
    position = keys = torch.from_numpy(laid.position).to(head.device)  # [B, L]
    if prefix is not None:
        mask = F.pad(mask, (prefix.length, 0))
        keys = torch.cat([torch.arange(prefix.length, device=ids.device).expand(len(ids), -1), keys], 1)
    return trunk(
        input_ids=ids,
        attention_mask=architecture.masks(config, mask, position, keys, int(laid.position.max()) + 1),
        position_ids=position,
        past_key_values=prefix,
        use_cache=prefix is not None,
    ).last_hidden_state
