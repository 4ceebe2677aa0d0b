"""The network of OpenVLA: towers, projector and a Llama, of transformers' own modules."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from razorbench.agents.language import architecture
from razorbench.agents.language.attention import ATTENTION
from razorbench.agents.openvla.shape import Shape
from razorbench.agents.openvla.vision import Projector, Towers

DECODER = "language_model.model"
"""The language model without its head, by its name in the network."""


class Network(nn.Module):
    """A language model that reads patches of a picture behind the token that begins its text."""

    def __init__(self, shape: Shape):
        """Random weights."""
        super().__init__()
        self.vision_backbone = Towers(shape)
        config = LlamaConfig(
            **{name: told for name, told in shape.text.items() if name not in ("dtype", "torch_dtype")}
        )
        architecture.check(config)
        self.projector = Projector(sum(tower.width for tower in shape.towers), config.hidden_size)
        self.language_model = LlamaForCausalLM(config)
        self.language_model.set_attn_implementation(ATTENTION)

    def unused(self) -> frozenset[str]:
        """The weights with which nothing is computed: the towers' last blocks, norms and pooling."""
        names = set()
        for at, tower in self.vision_backbone.named_children():
            last = {id(weight) for weight in tower.layers[-1].parameters()}  # type: ignore[index]
            for name, weight in tower.named_parameters(prefix=f"vision_backbone.{at}"):
                own = name.removeprefix(f"vision_backbone.{at}.")
                if id(weight) in last or own.startswith(tower.unused):  # type: ignore[arg-type]
                    names.add(name)
        return frozenset(names)

    def recompute(self) -> None:
        """Compute activations again in the backward pass, in training mode."""
        for part in (self.vision_backbone.featurizer.net, self.vision_backbone.fused_featurizer.net):
            part.gradient_checkpointing_enable({"use_reentrant": False})
        self.language_model.gradient_checkpointing_enable({"use_reentrant": False})

    def forward(self, input_ids: Tensor, pixels: Callable[[Tensor], Tensor] | None = None, **how: Any) -> Any:
        """What the language model without its head says of tokens [B, L], as transformers returns it.

        A row of several tokens begins with one that begins a text and then has the patches of a picture, each the token
        −1 − i for picture i; `pixels` gives pictures [P] by their numbers as six channels, [P, 6, side, side].
        """
        decoder = self.language_model.model
        embeds = decoder.embed_tokens(input_ids.clamp(min=0))  # [B, L, D]
        if pixels is not None and input_ids.shape[1] > 1:
            numbers, row = (-1 - input_ids[:, 1]).unique(return_inverse=True)
            patches = self.projector(self.vision_backbone(pixels(numbers))).to(embeds.dtype)[row]
            embeds = torch.cat([embeds[:, :1], patches, embeds[:, 1 + patches.shape[1] :]], 1)
        return decoder(inputs_embeds=embeds, **how)
