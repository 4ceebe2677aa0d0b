"""An OpenVLA of a quarter of a million weights that trains on one CPU core, and how its files were made."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, normalizers, processors
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from razorbench.agents.openvla.policy import OpenVLA
from razorbench.agents.openvla.shape import TOWERS, Shape
from razorbench.agents.openvla.sight import PROMPT, SPACE
from razorbench.harness.learn.runtime import AUTO, Runtime

FOLDER = Path(__file__).parents[1] / "weights" / "tiny-openvla-v1"
"""The shipped config.json and tokenizer."""
TEXT, BINS, PADDING = 128, 256, 64
"""Tokens of text, then those of bins, then rows of the vocabulary that pad it."""
TOWER = {"width": 24, "layers": 3, "heads": 2, "inner": 48}
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": TEXT + BINS + PADDING,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.1,  # about 1 / sqrt(width): with the usual 0.02 attention is slow to find its keys
}
STATISTICS = {
    "tabletop": {
        "action": {
            "q01": [-0.25, -0.25, -0.1, -0.2, -0.2, -0.2, 0.0],
            "q99": [0.25, 0.25, 0.1, 0.2, 0.2, 0.2, 1.0],
            "mask": [True] * 6 + [False],
        }
    }
}
SMALL = Runtime("cpu", "float32", micro_batch=1024)
"""Small micro-batches stay in a core's cache; a GPU would wait for us."""


def tiny_openvla(
    seed: int = 0,
    folder: Path = FOLDER,
    *,
    unnorm_key: str = "",
    camera: str = "",
    crop: float = 0.0,
    gripper: str = "",
    over: Any = "bins",
    runtime: Runtime = AUTO,
) -> OpenVLA:
    """The network that `folder`'s config.json describes, with random weights from `seed`; the rest as in `openvla`."""
    how: dict[str, Any] = {"unnorm_key": unnorm_key, "camera": camera, "crop": crop, "gripper": gripper, "over": over}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return OpenVLA.fresh(folder, Shape.read(folder), runtime=runtime.otherwise(SMALL), **how)


def write(folder: Path, instructions: Iterable[str] = ()) -> None:
    """Write config.json and a tokenizer that was trained on prompts; the same instructions give the same files."""
    named = [name for kinds in TOWERS for name in kinds]
    told = {
        "model_type": "openvla",
        "architectures": ["OpenVLAForActionPrediction"],
        "arch_specifier": "no-align+fused-gelu-mlp",
        "use_fused_vision_backbone": True,
        "timm_model_ids": named,
        "tower_sizes": [TOWER, TOWER],
        "image_sizes": [56, 56],
        "image_resize_strategy": "resize-naive",
        "n_action_bins": BINS,
        "pad_to_multiple_of": PADDING,
        "text_config": LLAMA,
        "norm_stats": STATISTICS,
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(told, indent=1) + "\n")
    # As Llama's: no words are told apart, a space is a letter, and one stands before all.
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    letters = [chr(i) for i in range(33, 127)] + ["\n", SPACE]
    trainer = BpeTrainer(
        vocab_size=TEXT, special_tokens=["<unk>", "<s>", "</s>"], initial_alphabet=letters, show_progress=False
    )
    tokenizer.train_from_iterator([PROMPT.format(each) for each in instructions], trainer)
    described = json.loads(tokenizer.to_str())
    vocabulary = described["model"]["vocab"]
    vocabulary |= {f"<{i}>": i for i in range(len(vocabulary), TEXT + BINS)}  # the last ones, which nothing else says
    tokenizer = Tokenizer.from_str(json.dumps(described))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    tokenizer.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    tokenizer.save(str(folder / "tokenizer.json"))
