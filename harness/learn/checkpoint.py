"""A checkpoint folder: weights as safetensors, `checkpoint.json` that says how they came about, and the curve.

::

    DIR/model.safetensors                the adapted weights; those of others may come in several files, with an index
    DIR/adapter_model.safetensors        or else LoRA, with adapter_config.json as peft writes it
    DIR/checkpoint.json                  track, method, settings, seed, steps, provenance
    DIR/curve.jsonl                      one report a step
    DIR/checkpoints/<step>.safetensors   weights on the way, for the law of forgetting
    DIR/state-<step>/                    while it is being made: all that is needed to go on
"""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Refused

WEIGHTS, ADAPTERS, INDEX = "model.safetensors", "adapter_model.safetensors", "model.safetensors.index.json"
ADAPTER_CONFIG = "adapter_config.json"
"""What describes adapters, as peft has it, beside their weights."""
MANIFEST, CURVE, WAYPOINTS = "checkpoint.json", "curve.jsonl", "checkpoints"


@dataclass(frozen=True)
class Manifest:
    """How an adapted checkpoint came about, as its maker says."""

    track: str
    method: str
    base: str = ""
    """sha256 of the base's weights; empty: not said."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    steps: int | None = None
    cost: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What one step did."""

    step: int
    """Steps done, this one included."""
    lr: float
    loss: float
    """The surrogate, negated and normalised, plus penalties."""
    reward: float
    """Mean reward of the step's episodes; NaN where none is scored."""
    grad_norm: float
    """Norm of the gradient before clipping."""
    episodes: int
    elements: int
    """Elements (tokens, bins, classes) that the loss was taken over."""
    seconds: float
    measures: Mapping[str, float] = field(default_factory=dict)
    """What else was measured, by the names of `harness.learn.measures`."""


@dataclass(frozen=True)
class Checkpoint:
    """A folder that can be scored."""

    folder: Path
    manifest: Manifest | None
    """None for a folder that holds weights alone."""

    @property
    def weights(self) -> Path:
        """The adapted weights, or the adapters beside them; of weights in several files the index."""
        there = (self.folder / name for name in (ADAPTERS, WEIGHTS, INDEX))
        return next((path for path in there if path.exists()), self.folder / WEIGHTS)

    def waypoints(self) -> dict[int, Path]:
        """Weights in mid-training, by step."""
        return {int(path.stem): path for path in sorted((self.folder / WAYPOINTS).glob("*.safetensors"))}

    def curve(self) -> list[Report]:
        """Reports of the adaptation, one a step."""
        path = self.folder / CURVE
        return [Report(**json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []


def read(folder: Path) -> Checkpoint:
    """The checkpoint in a folder. Refuses one without weights, unfinished, or with a manifest that cannot be read."""
    if not folder.is_dir():
        raise Refused(f"{folder} is not a folder; name one that holds {WEIGHTS}")
    if not Checkpoint(folder, None).weights.is_file():
        going = (folder / MANIFEST).exists()
        cure = (
            "run the same `razorbench adapt` again to finish it" if going else "save the weights there as safetensors"
        )
        raise Refused(f"{folder} holds no {WEIGHTS}; {cure}")
    if (folder / ADAPTERS).exists() and (folder / WEIGHTS).exists():
        raise Refused(f"{folder} holds both {WEIGHTS} and {ADAPTERS}; keep what is to be scored")
    path = folder / MANIFEST
    if not path.exists():
        return Checkpoint(folder, None)
    return Checkpoint(folder, read_manifest(path))


def files(weights: Path) -> list[Path]:
    """The files that hold some weights: the one, or those that an index names, as transformers writes it.

    Refuses an index that cannot be read, or names what is not beside it.
    """
    if weights.name != INDEX:
        return [weights]
    try:
        names = sorted({*json.loads(weights.read_text())["weight_map"].values()})
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise Refused(f"{weights} is no index of safetensors files ({error}); save the weights again") from None
    plain = [name for name in names if isinstance(name, str) and name and name == Path(name).name]
    shards = [weights.with_name(name) for name in plain]
    if not names or len(shards) < len(names) or not all(file.is_file() for file in shards):
        raise Refused(f"{weights} names files that are not beside it; bring all of {', '.join(map(str, names))}")
    return shards


def read_manifest(path: Path) -> Manifest:
    """The manifest in a file. Refuses what is not one."""
    try:
        return Manifest(**json.loads(path.read_text()))
    except (ValueError, TypeError) as error:
        raise Refused(f"{path} is not a checkpoint manifest ({error}); remove it or adapt again") from None


def write_json(path: Path, record: Any) -> None:
    """Write a dataclass as JSON, all or nothing."""
    write_text(path, json.dumps(asdict(record), indent=1))


def write_text(path: Path, text: str) -> None:
    """Write a file, all or nothing."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with open(fresh, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
