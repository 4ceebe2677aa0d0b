"""A causal language model of shapes alone: it counts what it would compute, and so fits on any machine.

Operations are two for each weight and token that is read (Kaplan et al. 2020, arXiv 2001.08361, table 1), with four for
each token and key of an attention layer's width, and twice as many again for the backward pass. A token that is drawn
reads all weights and its own keys from memory.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from razorbench import Episodes, Refused
from razorbench.agents.language import architecture
from razorbench.agents.language.decoding import SLOTS
from razorbench.agents.language.likelihood import Pair, woods
from razorbench.agents.language.packing import batches
from razorbench.agents.language.policy import CausalLM
from razorbench.harness.learn.policy import Piece, Prediction
from razorbench.harness.learn.runtime import AUTO, Runtime

FLOAT32, BFLOAT16 = 4, 2
"""Bytes of a weight as it is kept, and of a key as it is computed in bf16."""
ADAMW = 7
"""Numbers that a step of AdamW moves for each weight: it, its gradient and two moments; then it and the moments."""
KEPT = 34
"""Bytes that a layer keeps of each token for the backward pass, as a multiple of its width (Korthikanti et al. 2022,
arXiv 2205.05198, section 4.1, without the scores of attention, which are not kept).
"""


class Hollow(CausalLM):
    """A policy without weights. Replies are `reply` tokens long, or as long as they may be."""

    def __init__(self, model: Any, tokenizer: Any, *, reply: int = 0, keys: int = BFLOAT16, **told: Any):
        """As a causal language model; `keys` are the bytes of a number while it is computed."""
        super().__init__(model, tokenizer, **told)
        self.reply, self.keys = reply, keys
        self.counted: list[Piece] = []

    @classmethod
    def shaped(cls, folder: Path, *, reply: int, limit: int, prompt: str, runtime: Runtime) -> "Hollow":
        """The model that a folder's config describes, with its tokenizer; weights are not read, and need not be there.

        Refuses a folder that describes none.
        """
        where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        try:
            config = AutoConfig.from_pretrained(folder, **where)
            tokenizer = AutoTokenizer.from_pretrained(folder, **where)
        except (OSError, ValueError) as error:
            raise Refused(f"{folder} cannot be read as a causal language model ({error})") from error
        architecture.check(config)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
        keys = FLOAT32 if runtime.dtype == "float32" else BFLOAT16
        return cls(model, tokenizer, reply=reply, keys=keys, limit=limit, prompt=prompt, runtime=runtime)

    @property
    def pieces_of_work(self) -> list[Piece]:
        """What it was asked to compute so far."""
        return self.counted

    # --- sizes

    @property
    def numbers(self) -> int:
        """How many numbers a token is multiplied with: rows of tokens are looked up, and count as a head alone."""
        frozen = sum(weight.numel() for weight in self.model.parameters())
        tied = self.model.config.tie_word_embeddings
        return frozen - (0 if tied else self.model.get_input_embeddings().weight.numel())

    @property
    def key(self) -> int:
        """Bytes of what is kept of a token while replies are drawn."""
        return architecture.key_bytes(self.model.config, self.keys)

    def attention(self, pairs: float) -> float:
        """Operations of so many pairs of a token and a key that it looks at."""
        return 4.0 * self.model.config.num_hidden_layers * self.model.config.hidden_size * pairs

    def held_while(self) -> dict[str, float]:
        """Bytes beside weights: of a micro-batch that is learned, and of the keys of answers that are drawn."""
        config, tokens = self.model.config, self.runtime.micro_batch
        layer = KEPT * config.hidden_size * tokens
        layers = config.num_hidden_layers
        kept = layer + BFLOAT16 * config.hidden_size * tokens * layers if self.runtime.checkpointing else layer * layers
        return {"activations": float(kept), "keys": float(SLOTS * self.key)}

    # --- what it would compute

    def passed(self, tokens: float, pairs: float, learn: bool = False) -> None:
        """A pass over some tokens, that look at so many keys; forwards alone, or with what follows from it."""
        trained = sum(weight.numel() for weight in self.parameters())
        forward = 2.0 * self.numbers * tokens + self.attention(pairs)
        times = 1.0
        if learn:  # gradients of what is said, and of the weights that are trained
            times += 1.0 + min(1.0, trained / self.numbers) + float(self.runtime.checkpointing)
        self.counted.append(Piece(times * forward, times * FLOAT32 * self.numbers))

    def decoded(
        self, prompts: list[list[int]], u: np.ndarray, temperature: float, ends: Sequence[int], over: Any = None
    ) -> tuple[list[list[int]], list[list[float]]]:
        """Replies of one token again and again: what drawing them takes is counted."""
        limit = min(self.reply or u.shape[1], u.shape[1])
        order = sorted(prompts)
        for part in batches([len(prompt) + u.shape[1] for prompt in order], SLOTS):
            some = order[part]
            distinct = {tuple(prompt) for prompt in some}
            self.passed(sum(map(len, distinct)), sum(len(prompt) ** 2 / 2 for prompt in distinct))
            keys = sum(len(prompt) for prompt in some) + len(some) * limit / 2  # in the middle of the replies
            each = 2.0 * self.numbers * len(some) + self.attention(keys)
            self.counted.append(Piece(limit * each, limit * (FLOAT32 * self.numbers + self.key * keys)))
        return [[0] * limit] * len(prompts), [[0.0] * limit] * len(prompts)

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """No prediction; what it would take is counted, with the backward pass where gradients are wanted."""
        learn = torch.is_grad_enabled() and self.reference is not None  # a base only tells
        for packs in self.parts(episodes):
            tokens = len(packs) * max(map(len, packs))
            self.passed(tokens, sum(len(pack) ** 2 / 2 for pack in packs), learn)
        if learn:
            trained = sum(weight.numel() for weight in self.parameters())
            self.counted.append(Piece(0.0, ADAMW * FLOAT32 * trained))
        return iter(())

    def likelihoods(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """Nothing is likely; what it would take to tell is counted."""
        for wood in woods(pairs, self.reach, self.runtime.micro_batch):
            header = len(wood.header)
            if header:
                self.passed(header, header**2 / 2)
            for laid in wood.parts:
                rows, length = laid.ids.shape
                self.passed(rows * length, rows * length * (header + length / 2))
        return [(0.0, False)] * len(pairs)


def hollow(
    seed: int = 0, *, folder: Path, reply: int = 0, prompt: str = "", limit: int = 512, runtime: Runtime = AUTO
) -> Hollow:
    """The chat model in `folder`, by its config and its tokenizer alone."""
    return Hollow.shaped(folder, reply=reply, limit=limit, prompt=prompt, runtime=runtime)
