"""What it takes to bring a model of 3 billion weights through each door: seconds, peak memory, disk.

    python -m benchmarks.doors [--folder FOLDER] [--layers 36]

The model has Qwen2.5-3B's config and nothing but zeros: its files are sparse, 6 GB in bf16 that take no disk until they
are copied. A checkpoint of it differs from it in its last number. Each door is a command in a process of its own; its
memory is the most that was resident, and its disk is what the home has grown by.
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config

from razorbench.agents.language.mini_lm import FOLDER
from razorbench.harness.tracks.origins import content_digest

SHAPE: dict[str, Any] = {
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_attention_heads": 16,
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "max_position_embeddings": 32768,
    "tie_word_embeddings": True,
    "num_hidden_layers": 36,
}
"""Qwen2.5-3B-Instruct's config.json, at the commit of `qwen2.5-3b-instruct-v1`."""
SHARD = 4 * 10**9
"""Bytes of a file, about."""
TRACK = """
id = "shaped-v1"
title = "A model of a large one's shape"
question = "What do the doors take?"
new = "mini-math-v1"
items = 8
drift_items = 8
checkpoint_items = 8
checkpoints = 0

[base]
id = "shaped-v1"
agent = "causal-lm-v1"

[base.origin]
folder = "{folder}"
sha256 = "{sha256}"

[priors]
skills = ["mini-sorting-v1"]

[settings]
steps = 50
batch = 8
group = 8
horizon = 256

[conditions]
limit = 256
"""


def empty(path: Path, tensors: dict[str, list[int]], last: bytes = b"") -> None:
    """A safetensors file of bf16 zeros, sparse; its data end with `last`."""
    header, at = dict[str, Any](), 0
    for name, shape in tensors.items():
        size = 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [at, at + size]}
        at += size
    told = json.dumps(header).encode()
    told += b" " * (-len(told) % 8)
    with open(path, "wb") as file:
        file.write(len(told).to_bytes(8, "little") + told)
        file.truncate(8 + len(told) + at)
        file.seek(-len(last), os.SEEK_END)
        file.write(last)


def model(folder: Path, shape: dict[str, Any], part: int = SHARD) -> dict[str, list[int]]:
    """Write config, tokenizer and weights of a shape, in files of so many bytes; names and shapes of its tensors."""
    config = Qwen2Config.from_pretrained(FOLDER)
    config.update({**shape, "layer_types": ["full_attention"] * shape["num_hidden_layers"]})
    with torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    folder.mkdir(parents=True)
    made.config.save_pretrained(folder)
    AutoTokenizer.from_pretrained(FOLDER).save_pretrained(folder)
    tensors = {name: [*weight.shape] for name, weight in made.named_parameters()}
    shards: list[dict[str, list[int]]] = [{}]
    for name, size in tensors.items():
        held = sum(2 * torch.Size(each).numel() for each in shards[-1].values())
        if shards[-1] and held + 2 * torch.Size(size).numel() > part:
            shards.append({})
        shards[-1][name] = size
    names = [f"model-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        empty(folder / name, shard)
    index = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return tensors


def door(home: Path, *arguments: str) -> tuple[float, float, float, float]:
    """Seconds of the clock and of processors, peak GB of memory, and GB that the home has grown by."""
    before, begun, was = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter(), size(home)
    command = [sys.executable, "-m", "razorbench.harness.cli.main", *arguments, "--home", str(home), "--json"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as child:
        _, code, used = os.wait4(child.pid, 0)
        child.returncode = code
    if code:
        raise SystemExit(f"{' '.join(arguments)}: exit {code}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    processors = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - begun, processors, used.ru_maxrss * 1024 / 1e9, (size(home) - was) / 1e9


def size(folder: Path) -> int:
    """Bytes of disk that the files of a folder take."""
    return sum(512 * file.stat().st_blocks for file in folder.rglob("*") if file.is_file())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where all is written, and removed from again")
    parser.add_argument("--layers", type=int, default=36)
    told = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    place = Path(tempfile.mkdtemp(dir=told.folder))
    try:
        tensors, home, track = (
            model(place / "base", {**SHAPE, "num_hidden_layers": told.layers}),
            place / "home",
            place / "shaped-v1.toml",
        )
        home.mkdir()
        sha256 = content_digest(place / "base")
        track.write_text(TRACK.format(folder=place / "base", sha256=sha256))
        (place / "out").mkdir()
        empty(place / "out" / "model.safetensors", tensors, b"\x80\x3f")
        numbers = sum(torch.Size(shape).numel() for shape in tensors.values())
        print(f"{numbers / 1e9:.2f} billion weights, {2 * numbers / 1e9:.2f} GB in bf16\n")
        print("| door | s | processor s | peak memory, GB | disk, GB |\n| --- | ---: | ---: | ---: | ---: |")
        doors = {
            "`base`": ("base", str(track)),
            "`plan --gpu h100`": ("plan", str(track), "--method", "dr-grpo", "--gpu", "h100", "--calibration", "10"),
            "`submit`, the gate included": ("submit", str(place / "out"), "--track", str(track), "--method", "sft"),
        }
        for name, arguments in doors.items():
            clock, processors, memory, disk = door(home, *arguments)
            print(f"| {name} | {clock:.0f} | {processors:.0f} | {memory:.2f} | {disk:.2f} |", flush=True)
    finally:
        shutil.rmtree(place)


if __name__ == "__main__":
    main()
