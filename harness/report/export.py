"""A leaderboard as files for others: tables with one row an entry, a report to read, records of Every Eval Ever."""

import json
import os
import shutil
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure.estimate import Estimate
from razorbench.harness.measure.record import plain, sync
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import COSTS, Entry
from razorbench.harness.store.results import table

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
    "floor": "what rounding alone makes of a drift, nats an episode: a drift below it says nothing",
    "unscored": "samples without a score because the world failed, all seeds together",
    "unscored_share": "share of unscored items, of the task and seed that has most",
    "uneven": "whether base and adapted differ in how many items are unscored",
    "failed": "samples that score 0 because the agent gave nothing that could be judged, all seeds together",
    "unranked": "why it has no rank",
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
    names = [name for name in COLUMNS if name not in ("task:<name>", *COSTS)]
    row: dict[str, Any] = {name: entry.id if name == "entry" else getattr(entry, name) for name in names}
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


def _json(entries: Sequence[Entry]) -> bytes:
    rows = [flat(entry) for entry in entries]
    return (json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _csv(entries: Sequence[Entry]) -> bytes:
    pyarrow.csv.write_csv(_arrow([flat(entry) for entry in entries]), out := pa.BufferOutputStream())
    return out.getvalue().to_pybytes()


def _parquet(entries: Sequence[Entry]) -> bytes:
    rows = _arrow([flat(entry) for entry in entries])
    pyarrow.parquet.write_table(rows, out := pa.BufferOutputStream(), compression="zstd")
    return out.getvalue().to_pybytes()


def _html(store: Store, entries: Sequence[Entry]) -> bytes:
    from razorbench.harness.report.page import report  # it loads matplotlib

    if len({entry.track for entry in entries}) > 1:
        raise Refused("a report tells of one track: name it, as in `razorbench export mini-math-v1 --format html`")
    return report(store, entries, datetime.now(UTC)).encode()


def _records(store: Store, entries: Sequence[Entry]) -> dict[str, bytes]:
    from razorbench.harness.report.every_eval_ever import aggregates

    tracks = dict.fromkeys(entry.track for entry in entries)
    made = aggregates(store.home, [run for track in tracks for run in store.runs(track)], datetime.now(UTC))
    return {path: (json.dumps(row, indent=1, allow_nan=False) + "\n").encode() for path, row in made}


TABLES: dict[str, Callable[[Sequence[Entry]], bytes]] = {"json": _json, "csv": _csv, "parquet": _parquet}
"""Format → the entries as a file of it, one row each with `COLUMNS`."""

FORMATS: dict[str, Callable[[Store, Sequence[Entry]], bytes | dict[str, bytes]]] = {
    **{name: lambda store, entries, made=made: made(entries) for name, made in TABLES.items()},
    "html": _html,
    "every-eval-ever": _records,
}
"""Format → the entries of a store as a file, or as files of a folder by their paths."""


def publish(store: Store, track: str | None, format: str, path: Path) -> int:
    """Write a track, or all, in one of `FORMATS`; how many entries it has.

    Refused for another format, for nothing to write, and for a folder that exists. OSError names `path`.
    """
    if format not in FORMATS:
        near = get_close_matches(format, FORMATS, n=1)
        raise Refused(
            f"unknown format {format!r}; " + (f"did you mean {near[0]!r}?" if near else f"use {', '.join(FORMATS)}")
        )
    entries = [entry for id in ([track] if track else store.tracks()) for entry in table(store, id)]
    if not entries:
        raise Refused(
            f"there is nothing to export {f'on {track} ' * bool(track)}in {store.home}: run `razorbench demo`"
        )
    put(FORMATS[format](store, entries), Path(path))
    return len(entries)


def put(content: bytes | Mapping[str, bytes], path: Path) -> None:
    """Write a file, in place of one that is there, or a new folder of files: whole or not at all.

    Refused if a folder is there. OSError names `path`.
    """
    if path.is_dir() or (path.exists() and not isinstance(content, bytes)):
        raise Refused(f"{path} exists; name another with --out")
    new = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        if isinstance(content, bytes):
            _write(new, content)
        else:
            new.mkdir()
            for name, data in content.items():
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                _write(new / name, data)
        os.replace(new, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
        new.unlink(missing_ok=True)


def _write(file: Path, data: bytes) -> None:
    file.write_bytes(data)
    sync(file)
