"""A track as one page to read anywhere: it needs no server and no network, and fetches nothing."""

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from razorbench import __version__
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.record import Record, folder, read
from razorbench.harness.report.plots import by_seed, chosen, figures, plain_text
from razorbench.harness.report.templates import template
from razorbench.harness.report.text import number, printable
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import UNKNOWN, Entry
from razorbench.harness.tracks.catalogue import known_track
from razorbench.harness.tracks.variants import again

ALTERNATIVES = {
    "gain-retention": "Every entry's gain on the new task against its retention of the prior tasks, with 95 % "
    "intervals and the front that each method reaches. The numbers stand in the table of the ranking.",
    "law": "Forgetting of the prior tasks against drift from the base, with a quadratic fitted to the end points. "
    "Drift and retention of every entry stand in the table of the ranking; forgetting is minus retention.",
    "curves": "Scores on the new and the prior tasks, drift and reward over training steps, of one entry a method. "
    "The measured checkpoints stand in the table below.",
}
"""What a figure shows, for those who do not see it."""
VERSIONS = ("torch", "numpy", "transformers", "peft", "mujoco")


def report(store: Store, entries: Sequence[Entry], now: datetime) -> str:
    """The page of the track that these are all entries of, at least one; `now` is when it is made."""
    track = known_track(entries[0].track, store.home)
    fronts = Counter(entry.rank for entry in entries)
    priors = list(dict.fromkeys(effect.task for entry in entries for effect in entry.effects if effect.role == "prior"))
    script = (Path(__file__).parent / "page.js").read_text(encoding="utf-8")
    return template("page").render(
        track=track,
        id=printable(entries[0].track),
        rows=[_row(entry, fronts, store.home) for entry in entries],
        leaders=fronts[1],
        priors=[printable(task) for task in priors],
        kept=[_cells(entry, priors) for entry in entries],
        pictures=_pictures(store, entries),
        points=_points(store, entries),
        items=sorted({e.difference.n + e.difference.unscored for entry in entries for e in entry.effects}),
        scored_with=_scored_with(store.home, entries),
        version=__version__,
        now=f"{now:%Y-%m-%d %H:%M %Z}",
        script=Markup(script),
        digest=b64encode(sha256(script.encode()).digest()).decode(),
    )


# --- rows -------------------------------------------------------------------------------------------------------------


def _row(entry: Entry, fronts: Counter[int | None], home: Path) -> dict[str, Any]:
    """An entry in words; `fronts` tells how many entries are on each."""
    tied = entry.rank is not None and fronts[entry.rank] > 1
    return {
        "front": f"– ({entry.unranked})" if entry.rank is None else f"{entry.rank}, tied" if tied else str(entry.rank),
        "rank": entry.rank or fronts.total() + 1,
        "name": printable(entry.name),
        "method": printable(entry.method, 40),
        "settings": printable(entry.differs, 200),
        "seeds": entry.seeds,
        "gain": _number(entry.gain, entry.gain_between, "+z.1f"),
        "retention": _number(entry.retention, entry.retention_between, "+z.1f"),
        "drift": _number(entry.drift, entry.drift_between, "z.3g")
        | ({"interval": "below the floor"} if entry.below_floor else {}),
        "unscored": entry.unscored,
        "scored": f"{entry.scored_at:%Y-%m-%d}",
        "again": [
            printable(command, 2000)
            for run in entry.runs
            for command in again(entry.track, entry.method, entry.settings, run, home)
        ],
    }


def _number(estimate: Estimate, between: float, form: str) -> dict[str, Any]:
    """A number with its interval and the spread between seeds; `sort` is what a table sorts it by. A z makes −0 a 0."""
    known = np.isfinite([estimate.low, estimate.high]).all()
    return {
        "sort": float(estimate.value) if np.isfinite(estimate.value) else None,
        "value": number(estimate.value, form),
        "interval": f"[{number(estimate.low, form)}, {number(estimate.high, form)}]" if known else "",
        "between": f"± {number(between, form.lstrip('+'))}" if np.isfinite(between) else "",
    }


