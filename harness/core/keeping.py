"""What a rollout keeps of its turns: everything, codes with the words around them, or nothing.

A way to keep is a function of a turn that is over, and of which of its rows [n] are the first of their episode.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from razorbench.harness.core.columns import nbytes
from razorbench.harness.core.episodes import Turn

SMALL = 2**10
"""Bytes of a small picture or state: one of handwriting, say, or the joints of a robot."""

Keep = Callable[[Turn, np.ndarray], Sequence[Turn]]


def everything(turn: Turn, first: np.ndarray) -> list[Turn]:
    """The turn as it was: for who learns from it."""
    return [turn]


def codes(turn: Turn, first: np.ndarray) -> list[Turn]:
    """What was done, values and codes, and the words that were said to it; pictures and states only if they are small.

    Of those, `SMALL` bytes a row are kept at most: no more than words or codes may take.
    """
    large = [name for name in ("images", "state") if nbytes(getattr(turn.seen, name)) > SMALL * len(turn.rows)]
    if not large:
        return [turn]
    return [replace(turn, seen=replace(turn.seen, **dict.fromkeys(large)), whole=False)]


def opening(turn: Turn, first: np.ndarray) -> list[Turn]:
    """The first turn of each episode as it was, of the others what `codes` keeps."""
    if first.all():
        return [turn]
    if not first.any():
        return codes(turn, first)
    return [turn.take(np.flatnonzero(first)), *codes(turn.take(np.flatnonzero(~first)), first)]


def nothing(turn: Turn, first: np.ndarray) -> list[Turn]:
    """No turn: for who asks for outcomes alone."""
    return []
