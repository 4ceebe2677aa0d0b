"""A causal language model as a policy: chat in, sampled token ids out, trained on exactly those ids."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from razorbench import Actions, Asked, Column, Episodes, Refused, Reply
from razorbench.agents.language import architecture
from razorbench.agents.language.attention import ATTENTION
from razorbench.agents.language.chat import Chat, stops
from razorbench.agents.language.decoding import Prefix, decoded
from razorbench.agents.language.likelihood import Pair, gathered, scored, woods
from razorbench.agents.language.packing import Laid, Pack, batches, lay, packed
from razorbench.agents.language.reading import states
from razorbench.agents.language.weights import OneModel
from razorbench.harness.learn.policy import Policy, Prediction
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.saved import ADAPTER_CONFIG
from razorbench.harness.learn.vocabulary import Vocabulary, logits_of

MICRO_BATCH = 8192
"""Tokens of a micro-batch, unless a runtime says otherwise."""
TOO_LONG = "the prompt has {:,} tokens, and prompt and reply together may have {:,}"


class CausalLM(OneModel):
    """A policy whose action is a reply: token ids up to the end of the turn, or up to `limit` of them."""

    decoder = "model"
    samplers = ("own", "vllm")

    def __init__(self, model: Any, tokenizer: Any, *, limit: int = 96, prompt: str = "", runtime: Runtime = AUTO):
        """A transformers model and its tokenizer; `prompt` is what the system says first.

        A micro-batch has 8,192 tokens unless the runtime says otherwise. An answer ends with the token that the chat
        template puts there, or with any that the model's generation config names: Qwen2.5 says `<|im_end|>` and, at
        times, `<|endoftext|>`.
        """
        architecture.check(model.config)
        super().__init__(model, runtime.otherwise(Runtime(micro_batch=MICRO_BATCH)).resolved())
        self.model.set_attn_implementation(ATTENTION)
        if self.runtime.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.chat = tokenizer if isinstance(tokenizer, Chat) else Chat(tokenizer, stops(model), prompt)
        self.limit = limit
        self.sampler: Any = None
        """Who draws answers for this policy and its copies, where it does not do so itself."""
        if self.runtime.sampler == "vllm":
            from razorbench.agents.language.vllm_sampler import vllm_sampler

            self.sampler = vllm_sampler()

    @classmethod
    def read(
        cls, folder: Path, *, words: Path | None = None, limit: int = 96, prompt: str = "", runtime: Runtime = AUTO
    ) -> "CausalLM":
        """The model in a folder, as transformers saves one, in one file or in shards; none of its code is run. Its
        tokenizer is that of the folder `words`, where it has none of its own.

        Its weights are kept in float32, whatever they are saved in: steps of AdamW are lost to the rounding of bf16.
        Refuses what cannot be read. `harness.tracks.origins` gets a folder from the hub.
        """
        if (folder / ADAPTER_CONFIG).exists():  # transformers would put them on, and freeze all weights
            raise Refused(f"{folder} holds adapters, {ADAPTER_CONFIG}; merge them into the weights, or remove them")
        where: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        try:
            with quiet():
                tokenizer = AutoTokenizer.from_pretrained(words or folder, **where)
                loaded: Any = AutoModelForCausalLM.from_pretrained(
                    folder, dtype=torch.float32, use_safetensors=True, output_loading_info=True, **where
                )
        except (OSError, ValueError, SafetensorError) as error:
            raise Refused(f"{folder} cannot be read as a causal language model ({error})") from error
        model, told = loaded
        if lacking := sorted(told["missing_keys"]):  # transformers would make them up
            raise Refused(f"{folder} lacks weights of its model, such as {lacking[0]}; bring all files of it")
        return cls(model, tokenizer, limit=limit, prompt=prompt, runtime=runtime)

    @property
    def head(self) -> Tensor:
        """The vocabulary's rows [V, D]."""
        return self.model.lm_head.weight

    @property
    def cap(self) -> float | None:
        """What bounds the logits, if anything."""
        return architecture.cap(self.model.config)

    @property
    def reach(self) -> int:
        """How many tokens the model reads in one sequence."""
        return architecture.reach(self.model.config)

    @property
    def trunk(self) -> Callable[..., Any]:
        """The model without its head."""
        return self.model.trunk if self.shards else self.model.model

    # --- acting

    @torch.inference_mode()
    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Replies drawn token by token with the episode's own random numbers, or at temperature 0 the likeliest.

        A reply that would make the conversation longer than the model reads ends there, unfinished; and where that is
        before its first token, it cannot answer. A policy whose weights are shared out answers within `whole` alone.
        """
        talks = self.chat.talks(asked.episodes.turns, len(asked.episodes))
        prompts = [talks[i].opening + talks[i].tail for i in asked.rows.tolist()]
        codes, logp = self.decoded(prompts, asked.uniform(self.limit), temperature, self.chat.stops)
        finished = [bool(code) and code[-1] in self.chat.stops for code in codes]
        words = [code[:-1] if end else code for code, end in zip(codes, finished, strict=True)]
        texts = self.chat.tokenizer.batch_decode(words, skip_special_tokens=True)
        replies = [Reply(text, end) for text, end in zip(texts, finished, strict=True)]
        errors = [None if len(prompt) < self.reach else TOO_LONG.format(len(prompt), self.reach) for prompt in prompts]
        return Actions(replies, codes, logp, errors)

    @torch.inference_mode()
    def decoded(
        self,
        prompts: list[list[int]],
        u: np.ndarray,
        temperature: float,
        ends: Sequence[int],
        over: Callable[[list[int]], bool] | None = None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """What follows each prompt, drawn with `u` [n, limit]: token ids and their log-probabilities; see `decoded`."""
        if self.sampler:
            return self.sampler.decoded(self, prompts, u, temperature, ends, over)
        with self.runtime.autocast():
            return decoded(self.model, self.trunk, ends, prompts, u, temperature, over)

    @torch.inference_mode()
    def continued(
        self, prompts: list[list[int]], limit: int, over: Callable[[list[int]], bool] | None = None
    ) -> list[list[int]]:
        """The likeliest tokens, one after another, up to `limit`, an end of text, or where they are `over`.

        A text ends by the tokenizer's and the generation config's tokens alone: not every prompt is a chat.
        """
        ends = sorted({self.chat.tokenizer.eos_token_id, *stops(self.model)})
        return self.decoded(prompts, np.zeros((len(prompts), limit)), 0.0, ends, over)[0]

    def encode(self, values: Column) -> list[list[int]]:
        """Token ids of replies, the end of the turn included where a reply is finished."""
        ends = [[self.chat.stop] if getattr(value, "finished", True) else [] for value in values]
        return [self.chat.tokens(str(value)) + end for value, end in zip(values, ends, strict=True)]

    def pieces(self, code: Tensor) -> list[str]:
        """The text of each token [T], special ones included; part of a character is �."""
        return [self.chat.piece(token) for token in code.tolist()]

    # --- predicting

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """Predictions of single tokens, [M, 1] a micro-batch; answers to one prompt share the work on it."""
        for packs in self.parts(episodes):
            laid = lay(packs)
            with self.runtime.autocast(), self.recomputing():
                hidden = self.hidden(laid)
            hidden = hidden.flatten(0, 1).index_select(0, self.tensor(laid.source))  # [M, D]
            dist = Vocabulary(hidden[:, None], self.head, self.cap)
            yield Prediction(dist, self.tensor(laid.code)[:, None], None, self.tensor(laid.owner))

    @torch.inference_mode()
    def likelihoods(self, pairs: Sequence[Pair]) -> list[tuple[float, bool]]:
        """The log-probability of each continuation after its context, nats, and whether greedy decoding would say it.

        Pairs are token ids, at least one each; what they share is read once.
        """
        owner, nats, likeliest = [], [], []
        for wood in woods(pairs, self.reach, self.runtime.micro_batch):
            with self.runtime.autocast():
                keys = self.prefix(wood.header) if len(wood.header) else None
                for laid in wood.parts:
                    hidden = self.hidden(laid, keys).flatten(0, 1)  # [B · L, D]
                    rows, each = np.unique(laid.source, return_inverse=True)  # [R], [M]
                    foretelling = hidden[self.tensor(rows)]
                    told, top = scored(foretelling, self.head, self.tensor(each), self.tensor(laid.code), self.cap)
                    owner.append(laid.owner)
                    nats.append(told.cpu().numpy())
                    likeliest.append(top.cpu().numpy())
        if not owner:
            return []
        return gathered(np.concatenate(owner), np.concatenate(nats), np.concatenate(likeliest), len(pairs))

    @torch.inference_mode()
    def logits(self, ids: list[int]) -> Tensor:
        """The logits [T, V] of what follows each token [T]."""
        tokens = torch.tensor([ids], device=self.head.device)
        mask = architecture.causal(self.model.config, self.head, len(ids))
        with self.runtime.autocast():
            hidden = self.trunk(input_ids=tokens, attention_mask=mask, use_cache=False).last_hidden_state
        return logits_of(hidden[0], self.head, self.cap)

    def prefix(self, header: np.ndarray) -> Prefix:
        """The keys of the tokens [S] that all rows of many batches begin with."""
        mask = architecture.causal(self.model.config, self.head, len(header))
        return Prefix(self.trunk, self.tensor(header), mask)

    def parts(self, episodes: Episodes) -> list[list[Pack]]:
        """The packs of each micro-batch."""
        budget = self.runtime.micro_batch
        talks = [talk.answered() for talk in self.chat.talks(episodes.turns, len(episodes))]
        longest = max((len(talk.opening) + len(talk.tail) - 1 for talk in talks if talk.tail), default=0)
        if longest > self.reach:
            raise Refused(f"an episode has {longest} tokens, and the model reads {self.reach}; leave such items out")
        packs = packed(talks, budget)
        return [packs[part] for part in batches([len(pack) for pack in packs], budget)]

    def hidden(self, laid: Laid, prefix: Prefix | None = None) -> Tensor:
        """The last hidden states [B, L, D] of a batch of packs, or of trees that all go on from a prefix."""
        return states(self.trunk, self.model.config, self.head, laid, prefix)

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the model's device."""
        return torch.from_numpy(array).to(self.head.device)

    def shard(self, mesh: DeviceMesh) -> None:
        """Keep a part of each weight from now on, and read without the head by a method that puts them together."""
        from torch.distributed.fsdp import register_fsdp_forward_method

        self.share_out(mesh)
        self.model.trunk = self.model.model.forward
        register_fsdp_forward_method(self.model, "trunk")

    def passes(self, episodes: Episodes) -> int:
        """How many micro-batches there are of these episodes."""
        return len(self.parts(episodes))

    def idle(self) -> Tensor:
        """A pass over one token, of which nothing counts."""
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.runtime.device)
        with self.runtime.autocast(), self.recomputing():
            hidden = self.trunk(input_ids=token, use_cache=False).last_hidden_state
        return 0.0 * Vocabulary(hidden, self.head, self.cap).log_prob(token).sum()

    def unlike(self, base: Policy) -> str:
        """Why its tokens are not those of a base, in words; empty where they are: what one says the other can rate."""
        if not isinstance(base, CausalLM):
            return f"{type(base).__name__} says no tokens"
        if self.chat is base.chat:
            return ""
        if (ours := self.chat.tokenizer.get_vocab()) != (theirs := base.chat.tokenizer.get_vocab()):
            return f"its tokenizer has another vocabulary ({len(ours):,} tokens) than the base's ({len(theirs):,})"
        if len(self.head) != len(base.head):
            return f"it has {len(self.head):,} rows for tokens, and the base {len(base.head):,}"
        if self.chat.probed != base.chat.probed:
            return (
                "its tokenizer cuts a conversation into other tokens than the base's, or its chat template is another"
            )
        return ""


@contextmanager
def quiet() -> Iterator[None]:
    """Without the bar that transformers draws while it loads weights."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()
