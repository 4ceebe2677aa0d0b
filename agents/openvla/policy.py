"""OpenVLA as a policy: seven tokens of 256 bins from a picture and an instruction, trained on exactly those."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from transformers.initialization import no_init_weights

from razorbench import Actions, Asked, Column, Episodes, Observations, Refused
from razorbench.agents.language.architecture import reach
from razorbench.agents.language.chat import Talk
from razorbench.agents.language.decoding import decoded
from razorbench.agents.language.packing import Pack, batches, lay, packed
from razorbench.agents.language.reading import states
from razorbench.agents.language.weights import OneModel, misfit, shapes
from razorbench.agents.openvla.actions import GRIPPERS, Bins, Statistics, Told, gripped, ungripped
from razorbench.agents.openvla.checkpoint import own, own_adapters, published
from razorbench.agents.openvla.model import DECODER, Network
from razorbench.agents.openvla.pixels import Pixels
from razorbench.agents.openvla.shape import Shape
from razorbench.agents.openvla.sight import Sight, Words
from razorbench.harness.learn.policy import Policy, Prediction, read_weights
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.saved import ADAPTER_CONFIG
from razorbench.harness.learn.vocabulary import Vocabulary, log_softmax

MICRO_BATCH = 8192
"""Tokens of a micro-batch, patches included, unless a runtime says otherwise: about 28 pictures of 256 patches."""
FIRST = 1
"""The token that begins a text, in a Llama whose config does not say."""
Over = Literal["bins", "vocabulary"]
"""Among which tokens an element is chosen: those of bins, given that it is one; or all, as OpenVLA's own code does."""


