"""Two runs of lm-eval as rows to print, and as one page to read anywhere."""

from datetime import datetime

from razorbench import __version__
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.logged import Compared
from razorbench.harness.report.templates import template
from razorbench.harness.report.text import number, printable, unseen

LONGEST = 4000
"""Characters of a question or a reply that the page shows."""


def rows(compared: Compared) -> list[dict[str, str]]:
    """A row a task, in words: points, with their intervals."""
    return [
        {
            "task": printable(change.task),
            "metric": printable(change.metric if change.filter == "none" else f"{change.metric}, {change.filter}"),
            "documents": f"{change.difference.n:,}",
            "first": number(change.first, ".1f"),
            "second": number(change.second, ".1f"),
            "change": with_interval(change.difference),
            "p": number(change.p_holm, ".2g"),
            "lost": f"{change.first_alone:,}",
            "gained": f"{change.second_alone:,}",
            "mde": number(change.mde, ".1f"),
        }
        for change in compared.changes
    ]


def with_interval(estimate: Estimate) -> str:
    """A change in points with its interval."""
    return f"{number(estimate.value, '+.1f')} [{number(estimate.low, '+.1f')}, {number(estimate.high, '+.1f')}]"


def page(compared: Compared, now: datetime) -> str:
    """The page; `now` is when it is made. It fetches nothing, and what was logged is text in it and nothing else."""
    return template("comparison").render(
        first=printable(compared.first.folder),
        second=printable(compared.second.folder),
        verdict=printable(compared.verdict, LONGEST),
        rows=rows(compared),
        mean=with_interval(compared.mean) if len(compared.changes) > 1 else "",
        notes=[printable(note, 400) for note in compared.notes],
        flips=[
            {
                "task": printable(flip.task),
                "asked": printable(flip.asked, 120),
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


def plain(text: str) -> str:
    """Lines of what a stranger wrote, with no character in them that is unseen; long ones end in …"""
    seen = "".join("�" if c not in "\n\t" and unseen(c) else c for c in text[:LONGEST])
    return seen + "…" * (len(text) > LONGEST)
