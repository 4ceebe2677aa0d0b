"""Replies drawn token by token, each token by a random number of its own."""

import math
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Categorical

from razorbench.agents.language import architecture
from razorbench.agents.language.chat import until
from razorbench.agents.language.packing import batches
from razorbench.harness.learn.policy import draw, drawn_with
from razorbench.harness.learn.vocabulary import logits_of

SLOTS = 2**17
"""Tokens whose keys are kept at once: rows × (prompt + limit)."""


def decoded(
    model: Any,
    trunk: Callable[..., Any],
    ends: Sequence[int],
    prompts: list[list[int]],
    u: np.ndarray,
    temperature: float,
    over: Callable[[list[int]], bool] | None = None,
    alphabet: Tensor | None = None,
) -> tuple[list[list[int]], list[list[float]]]:
    """What `decode` says of prompts in any order, as many at once as fit: token ids, and their log-probabilities.

    Nothing follows a prompt that leaves no room for it.
    """
    fit = [i for i, prompt in enumerate(prompts) if len(prompt) < architecture.reach(model.config)]
    order = sorted(fit, key=lambda i: (len(prompts[i]), prompts[i]))
    codes: list[list[int]] = [[]] * len(prompts)
    logp: list[list[float]] = [[]] * len(prompts)
    for part in batches([len(prompts[i]) + u.shape[1] for i in order], SLOTS):
        rows = order[part]
        said = decode(model, trunk, ends, [prompts[i] for i in rows], u[rows], temperature, over, alphabet)
        for i, (code, nats) in zip(rows, said, strict=True):
            codes[i], logp[i] = code, nats
    return codes, logp


def decode(
    model: Any,
    trunk: Callable[..., Any],
    ends: Sequence[int],
    prompts: list[list[int]],
    u: np.ndarray,
    temperature: float,
    over: Callable[[list[int]], bool] | None = None,
    alphabet: Tensor | None = None,
) -> list[tuple[list[int], list[float]]]:
    """Token ids that follow prompts (in order of length), drawn with `u` [n, limit] at a temperature; and the
    log-probability of each. `trunk` is the model without its head.

    A row ends with one of the tokens `ends`, where prompt and reply are as long as the model reads, or when its tokens
    so far are `over`; then more may follow them. Equal neighbours are read once. Nothing but the tokens `alphabet` [A]
    is said, where it is given, and draws go by its order. Every prompt leaves room for a token.
    """
    head, stop, limit = model.lm_head.weight, ends[0] if ends else 0, u.shape[1]
    rows = head if alphabet is None else head[alphabet]
    device = head.device
    stops = torch.tensor(ends, device=device, dtype=torch.int64)
    width, most, cap = len(prompts[-1]), architecture.reach(model.config), architecture.cap(model.config)
    distinct = [prompt for prompt, _ in groupby(prompts)]
    share = np.repeat(np.arange(len(distinct)), [len(list(same)) for _, same in groupby(prompts)])
    ids = torch.tensor([prompt + [stop] * (width - len(prompt)) for prompt in distinct], device=device)  # [P, S]
    length = torch.tensor([len(prompt) for prompt in prompts], device=device)  # [n]
    room = [most - len(prompt) for prompt in prompts]
    of = torch.from_numpy(share).to(device)
    # Prompts are padded at the end: keys know their own position, so new ones may stand after the padding.
    cache = Cache()
    sight = architecture.causal(model.config, head, width)
    hidden = trunk(input_ids=ids, attention_mask=sight, past_key_values=cache, use_cache=True).last_hidden_state
    hidden = hidden[of, length - 1]  # [P, S, D], and then [n, D]
    cache.used = width
    cache.keep(of, width + limit)
    column = torch.arange(width + limit, device=device)
    hole = (column >= length[:, None]) & (column < width)  # [n, S + limit]
    mask = torch.zeros_like(hole, dtype=head.dtype).masked_fill_(hole, -math.inf)[:, None, None]
    keys = torch.where(column < width, column, column - width + length[:, None])  # [n, S + limit], their positions
    drawn = torch.full((len(prompts), limit), stop, device=device)  # [n, limit]
    nats = torch.zeros(drawn.shape, device=device)  # [n, limit]
    live = torch.arange(len(prompts), device=device)  # rows that are still in the batch
    going = torch.ones(len(prompts), dtype=torch.bool, device=device)  # which of them have not ended
    for t in range(limit):
        dist = Categorical(logits=logits_of(hidden, rows, cap)[:, None], validate_args=False)  # [n, 1]
        at = draw(dist, u[live.cpu(), t : t + 1], temperature)[:, 0]
        code = at if alphabet is None else alphabet[at]
        drawn[live, t], nats[live, t] = code, drawn_with(dist, at[:, None], temperature)[:, 0].float()
        going &= ~torch.isin(code, stops) & (length + t + 1 < most)
        if over is not None:
            said = drawn[live, : t + 1].tolist()
            going &= torch.tensor([not over(row) for row in said], device=device)
        left = int(going.sum())
        if not left or t + 1 == limit:
            break
        if left <= len(live) / 2:
            stay = going.nonzero()[:, 0]
            cache.keep(stay, width + limit)
            live, code, length, going = live[stay], code[stay], length[stay], going[stay]
            mask, keys = mask[stay], keys[stay]
        cache.used += 1
        position, used = (length + t)[:, None], cache.used
        sight = architecture.masks(model.config, mask[..., :used], position, keys[:, :used], width + t + 1)
        hidden = trunk(
            input_ids=code[:, None],
            attention_mask=sight,
            position_ids=position,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, 0]
    told = [min(until(code, ends), some) for code, some in zip(drawn.tolist(), room, strict=True)]
    return [(code[:end], logp[:end]) for code, logp, end in zip(drawn.tolist(), nats.tolist(), told, strict=True)]


