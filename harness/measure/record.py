"""The record of one scored checkpoint, as files: `records/<id>/record.json`, samples and answers beside it as Parquet.

Files are the record and never change; the database (`harness.store.database`) is an index that can
be made again from them. A number that is not known, or not finite, is None here and null in JSON.
"""

import json
import math
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, is_dataclass
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import OURS
from razorbench.harness.learn.settings import lasting
from razorbench.harness.tracks.catalogue import TRACKS

T = TypeVar("T")

SCHEMA = 3
"""Version of record.json and of the event files. A program reads its own version and all before it."""

SAMPLES = pa.schema(
    {"task": "string", "role": "string", "item": "string", "base": "double", "adapted": "double"}
    | {"error": "string", "drift": "double", "cluster": "string"}
    | {"metrics": pa.map_(pa.string(), pa.list_(pa.float64()))}
)
"""Columns of samples.parquet, one row an item: `base` and `adapted` are rewards as the task gives them (0–1; NULL:
unscored, `error` says why), `drift` is the forward KL of that item in nats an episode, or NULL. `cluster` names what
items share, of one task or of several, so that they are not independent; NULL: an item stands alone. `metrics` is what
the task measures beside the score, metric → [of the base, of the adapted], in units of its own; NULL: nothing. Files
older than the last two columns lack them."""

VALUES = pa.list_(pa.list_(pa.float64()))
ANSWERS = pa.schema(
    {"task": pa.string(), "item": pa.string(), "asked": pa.string(), "picture": pa.binary()}
    | {"base": pa.string(), "adapted": pa.string(), "base_values": VALUES, "adapted_values": VALUES}
    | {"tokens": pa.list_(pa.struct({"text": pa.string(), "nats": pa.float32()}))}
)
"""Columns of answers.parquet, one row a flip: an item that base and adapted score differently. NULL is what a task does
not have. `asked` is the text that was asked and `picture` the PNG of what was shown; `base` and `adapted` are what they
said, and the values of every turn where these are vectors, as a robot's motions. `tokens` are the pieces of what the
base said, with the forward KL(base‖adapted) at each."""

UNTOLD: tuple[None, None, None] = (None, None, None)
"""The change of a metric and the limits of its interval, where they are not known."""
STALE = 3600.0
"""Seconds after which an unfinished folder belongs to a killed writer: nobody takes an hour to write some megabytes."""


DUCKDB: dict[str, Any] = {"autoinstall_known_extensions": False}
"""How DuckDB is configured wherever we open it: nothing may reach for the network."""


class Torn(Refused):
    """A file of ours cannot be read. The message names it."""


@dataclass(frozen=True)
class Score:
    """One task or benchmark, base against adapted on the same `n` items. Scores and differences in points (0–100)."""

    task: str
    role: str
    """`new` (gain) or `prior` (retention)."""
    suite: str
    n: int
    unscored: int
    base: float | None
    adapted: float | None
    difference: float | None
    low: float | None
    high: float | None
    se: float | None
    p: float | None = None
    p_holm: float | None = None
    """`p`, corrected over the benchmarks of this record."""
    mde: float | None = None
    """Smallest difference that so many items can detect."""
    interval: str = ""
    """How `low` and `high` were made."""
    metrics: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """What the task measures beside the score: metric → mean of the base, mean of the adapted."""
    items: int | None = None
    """Items that were asked, several answers to one counted apart; None in records of schema 1: n + unscored."""
    unscored_base: int | None = None
    """Items that the base has no score for, because the world failed; None in records of schema 1: not told."""
    unscored_adapted: int | None = None
    failed_base: int | None = None
    """Items that score 0 because the base did what nobody can score. In records of schema 1 they are unscored."""
    failed_adapted: int | None = None
    metric_changes: Mapping[str, Sequence[float | None]] = field(default_factory=dict)
    """How `metrics` changed, over the items that have them on both sides: metric → adapted − base, and the limits of
    its 95 % interval. Empty in records of schema 1 and 2."""


@dataclass(frozen=True)
class Drift:
    """KL between base and adapted over `n` episodes of a task, in nats; forward is E_base[log base − log adapted]."""

    task: str
    direction: str
    """`forward` or `reverse`."""
    per: str
    """`episode` or `element`."""
    nats: float | None
    se: float | None
    n: int
    floor: float | None = None
    """KL of the base to a second computation of itself, nats: what rounding makes of nothing. None: not measured."""


@dataclass(frozen=True)
class Point:
    """One row of the training curve; only evaluated checkpoints carry `new`, `prior` and `drift`."""

    step: int
    end: bool = False
    """Whether this is the checkpoint that was scored."""
    lr: float | None = None
    loss: float | None = None
    reward: float | None = None
    grad_norm: float | None = None
    new: float | None = None
    """Score on the new task, points."""
    prior: float | None = None
    """Mean score over the prior tasks, points."""
    drift: float | None = None
    """Forward KL on the new task, nats an episode."""


