"""The command that makes the interpreter which SimplerEnv needs for itself."""

from pathlib import Path
from typing import Literal

import tyro

from razorbench.harness.cli.terminal import out
from razorbench.harness.core.registry import imported

SETUP = "razorbench.tasks.simpler.environment:setup"


def simpler(
    action: tyro.conf.Positional[Literal["setup"]],
    folder: tyro.conf.Positional[Path],
    *,
    python: str = "python3.11",
) -> None:
    """Make the environment that SimplerEnv runs in, of a checkout; what is there already is not made again.

    Args:
        action: setup makes .venv in the folder, and installs what is pinned and the checkout where it lies.
        folder: A checkout of github.com/simpler-env/SimplerEnv with its submodule.
        python: An interpreter of Python 3.11, which SAPIEN 2.2.2 is built for.
    """
    for step in imported(SETUP)(folder, python):
        out.print(step, highlight=False, soft_wrap=True)
