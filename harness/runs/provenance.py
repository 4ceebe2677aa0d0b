"""Where a number comes from: code, versions, machine, command. Written into every checkpoint and record."""

import os
import platform
import subprocess
import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from razorbench import __version__

PACKAGES = ("torch", "numpy", "scipy", "duckdb", "safetensors", "transformers", "peft", "vllm", "lm-eval", "mujoco")
"""Whose versions may change a number; those that are not installed are left out."""


@cache
def commit() -> tuple[str | None, bool | None]:
    """The commit of this checkout and whether the tree differs from it; (None, None) outside a checkout."""
    here = Path(__file__).resolve()  # git follows no link
    git = ["git", "-C", str(here.parent)]
    try:
        tracked = subprocess.run([*git, "ls-files", "--error-unmatch", str(here)], capture_output=True, check=False)
        if tracked.returncode:
            return None, None
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        status = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
        return head, bool(status.strip())
    except (OSError, subprocess.CalledProcessError):
        return None, None


def installed(package: str) -> str | None:
    """Version of an installed distribution, or None; imports nothing."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def provenance(**more: Any) -> dict[str, Any]:
    """What made this: program, commit, dirty flag, command, versions, machine; and whatever else is given."""
    head, dirty = commit()
    return {
        "razorbench": __version__,
        "commit": head,
        "dirty": dirty,
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "python": platform.python_version(),
        "versions": {name: release for name in PACKAGES if (release := installed(name))},
        "machine": {"system": platform.system(), "processor": platform.machine(), "cores": os.cpu_count()},
        **more,
    }
