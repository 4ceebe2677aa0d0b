"""The DuckDB index over the records of a home folder: `razorbench.duckdb` to write, `published.duckdb` to read.

DuckDB lets one process hold a file for writing and then refuses everyone else. So a writer takes the lock of the home,
opens, writes one transaction, closes, and publishes: a copy of the closed file replaces the snapshot that readers open.
The copy is whole, because the lock keeps writers out and the checkpoint before it leaves no write-ahead log; readers
keep the snapshot they opened. What a killed writer left out is in the files: `reconcile` or `rebuild` puts it in.

Where several machines share the home, one process holds the lock for good and writes for all (`harness.store.server`).
A store that is given its address sends it orders instead of taking the lock; readers need no server. What they can ask
is in `harness.store.queries`.
"""

import fcntl
import json
import math
import os
import re
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import IO, Any

import duckdb

from razorbench.harness.core.errors import Refused, tells_of_full_disk
from razorbench.harness.measure import record as files
from razorbench.harness.measure.record import DUCKDB, SCHEMA, Record, Torn, plain
from razorbench.harness.store import migrations, quack
from razorbench.harness.store.queries import Queries
from razorbench.harness.store.requests import Order, StoreError
from razorbench.harness.store.sql import append
from razorbench.harness.tracks.catalogue import table_key

KINDS = ("hidden", "unhidden", "retracted", "renamed", "verified")
VALUED = ("renamed", "verified")
"""Events that say something besides their reason."""


GRACE = 1.0
"""Seconds in which a lock may still tell of a killed server, because its new holder has not yet written its name."""


@dataclass(frozen=True)
class Event:
    """A decision about a submission, appended and never changed. Ids begin with their time and sort by age."""

    id: str
    submission: str
    kind: str
    """One of `KINDS`. Hiding can be undone, a retraction cannot."""
    reason: str
    decided_at: str
    """ISO 8601, UTC."""
    value: str | None = None
    """The new name, where it is renamed; `reproduced` or `differs`, where it is verified."""
    schema: int = SCHEMA

    def __post_init__(self) -> None:
        """ValueError where its time is none, or its words are no text."""
        datetime.fromisoformat(self.decided_at)
        f"{self.reason}{self.value}".encode()