class Cache:
    """Keys and values [N, K, S, D] of every layer, with room for the tokens to come."""

    def __init__(self) -> None:
        """Empty; the first pass through the model fills it with the prompts."""
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.used = 0

    def get_seq_length(self) -> int:
        """How many columns are in use; the model asks."""
        return self.used

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Take in what a layer has computed, [N, K, T, D]; returns all that it may look at."""
        if layer == len(self.layers):
            self.layers.append((key, value))
            return key, value
        keys, values = self.layers[layer]
        keys[:, :, self.used - 1], values[:, :, self.used - 1] = key[:, :, 0], value[:, :, 0]
        return keys[:, :, : self.used], values[:, :, : self.used]

    def keep(self, rows: Tensor, room: int) -> None:
        """Go on with `rows` [n] of the batch, with repeats if asked, and with room for `room` tokens in all."""
        self.layers = [
            (moved(key, rows, self.used, room), moved(value, rows, self.used, room)) for key, value in self.layers
        ]


class Prefix:
    """Keys and values [1, K, S, D] of every layer of tokens that all rows of many batches begin with."""

    def __init__(self, trunk: Callable[..., Any], ids: Tensor, mask: Any):
        """Reads the tokens [S] with a model without its head; `mask` is what it takes for causal attention."""
        self.layers: list[tuple[Tensor, Tensor]] = []
        self.length = 0
        trunk(input_ids=ids[None], attention_mask=mask, past_key_values=self, use_cache=True)
        self.length = len(ids)

    def get_seq_length(self) -> int:
        """How many columns are in use; the model asks."""
        return self.length

    def update(self, key: Tensor, value: Tensor, layer: int, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Of a batch's own keys and values [N, K, T, D] all that it may look at; nothing of them is kept."""
        if layer == len(self.layers):
            self.layers.append((key, value))
            return key, value
        n = len(key)
        keys, values = (each.expand(n, -1, -1, -1) for each in self.layers[layer])
        return torch.cat([keys, key], 2), torch.cat([values, value], 2)


def moved(x: Tensor, rows: Tensor, used: int, room: int) -> Tensor:
    """Rows [n] of `x` [N, K, S, D] and their first `used` columns, in a new tensor [n, K, room, D]."""
    fresh = x.new_empty(len(rows), x.shape[1], room, x.shape[3])
    fresh[:, :, :used] = x[:, :, :used].index_select(0, rows)
    return fresh
