"""How the command line speaks: progress, sentences, commands to copy, tables, and JSON for scripts."""

import json as jsonlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypedDict

import tyro
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.status import Status
from rich.table import Table
from rich.text import Text

from harness.settings import Settings, explained
from harness.tracks import Track

if TYPE_CHECKING:  # they load scipy, which most commands do not need
    from harness.entries import Entry
    from harness.estimate import Estimate


HOME = Path(os.environ.get("RAZORBENCH_HOME", ".razorbench"))
"""The folder that everything lives in, unless --home names another."""


Home = Annotated[Path, tyro.conf.arg(help="Folder that everything lives in (RAZORBENCH_HOME).")]
Json = Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(help="Print JSON for scripts.")]
Server = Annotated[
    str | None, tyro.conf.arg(name="store", help="Address quack:HOST:PORT of who writes the store (razorbench serve).")
]
Name = tyro.conf.Positional[str]


def flags() -> Any:
    """What a command line says of settings: those that are named there, and no other, whatever their values are."""
    told, usual = explained(), "(default: the track's)"
    named = {
        field.name: Annotated[field.type, tyro.conf.arg(help=told[field.name], help_behavior_hint=usual)]
        for field in fields(Settings)
    }
    return TypedDict("Named", named, total=False)  # type: ignore


Changes = Annotated[Settings | Mapping[str, Any], tyro.conf.arg(constructor=flags()), tyro.conf.OmitArgPrefixes]
"""Settings: all of them, or some by name, and then the others are the track's."""
UNCHANGED: dict[str, Any] = {}
"""Settings as the track has them."""


class Terminal(Console):
    """Where sentences and tables go."""

    def on_broken_pipe(self) -> None:
        """Let `main` decide; rich would exit with 1."""
        raise BrokenPipeError


out, err = Terminal(markup=False), Terminal(markup=False, stderr=True)
"""Brackets in what they print mean nothing: much of it was written by strangers."""


class Failed(Exception):
    """The work was not done, or in part; the message says what failed."""


def busy(what: str) -> Status:
    """A spinner on standard error while something is done."""
    return err.status(Text(what))


def bar(what: str) -> Progress:
    """A progress bar with time left, on standard error."""
    return Progress(
        TextColumn(what),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=err,
    )


def say(row: Mapping[str, Any], json: bool, sentence: str) -> None:
    """A result: as JSON, or as a sentence."""
    if json:
        print(jsonlib.dumps(row, default=str))
    else:
        out.print(sentence, highlight=False, soft_wrap=True)


def command(line: str, home: Path | None = None) -> None:
    """A command to copy; with the home that this one was given, where it is not the usual one."""
    suffix = "" if home in (None, HOME) else f" --home {home}"
    if line.startswith("razorbench ") and not which("razorbench"):  # the environment is not activated
        line = line.replace("razorbench", os.path.relpath(sys.argv[0]), 1)
    out.print(f"    {line}{suffix}", highlight=False, soft_wrap=True, style="cyan")


def number(value: float | None, form: str) -> str:
    """A number in some form, or a dash for what is not known."""
    return "–" if value is None or value != value else format(value, form)


def interval(value: float | None, low: float | None, high: float | None) -> str:
    """A difference in points with its interval."""
    return f"{number(value, '+.1f')} [{number(low, '+.1f')}, {number(high, '+.1f')}]"


def listing(rows: Sequence[Mapping[str, Any]], json: bool, show: Sequence[str] = ()) -> None:
    """Rows as JSON, whole; or as a table of the columns to show (none named: all)."""
    if json:
        print(jsonlib.dumps(list(rows), indent=1, default=str))
        return
    table = Table(box=SIMPLE)
    columns = show or (list(rows[0]) if rows else [])
    for i, name in enumerate(columns):
        table.add_column(name.replace("_", " "), no_wrap=i == 0, justify=justify([row[name] for row in rows]))
    for row in rows:
        table.add_row(*(cell(row[name]) for name in columns))
    out.print(table, highlight=False)


def justify(values: Sequence[Any]) -> Literal["left", "right"]:
    """Numbers stand on the right, words on the left."""
    return "right" if all(isinstance(value, int | float | None) for value in values) else "left"


def cell(value: Any) -> str:
    """A value as a table shows it."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def leaderboard(track: Track | None, id: str, entries: "Sequence[Entry]") -> Table:
    """The entries of one track as a table, best front first."""
    title = f"{id}: {track.title}" if track else id
    table = Table(title=title, caption="points and nats; [95 % interval over items]; ± spread between seeds")
    for column, justify in (
        ("front", "right"),
        ("method", "left"),
        ("settings", "left"),
        ("seeds", "right"),
        ("gain", "right"),
        ("retention", "right"),
        ("drift", "right"),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    default = asdict(track.settings) if track else {}
    for entry in entries:
        changed = " ".join(f"{k} {v}" for k, v in entry.settings.items() if default.get(k, v) != v)
        table.add_row(
            "" if entry.rank is None else str(entry.rank),
            entry.method,
            changed,
            str(entry.seeds),
            *(
                estimate(value, between)
                for value, between in (
                    (entry.gain, entry.gain_between),
                    (entry.retention, entry.retention_between),
                )
            ),
            f"{entry.drift.value:.3g}",
        )
    return table


def estimate(e: "Estimate", between: float) -> str:
    """An estimate with its interval, and the spread between seeds where there are several."""
    spread = f" ±{between:.1f}" if between == between else ""
    return interval(e.value, e.low, e.high) + spread