def _cells(entry: Entry, priors: Sequence[str]) -> list[dict[str, Any]]:
    """What was kept of each prior task; `heat` is how much was lost or won, from 0 to 1 at 50 points."""
    differences = {effect.task: effect.difference for effect in entry.effects if effect.role == "prior"}
    cells = []
    for task in priors:
        cell = _number(differences.get(task, UNKNOWN), np.nan, "+z.1f")
        change = cell["sort"] or 0.0
        cells.append(cell | {"heat": f"{min(abs(change) / 50, 1):.2f}", "lost": change < 0})
    return cells


def _points(store: Store, entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """The measured checkpoints of the entries that the curves show, means over seeds."""
    curve = store.curve(*(run["id"] for entry in entries for run in entry.runs))
    rows = []
    for method, entry in chosen(entries).items():
        curves = {name: by_seed(entry, curve, name) for name in ("new", "prior", "drift")}
        means = {
            name: dict(zip(steps.tolist(), seeds.mean(0).tolist(), strict=True)) if len(steps) else {}
            for name, (steps, seeds) in curves.items()
        }
        for step in sorted(set().union(*means.values())):
            row = {name: number(mean.get(step), ".3g" if name == "drift" else ".1f") for name, mean in means.items()}
            rows.append(row | {"method": printable(method), "name": printable(entry.name), "step": step})
    return rows


def _scored_with(home: Path, entries: Iterable[Entry]) -> list[str]:
    """The versions that the entries were scored with, the commonest first, and how many submissions each has."""
    lines = Counter(_versions(read(folder(home, run["id"]))) for entry in entries for run in entry.runs)
    return [f"{line} ({n} {'submission' if n == 1 else 'submissions'})" for line, n in lines.most_common()]


def _versions(record: Record) -> str:
    scored = record.provenance.get("scored") or {}
    parts = [f"razorbench {scored.get('razorbench', 'of unknown version')}"]
    parts += [f"commit {str(scored['commit'])[:12]}"] if scored.get("commit") else []
    packages = scored.get("versions") or {}
    return printable(", ".join([*parts, *(f"{name} {packages[name]}" for name in VERSIONS if name in packages)]), 200)


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(store: Store, entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """Name → the figure as inline SVG, its title and its caption."""
    with plain_text(), rc_context({"svg.fonttype": "none"}):
        return {name: _picture(name, figure) for name, figure in figures(store, entries).items()}


def _picture(name: str, figure: Figure) -> dict[str, Any]:
    caption = " ".join(figure.get_supxlabel().split())
    figure.supxlabel("")  # it stands below the figure as text, which wraps
    return {"svg": Markup(svg(name, figure)), "caption": caption}  # all text in it is escaped by ElementTree


def svg(name: str, figure: Figure) -> str:
    """The figure as an element for a page: no metadata, no style sheet, no ids but those that it uses itself."""
    with rc_context({"svg.hashsalt": name}):  # so that figures of one page share no ids
        figure.savefig(out := BytesIO(), format="svg", metadata={"Date": None, "Creator": None})
    root = ElementTree.fromstring(out.getvalue())
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith(("}metadata", "}style")):
                parent.remove(child)
    for node in root.iter():
        node.tag = node.tag.rpartition("}")[2]
        node.attrib = {key.rpartition("}")[2]: value for key, value in node.attrib.items()}
    used = set(re.findall(r"#([\w-]+)", " ".join(value for node in root.iter() for value in node.attrib.values())))
    for node in root.iter():
        if node.get("id", "") not in used:  # such as patch_1, which every figure has
            node.attrib.pop("id", None)
    for size in ("width", "height"):
        del root.attrib[size]
    root.attrib |= {"role": "img", "aria-label": ALTERNATIVES[name]}
    return ElementTree.tostring(root, encoding="unicode")
