"""Motions as OpenVLA's tokens: bins of −1…1, and the statistics by which −1…1 becomes what a robot does."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from razorbench import Refused
from razorbench.agents.openvla.shape import config

STATISTICS = "dataset_statistics.json"
"""What a fine-tuned checkpoint calls the statistics of what it was tuned on."""


GRIPPERS = {"": 0.0, "opens": 1.0, "closes": -1.0}
"""What opens a task's gripper, by what its 1 does; 0: its number is the checkpoint's own, from 0 closed to 1 open."""


def gripped(motion: np.ndarray, gripper: str) -> np.ndarray:
    """Motions [n, k] as a task takes them: the gripper, which is last, opens or closes, as in OpenVLA's evaluations."""
    if not (opening := GRIPPERS[gripper]):
        return motion
    return np.concatenate([motion[:, :-1], np.where(motion[:, -1:] > 0.5, opening, -opening)], 1)


def ungripped(motion: np.ndarray, gripper: str) -> np.ndarray:
    """The checkpoint's own motions [n, k] of a task's; a gripper that is told 0 is open, as OpenVLA's data have it."""
    if not (opening := GRIPPERS[gripper]):
        return motion
    closing = motion[:, -1:] * opening < 0
    return np.concatenate([motion[:, :-1], np.where(closing, 0.0, 1.0)], 1)


@dataclass(frozen=True)
class Bins:
    """Edges of equal distance in −1…1; a number is the edge below it. The last edge has no bin of its own."""

    edges: int = 256

    def codes(self, numbers: np.ndarray) -> np.ndarray:
        """Codes, from 0, of numbers; what is beyond −1…1 has the outermost ones, and only 1 itself the last."""
        lines = np.linspace(-1, 1, self.edges)
        return np.digitize(np.clip(numbers, -1, 1), lines) - 1

    def numbers(self, codes: np.ndarray) -> np.ndarray:
        """The middles of the bins of codes; what is outside of the codes has the outermost ones."""
        lines = np.linspace(-1, 1, self.edges)
        return ((lines[:-1] + lines[1:]) / 2)[np.clip(codes, 0, self.edges - 2)]


@dataclass(frozen=True)
class Statistics:
    """How numbers of −1…1 become a motion: by the 1st and the 99th percentile of a data set, a number each."""

    key: str
    """What the data set is called in the checkpoint."""
    source: str
    """The file that told them."""
    low: tuple[float, ...]
    high: tuple[float, ...]
    mask: tuple[bool, ...]
    """Which numbers are scaled; the others, such as a gripper, are what they are."""

    @staticmethod
    def of(key: str, source: str, told: Any) -> "Statistics":
        """From an entry of a checkpoint's statistics. Refuses one that does not tell the percentiles."""
        try:
            action = told["action"]
            low, high = (tuple(map(float, action[name])) for name in ("q01", "q99"))
            mask = tuple(map(bool, action.get("mask") or [True] * len(low)))
            if not len(low) == len(high) == len(mask) > 0:
                raise ValueError("their lengths differ")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise Refused(f"{source} has no statistics q01, q99 and mask of actions for {key!r} ({error!r})") from None
        return Statistics(key, source, low, high, mask)

    def motion(self, numbers: np.ndarray) -> np.ndarray:
        """Motions [n, k] of numbers in −1…1."""
        low, high = np.array(self.low), np.array(self.high)
        return np.where(self.mask, 0.5 * (numbers + 1) * (high - low) + low, numbers)

    def numbers(self, motion: np.ndarray) -> np.ndarray:
        """Numbers in −1…1 of motions [n, k], as OpenVLA's training makes them; of what never moves 0."""
        low, high = np.array(self.low), np.array(self.high)
        scaled = np.where(high == low, 0.0, 2 * (motion - low) / (high - low + 1e-8) - 1)
        return np.clip(np.where(self.mask, scaled, motion), -1, 1)


@dataclass(frozen=True)
class Told:
    """All statistics that a checkpoint brings, by file and key; those of an earlier file go before."""

    files: Mapping[str, Mapping[str, Any]]

    @staticmethod
    def read(folder: Path) -> "Told":
        """Those of the folder's own dataset_statistics.json, then those that its config.json has from its base."""
        return Told({**beside(folder), "config.json": config(folder).get("norm_stats") or {}})

    def ahead(self, folder: Path) -> "Told":
        """The same after those of a checkpoint that was tuned from this one."""
        own = beside(folder)
        if own.items() <= self.files.items():  # none, or this very one
            return self
        return Told({**own, **{f"{name} of its base": each for name, each in self.files.items()}})

    def choose(self, key: str = "") -> list[Statistics]:
        """The statistics of a key, the ones to use first and then those that stand behind them.

        Without a key, those of the first file that has any, if they are of one data set. Refuses a key that nobody has,
        and none where there are several; the message lists what there is.
        """
        first = next((each for each in self.files.values() if each), {})
        if not key and len(first) == 1:
            key = next(iter(first))
        found = [Statistics.of(key, name, each[key]) for name, each in self.files.items() if key in each]
        if not found:
            listed = "; ".join(f"{name}: {', '.join(sorted(each))}" for name, each in self.files.items() if each)
            asked = f"the checkpoint has no statistics {key!r}" if key else "no statistics are named (unnorm_key)"
            raise Refused(f"{asked}; choose from {listed or 'none, for it brings no statistics'}")
        return found


def beside(folder: Path) -> dict[str, Any]:
    """The dataset_statistics.json of a folder, by its name; nothing where there is none."""
    path = folder / STATISTICS
    if not path.exists():
        return {}
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(told, dict):
            raise ValueError("no object")
    except (OSError, ValueError) as error:
        raise Refused(f"{path} cannot be read ({error}); bring that of the checkpoint, or remove it") from None
    return {STATISTICS: told}
