"""A causal language model as a policy: chat in, sampled token ids out, trained on exactly those ids."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.distributions import Categorical
from torch.nn import functional as F
from transformers import AttentionInterface, AutoModelForCausalLM, AutoTokenizer

from razorbench import Actions, Asked, Column, Episodes, Refused, Reply, Turn, row
from razorbench.harness.learn.policy import Prediction, draw, drawn_with
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.vocabulary import Vocabulary, logits_of

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear maps of a decoder layer, which LoRA adapts."""
ADAPTER_CONFIG = "adapter_config.json"
"""What peft names the file that describes adapters, beside their weights."""
ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""Models whose logits are `lm_head` of what `model` returns, and whose layers all attend to everything before."""
TAILS = 512
"""Tokens in a pack beyond twice its prompt: attention costs the square of a pack's length."""
MICRO_BATCH = 8192
"""Tokens of a micro-batch, unless a runtime says otherwise."""
SLOTS = 2**17
"""Tokens whose keys are kept at once in decoding: rows × (prompt + limit)."""


# --- attention and its cache ------------------------------------------------------------------------------------------


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


AttentionInterface.register("razorbench", attention)


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


def moved(x: Tensor, rows: Tensor, used: int, room: int) -> Tensor:
    """Rows [n] of `x` [N, K, S, D] and their first `used` columns, in a new tensor [n, K, room, D]."""
    fresh = x.new_empty(len(rows), x.shape[1], room, x.shape[3])
    fresh[:, :, :used] = x[:, :, :used].index_select(0, rows)
    return fresh


# --- conversations as tokens ------------------------------------------------------------------------------------------


class Chat:
    """A tokenizer and its chat template: what stands before, between and after the answers of a conversation."""

    def __init__(self, tokenizer: Any, stops: Iterable[int] = (), prompt: str = ""):
        """`stops` are tokens that end an answer beside the one of the template; `prompt` is what the system says first.

        Refuses a tokenizer whose template does not end an answer with a special token.
        """
        self.tokenizer, self.prompt = tokenizer, prompt
        if not tokenizer.chat_template:
            raise Refused("the tokenizer has no chat template; bring a model that is tuned to chat")
        self.stop: int = self.tokens(self.after("user", ""))[0]
        if self.stop not in tokenizer.all_special_ids:
            raise Refused("the chat template ends no answer with a special token; bring a model that is tuned to chat")
        self.stops = sorted({self.stop, *stops})
        self.opening = lru_cache(2**16)(self.first)
        self.between = lru_cache(2**16)(lambda role, text: self.tokens(self.after(role, text)))
        self.piece = lru_cache(2**16)(self.inside)

    def render(self, messages: list[dict[str, str]]) -> str:
        """The text of a conversation, up to where the next answer begins."""
        return self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)

    def first(self, role: str, text: str) -> list[int]:
        """Token ids of a conversation that `role` opens with `text`, up to where the answer begins."""
        system = [{"role": "system", "content": self.prompt}] if self.prompt else []
        return self.tokens(self.render([*system, {"role": role, "content": text}]))

    def after(self, role: str, text: str) -> str:
        """What the template puts between an answer and the next one, when `role` says `text` there."""
        answer = "\N{SNOWMAN}answer\N{SNOWMAN}"  # nobody's text
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": answer}]
        return self.render([*messages, {"role": role, "content": text}]).partition(answer)[2]

    def tokens(self, text: str) -> list[int]:
        """Token ids of a text, in which special tokens count as such."""
        return self.tokenizer.encode(text, add_special_tokens=False)

    def inside(self, token: int) -> str:
        """The text of a token in the middle of others: some tokenizers drop the space before the first."""
        before = self.tokens("a")[-1:]
        text, lead = (self.tokenizer.decode([*before, *more]) for more in ([token], []))
        return text.removeprefix(lead)

    def talks(self, turns: Sequence[Turn], episodes: int) -> list["Talk"]:
        """Each episode as tokens; it ends with its last answer, or where its next one begins."""
        talks = [Talk([]) for _ in range(episodes)]
        for turn in turns:
            for at, episode in enumerate(turn.rows.tolist()):
                talk, role, text = talks[episode], row(turn.seen.role, at), row(turn.seen.text, at)
                if text is None:
                    raise Refused("a language model was asked without text; give it a task that asks in words")
                if not talk.opening:
                    talk.opening = self.opening(role, text)
                else:
                    between = self.between(role, text)
                    ended = bool(talk.tail) and talk.tail[-1] in self.stops  # else it was cut off: the template ends it
                    talk.say(between[ended:], False)
                if turn.done is not None:
                    talk.say(row(turn.done.code, at), True)
        return talks


