"""What a checkpoint's config.json says: the sizes of its towers and of its language model, and where its bins are."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorbench import Refused

PATCH = 14
"""Pixels of a patch's side, in both towers."""


@dataclass(frozen=True)
class Tower:
    """The sizes of a vision transformer."""

    width: int
    layers: int
    heads: int
    inner: int
    """Units of its layers' perceptrons."""


TOWERS = (
    {"vit_large_patch14_reg4_dinov2.lvd142m": Tower(1024, 24, 16, 4096)},
    {"vit_so400m_patch14_siglip_224": Tower(1152, 27, 16, 4304)},
)
"""The two towers, DINOv2 with registers and then SigLIP, by the names that checkpoints call them by."""
FIXED = {
    "model_type": "openvla",
    "use_fused_vision_backbone": True,
    "arch_specifier": "no-align+fused-gelu-mlp",
    "image_resize_strategy": "resize-naive",
}
"""What a config says of the kind of model, where it says it."""


@dataclass(frozen=True)
class Shape:
    """Sizes that decide every weight of a model."""

    towers: tuple[Tower, Tower]
    side: int
    """Pixels of a picture's side."""
    text: Mapping[str, Any]
    """The config of the language model, a Llama."""
    bins: int
    """Edges of the bins of a number, and tokens for them."""
    padding: int
    """Rows of the vocabulary behind the last token: bins are the last tokens before them."""

    @property
    def patches(self) -> int:
        """Patches of a picture."""
        return (self.side // PATCH) ** 2

    @staticmethod
    def read(folder: Path) -> "Shape":
        """The shape of the checkpoint in a folder, by its config.json; `tower_sizes` there go before the towers' names.

        Refuses what is no OpenVLA, or one whose towers, projector or pictures are of another kind.
        """
        told = config(folder)
        for name, expected in FIXED.items():
            if told.get(name, expected) != expected:
                raise Refused(f"{folder} says {name} {told[name]!r}; bring an OpenVLA of {expected!r}")
        if (kind := told.get("text_config", {}).get("model_type", "llama")) != "llama":
            raise Refused(f"{folder} has a language model of the kind {kind!r}; bring an OpenVLA on a Llama")
        try:
            sizes = told.get("tower_sizes")
            first, second = (
                (Tower(**size) for size in sizes)
                if sizes
                else (kinds[name] for kinds, name in zip(TOWERS, told["timm_model_ids"], strict=True))
            )
            sides = {*told["image_sizes"]}
            text, bins, padding = told["text_config"], int(told["n_action_bins"]), int(told["pad_to_multiple_of"])
        except (KeyError, TypeError, ValueError) as error:
            known = " and ".join(name for kinds in TOWERS for name in kinds)
            raise Refused(f"{folder} has no config of an OpenVLA ({error!r}); bring one of {known}") from None
        if len(sides) != 1 or any(side % PATCH for side in sides):
            raise Refused(f"{folder} has pictures of {sorted(sides)} pixels; bring a model of one size, patches of 14")
        return Shape((first, second), sides.pop(), text, bins, padding)


def config(folder: Path) -> dict[str, Any]:
    """The config.json of a folder. Refuses one that has none, or none that can be read."""
    try:
        told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise Refused(f"{folder} has no config.json that can be read ({error}); bring all files of a model") from None
    return told
