"""The command about robots: how near a simulator of ours comes to the one that it stands for."""

from pathlib import Path
from typing import Literal

import tyro

from razorbench.harness.cli.arguments import Json
from razorbench.harness.cli.terminal import busy, listing
from razorbench.harness.core.extras import needed
from razorbench.harness.core.registry import imported

AGREEMENT = "razorbench.tasks.google.agreement:agreement"
"""What replays recordings of SimplerEnv's google robot on SAPIEN 3."""


def robots(
    action: tyro.conf.Positional[Literal["agreement"]],
    recordings: tyro.conf.Positional[Path],
    *,
    every: int = 1,
    json: Json = False,
) -> None:
    """Replay recorded motions of SimplerEnv's google robot on SAPIEN 3: which verdicts agree, how far joints are off.

    Args:
        action: agreement prints a row for each group of episodes.
        recordings: Folder with original_can*.npz and original_drawers*.npz.
        every: Replay each k-th episode only.
    """
    with busy("replaying"), needed("the google robot"):
        rows = list(imported(AGREEMENT)(recordings, every))
    listing(rows, json)
