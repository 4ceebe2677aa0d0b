"""Low-rank adapters and the files that hold them, in peft's format."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from razorbench import Refused

PROJECTIONS = ("q_proj", "k_proj", "v_proj", "qkv_proj", "o_proj", "gate_proj", "up_proj", "gate_up_proj", "down_proj")
"""The linear maps of a decoder layer, which LoRA adapts; Phi-3 has three of them as one, and two."""
ADAPTER = re.compile(r"base_model\.model\.(.+)\.lora_([AB])\.weight")
"""How the matrices of adapters are named in their file: of which map, and which of the two."""
UNREAD = (
    *("alpha_pattern", "rank_pattern", "modules_to_save", "lora_bias", "fan_in_fan_out", "layer_replication"),
    *("use_dora", "use_qalora", "use_bdlora", "alora_invocation_tokens"),
    *("target_parameters", "trainable_token_indices"),
)
"""What in a description makes it another computation than plain LoRA, unless it is off."""
OTHER_BASE = ("pissa", "olora", "loftq", "corda")
"""Ways to begin that change the weights of the base, too, by the beginning of `init_lora_weights`."""
ADAPTER_CONFIG = "adapter_config.json"
"""What peft names the file that describes adapters, beside their weights."""
MERGED = "merge it into the weights (merge_and_unload of peft) and bring these"
"""The cure for adapters that are not read."""


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

        Refuses a description that is missing, or of another kind than plain LoRA.
        """
        matches = [ADAPTER.fullmatch(name) for name in names]
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
        other = [name for name in UNREAD if told.get(name)]
        if str(told.get("init_lora_weights")).lower().startswith(OTHER_BASE):
            other.append("init_lora_weights")
        if other:
            raise Refused(f"{path} sets {', '.join(other)}, and plain LoRA is read; {MERGED}")
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
        sizes = {}
        for name in self.modules:
            if isinstance(linear := maps.get(name), nn.Linear):
                sizes[f"base_model.model.{name}.lora_A.weight"] = torch.Size((self.rank, linear.in_features))
                sizes[f"base_model.model.{name}.lora_B.weight"] = torch.Size((linear.out_features, self.rank))
        return sizes
