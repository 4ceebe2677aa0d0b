"""How the command line speaks: progress, sentences, commands to copy, tables, and JSON for scripts."""

import json as jsonlib
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from shutil import which
from typing import TYPE_CHECKING, Any, Literal

from rich.box import SIMPLE
from rich.console import Console, ConsoleDimensions
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.status import Status
from rich.table import Table
from rich.text import Text

from razorbench.harness.cli.arguments import HOME
from razorbench.harness.measure.estimate import below_floor
from razorbench.harness.report.text import interval, labels, number
from razorbench.harness.tracks.spec import Track

if TYPE_CHECKING:  # they load scipy, which most commands do not need
    from razorbench.harness.measure.estimate import Estimate
    from razorbench.harness.store.leaderboard import Entry


WIDE = 120
"""Columns of a table where there is no terminal."""
PAUSE = 10.0
"""Seconds between two lines about one thing, where there is no terminal."""
MARKS = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("–")}
"""What is well, what is not, and what does not apply."""


class Terminal(Console):
    """Where sentences and tables go."""

    def on_broken_pipe(self) -> None:
        """Let `main` decide; rich would exit with 1."""
        raise BrokenPipeError

    @property
    def size(self) -> ConsoleDimensions:
        """What a table may take; in a file, which has no width, as much as it needs in most cases."""
        room = super().size
        return room if self.is_terminal or "COLUMNS" in os.environ else ConsoleDimensions(WIDE, room.height)


out, err = Terminal(markup=False), Terminal(markup=False, stderr=True)
"""Brackets in what they print mean nothing: much of it was written by strangers."""


class Failed(Exception):
    """The work was not done, or in part; the message says what failed."""


def busy(what: str) -> Status:
    """A spinner on standard error while something is done."""
    return err.status(Text(what))


class Bar(Progress):
    """Progress on standard error: bars with the time left; where that is no terminal, plain lines now and then."""

    def __init__(self, what: str):
        """`what` is done, in a word."""
        self.what, self.plain, self.said = what, not err.file.isatty(), time.monotonic()
        columns = (
            TextColumn(what),
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        super().__init__(*columns, console=err, disable=self.plain)

    def update(self, task_id: TaskID, **changes: Any) -> None:
        """Set how far a line is: `completed`, `total`."""
        super().update(task_id, **changes)
        if self.plain and time.monotonic() - self.said > PAUSE:
            task = self._tasks[task_id]
            of = "" if task.total is None else f" of {task.total:g}"
            self.tell(f"{self.what} {task.description}: step {task.completed:g}{of}, {task.elapsed or 0:.0f} s")

    def tell(self, line: str) -> None:
        """Say what a bar does not show, where there is none."""
        if self.plain:
            self.said = time.monotonic()
            err.print(line, highlight=False, soft_wrap=True)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Take the bars away while something else is printed."""
        self.stop()
        yield
        self.start()


def bar(what: str) -> Bar:
    """How far something is, as a context; lines are added with `add_task` and moved with `update` or `advance`."""
    return Bar(what)


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


def left_out(sentences: Iterable[str]) -> None:
    """Name on standard error what lies in a home and cannot be read."""
    for sentence in sentences:
        err.print(f"left out: {sentence}", highlight=False, soft_wrap=True, style="yellow")


def drift_or_floor(nats: float | None, floor: float | None, form: str) -> str:
    """A drift in nats, or that rounding alone makes as much."""
    if below_floor(nats, floor):
        return f"below the floor ({floor:.1g})"
    return number(nats, form)


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
    lost = [name for name in ("unscored", "failed") if any(getattr(entry, name) for entry in entries)]
    default = asdict(track.settings) if track else {}
    changed = {
        entry.id: " ".join(f"{k} {v}" for k, v in entry.settings.items() if default.get(k, v) != v) for entry in entries
    }
    named = labels(entries)
    if all(entry.name == f"{entry.method} {changed[entry.id]}".strip() for entry in entries):
        named = {}  # a sweep names runs by what stands in the columns of method and settings
    for column, justify in (
        ("front", "right"),
        *([("name", "left")] if named else []),
        ("method", "left"),
        ("settings", "left"),
        ("seeds", "right"),
        ("gain", "right"),
        ("retention", "right"),
        ("drift", "right"),
        *((name, "right") for name in lost),
    ):
        table.add_column(column, justify=justify)  # type: ignore[arg-type]
    for entry in entries:
        table.add_row(
            "" if entry.rank is None else str(entry.rank),
            *([named[entry.id]] if named else []),
            entry.method,
            changed[entry.id],
            str(entry.seeds),
            *(
                estimate(value, between)
                for value, between in (
                    (entry.gain, entry.gain_between),
                    (entry.retention, entry.retention_between),
                )
            ),
            drift_or_floor(entry.drift.value, entry.floor, ".3g"),
            *(str(getattr(entry, name) or 0) for name in lost),
        )
    return table


def estimate(e: "Estimate", between: float) -> str:
    """An estimate with its interval, and the spread between seeds where there are several."""
    spread = f" ±{between:.1f}" if between == between else ""
    return interval(e.value, e.low, e.high) + spread
