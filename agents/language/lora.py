"""Low-rank adapters, and how they are described in peft's format."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from razorbench.harness.learn.saved import ADAPTER_CONFIG

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")
"""The linear maps of a decoder layer, which LoRA adapts; Phi-3 has three of them as one, and two."""


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters (arXiv 2106.09685), which add alpha / rank · B A (`rslora`: alpha / √rank) to linear maps."""

    rank: int
    alpha: float
    modules: tuple[str, ...]
    """The maps that have one, by their names in the model, sorted."""
    rslora: bool = False

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
        sizes = {}
        for name in self.modules:
            if isinstance(linear := maps.get(name), nn.Linear):
                sizes[f"base_model.model.{name}.lora_A.weight"] = torch.Size((self.rank, linear.in_features))
                sizes[f"base_model.model.{name}.lora_B.weight"] = torch.Size((linear.out_features, self.rank))
        return sizes
