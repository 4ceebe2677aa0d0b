"""Numbers, names and commands as text that a page may show."""

import shlex
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.results import Entry
from harness.statistics import Estimate
from harness.tracks import TRACKS

MOST = 80
"""Characters of a name that a page shows; the export has all."""


def legible(text: object, most: int = MOST) -> str:
    """One line of what a stranger wrote: no character in it is unseen or turns the order of others; long ones end in …

    It is still no Markdown: show it with st.text, st.code, in a table or a chart.
    """
    seen = "".join(c if unicodedata.category(c) not in UNSEEN else "�" for c in str(text)[: most + 1])
    return f"{seen[: most - 1]}…" if len(seen) > most else seen


UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories: controls, format characters, lone surrogates, separators of lines and paragraphs."""


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


def changed(track: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a run that are not its track's."""
    usual = vars(TRACKS[track].settings) if track in TRACKS else {}
    return {name: value for name, value in settings.items() if name not in usual or usual[name] != value}


def settings(track: str, given: Mapping[str, Any]) -> str:
    """What differs from the track's settings: `lr 0.001, batch 8`."""
    return legible(", ".join(f"{name} {value}" for name, value in changed(track, given).items()), 200)


def labels(entries: Sequence[Entry]) -> dict[str, str]:
    """Entry id → a name that no other of the entries has."""
    names = [legible(entry.name, 40) for entry in entries]
    return {
        e.id: name if names.count(name) == 1 else f"{name} · {e.id[:6]}" for e, name in zip(entries, names, strict=True)
    }


def verified(entry: Entry) -> str:
    """What came out when it was scored again: `reproduced`, `differs`, or `no` where a seed was not."""
    found = {run["verified"] for run in entry.runs}
    return "differs" if "differs" in found else "reproduced" if found == {"reproduced"} else "no"


def tied(front: int) -> str:
    """How many lead, plainly."""
    return "Nobody is ranked yet" if front == 0 else "One leads" if front == 1 else f"{front} tied on front 1"


def again(run: Mapping[str, Any]) -> list[str]:
    """The commands that make a row of the view `runs` again."""
    if run["submitted"]:
        return [shlex.join(["razorbench", "verify", run["submitted"]])]
    out = f"again-{run['id']}"
    flags = [
        part
        for name, value in changed(run["track"], run["settings"]).items()
        for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    seed = ["--seed", str(run["seed"] or 0), "--out", out]
    return [
        shlex.join(["razorbench", "adapt", run["track"], "--method", run["method"], *seed, *flags]),
        shlex.join(["razorbench", "score", out, "--track", run["track"]]),
    ]