@dataclass
class Talk:
    """A conversation as tokens: the first prompt, all that came after, and which of that the policy chose."""

    opening: list[int]
    tail: list[int] = field(default_factory=list)
    chosen: list[bool] = field(default_factory=list)

    def say(self, tokens: Sequence[int], chosen: bool) -> None:
        """Add tokens to the end."""
        self.tail += tokens
        self.chosen += [chosen] * len(tokens)


# --- packs: several answers to one prompt as one sequence -------------------------------------------------------------


@dataclass
class Pack:
    """One sequence: a prompt, then the tails [k] of the conversations that it opens; nobody sees another's tail."""

    opening: list[int]
    owners: list[int]
    talks: list[Talk]

    def __len__(self) -> int:
        return len(self.opening) + sum(len(talk.tail[:-1]) for talk in self.talks)


def packed(talks: list[Talk], budget: int) -> list[Pack]:
    """Packs of neighbours that answer one prompt, of at most `budget` tokens, the shortest first."""
    packs: list[Pack] = []
    for owner, talk in enumerate(talks):
        if not talk.tail:
            continue
        last = packs[-1] if packs else None
        if (
            last
            and last.opening == talk.opening
            and len(last) + len(talk.tail) <= min(budget, TAILS + 2 * len(talk.opening))
        ):
            last.owners.append(owner)
            last.talks.append(talk)
        else:
            packs.append(Pack(talk.opening, [owner], [talk]))
    return sorted(packs, key=len)


@dataclass
class Laid:
    """Packs laid out as a batch [B, L]: token ids, positions, segments; and what is predicted where, [M] each."""

    ids: np.ndarray
    position: np.ndarray
    segment: np.ndarray
    source: np.ndarray
    """Index into the flattened batch of the token after which the code follows."""
    code: np.ndarray
    owner: np.ndarray


def lay(packs: list[Pack]) -> Laid:
    """Lay out packs, padded at the end. Segment 0 is the prompt, −1 the padding, others are tails."""
    shape = len(packs), max(map(len, packs))
    ids, position, segment = np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.full(shape, -1)
    source, code, owner = [], [], []
    for b, pack in enumerate(packs):
        n = start = len(pack.opening)
        ids[b, :n], position[b, :n], segment[b, :n] = pack.opening, np.arange(n), 0
        for j, (who, talk) in enumerate(zip(pack.owners, pack.talks, strict=True), 1):
            tail, chosen = np.array(talk.tail), np.flatnonzero(talk.chosen)
            end = start + len(tail) - 1
            ids[b, start:end], position[b, start:end], segment[b, start:end] = tail[:-1], n + np.arange(end - start), j
            source.append(b * shape[1] + np.where(chosen == 0, n, start + chosen) - 1)
            code.append(tail[chosen])
            owner.append(np.full(len(chosen), who))
            start = end
    return Laid(ids, position, segment, *(np.concatenate(parts) for parts in (source, code, owner)))


def batches(lengths: Sequence[int], budget: int) -> Iterator[slice]:
    """Slices of ascending lengths, each of at most `budget` elements when padded (or of a single longer row)."""
    start = 0
    for end, longest in enumerate(lengths):
        if end > start and (end + 1 - start) * longest > budget:
            yield slice(start, end)
            start = end
    if len(lengths):
        yield slice(start, len(lengths))


