"""A causal language model as a policy: chat in, sampled token ids out, trained on exactly those ids."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional as F
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from razorbench import Actions, Asked, Column, Episodes, Refused, Reply
from razorbench.agents.language import architecture
from razorbench.agents.language.attention import ATTENTION
from razorbench.agents.language.chat import Chat, stops
from razorbench.agents.language.decoding import Prefix, decode
from razorbench.agents.language.likelihood import Pair, gathered, scored, woods
from razorbench.agents.language.lora import ADAPTER_CONFIG, MERGED, PROJECTIONS, Lora
from razorbench.agents.language.packing import Laid, Pack, batches, lay, packed
from razorbench.harness.learn.policy import Policy, Prediction, read_weights
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.shards import placed
from razorbench.harness.learn.vocabulary import Vocabulary

MICRO_BATCH = 8192
"""Tokens of a micro-batch, unless a runtime says otherwise."""
SLOTS = 2**17
"""Tokens whose keys are kept at once in decoding: rows × (prompt + limit)."""


class CausalLM:
    """A policy whose action is a reply: token ids up to the end of the turn, or up to `limit` of them."""

    def __init__(self, model: Any, tokenizer: Any, *, limit: int = 96, prompt: str = "", runtime: Runtime = AUTO):
        """A transformers model and its tokenizer; `prompt` is what the system says first.

        A micro-batch has 8,192 tokens unless the runtime says otherwise. An answer ends with the token that the chat
        template puts there, or with any that the model's generation config names: Qwen2.5 says `<|im_end|>` and, at
        times, `<|endoftext|>`.
        """
        architecture.check(model.config)
        self.runtime = runtime.otherwise(Runtime(micro_batch=MICRO_BATCH)).resolved()
        self.model = model.eval().to(self.runtime.device)
        self.shards: list[Any] = []
        """The parts whose weights are put together at once, where they are shared out: the layers, and all else."""
        self.model.set_attn_implementation(ATTENTION)
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0  # nothing random: recomputing works in training mode alone, and changes no number
        if self.runtime.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.chat = tokenizer if isinstance(tokenizer, Chat) else Chat(tokenizer, stops(model), prompt)
        self.limit = limit
        self.reference: CausalLM | None = None
        self.lora: Lora | None = None

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

        A policy whose weights are shared out answers within `whole` alone.
        """
        talks = self.chat.talks(asked.episodes.turns, len(asked.episodes))
        prompts = [talks[i].opening + talks[i].tail for i in asked.rows.tolist()]
        codes, logp = self.decoded(prompts, asked.uniform(self.limit), temperature, self.chat.stops)
        finished = [code[-1] in self.chat.stops for code in codes]
        words = [code[:-1] if end else code for code, end in zip(codes, finished, strict=True)]
        texts = self.chat.tokenizer.batch_decode(words, skip_special_tokens=True)
        return Actions([Reply(text, end) for text, end in zip(texts, finished, strict=True)], codes, logp)

    def decoded(
        self,
        prompts: list[list[int]],
        u: np.ndarray,
        temperature: float,
        ends: Sequence[int],
        over: Callable[[list[int]], bool] | None = None,
    ) -> tuple[list[list[int]], list[list[float]]]:
        """What follows each prompt, drawn with `u` [n, limit]: token ids and their log-probabilities; see `decode`."""
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        codes: list[list[int]] = [[]] * len(prompts)
        logp: list[list[float]] = [[]] * len(prompts)
        for part in batches([len(prompts[i]) + u.shape[1] for i in order], SLOTS):
            rows = order[part]
            asked = [prompts[i] for i in rows]
            with self.runtime.autocast():
                said = decode(self.model, self.trunk, ends, asked, u[rows], temperature, over)
            for i, (code, nats) in zip(rows, said, strict=True):
                codes[i], logp[i] = code, nats
        return codes, logp

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
                states = self.hidden(laid)
            hidden = states.flatten(0, 1).index_select(0, self.tensor(laid.source))  # [M, D]
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
                    states = hidden[self.tensor(rows)]
                    told, top = scored(states, self.head, self.tensor(each), self.tensor(laid.code), self.cap)
                    owner.append(laid.owner)
                    nats.append(told.cpu().numpy())
                    likeliest.append(top.cpu().numpy())
        if not owner:
            return []
        return gathered(np.concatenate(owner), np.concatenate(nats), np.concatenate(likeliest), len(pairs))

    def prefix(self, header: np.ndarray) -> Prefix:
        """The keys of the tokens [S] that all rows of many batches begin with."""
        mask = architecture.causal(self.model.config, self.head, len(header))
        return Prefix(self.trunk, self.tensor(header), mask)

    def parts(self, episodes: Episodes) -> list[list[Pack]]:
        """The packs of each micro-batch."""
        budget = self.runtime.micro_batch
        talks = self.chat.talks(episodes.turns, len(episodes))
        longest = max((len(talk.opening) + len(talk.tail) - 1 for talk in talks), default=0)
        if longest > self.reach:
            raise Refused(f"an episode has {longest} tokens, and the model reads {self.reach}; leave such items out")
        packs = packed(talks, budget)
        return [packs[part] for part in batches([len(pack) for pack in packs], budget)]

    @contextmanager
    def recomputing(self) -> Iterator[None]:
        """Drops activations until the backward pass, where the runtime says so and gradients are wanted.

        Transformers does that in training mode alone, which changes nothing else here: no model has dropout.
        """
        self.model.train(self.runtime.checkpointing and torch.is_grad_enabled())
        try:
            yield
        finally:
            self.model.eval()

    def hidden(self, laid: Laid, prefix: Prefix | None = None) -> Tensor:
        """The last hidden states [B, L, D] of a batch of packs, or of trees that all go on from a prefix."""
        ids = self.tensor(laid.ids)
        if not laid.forks and prefix is None:  # one tail a prompt: plain causal attention
            mask = architecture.causal(self.model.config, self.head, ids.shape[1])
            return self.trunk(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        column = torch.arange(ids.shape[1], device=ids.device)
        own = column[:, None] < self.tensor(laid.until)[:, None]  # [B, L, L]
        hole = ~own.tril_()
        mask = torch.zeros_like(hole, dtype=self.head.dtype).masked_fill_(hole, -math.inf)[:, None]
        position = keys = self.tensor(laid.position)  # [B, L]
        if prefix is not None:
            mask = F.pad(mask, (prefix.length, 0))
            keys = torch.cat([torch.arange(prefix.length, device=ids.device).expand(len(ids), -1), keys], 1)
        return self.trunk(
            input_ids=ids,
            attention_mask=architecture.masks(self.model.config, mask, position, keys, int(laid.position.max()) + 1),
            position_ids=position,
            past_key_values=prefix,
            use_cache=prefix is not None,
        ).last_hidden_state

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the model's device."""
        return torch.from_numpy(array).to(self.head.device)

    # --- weights that are shared out

    def shard(self, mesh: DeviceMesh) -> None:
        """Keep a part of each weight from now on; those of a layer are together while it is computed (FSDP2)."""
        from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

        self.shards = [fully_shard(layer, mesh=mesh) for layer in self.model.model.layers]
        self.shards.append(fully_shard(self.model, mesh=mesh, reshard_after_forward=False))  # the head comes after it
        for part in self.shards:  # sums of gradients, not means
            part.set_gradient_divide_factor(1.0)
            part.set_force_sum_reduction_for_comms(True)
        self.model.trunk = self.model.model.forward
        register_fsdp_forward_method(self.model, "trunk")

    @contextmanager
    def whole(self) -> Iterator[None]:
        """Within it all weights are here. All processes must come here."""
        for part in self.shards:
            part.unshard()
            part.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for part in self.shards:
                part.reshard()
                part.set_reshard_after_forward(part is not self.model, recurse=False)

    def passes(self, episodes: Episodes) -> int:
        """How many micro-batches there are of these episodes."""
        return len(self.parts(episodes))

    def idle(self) -> Tensor:
        """A pass over one token, of which nothing counts."""
        token = torch.zeros(1, 1, dtype=torch.int64, device=self.runtime.device)
        with self.runtime.autocast(), self.recomputing():
            states = self.trunk(input_ids=token, use_cache=False).last_hidden_state
        return 0.0 * Vocabulary(states, self.head, self.cap).log_prob(token).sum()

    # --- weights

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, or the adapters where there are any."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The same with their names."""
        return ((name, weight) for name, weight in self.model.named_parameters() if weight.requires_grad)

    def matrices(self) -> Iterator[nn.Parameter]:
        """The projections of the decoder layers, adapters included, which Muon may train."""
        named = self.model.model.layers.named_parameters()
        return (parameter for _, parameter in named if parameter.ndim == 2 and parameter.requires_grad)

    def base(self) -> "CausalLM":
        """The policy that `copy` was first called on."""
        return self.reference or self

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

    def copy(self) -> "CausalLM":
        """The same weights, trained apart, and with the same base; frozen weights are shared."""
        return self.twin(parameter for parameter in self.model.parameters() if not parameter.requires_grad)

    def twin(self, shared: Iterable[nn.Parameter]) -> "CausalLM":
        """A copy that reads the memory of the weights `shared`, which are frozen in it, and owns the others."""
        memo = {id(weight): nn.Parameter(weight.detach(), requires_grad=False) for weight in shared}
        twin = CausalLM(deepcopy(self.model, memo), self.chat, limit=self.limit, runtime=self.runtime)
        twin.reference, twin.lora = self.base(), self.lora
        return twin

    def low_rank(self, rank: int, alpha: float | None = None) -> "CausalLM":
        """A policy that trains adapters of `rank` on all projections, scaled by alpha / rank (LoRA, arXiv 2106.09685).

        It starts as this policy, shares its weights and has the same base. Alpha is twice the rank unless given.
        Refuses a policy that has adapters already.
        """
        if self.lora:
            raise Refused(f"this policy has adapters of rank {self.lora.rank} already; put new ones on its base")
        twin = self.twin(self.model.parameters())
        maps = (name for name, _ in self.model.named_modules() if name.rpartition(".")[2] in PROJECTIONS)
        twin.attach(Lora(rank, 2.0 * rank if alpha is None else alpha, tuple(sorted(maps))))
        return twin

    def attach(self, lora: Lora) -> None:
        """Freeze all weights and put fresh adapters on some maps; what they add is 0 until they are trained."""
        from peft import LoraConfig, inject_adapter_in_model  # only who wants adapters waits for it

        modules, alpha = list(lora.modules), cast(int, lora.alpha)  # peft takes any number and says int
        config = LoraConfig(r=lora.rank, lora_alpha=alpha, target_modules=modules, use_rslora=lora.rslora)
        self.model.requires_grad_(False)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            inject_adapter_in_model(config, self.model)
        self.model.eval()
        self.lora = lora

    @torch.no_grad()
    def merged(self, dtype: torch.dtype = torch.float32) -> "CausalLM":
        """A policy without adapters whose weights are these with what the adapters add; itself where it has none.

        The sums are in float32, and then rounded to `dtype`.
        """
        if not self.lora:
            return self
        twin = self.twin(())
        for name in self.lora.modules:
            adapted: Any = twin.model.get_submodule(name)
            linear = adapted.get_base_layer()
            whole = linear.weight.float() + adapted.get_delta_weight("default").float()
            linear.weight = nn.Parameter(whole.to(dtype).to(linear.weight.dtype))
            twin.model.set_submodule(name, linear)
        twin.model.requires_grad_(True)
        twin.lora = None
        return twin

    def weights(self) -> dict[str, Tensor]:
        """What is saved, by the names of model.safetensors, or with adapters of adapter_model.safetensors."""
        if self.lora:
            named = self.named_parameters()
            return {f"base_model.model.{name.replace('.default.', '.')}": p.detach() for name, p in named}
        return {name: p.detach() for name, p in self.model.named_parameters()}  # tied weights have one name

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, or the adapters alone, with their description beside them."""
        save_file({name: x.contiguous() for name, x in self.weights().items()}, path, {"format": "pt"})
        if self.lora:
            self.lora.write(path)

    def load(self, path: Path) -> None:
        """Take over weights, or adapters as peft saves them; refuses a file that does not hold exactly this model's."""
        tensors = read_weights(path)
        if not all(x.isfinite().all() for x in tensors.values()):
            raise Refused(f"{path} holds weights that are not finite; bring a checkpoint that has not diverged")
        lora = Lora.read(path, tensors)
        if self.lora and lora != self.lora:
            theirs = f"adapters of rank {lora.rank} on {len(lora.modules)} maps" if lora else "no adapters"
            raise Refused(f"{path} holds {theirs} and this policy has others; bring weights of its kind")
        expected = lora.shapes(self.model) if lora and not self.lora else shapes(self.weights())
        if wrong := misfit(shapes(tensors), expected):
            cure = f"bring adapters of that model, or {MERGED}" if lora else "bring weights of that model"
            raise Refused(f"{path} does not hold this model's {'adapters' if lora else 'weights'}: {wrong}; {cure}")
        if lora and not self.lora:
            self.attach(lora)
        for name, x in self.weights().items():
            x.copy_(placed(tensors[name], x))


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


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of named tensors."""
    return {name: x.shape for name, x in weights.items()}


def misfit(there: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> str:
    """The first difference between two sets of named shapes, in words; empty where there is none."""
    for name in sorted({*there, *expected}):
        if there.get(name) != expected.get(name):
            shapes = (str(list(shapes[name])) if name in shapes else "missing" for shapes in (there, expected))
            return "{} is {}, expected {}".format(name, *shapes)
    return ""
