"""How OpenVLA sees: two vision transformers side by side, whose patches become tokens of the language model."""

import torch
from torch import Tensor, nn
from transformers import Dinov2WithRegistersConfig, Dinov2WithRegistersModel, SiglipVisionConfig, SiglipVisionModel

from razorbench.agents.openvla.shape import PATCH, Shape, Tower


class Dino(nn.Module):
    """DINOv2 with four registers, up to its second-to-last block; the last one and the norm are carried along."""

    unused = ("net.layernorm.",)

    def __init__(self, size: Tower, side: int):
        """Random weights; positions are of patches alone."""
        super().__init__()
        self.net = Dinov2WithRegistersModel(
            Dinov2WithRegistersConfig(
                hidden_size=size.width,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                mlp_ratio=size.inner // size.width,
                image_size=side,
                patch_size=PATCH,
                initializer_range=size.width**-0.5,
            )
        )
        self.net.embeddings.position_embeddings = None  # type: ignore[assignment]
        self.net.embeddings.mask_token = None  # type: ignore[assignment]  # of its pretraining
        self.positions = nn.Parameter(torch.randn(1, (side // PATCH) ** 2, size.width) * size.width**-0.5)

    @property
    def layers(self) -> nn.ModuleList:
        """All blocks."""
        return self.net.encoder.layer

    def forward(self, pixels: Tensor) -> Tensor:
        """What the second-to-last block says of each patch, [P, patches, width], not normalised."""
        given = self.net.embeddings
        first = [token.expand(len(pixels), -1, -1) for token in (given.cls_token, given.register_tokens)]
        states = torch.cat([*first, given.patch_embeddings(pixels) + self.positions], 1)
        for layer in self.layers[:-1]:
            states = layer(states)
        return states[:, sum(token.shape[1] for token in first) :]


class Siglip(nn.Module):
    """SigLIP's picture half, up to its second-to-last block; the last, norm and pooling are carried along."""

    unused = ("net.post_layernorm.", "net.head.")

    def __init__(self, size: Tower, side: int):
        """Random weights."""
        super().__init__()
        self.net = SiglipVisionModel(
            SiglipVisionConfig(
                hidden_size=size.width,
                intermediate_size=size.inner,
                num_hidden_layers=size.layers,
                num_attention_heads=size.heads,
                image_size=side,
                patch_size=PATCH,
                hidden_act="gelu",  # as timm computes this one; transformers' own is the approximation by tanh
            )
        )
        del self.net.embeddings.position_embedding
        self.positions = nn.Parameter(torch.randn(1, (side // PATCH) ** 2, size.width) * size.width**-0.5)

    @property
    def layers(self) -> nn.ModuleList:
        """All blocks."""
        return self.net.encoder.layers

    def forward(self, pixels: Tensor) -> Tensor:
        """What the second-to-last block says of each patch, [P, patches, width], not normalised."""
        states = self.net.embeddings.patch_embedding(pixels).flatten(2).transpose(1, 2) + self.positions
        for layer in self.layers[:-1]:
            states = layer(states, None)
        return states


class Towers(nn.Module):
    """Both towers over the six channels of a picture, three for each."""

    def __init__(self, shape: Shape):
        """Random weights."""
        super().__init__()
        first, second = shape.towers
        self.featurizer, self.fused_featurizer = Dino(first, shape.side), Siglip(second, shape.side)

    def forward(self, pixels: Tensor) -> Tensor:
        """The patches [P, patches, widths of both] of pictures [P, 6, side, side]."""
        return torch.cat([self.featurizer(pixels[:, :3]), self.fused_featurizer(pixels[:, 3:])], 2)


class Projector(nn.Module):
    """From patches to tokens of the language model."""

    def __init__(self, seen: int, width: int):
        """Of patches of `seen` numbers, to tokens of `width`."""
        super().__init__()
        self.fc1, self.fc2, self.fc3 = nn.Linear(seen, 4 * seen), nn.Linear(4 * seen, width), nn.Linear(width, width)
        for part in (self.fc1, self.fc2, self.fc3):  # what differs between patches should not fade on the way
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Tokens [P, patches, width]."""
        gelu = nn.functional.gelu
        return self.fc3(gelu(self.fc2(gelu(self.fc1(patches)))))
