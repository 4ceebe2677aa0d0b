"""The published checkpoint's names, which are timm's, and the network's own."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from razorbench.agents.openvla.shape import Shape
from razorbench.harness.learn.saved import ADAPTER

BOTH = ("weight", "bias")
DINO = {
    "norm1": "norm1",
    "attn.qkv": ("attention.q_proj", "attention.k_proj", "attention.v_proj"),
    "attn.proj": "attention.o_proj",
    "norm2": "norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""Maps of a block of DINOv2: timm's name → ours; one that holds three has theirs, one after another."""
SIGLIP = {
    "norm1": "layer_norm1",
    "attn.qkv": ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"),
    "attn.proj": "self_attn.out_proj",
    "norm2": "layer_norm2",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""The same of SigLIP."""


@dataclass(frozen=True)
class Pair:
    """Tensors that hold the same rows, one after another, as they are published and as the network has them."""

    published: tuple[str, ...]
    own: tuple[str, ...]
    cut: tuple[int, ...] = (1,)
    """Shares of the rows that the published ones have."""


def pairs(shape: Shape) -> Iterator[Pair]:
    """All tensors of the towers; those of projector and language model have the same names in both."""
    dino, siglip = "vision_backbone.featurizer.", "vision_backbone.fused_featurizer."
    for theirs, ours in {
        "cls_token": "net.embeddings.cls_token",
        "reg_token": "net.embeddings.register_tokens",
        "pos_embed": "positions",
        **each("patch_embed.proj", "net.embeddings.patch_embeddings.projection"),
        **each("norm", "net.layernorm"),
    }.items():
        yield Pair((dino + theirs,), (dino + ours,))
    for theirs, ours in {
        "pos_embed": "positions",
        "attn_pool.latent": "net.head.probe",
        **each("patch_embed.proj", "net.embeddings.patch_embedding"),
        **each("norm", "net.post_layernorm"),
        **each("attn_pool.proj", "net.head.attention.out_proj"),
        **each("attn_pool.norm", "net.head.layernorm"),
        **each("attn_pool.mlp.fc1", "net.head.mlp.fc1"),
        **each("attn_pool.mlp.fc2", "net.head.mlp.fc2"),
    }.items():
        yield Pair((siglip + theirs,), (siglip + ours,))
    for kind in BOTH:
        pool = tuple(f"{siglip}attn_pool.{name}.{kind}" for name in ("q", "kv"))
        yield Pair(pool, (f"{siglip}net.head.attention.in_proj_{kind}",), (1, 2))
    for tower, layers, size, maps in (
        (dino, "net.encoder.layer", shape.towers[0], DINO),
        (siglip, "net.encoder.layers", shape.towers[1], SIGLIP),
    ):
        for i in range(size.layers):
            theirs, ours = f"{tower}blocks.{i}.", f"{tower}{layers}.{i}."
            for name, own in maps.items():
                names = (own,) if isinstance(own, str) else own
                for kind in BOTH:
                    yield Pair((f"{theirs}{name}.{kind}",), tuple(f"{ours}{each}.{kind}" for each in names))
            for scale in (1, 2) if tower is dino else ():
                yield Pair((f"{theirs}ls{scale}.scale_factor",), (f"{ours}layer_scale{scale}.lambda1",))


def each(theirs: str, ours: str) -> dict[str, str]:
    """A map's weight and bias."""
    return {f"{theirs}.{kind}": f"{ours}.{kind}" for kind in BOTH}


def published(weights: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """The network's weights by the names of the published checkpoint."""
    named = dict(weights)
    for pair in pairs(shape):
        rows = joined([named.pop(name) for name in pair.own])
        sizes = [len(rows) * share // sum(pair.cut) for share in pair.cut]
        named.update(zip(pair.published, rows.split(sizes), strict=True))
    return named


def own(tensors: Mapping[str, Tensor], shape: Shape) -> dict[str, Tensor]:
    """A checkpoint's tensors, all of them, by the network's names."""
    named = dict(tensors)
    for pair in pairs(shape):
        rows = joined([named.pop(name) for name in pair.published])
        named.update(zip(pair.own, rows.chunk(len(pair.own)), strict=True))
    return named


def own_adapters(tensors: Mapping[str, Tensor], shape: Shape, unused: Collection[str]) -> dict[str, Tensor]:
    """A file's adapters on maps of the published names, as OpenVLA's fine-tuning puts them on all linear maps, by the
    network's own names; what is no adapter stays.

    Maps that are published as one (`qkv`) have its A each, and their rows of its B. Adapters on maps with which nothing
    is computed are left out.
    """
    maps = {name: pair.own for pair in pairs(shape) for name in pair.published}
    named = {}
    for name, x in tensors.items():
        if not (told := ADAPTER.fullmatch(name)):
            named[name] = x
            continue
        module, side = told.groups()
        owners = maps.get(f"{module}.weight", (f"{module}.weight",))
        parts = x.chunk(len(owners)) if side == "B" else [x] * len(owners)
        for owner, part in zip(owners, parts, strict=False):  # too few rows are told as what is missing
            if owner not in unused:
                named[f"base_model.model.{owner.removesuffix('.weight')}.lora_{side}.weight"] = part
    return named


def joined(parts: list[Tensor]) -> Tensor:
    """Rows one after another."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
