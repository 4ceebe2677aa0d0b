"""The folder of a run: whose it is, and files that are written whole or not at all."""

import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn import checkpoint as checkpoints
from razorbench.harness.learn.checkpoint import ADAPTERS, CURVE, MANIFEST, WAYPOINTS, WEIGHTS, Manifest, Report
from razorbench.harness.learn.policy import Policy
from razorbench.harness.learn.settings import lasting


def reserve(folder: Path, manifest: Manifest) -> None:
    """Make the folder this run's own, or refuse it when it belongs to another."""
    path = folder / MANIFEST
    if folder.exists() and not folder.is_dir():
        raise Refused(f"{folder} is not a folder; choose a new folder for --out")
    if not path.exists():
        if folder.exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise Refused(f"{folder} is not empty and holds no {MANIFEST}; choose a new folder for --out")
        folder.mkdir(parents=True, exist_ok=True)
        checkpoints.write_json(path, manifest)
        return
    there = checkpoints.read_manifest(path)
    for name in ("track", "method", "settings", "seed", "base"):
        theirs, ours = getattr(there, name), getattr(manifest, name)
        if name == "settings":
            theirs, ours = lasting(theirs), lasting(ours)
            theirs, ours = (
                {k: v for k, v in a.items() if k not in b or b[k] != v} for a, b in ((theirs, ours), (ours, theirs))
            )
        if theirs != ours and not (name == "base" and theirs == ""):
            other = "other settings" if name == "settings" else f"another {name}"
            raise Refused(f"{folder} holds a run with {other} ({theirs}, not {ours}); choose another --out")


def save_weights(policy: Policy, path: Path) -> None:
    """Write weights, all or nothing."""
    path.parent.mkdir(exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    policy.save(fresh)
    os.replace(fresh, path)


def write_curve(folder: Path, reports: Iterable[Report]) -> None:
    """Write the curve, all or nothing."""
    fresh = folder / f".{CURVE}.{os.getpid()}"
    fresh.write_text("".join(json.dumps(asdict(report)) + "\n" for report in reports))
    os.replace(fresh, folder / CURVE)


def tidy(folder: Path) -> None:
    """Remove what only an unfinished adaptation needs, and what killed ones left half-written."""
    for state in {*folder.glob("state-*"), *folder.glob(".state-*")}:
        shutil.rmtree(state)
    ours = (f".{name}.*" for name in (WEIGHTS, ADAPTERS, MANIFEST, CURVE))
    theirs = (".tmp*", f"{WAYPOINTS}/.*")  # safetensors writes to a name of its own first
    for pattern in (*ours, *theirs):
        for half in folder.glob(pattern):
            half.unlink()
