"""A track's leaderboard as a file: one row an entry, for tables and programs."""

import json
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from harness.record import plain
from harness.results import COSTS, Entry
from harness.statistics import Estimate
from harness.types import Refused

COLUMNS = {
    "rank": "front of (gain, retention): 1 is best, ties share it",
    "entry": "id of the entry: track, agent, base, method and settings",
    "track": "track",
    "name": "name of the newest submission",
    "agent": "agent",
    "base": "the unadapted model",
    "method": "how it was adapted",
    "settings": "settings of the method, but for the seed (CSV and Parquet: JSON text)",
    "seeds": "number of seeds",
    "submissions": "ids of the submissions, one a seed, with spaces between: `razorbench show` takes them",
    "gain": "adapted − base on the new task, points; _low, _high: 95 % interval over items; _se: its standard error; "
    "_between: standard deviation between seeds",
    "retention": "mean of adapted − base over the prior tasks, points; _low, _high, _se, _between as for gain",
    "drift": "forward KL on the new task, nats an episode; _low, _high, _se, _between as for gain",
    "drift_element": "forward KL on the new task, nats an element",
    "reverse": "reverse KL on the new task, nats an episode",
    "unscored": "samples without a score, all seeds together",
    "adapt_seconds": "seconds of adapting, mean over seeds",
    "score_seconds": "seconds of scoring, mean over seeds",
    "episodes": "episodes of adapting, mean over seeds",
    "tokens": "tokens of adapting, mean over seeds",
    "elements": "elements of adapting, mean over seeds",
    "scored_at": "when the newest submission was scored, UTC",
    "task:<name>": "adapted − base on one task, points; :low, :high: its 95 % interval",
}
"""What the columns of an export mean. What is not known is null."""


def flat(entry: Entry) -> dict[str, Any]:
    """The entry as one row of `COLUMNS`."""
    row: dict[str, Any] = {
        name: getattr(entry, name, entry.id) for name in COLUMNS if name not in (*COSTS, "task:<name>")
    }
    for name in ("gain", "retention", "drift"):
        estimate: Estimate = row[name]
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}
        row |= {f"{name}_se": estimate.se, f"{name}_between": getattr(entry, f"{name}_between")}
    row |= {name: entry.cost.get(name) for name in COSTS} | {"scored_at": f"{entry.scored_at.isoformat()}Z"}
    for effect in entry.effects:
        name, difference = f"task:{effect.task}", effect.difference
        row |= {name: difference.value, f"{name}:low": difference.low, f"{name}:high": difference.high}
    return plain(row)


def _arrow(rows: list[dict[str, Any]]) -> pa.Table:
    names = dict.fromkeys(name for row in rows for name in row)
    text = [row | {"settings": json.dumps(row["settings"])} for row in rows]
    return pa.table({name: [row.get(name) for row in text] for name in names})


def _json(rows: list[dict[str, Any]], path: Path) -> None:
    path.write_text(json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


FORMATS: dict[str, Callable[[list[dict[str, Any]], Path], Any]] = {
    "json": _json,
    "csv": lambda rows, path: pyarrow.csv.write_csv(_arrow(rows), path),
    "parquet": lambda rows, path: pyarrow.parquet.write_table(_arrow(rows), path, compression="zstd"),
}


def export(entries: Sequence[Entry], format: str, path: Path) -> None:
    """Write the entries, one row each with `COLUMNS`, as json, csv or parquet. Refused for another format."""
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, n=1)
        raise Refused(
            f"unknown format {format!r}; " + (f"did you mean {near[0]!r}?" if near else f"use {', '.join(FORMATS)}")
        )
    FORMATS[format]([flat(entry) for entry in entries], Path(path))