class OpenVLA(OneModel):
    """A policy whose action is a motion: a token a number, chosen one after another."""

    decoder = DECODER
    memoryless = True

    def __init__(
        self,
        model: Network,
        shape: Shape,
        words: Words,
        told: Told,
        pixels: Pixels,
        *,
        unnorm_key: str = "",
        camera: str = "",
        gripper: str = "",
        over: Over = "bins",
        runtime: Runtime = AUTO,
    ):
        """A network, its tokenizer, and what its checkpoint tells of motions and pictures; see `openvla`."""
        super().__init__(model, runtime.otherwise(Runtime(micro_batch=MICRO_BATCH)).resolved())
        if over not in ("bins", "vocabulary"):
            raise Refused(f"over {over!r} is unknown; choose bins or vocabulary")
        if gripper not in GRIPPERS:
            raise Refused(f"gripper {gripper!r} is unknown; say whether its 1 opens or closes, or leave it out")
        if self.runtime.checkpointing:
            model.recompute()
        self.unused = model.unused()
        self.thaw()
        self.shape, self.words, self.pixels = shape, words, pixels
        self.unnorm_key, self.camera, self.gripper, self.over = unnorm_key, camera, gripper, over
        self.bins = Bins(shape.bins)
        self.told = told
        self.statistics = told.choose(unnorm_key)
        last = len(self.head) - shape.padding - 1  # the token of code 0: codes count backwards from there
        if last + 1 < shape.bins:
            raise Refused(f"a vocabulary of {last + 1} tokens has no place for {shape.bins} bins; bring an OpenVLA")
        self.last = last
        self.tokens = last - torch.arange(shape.bins, device=self.head.device)  # [A], of the codes in order

    @classmethod
    def read(cls, folder: Path, *, crop: float = 0.0, **settings: Any) -> "OpenVLA":
        """The checkpoint in a folder, as it is published, in one file or in shards; none of its code is run.

        Its weights are kept in float32. Refuses what cannot be read, or is not exactly such a checkpoint.
        """
        if (folder / ADAPTER_CONFIG).exists():
            raise Refused(f"{folder} holds adapters, {ADAPTER_CONFIG}; merge them into the weights, or remove them")
        shape = Shape.read(folder)
        index = folder / "model.safetensors.index.json"
        tensors = read_weights(index if index.exists() else folder / "model.safetensors")
        with no_init_weights():  # all of them are read
            policy = cls.fresh(folder, shape, crop=crop, **settings)
        expected = shapes(policy.filed(policy.weights()))
        if wrong := misfit(shapes(tensors), expected):
            raise Refused(f"{folder} does not hold an OpenVLA of its config: {wrong}; bring all files of it")
        policy.model.load_state_dict(own(tensors, shape))
        return policy

    @classmethod
    def fresh(cls, folder: Path, shape: Shape, *, crop: float = 0.0, **settings: Any) -> "OpenVLA":
        """A network of random weights, with the tokenizer, statistics and pictures that a folder describes."""
        model = Network(shape)
        words = Words(folder / "tokenizer.json", int(shape.text.get("bos_token_id", FIRST)))
        return cls(model, shape, words, Told.read(folder), Pixels.read(folder, shape.side, crop), **settings)

    @property
    def head(self) -> Tensor:
        """The vocabulary's rows [V, D]."""
        return self.model.language_model.lm_head.weight

    @property
    def rows(self) -> Tensor:
        """The rows [A, D] of the elements that may be chosen, in the order of their codes."""
        return self.head if self.over == "vocabulary" else self.head[self.tokens]

    @property
    def numbers(self) -> int:
        """How many numbers a motion has."""
        return len(self.statistics[0].low)

    def trunk(self, sight: Sight) -> Any:
        """The network without its head, to which tokens below 0 are patches of what is seen."""

        def pixels(numbers: Tensor) -> Tensor:
            """Pictures [P, 6, side, side] by their numbers [P]."""
            shown = self.pixels([sight.pictures[i] for i in numbers.tolist()])
            return torch.from_numpy(shown).to(self.head.device)

        return partial(self.model, pixels=pixels)

    def sight(self) -> Sight:
        """Of nothing seen yet."""
        return Sight(self.words, self.shape.patches, self.camera)

    # --- acting

    @torch.inference_mode()
    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Motions [n, k] float32: of each number a token drawn by a random number of its own, or the likeliest.

        A policy whose weights are shared out answers within `whole` alone. Refuses an instruction that is too long.
        """
        sight = self.sight()
        prompts, u = sight.prompts(asked.now), asked.uniform(self.numbers)
        whole = max(map(len, prompts), default=0) + self.numbers
        if whole > (most := reach(self.model.language_model.config)):
            raise Refused(f"prompt and motion have {whole} tokens together, and the model reads {most}; say less")
        alphabet = None if self.over == "vocabulary" else self.tokens
        with self.runtime.autocast():
            tokens, logp = decoded(
                self.model.language_model, self.trunk(sight), (), prompts, u, temperature, None, alphabet
            )
        said = torch.tensor(tokens).view(len(prompts), self.numbers)
        return Actions(self.motions(said), self.coded(said), torch.tensor(logp).view(said.shape))

    def motions(self, tokens: Tensor) -> np.ndarray:
        """The motions [n, k] float32 of tokens [n, k]; one that is no bin's counts as the nearest that is."""
        numbers = self.bins.numbers(self.last - tokens.numpy())
        return gripped(self.statistics[0].motion(numbers), self.gripper).astype(np.float32)

    def coded(self, tokens: Tensor) -> Tensor:
        """Codes of tokens: bins, or over the whole vocabulary the tokens themselves."""
        return tokens if self.over == "vocabulary" else self.last - tokens

    def encode(self, values: Column) -> Tensor:
        """Codes [n, k] of motions [n, k]: those of the bins that they lie in."""
        numbers = self.statistics[0].numbers(ungripped(np.asarray(values, np.float64), self.gripper))
        return self.coded(self.last - torch.from_numpy(self.bins.codes(numbers)))

    # --- predicting

    def predict(self, episodes: Episodes) -> Iterator[Prediction]:
        """Predictions of single tokens, [M, 1] a micro-batch; motions from one sight share the work on it."""
        for hidden, code, owner in self.hidden(episodes):
            yield Prediction(Vocabulary(hidden, self.rows), self.coded(code), None, owner)

    @torch.no_grad()
    def outside(self, episodes: Episodes) -> tuple[float, int]:
        """The probability that the whole vocabulary puts on tokens that are no bin's, a mean over the elements of some
        episodes; and how many they are.
        """
        total, elements = 0.0, 0
        for hidden, _, _ in self.hidden(episodes):
            for some in hidden.split(max(1, 2**25 // len(self.head))):
                p = log_softmax(some, self.head).exp()
                p[..., self.tokens] = 0.0
                total += float(p.double().sum())
            elements += len(hidden)
        return total / max(elements, 1), elements

    def hidden(self, episodes: Episodes) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The states [M, 1, D] after which tokens [M, 1] were chosen, and whose they are, [M], a micro-batch each."""
        sight = self.sight()
        for packs in self.parts(episodes, sight):
            laid = lay(packs)
            with self.runtime.autocast(), self.recomputing():
                read = states(self.trunk(sight), self.model.language_model.config, self.head, laid)
            source, code, owner = (
                torch.from_numpy(each).to(self.head.device) for each in (laid.source, laid.code, laid.owner)
            )
            yield read.flatten(0, 1).index_select(0, source)[:, None], code[:, None], owner

    def parts(self, episodes: Episodes, sight: Sight) -> list[list[Pack]]:
        """The packs of each micro-batch, turn after turn; their pictures are in `sight`."""
        packs: list[Pack] = []
        for turn in episodes.turns:
            assert turn.done is not None, "an episode that waits for an answer cannot be predicted"
            code = torch.as_tensor(turn.done.code)
            tokens = (code if self.over == "vocabulary" else self.last - code).tolist()
            talks = [
                Talk(prompt, said, [True] * len(said))
                for prompt, said in zip(sight.prompts(turn.seen), tokens, strict=True)
            ]
            rows = turn.rows.tolist()
            for pack in packed(talks, self.runtime.micro_batch):
                packs.append(Pack(pack.opening, [rows[i] for i in pack.owners], pack.talks))
        return [packs[part] for part in batches([len(pack) for pack in packs], self.runtime.micro_batch)]

    # --- weights

    def layers(self) -> Iterable[nn.Module]:
        """The blocks of the decoder and of both towers, but for those that nothing is computed with."""
        towers = self.model.vision_backbone
        yield from super().layers()
        for tower in (towers.featurizer, towers.fused_featurizer):
            yield from tower.layers[:-1]

    def shard(self, mesh: DeviceMesh) -> None:
        """Keep a part of each weight from now on."""
        self.share_out(mesh)

    def passes(self, episodes: Episodes) -> int:
        """How many micro-batches there are of these episodes."""
        return len(self.parts(episodes, self.sight()))

    def idle(self) -> Tensor:
        """A pass over one black picture, of which nothing counts."""
        sight = self.sight()
        black = np.zeros((1, self.shape.side, self.shape.side, 3), np.uint8)
        ids = torch.tensor(sight.prompts(Observations("", {self.camera: black})), device=self.head.device)
        with self.runtime.autocast(), self.recomputing():
            read = self.trunk(sight)(ids, use_cache=False).last_hidden_state[:, -1:]
        code = torch.zeros(1, 1, dtype=torch.int64, device=ids.device)
        return 0.0 * Vocabulary(read, self.rows).log_prob(code).sum()

    def filed(self, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the names of the published checkpoint."""
        return published(weights, self.shape)

    def unfiled(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By the network's own names."""
        return own(tensors, self.shape)

    def unfiled_adapters(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """On the network's own maps."""
        return own_adapters(tensors, self.shape, self.unused)

    def load(self, path: Path) -> None:
        """Take over weights or adapters; statistics that stand beside them go before those of the base."""
        super().load(path)
        self.told = (self.base().told if self.reference else self.told).ahead(path.parent)
        self.statistics = self.told.choose(self.unnorm_key)

    # --- what a reader should know

    def unlike(self, base: Policy) -> str:
        """Why its elements are not those of a base, in words; empty where they are."""
        if not isinstance(base, OpenVLA):
            return f"{type(base).__name__} chooses no bins of OpenVLA"
        if (self.over, self.shape.bins, len(self.head)) != (base.over, base.shape.bins, len(base.head)):
            return "its elements are chosen among other tokens than the base's"
        if self.words.tokenizer.to_str() != base.words.tokenizer.to_str():
            return "its tokenizer cuts an instruction into other tokens than the base's"
        return ""

    def account(self) -> dict[str, Any]:
        """What of a number's making stands in no weight: by which statistics motions are made, and over what."""
        first, *behind = (told(each) for each in self.statistics)
        made = {"statistics": first, "statistics_behind": behind, "gripper": self.gripper, "over": self.over}
        return {**made, "camera": self.camera, **asdict(self.pixels)}


def told(statistics: Statistics) -> dict[str, Any]:
    """Statistics as a record has them."""
    return asdict(statistics)