class Store(Queries):
    """The index of `home`. Many processes may write and read it at once; `wait` seconds bound every wait for a lock, or
    for the server at `server` (`quack:HOST[:PORT]`), which then does the writing.
    """

    def __init__(self, home: Path | str, wait: float = 60.0, server: str | None = None):
        self.home, self.wait, self.server = Path(home).absolute(), wait, server
        self.database, self.snapshot = self.home / "razorbench.duckdb", self.home / "published.duckdb"

    # --- writing ------------------------------------------------------------------------------------------------------

    def add(self, record: Record) -> bool:
        """Index a record that `harness.measure.record.write` has written; False if its id is there already.

        StoreError if its files are not in the home.
        """
        if not files.folder(self.home, record.id).is_dir():
            raise StoreError(
                f"record {record.id} has no files in {self.home}: write it first (harness.measure.record.write)"
            )
        return self._order("add", record.id) == 1

    def decide(self, submission: str, kind: str, reason: str, value: str | None = None) -> Event:
        """Append an event about a submission (its id), as a file and as a row. Refused if it makes no sense."""
        if kind not in KINDS:
            raise Refused(f"unknown event {kind!r}: it is one of {', '.join(KINDS)}")
        if (kind in VALUED) != bool(value):
            raise Refused(
                "an event that renames or verifies has a value, the new name or what came out, and no other has"
            )
        if not files.folder(self.home, submission).is_dir():
            raise Refused(f"no submission has the id {submission!r} in {self.home}: look it up in `razorbench results`")
        try:
            f"{reason}{value}".encode()
        except UnicodeEncodeError:
            raise Refused("the reason or the value is no text: give characters that UTF-8 knows") from None
        now = datetime.now(UTC)
        id = f"{now:%Y%m%dT%H%M%S.%f}-{uuid.uuid4().hex[:8]}"
        event = Event(id, submission, kind, reason, now.isoformat(), value)
        self._order("decide", asdict(event))
        return event

    def reconcile(self) -> int:
        """Add what is in the files and not in the database, publish, and say how many records that were.

        A file that cannot be read holds up nobody: `torn` tells of it.
        """
        return self._order("reconcile")

    def rebuild(self) -> int:
        """Make the database again from the files, swap it in at once, and say how many records it holds.

        Torn, and the old one stays, if a file cannot be read.
        """
        return self._order("rebuild")

    def _order(self, work: str, *arguments: Any) -> int:
        """Have it done, here or by the server; how many records that concerned."""
        order = Order(work, arguments, migrations.last())
        if self.server is not None:
            return quack.ask(self.server, order, self.wait)
        with self.lock():
            (answer,) = self.perform([order])
        if isinstance(answer, Exception):
            raise answer
        return answer

    def perform(self, orders: Sequence[Order]) -> list[int | Refused | StoreError]:
        """Do orders in one transaction and publish; the caller holds the lock. The answers, in their order: of how many
        records, or why it cannot be done. If it raises, nothing was done, but that events may lie in their files.
        """
        with told(self.database):
            if any(order.work == "rebuild" for order in orders):
                self._create(partial(self._catch_up, strict=True))  # else rows would be lost that the old one has
            with self._writing() as con:
                return [self._answer(con, order) for order in orders]

    def _answer(self, con: duckdb.DuckDBPyConnection, order: Order) -> int | Refused | StoreError:
        here = migrations.last()
        if order.migration != here:
            return StoreError(
                f"this razorbench has migration {order.migration} and its server {here}: install one version on both"
            )
        try:
            return WORK[order.work](self, con, *order.arguments)
        except Refused as refused:  # files are read before rows are written, so nothing of it was done
            return refused

    @contextmanager
    def _writing(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """One transaction, then a new snapshot. Nothing is changed if it raises."""
        if missing := not self.database.exists():
            self._create()
        con = self._connect(self.database)
        try:
            migrations.migrate(con)
            con.begin()
            yield con
            if missing:  # somebody removed the database; the other records are still here
                self._catch_up(con)
            _refresh(con, self.home)
            con.commit()
            con.execute("CHECKPOINT")
        finally:
            con.close()
        _replace(self.snapshot, lambda new: shutil.copyfile(self.database, new))

    @contextmanager
    def lock(self, address: str | None = None) -> Iterator[None]:
        """Be the only writer of this home. Who serves it at an address says so, and others are sent there at once."""
        with self._acquire(address):  # closing it lets go, and so does dying
            yield

    def _acquire(self, address: str | None) -> IO[str]:
        with told(self.database):
            self.home.mkdir(parents=True, exist_ok=True)
            file, start = open(self.home / ".lock", "a+"), time.monotonic()  # noqa: SIM115  the caller closes it
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    file.seek(0)
                    who, waited = file.read() or "another process", time.monotonic() - start
                    served = re.search(r"serving (quack:[^\s)]+)", who)
                    if waited > min(self.wait, GRACE if served else math.inf):
                        file.close()
                        cure = f"give --store {served[1]}, or end it first" if served else "wait for it or end it"
                        raise StoreError(f"the store is locked by {who}: {cure}, then try again") from None
                    time.sleep(0.01)
            doing = f"serving {address}" if address else " ".join(sys.argv[:2])
            file.truncate(0)
            file.write(f"process {os.getpid()} ({doing}) since {datetime.now(UTC):%H:%M:%S} UTC")
            file.flush()
            return file

    def _connect(self, path: Path) -> duckdb.DuckDBPyConnection:
        """Open a database for writing; wait for other programs to let go of it."""
        deadline = time.monotonic() + self.wait
        while True:
            try:
                return duckdb.connect(path, config={**DUCKDB, "threads": 1})  # rows are few, threads cost more
            except duckdb.IOException as error:
                if "Could not set lock" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def _create(self, fill: Callable[[duckdb.DuckDBPyConnection], Any] = lambda con: None) -> None:
        """Put a new database, filled by `fill`, in the place of the old one."""

        def build(path: Path) -> None:
            con = self._connect(path)
            try:
                migrations.migrate(con)
                fill(con)
                _refresh(con, self.home)
                con.execute("CHECKPOINT")
            finally:
                con.close()
            self.database.with_name(f"{self.database.name}.wal").unlink(missing_ok=True)  # the log of the old one

        _replace(self.database, build)

    def _catch_up(
        self,
        con: duckdb.DuckDBPyConnection,
        records: Sequence[str] | None = None,
        events: Sequence[str] | None = None,
        strict: bool = False,
    ) -> int:
        """Insert the files that have no row, of all ids or of these; how many records that were.

        What cannot be read is left out, and `torn` names it; `strict`: Torn.
        """
        fresh, decided, torn = self._missing(con, records, events)
        if strict and torn:
            raise torn[0]
        _insert(con, fresh, self.home)
        _insert_events(con, decided)
        counted = [record.id for record in fresh] + [each.submission for each in decided if each.kind not in VALUED]
        told = [each.submission for each in decided if each.kind in VALUED]
        sql = "INSERT INTO stale SELECT DISTINCT entry, $numbers FROM submissions WHERE list_contains($ids, id)"
        for ids, numbers in ((counted, True), (told, False)):
            con.execute(sql, {"ids": ids, "numbers": numbers})
        return len(fresh)

    def _missing(
        self, con: duckdb.DuckDBPyConnection, records: Sequence[str] | None, events: Sequence[str] | None
    ) -> tuple[list[Record], list[Event], list[Torn]]:
        """Records and events that have no row, of all ids or of these; and why some of them cannot be read."""
        if records is None:
            records = files.ids(self.home)
        if events is None:
            events = [path.stem for path in sorted((self.home / "events").glob("[!.]*"))]
        sql = """
            SELECT id FROM (SELECT unnest($ids) AS id)
            SEMI JOIN (SELECT id FROM submissions UNION ALL SELECT id FROM events) USING (id)"""
        known = {id for (id,) in con.execute(sql, {"ids": [*records, *events]}).fetchall()}
        fresh, torn = _read(files.read, [files.folder(self.home, id) for id in records if id not in known])
        decided, more = _read(_event, [self._event(id) for id in events if id not in known])
        return fresh, decided, torn + more

    def _event(self, id: str) -> Path:
        return self.home / "events" / f"{id}.json"

    # --- reading ------------------------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the snapshot as it is now. It blocks nobody, and what it shows does not change.

        StoreError if it cannot be opened, or a query of it fails for what the disk holds.
        """
        if not self.snapshot.exists():
            self.reconcile()
        # Attached to a fresh connection, because duckdb.connect(path) hands out the database that this process has open
        # under that name, even after the file was replaced.
        attach = f"ATTACH '{str(self.snapshot).replace(chr(39), chr(39) * 2)}' AS store (READ_ONLY); USE store"
        with told(self.snapshot), duckdb.connect(config=DUCKDB) as con:
            con.execute(attach)
            if migrations.version(con) < migrations.last():
                con.execute("USE memory; DETACH store")
                self.reconcile()
                con.execute(attach)
            yield con

    def torn(self) -> list[str]:
        """Why records and events have no row that should have one: a sentence for each that cannot be read."""
        with self.read() as con:
            return [str(why) for why in self._missing(con, None, None)[2]]


# --- orders -----------------------------------------------------------------------------------------------------------


def _add(store: Store, con: duckdb.DuckDBPyConnection, id: str) -> int:
    if not (folder := files.folder(store.home, _name(id))).is_dir():  # `Store.add` has looked, but maybe elsewhere
        raise Refused(f"there is no {folder} on {socket.gethostname()}: give the server and its clients one home")
    return store._catch_up(con, [id], [], strict=True)


def _decide(store: Store, con: duckdb.DuckDBPyConnection, row: Mapping[str, Any]) -> int:
    event = Event(**row)  # an order may come from another machine: nothing is written that could not be read again
    if event.kind not in KINDS or not files.folder(store.home, _name(event.submission)).is_dir():
        raise Refused(
            f"no event {event.kind!r} about {event.submission!r} makes sense here: install one version on both"
        )
    path = store._event(_name(event.id))
    path.parent.mkdir(exist_ok=True)
    if not path.exists():  # else this is asked for the second time
        _replace(path, lambda new: new.write_text(json.dumps(asdict(event), indent=1) + "\n", encoding="utf-8"))
    return store._catch_up(con, [], [event.id], strict=True)


def _reconcile(store: Store, con: duckdb.DuckDBPyConnection) -> int:
    return store._catch_up(con)


def _rebuild(store: Store, con: duckdb.DuckDBPyConnection) -> int:
    """How many records there are; `perform` has made the database again before it opened it."""
    return con.execute("SELECT count(*) FROM submissions").fetchall()[0][0]


WORK: Mapping[str, Callable[..., int]] = {
    "add": _add,
    "decide": _decide,
    "reconcile": _reconcile,
    "rebuild": _rebuild,
}


# --- the parts of it --------------------------------------------------------------------------------------------------


def _event(path: Path) -> Event:
    return files.load(path, lambda row: Event(**row))


def _read(read: Callable[[Path], Any], paths: Sequence[Path]) -> tuple[list[Any], list[Torn]]:
    """What is read from some paths, and why others cannot be."""
    good, torn = [], []
    for path in paths:
        try:
            good.append(read(path))
        except Torn as why:
            torn.append(why)
    return good, torn


def _refresh(con: duckdb.DuckDBPyConnection, home: Path) -> None:
    from razorbench.harness.store import aggregates  # readers never need it, and it loads the statistics

    aggregates.refresh(con, home)


def _insert(con: duckdb.DuckDBPyConnection, records: Sequence[Record], home: Path) -> None:
    made = [plain(record) | {"entry": record.entry} for record in records]
    for row in made:
        for score in row["scores"]:
            score |= {name: json.dumps(score[name]) for name in ("metrics", "metric_changes")}
    for table in ("scores", "drifts", "curve", "measures"):
        append(con, table, [{"submission": row["id"], **part} for row in made for part in row.pop(table)])
    for row in made:
        row |= {name: json.dumps(row[name]) for name in ("settings", "cost", "provenance", "conditions", "data")}
        row["scored_at"] = _utc(row["scored_at"])
        row["track"] = table_key(row["track"], row["track_digest"], home)
    append(con, "submissions", made)


def _insert_events(con: duckdb.DuckDBPyConnection, events: Sequence[Event]) -> None:
    append(con, "events", [{**asdict(event), "decided_at": _utc(event.decided_at)} for event in events])


def _name(id: str) -> str:
    """The id, which may be from another machine. Refused if as a path it would lead elsewhere."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", id):
        raise Refused(f"{id!r} is no id: give one that `razorbench results` shows")
    return id


def _utc(iso: str) -> datetime:
    return datetime.fromisoformat(iso).astimezone(UTC).replace(tzinfo=None)


def _replace(path: Path, make: Callable[[Path], Any]) -> None:
    """Let `make` write a file beside `path`, and put it in its place at once when it is on the disk."""
    new = path.with_name(f".{path.name}")
    try:
        for left in path.parent.glob(f"{new.name}*"):  # of a killed writer
            left.unlink()
        make(new)
        files.sync(new)
        new.replace(path)
        files.sync(path.parent)
    finally:
        new.unlink(missing_ok=True)


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Within, StoreError for what disks and broken files do, in one sentence with its cure."""
    try:
        yield
    except (OSError, duckdb.Error) as error:
        why = str(error).splitlines()[0]
        if tells_of_full_disk(error):
            raise StoreError(f"the disk does not take {path} ({why}): free some space, then try again") from error
        if "Could not set lock" in why:
            raise StoreError(f"{path} is open in another program ({why}): close it there, then try again") from error
        if isinstance(error, OSError):
            raise StoreError(f"{path} cannot be used ({why}): check the folder and its permissions") from error
        if isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.InternalException):
            raise StoreError(f"{path} is damaged ({why}): make it again with `razorbench rebuild`") from error
        raise