# --- weights ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685), which add alpha / rank · B A (`rslora`: alpha / √rank) to linear maps."""

    rank: int
    alpha: float
    modules: tuple[str, ...]
    """The maps that have one, by their names in the model, sorted."""
    rslora: bool = False

    @staticmethod
    def read(weights: Path, names: Iterable[str]) -> "Lora | None":
        """Of the tensors `names` in a file, described as peft does in adapter_config.json beside it; None: no adapters.

        Refuses a description that is missing, or of another kind.
        """
        matches = [re.fullmatch(r"base_model\.model\.(.+)\.lora_[AB]\.weight", name) for name in names]
        modules = tuple(sorted({match[1] for match in matches if match}))
        if not modules:
            return None
        path = weights.with_name(ADAPTER_CONFIG)
        try:
            told = json.loads(path.read_text())
            lora = Lora(int(told["r"]), float(told["lora_alpha"]), modules, bool(told.get("use_rslora")))
            if told["peft_type"] != "LORA" or lora.rank < 1:
                raise ValueError(f"{told['peft_type']} of rank {lora.rank}")
        except (OSError, ValueError, TypeError, KeyError) as error:
            cure = "bring the adapter_config.json that peft saves beside the adapters"
            raise Refused(f"{path} does not describe low-rank adapters ({error}); {cure}") from None
        return lora

    def write(self, weights: Path) -> None:
        """Describe the adapters in a file as peft does, beside it."""
        told = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "r": self.rank,
            "lora_alpha": self.alpha,
            "use_rslora": self.rslora,
            "target_modules": list(self.modules),
            "bias": "none",
        }
        weights.with_name(ADAPTER_CONFIG).write_text(json.dumps(told, indent=1) + "\n")

    def shapes(self, model: nn.Module) -> dict[str, torch.Size]:
        """The names and shapes of the adapters' matrices; of a map that `model` lacks, none."""
        maps = dict(model.named_modules())
        found = {}
        for name in self.modules:
            if isinstance(linear := maps.get(name), nn.Linear):
                found[f"base_model.model.{name}.lora_A.weight"] = torch.Size((self.rank, linear.in_features))
                found[f"base_model.model.{name}.lora_B.weight"] = torch.Size((linear.out_features, self.rank))
        return found


