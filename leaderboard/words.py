"""Numbers, names and commands as text that a page may show."""

from collections.abc import Sequence

import numpy as np

from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.report.text import labels
from razorbench.harness.store.leaderboard import Entry


def number(value: float | None, digits: int = 1) -> str:
    """A number, or – where it is not known."""
    # Adding 0 makes −0 a 0.
    return "–" if value is None or not np.isfinite(value) else f"{round(float(value), digits) + 0:.{digits}f}"


def bounds(estimate: Estimate, digits: int = 1) -> str:
    """`[low, high]`, or – where there is no interval."""
    if not np.isfinite([estimate.low, estimate.high]).all():
        return "–"
    return f"[{number(estimate.low, digits)}, {number(estimate.high, digits)}]"


def estimated(estimate: Estimate, digits: int = 1) -> str:
    """`value [low, high]`."""
    return f"{number(estimate.value, digits)} {bounds(estimate, digits)}"


def probability(p: float | None) -> str:
    """A p-value; the smallest are bounded, not spelled out."""
    return "–" if p is None or not np.isfinite(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def runs_of(entries: Sequence[Entry]) -> tuple[tuple[str, str, int | None], ...]:
    """(id, label of the entry, seed) of each submission."""
    named = labels(entries)
    return tuple((run["id"], named[entry.id], run["seed"]) for entry in entries for run in entry.runs)


def tied(front: int) -> str:
    """How many lead, plainly."""
    return "Nobody is ranked yet" if front == 0 else "One leads" if front == 1 else f"{front} tied on front 1"
