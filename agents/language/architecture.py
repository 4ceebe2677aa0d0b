"""What differs between architectures of language models: windows of attention, caps of logits, how far they read."""

import math
from typing import Any

import torch
from torch import Tensor

from razorbench import Refused

ARCHITECTURES = ("gemma", "gemma2", "gemma3_text", "llama", "mistral", "phi3", "qwen2", "qwen3", "smollm3")
"""Models whose logits are `lm_head` of what `model` returns, capped or not, and whose layers attend to everything
before, or to a window of it.
"""


def check(config: Any) -> None:
    """Refuses a model that would be computed otherwise than transformers computes it."""
    kind, layers = config.model_type, {*(getattr(config, "layer_types", None) or ())}
    if kind not in ARCHITECTURES:
        raise Refused(f"this {kind} model is not supported; bring one of {', '.join(ARCHITECTURES)}")
    if other := layers - {"full_attention", "sliding_attention"}:
        raise Refused(f"this {kind} model has layers of {min(other)}; bring one of full or sliding attention")
    if getattr(config, "use_bidirectional_attention", None):
        raise Refused(f"this {kind} model looks at what comes after a token; bring one that is causal")


def reach(config: Any) -> int:
    """How many tokens a model reads in one sequence.

    LongRoPE (arXiv 2402.13753) turns every token by other frequencies as soon as one of a batch stands beyond the
    length of pretraining: a row would depend on its companions, and on keys that were kept. So such a model reads as
    far as that.
    """
    rope = getattr(config, "rope_parameters", None) or {}
    kinds = [rope, *(kind for kind in rope.values() if isinstance(kind, dict))]
    short = [kind["original_max_position_embeddings"] for kind in kinds if kind.get("rope_type") == "longrope"]
    return min([config.max_position_embeddings, *short])


def key_bytes(config: Any, size: int) -> int:
    """Bytes of the keys and values of one token in all layers, of numbers of `size` bytes."""
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * size


def cap(config: Any) -> float | None:
    """What bounds the logits, cap · tanh(logit / cap), where the architecture does so (Gemma 2)."""
    return getattr(config, "final_logit_softcapping", None)


def window(config: Any) -> int | None:
    """How many tokens, itself included, a token of a sliding layer attends to; None: there are no such layers."""
    layers = getattr(config, "layer_types", None)
    return getattr(config, "sliding_window", None) if layers is None or "sliding_attention" in layers else None


def masks(config: Any, mask: Tensor, position: Tensor, keys: Tensor, longest: int) -> Any:
    """What a model takes as attention_mask for a `mask` [B, 1, T, S] of 0 and -∞.

    The tokens stand at `position` [B, T] and their keys at `keys` [B, S], both below `longest`; what stands further
    back than a window is hidden from the sliding layers: in Mistral and Phi-3 all of them.
    """
    size = window(config)
    if size is None or longest <= size:
        return mask
    near = mask.masked_fill((position[:, :, None] - keys[:, None] >= size)[:, None], -math.inf)
    layers = getattr(config, "layer_types", None)
    return near if layers is None else {"full_attention": mask, "sliding_attention": near}


def causal(config: Any, head: Tensor, length: int) -> Any:
    """The attention_mask of whole sequences from position 0 on: None, unless a window is shorter than `length`.

    It has the dtype and device of the model's `head`.
    """
    size = window(config)
    if size is None or length <= size:
        return None
    column = torch.arange(length, device=head.device)
    hole = column > column[:, None]
    mask = torch.zeros(hole.shape, dtype=head.dtype, device=head.device).masked_fill_(hole, -math.inf)[None, None]
    return masks(config, mask, column[None], column[None], length)