def shapes(weights: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """The shapes of named tensors."""
    return {name: x.shape for name, x in weights.items()}


def misfit(found: Mapping[str, torch.Size], expected: Mapping[str, torch.Size]) -> str:
    """The first difference between two sets of named shapes, in words; empty where there is none."""
    for name in sorted({*found, *expected}):
        if found.get(name) != expected.get(name):
            shapes = (str(list(shapes[name])) if name in shapes else "missing" for shapes in (found, expected))
            return "{} is {}, expected {}".format(name, *shapes)
    return ""


# --- the policy -------------------------------------------------------------------------------------------------------


def stops(model: Any) -> list[int]:
    """The tokens that end an answer by the model's generation config; none, one or several."""
    config = getattr(model, "generation_config", None)
    ends = None if config is None else config.eos_token_id
    return [] if ends is None else [ends] if isinstance(ends, int) else list(ends)


def until(code: Sequence[int], ends: Sequence[int]) -> int:
    """How many tokens there are up to the first of `ends`, that one included; all of them where there is none."""
    return next((at + 1 for at, token in enumerate(code) if token in ends), len(code))


class CausalLM:
    """A policy whose action is a reply: token ids up to the end of the turn, or up to `limit` of them."""

    def __init__(self, model: Any, tokenizer: Any, *, limit: int = 96, prompt: str = "", runtime: Runtime = AUTO):
        """A transformers model and its tokenizer; `prompt` is what the system says first.

        A micro-batch has 8,192 tokens unless the runtime says otherwise. An answer ends with the token that the chat
        template puts there, or with any that the model's generation config names: Qwen2.5 says `<|im_end|>` and, at
        times, `<|endoftext|>`.
        """
        kind, layers = model.config.model_type, getattr(model.config, "layer_types", None) or ()
        if kind not in ARCHITECTURES or "sliding_attention" in layers:
            known = ", ".join(ARCHITECTURES)
            raise Refused(f"this {kind} model is not supported; bring one of {known} without sliding windows")
        self.runtime = runtime.otherwise(Runtime(micro_batch=MICRO_BATCH)).resolved()
        self.model = model.eval().to(self.runtime.device)
        self.model.set_attn_implementation("razorbench")
        if self.runtime.checkpointing:
            self.model.gradient_checkpointing_enable({"use_reentrant": False})
        self.chat = tokenizer if isinstance(tokenizer, Chat) else Chat(tokenizer, stops(model), prompt)
        self.limit = limit
        self.reference: CausalLM | None = None
        self.lora: Lora | None = None

    @classmethod
    def read(
        cls,
        source: str | Path,
        revision: str | None = None,
        *,
        limit: int = 96,
        prompt: str = "",
        runtime: Runtime = AUTO,
    ) -> "CausalLM":
        """A model from a folder, or from the Hugging Face hub at a commit `revision`; none of its code is run.

        Its weights are kept in float32, whatever they are saved in: steps of AdamW are lost to the rounding of bf16.
        Refuses a hub id without a full commit hash, and what cannot be read.
        """
        local = Path(source).is_dir()
        if not local and not re.fullmatch("[0-9a-f]{40}", revision or ""):
            raise Refused(
                f"{source} is no folder here, and as a model on the hub its revision is {revision}; "
                "give the 40 hex digits of a commit, so that the weights cannot change"
            )
        where: dict[str, Any] = {"trust_remote_code": False} | (
            {"local_files_only": True} if local else {"revision": revision}
        )
        try:
            tokenizer = AutoTokenizer.from_pretrained(source, **where)
            model: Any = AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, use_safetensors=True, **where
            )
        except (OSError, ValueError) as error:
            raise Refused(f"{source} cannot be read as a causal language model ({error})") from error
        return cls(model, tokenizer, limit=limit, prompt=prompt, runtime=runtime)

    @property
    def head(self) -> Tensor:
        """The vocabulary's rows [V, D]."""
        return self.model.lm_head.weight

    # --- acting

    @torch.inference_mode()
    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Replies drawn token by token with the episode's own random numbers, or at temperature 0 the likeliest."""
        talks = self.chat.talks(asked.episodes.turns, len(asked.episodes))
        prompts = [talks[i].opening + talks[i].tail for i in asked.rows.tolist()]
        order = sorted(range(len(prompts)), key=lambda i: (len(prompts[i]), prompts[i]))
        u = asked.uniform(self.limit)
        codes: list[list[int]] = [[]] * len(prompts)
        logp: list[list[float]] = [[]] * len(prompts)
        for part in batches([len(prompts[i]) + self.limit for i in order], SLOTS):
            rows = order[part]
            with self.runtime.autocast():
                said = self.decode([prompts[i] for i in rows], u[rows], temperature)
            for i, (code, nats) in zip(rows, said, strict=True):
                codes[i], logp[i] = code, nats
        finished = [code[-1] in self.chat.stops for code in codes]
        words = [code[:-1] if end else code for code, end in zip(codes, finished, strict=True)]
        texts = self.chat.tokenizer.batch_decode(words, skip_special_tokens=True)
        return Actions([Reply(text, end) for text, end in zip(texts, finished, strict=True)], codes, logp)

    def decode(
        self, prompts: list[list[int]], u: np.ndarray, temperature: float
    ) -> list[tuple[list[int], list[float]]]:
        """Token ids that follow prompts (in order of length), drawn with `u` [n, limit] at a temperature; and the
        log-probability of each.

        Equal neighbours are read once. Raises Refused where the model cannot read so much.
        """
        device, head, stop = self.head.device, self.head, self.chat.stop
        stops = torch.tensor(self.chat.stops, device=device)
        width, most = len(prompts[-1]), self.model.config.max_position_embeddings
        if width + self.limit > most:
            raise Refused(f"a prompt of {width} tokens leaves no room for {self.limit} more: the model reads {most}")
        distinct = [prompt for prompt, _ in groupby(prompts)]
        share = np.repeat(np.arange(len(distinct)), [len(list(same)) for _, same in groupby(prompts)])
        ids = torch.tensor([prompt + [stop] * (width - len(prompt)) for prompt in distinct], device=device)  # [P, S]
        length = torch.tensor([len(prompt) for prompt in prompts], device=device)  # [n]
        of = torch.from_numpy(share).to(device)
        # Prompts are padded at the end: keys know their own position, so new ones may stand after the padding.
        cache = Cache()
        hidden = self.model.model(input_ids=ids, past_key_values=cache, use_cache=True).last_hidden_state  # [P, S, D]
        hidden = hidden[of, length - 1]  # [n, D]
        cache.used = width
        cache.keep(of, width + self.limit)
        column = torch.arange(width + self.limit, device=device)
        hole = (column >= length[:, None]) & (column < width)  # [n, S + limit]
        mask = torch.zeros_like(hole, dtype=head.dtype).masked_fill_(hole, -math.inf)[:, None, None]
        drawn = torch.full((len(prompts), self.limit), stop, device=device)  # [n, limit]
        nats = torch.zeros(drawn.shape, device=device)  # [n, limit]
        live = torch.arange(len(prompts), device=device)  # rows that are still in the batch
        going = torch.ones(len(prompts), dtype=torch.bool, device=device)  # which of them have not ended
        for t in range(self.limit):
            dist = Categorical(logits=logits_of(hidden, head)[:, None], validate_args=False)  # [n, 1]
            code = draw(dist, u[live.cpu(), t : t + 1], temperature)[:, 0]
            drawn[live, t], nats[live, t] = code, drawn_with(dist, code[:, None], temperature)[:, 0].float()
            going &= ~torch.isin(code, stops)
            left = int(going.sum())
            if not left or t + 1 == self.limit:
                break
            if left <= len(live) / 2:
                stay = going.nonzero()[:, 0]
                cache.keep(stay, width + self.limit)
                live, code, length, mask, going = live[stay], code[stay], length[stay], mask[stay], going[stay]
            cache.used += 1
            hidden = self.model.model(
                input_ids=code[:, None],
                attention_mask=mask[..., : cache.used],
                position_ids=(length + t)[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state[:, 0]
        ends = [until(code, self.chat.stops) for code in drawn.tolist()]
        return [(code[:end], logp[:end]) for code, logp, end in zip(drawn.tolist(), nats.tolist(), ends, strict=True)]

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
        budget = self.runtime.micro_batch
        packs = packed(self.chat.talks(episodes.turns, len(episodes)), budget)
        for part in batches([len(pack) for pack in packs], budget):
            laid = lay(packs[part])
            with self.runtime.autocast(), self.recomputing():
                states = self.hidden(laid)
            hidden = states.flatten(0, 1).index_select(0, self.tensor(laid.source))  # [M, D]
            dist = Vocabulary(hidden[:, None], self.head)
            yield Prediction(dist, self.tensor(laid.code)[:, None], None, self.tensor(laid.owner))

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

    def hidden(self, laid: Laid) -> Tensor:
        """The last hidden states [B, L, D] of a batch of packs."""
        ids = self.tensor(laid.ids)
        if laid.segment.max() <= 1:  # one tail a prompt: plain causal attention
            return self.model.model(input_ids=ids, use_cache=False).last_hidden_state
        segment = self.tensor(laid.segment)
        own = (segment[:, None] == segment[:, :, None]) | (segment == 0)[:, None]  # [B, L, L]
        hole = ~own.tril_()
        mask = torch.zeros_like(hole, dtype=self.head.dtype).masked_fill_(hole, -math.inf)[:, None]
        return self.model.model(
            input_ids=ids, attention_mask=mask, position_ids=self.tensor(laid.position), use_cache=False
        ).last_hidden_state

    def tensor(self, array: np.ndarray) -> Tensor:
        """An array on the model's device."""
        return torch.from_numpy(array).to(self.head.device)

    # --- weights

    def parameters(self) -> Iterator[nn.Parameter]:
        """All weights, or the adapters where there are any."""
        return (parameter for parameter in self.model.parameters() if parameter.requires_grad)

    def matrices(self) -> Iterator[nn.Parameter]:
        """The projections of the decoder layers, adapters included, which Muon may train."""
        named = self.model.model.layers.named_parameters()
        return (parameter for _, parameter in named if parameter.ndim == 2 and parameter.requires_grad)

    def base(self) -> "CausalLM":
        """The policy that `copy` was first called on."""
        return self.reference or self

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

    def attach(self, lora: "Lora") -> None:
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

    def weights(self) -> dict[str, Tensor]:
        """What is saved, by the names of model.safetensors, or with adapters of adapter_model.safetensors."""
        if self.lora:
            named = ((name, p) for name, p in self.model.named_parameters() if p.requires_grad)
            return {f"base_model.model.{name.replace('.default.', '.')}": p.detach() for name, p in named}
        first: dict[int, str] = {}  # tied weights are one tensor of two names
        state = self.model.state_dict()
        return {name: x for name, x in state.items() if first.setdefault(x.data_ptr(), name) == name}

    def save(self, path: Path) -> None:
        """Write the weights as safetensors, or the adapters alone, with their description beside them."""
        save_file({name: x.contiguous() for name, x in self.weights().items()}, path, {"format": "pt"})
        if self.lora:
            self.lora.write(path)

    def load(self, path: Path) -> None:
        """Take over weights, or adapters as peft saves them; refuses a file that does not hold exactly this model's."""
        try:
            found = load_file(path)
        except (SafetensorError, OSError) as error:
            raise Refused(f"{path} is not a readable safetensors file ({error}); save the weights again") from None
        if not all(x.isfinite().all() for x in found.values()):
            raise Refused(f"{path} holds weights that are not finite; bring a checkpoint that has not diverged")
        lora = Lora.read(path, found)
        if self.lora and lora != self.lora:
            theirs = f"adapters of rank {lora.rank} on {len(lora.modules)} maps" if lora else "no adapters"
            raise Refused(f"{path} holds {theirs} and this policy has others; bring weights of its kind")
        expected = lora.shapes(self.model) if lora and not self.lora else shapes(self.weights())
        if wrong := misfit(shapes(found), expected):
            raise Refused(f"{path} does not hold this model's weights: {wrong}; bring weights of that model")
        if lora and not self.lora:
            self.attach(lora)
        for name, x in self.weights().items():
            x.copy_(found[name])
