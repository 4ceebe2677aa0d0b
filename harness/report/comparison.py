"""Two models, two runs or two rows, compared: rows and sentences to print, and one page to read anywhere."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from razorbench import __version__
from razorbench.harness.measure.comparison import MODELS, Compared
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.report.templates import template
from razorbench.harness.report.text import interval, number, printable, unseen

LONGEST = 4000
"""Characters of a question or a reply that the page shows."""
SHORT = 160
"""Characters of it that are printed."""


def rows(compared: Compared) -> list[dict[str, str]]:
    """A row a task, in words: points, with their intervals. What no task has is left out."""
    kind = compared.kind
    listed = [
        {
            "task": printable(change.task),
            "role": change.role,
            "metric": printable(change.metric if change.filter == "none" else f"{change.metric}, {change.filter}"),
            f"{kind.item}s": f"{change.difference.n:,}",
            kind.first: number(change.first, ".1f"),
            kind.second: number(change.second, ".1f"),
            "change": with_interval(change.difference),
            "p": number(change.p_holm, ".2g"),
            "lost": f"{change.first_alone:,}",
            "gained": f"{change.second_alone:,}",
            "mde": number(change.mde, ".1f"),
        }
        for change in compared.changes
    ]
    told = [name for name in (listed[0] if listed else ()) if any(row[name] for row in listed)]
    return [{name: row[name] for name in told} for row in listed]


def beside(compared: Compared) -> list[dict[str, str]]:
    """A row a task and metric beside the score, in the metric's own unit; none where tasks measure nothing else."""
    kind = compared.kind
    return [
        {
            "task": printable(each.task),
            "beside the score": printable(each.metric),
            kind.first: number(each.first, ".4g"),
            kind.second: number(each.second, ".4g"),
            "change": interval(each.difference, each.low, each.high, "+.3g"),
        }
        for each in compared.beside
    ]


def sentences(compared: Compared) -> list[str]:
    """What came out in words beside the table: gain, mean over tasks, drift."""
    parts, new = [], compared.new
    if new:
        parts.append(
            f"{'Gain' if compared.kind is MODELS else 'Change'} on {new.task}: {with_interval(new.difference)} points."
        )
    if compared.averaged > 1 or new:
        of = "priors" if any(change.role for change in compared.changes) else "tasks"
        over = f"over {compared.averaged} {of}" if compared.averaged > 1 else f"on one {of[:-1]}"
        sign = "; 0: kept, negative: forgot" if compared.kind is MODELS else ""
        parts.append(f"{compared.kind.mean} {over}: {with_interval(compared.mean)} points{sign}.")
    return [*parts, compared.drift] if compared.drift else parts


def lines(compared: Compared) -> Iterator[str]:
    """The flips, some lines each, cut to a width that a terminal shows."""
    width = max(map(len, ("asked", "right", compared.kind.first, compared.kind.second)))
    for flip in compared.flips:
        yield f"{'gained' if flip.gained else 'lost'} · {printable(flip.task)} · {printable(flip.item)}"
        said = {"asked": flip.asked, "right": flip.target}
        said |= {compared.kind.first: flip.first, compared.kind.second: flip.second}
        for name, text in said.items():
            if text or name not in ("asked", "right"):
                yield f"    {name:{width}}  {printable(' '.join(text.split()), SHORT) or '(nothing)'}"


def with_interval(estimate: Estimate) -> str:
    """A change in points with its interval."""
    return interval(estimate.value, estimate.low, estimate.high)


CALLED: dict[str, str] = {"p": "p, corrected", "mde": "would be seen"}
"""Columns that the page calls otherwise."""
WORDS = ("task", "role", "metric", "beside the score")
"""Columns that are no numbers."""


def page(compared: Compared, now: datetime) -> str:
    """The page; `now` is when it is made. It fetches nothing, and what others wrote is text in it, nothing else."""
    return template("comparison").render(
        kind=compared.kind,
        first=printable(compared.first),
        second=printable(compared.second),
        verdict=printable(compared.verdict, LONGEST),
        tables=[table(rows(compared)), table(beside(compared))],
        sentences=[printable(sentence, LONGEST) for sentence in sentences(compared)],
        notes=[printable(note, 400) for note in compared.notes],
        record=compared.record,
        track=compared.track,
        flips=[
            {
                "task": printable(flip.task),
                "item": printable(flip.item),
                "asked": printable(" ".join(flip.asked.split()), 120),
                "whole": plain(flip.asked),
                "target": plain(flip.target),
                "first": plain(flip.first),
                "second": plain(flip.second),
                "gained": flip.gained,
            }
            for flip in compared.flips
        ],
        version=__version__,
        now=f"{now:%Y-%m-%d %H:%M} UTC",
    )


def table(listed: list[dict[str, str]]) -> dict[str, Any]:
    """Rows with their columns: name, what the page calls it, whether it is a number."""
    columns = [(name, CALLED.get(name, name), name not in WORDS) for name in (listed[0] if listed else ())]
    return {"columns": columns, "rows": listed}


def plain(text: str) -> str:
    """Lines of what a stranger wrote, with no character in them that is unseen; long ones end in …"""
    seen = "".join("�" if c not in "\n\t" and unseen(c) else c for c in text[:LONGEST])
    return seen + "…" * (len(text) > LONGEST)