@dataclass(frozen=True)
class Measure:
    """What was measured on the way beside the curve (`harness.learn.measures`), over some steps up to `step`."""

    step: int
    name: str
    value: float | None
    se: float | None = None
    """Standard error over the steps; None: of one step, or not a mean."""


@dataclass(frozen=True)
class Record:
    """All that is known of one scored checkpoint but its samples. Gain, retention and their bounds in points."""

    id: str
    name: str
    track: str
    agent: str
    base: str
    """The unadapted model, with its revision."""
    method: str
    settings: Mapping[str, Any]
    seed: int | None
    steps: int | None
    checkpoint: str
    """sha256 of the weights."""
    scores: Sequence[Score]
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    gain_se: float | None
    retention: float | None
    """Mean difference over the prior tasks: 0 = kept, negative = forgot."""
    retention_low: float | None
    retention_high: float | None
    retention_se: float | None
    drifts: Sequence[Drift]
    curve: Sequence[Point]
    cost: Mapping[str, float]
    """Of adapting and scoring: `adapt_seconds`, `score_seconds`, `episodes`, `tokens` or `elements`."""
    provenance: Mapping[str, Any]
    scored_at: str
    """ISO 8601 with its offset, as in 2025-11-20T12:00:00+00:00."""
    conditions: Mapping[str, Any] = field(default_factory=dict)
    """How items were answered (`tracks.spec.Conditions`); empty in records of schema 1: greedily, by razorbench."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Digests of the items of each task that was played; empty in records of schema 1."""
    measures: Sequence[Measure] = ()
    """What was measured on the way; empty in records of schema 1."""
    track_digest: str = ""
    """`Track.digest` of the track it was scored on; empty in records that are older than that."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if datetime.fromisoformat(self.scored_at).tzinfo is None:
            raise ValueError(f"scored_at {self.scored_at!r} has no offset from UTC: add +00:00")

    @property
    def entry(self) -> str:
        """Id of what is ranked, from track, agent, base, method, settings, submission: seeds of an entry share it."""
        settings = {name: value for name, value in lasting(self.settings).items() if name != "seed"}
        parts = [self.track, self.agent, self.base, self.method, settings]
        parts += [self.provenance["submission"]["id"]] if "submission" in self.provenance else []
        parts += [foreign(self.data)] if foreign(self.data) else []
        parts += foreign_track(self.track, self.track_digest)
        spec = json.dumps(plain(parts), sort_keys=True)
        return blake2b(spec.encode(), digest_size=6).hexdigest()


def foreign(data: Mapping[str, str]) -> dict[str, str]:
    """The digests of data that stand in an id: of all tasks but our own, whose ids and code fix what they ask."""
    return {task: digest for task, digest in data.items() if task not in OURS["task"]}


def foreign_track(id: str, digest: str) -> list[str]:
    """The digest of a track, where it stands in an id: of all but our own, whose ids fix what they are."""
    return [digest] if digest and not (id in TRACKS and TRACKS[id].digest == digest) else []


def plain(value: Any) -> Any:
    """The value in JSON's own types; a record becomes a dict, and what is not finite None."""
    if value is None or isinstance(value, str | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        value = vars(value)  # asdict would copy everything, ten times slower
    if isinstance(value, Mapping):
        return {str(name): plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(inner) for inner in value]
    return plain(value.item()) if isinstance(value, np.generic) else value


def to_json(record: Record) -> str:
    """Strict JSON, one field a line."""
    return json.dumps(plain(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def from_dict(row: Mapping[str, Any]) -> Record:
    """The record of a parsed record.json. TypeError, KeyError or ValueError if it lacks something."""
    parts = {"scores": Score, "drifts": Drift, "curve": Point, "measures": Measure}
    made = {name: tuple(part(**each) for each in row[name]) for name, part in parts.items() if name in row}
    return Record(**{**row, **made})


def folder(home: Path, id: str) -> Path:
    """Where a record lies."""
    return Path(home) / "records" / id


def checked_folder(home: Path, id: str) -> Path:
    """Where a record lies, of an id that somebody gave. Refused if as a path it would lead elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", id):
        raise Refused(f"the record id {id!r} cannot name a folder: use letters, digits, '.', '_' and '-'")
    return folder(home, id)


def write(
    home: Path, record: Record, samples: Mapping[str, Any], answers: Sequence[Mapping[str, Any]] | None = None
) -> Path:
    """Write the record, its samples and, where they are given, answers, whole or not at all, and return its folder.

    `samples` are columns as in `SAMPLES`, where those from `error` on may be absent; `answers` are rows of `ANSWERS`.
    The same content again changes nothing; other content under a known id is Refused, for records never change. OSError
    if the disk is full.
    """
    target, text, table = checked_folder(home, record.id), to_json(record), _table(samples)
    said = None if answers is None else pa.Table.from_pylist(list(answers), ANSWERS)
    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(".*"):
        with suppress(FileNotFoundError):  # another writer may sweep, or finish, at the same time
            if time.time() - left.stat().st_mtime > STALE:
                shutil.rmtree(left)
    unfinished = target.parent / f".{record.id}.{uuid.uuid4().hex}"
    try:
        if not target.exists():
            unfinished.mkdir()
            (unfinished / "record.json").write_text(text, encoding="utf-8")
            pq.write_table(table, unfinished / "samples.parquet", compression="zstd")
            if said is not None:
                pq.write_table(said, unfinished / "answers.parquet", compression="zstd")
            for path in (*unfinished.iterdir(), unfinished):
                sync(path)
            unfinished.rename(target)
            sync(target.parent)
            return target
    except OSError:
        if not target.exists():  # else another writer of this record was faster
            raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    there = (
        (target / "record.json").read_text(encoding="utf-8"),
        pq.ParquetFile(target / "samples.parquet").read(),
        answers_of(home, record.id),
    )
    if there != (text, table.select(there[1].column_names), said):  # an older file lacks a column
        raise Refused(f"{target} exists with other content, and records never change: give the new one its own id")
    return target


def read(path: Path) -> Record:
    """The record in a folder or record.json file. Torn if it cannot be read, is of a newer schema, or not the
    folder's own.
    """
    if not path.is_dir():
        return load(path, from_dict)
    record = load(path / "record.json", from_dict, "its folder")
    if record.id != path.name:
        raise Torn(f"{path} holds the record {record.id}: name the folder after its record")
    return record


def ids(home: Path) -> list[str]:
    """Ids of all records, sorted; what killed writers left is passed over."""
    return sorted(path.name for path in (Path(home) / "records").glob("[!.]*"))


def all_records(home: Path) -> list[Record]:
    """All records, by id. Torn at the first that cannot be read."""
    return [read(folder(home, id)) for id in ids(home)]


def samples_of(home: Path, id: str) -> pa.Table:
    """The samples of a record, columns as in `SAMPLES`."""
    samples = pq.ParquetFile(folder(home, id) / "samples.parquet").read()
    for at in range(samples.num_columns, len(SAMPLES)):  # later columns stand at the end
        samples = samples.append_column(SAMPLES.field(at), pa.nulls(len(samples), SAMPLES.field(at).type))
    return samples


def answers_of(home: Path, id: str) -> pa.Table | None:
    """The answers of a record, columns as in `ANSWERS`; None of an older one, which has none."""
    path = folder(home, id) / "answers.parquet"
    return pq.ParquetFile(path).read() if path.exists() else None


def load(file: Path, build: Callable[[Mapping[str, Any]], T], whole: str = "it") -> T:
    """What `build` makes of a JSON file of ours. Torn, naming the file, if that cannot be, or its schema is newer.

    `whole` is what there is to remove where there is no copy of it.
    """
    try:
        row = json.loads(file.read_text(encoding="utf-8"))
        if row["schema"] > SCHEMA:
            raise Torn(f"{file} has schema {row['schema']}, this razorbench knows {SCHEMA}: upgrade razorbench")
        return build(row)
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = f"{type(error).__name__}: {error}"
        cure = f"restore it from a copy or remove {whole}"
        raise Torn(f"{file} is torn or not a file of ours ({why}): {cure}") from error


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _table(samples: Mapping[str, Any]) -> pa.Table:
    """The columns as Arrow: text for names, NULL for what is None or not finite."""
    wrong = {"task", "role", "item", "base", "adapted"} - set(samples) | set(samples) - set(SAMPLES.names)
    if wrong:
        raise Refused(f"samples need the columns {', '.join(SAMPLES.names)}: check {', '.join(sorted(wrong))}")
    columns = {}
    for name, kind in zip(SAMPLES.names, SAMPLES.types, strict=True):
        values = samples.get(name)
        if values is None:
            values = [None] * len(samples["item"])
        elif pa.types.is_floating(kind):
            values = np.array(values, np.float64)
            values = np.where(np.isfinite(values), values, np.nan)
        elif pa.types.is_map(kind):
            values = [value and [*plain(value).items()] for value in values]
        else:
            values = [None if value is None else str(value) for value in values]
        columns[name] = pa.array(values, kind, from_pandas=True)
    return pa.table(columns, schema=SAMPLES)
