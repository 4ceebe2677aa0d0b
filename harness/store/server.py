"""One writer for a home that several machines share: a process that takes orders over Quack, DuckDB's remote protocol.

What is served is not the index but an inbox: one table in memory. A client puts an `Order` in it and looks for the
answer. The server has the lock of the home, does all orders that wait in one transaction of `Store`, publishes, and
then answers. Orders name records and carry no rows, so what is indexed is what lies in the files, and an order that is
given again, because a server died before it answered, changes nothing. (Quack can attach the index itself, but with
DuckDB 1.5.5 an attached transaction is none: its rows are there at once, and outlive a rollback and a killed client.)

Whoever has the token can give orders, and nothing else: the server runs two statements (`ALLOWED`), and sees no files.
It is plain HTTP, the token included: serve it in a network you trust, or through a tunnel.
"""

import errno
import json
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

from razorbench.harness.core.errors import Refused
from razorbench.harness.store import migrations
from razorbench.harness.store.database import Store
from razorbench.harness.store.quack import connect, parse
from razorbench.harness.store.requests import Order, StoreError

PAUSE = 0.02
"""Seconds between two looks of the server into the inbox."""

KEPT = 10_000
"""So many of the last orders keep their answers, for clients that are slow to look."""

ALLOWED = (
    r"INSERT OR IGNORE INTO inbox \(ticket, letter\) VALUES \('[0-9a-f]{32}', '[^']*'\)"
    r"|SELECT answer FROM inbox WHERE ticket = '[0-9a-f]{32}'"
)
"""The statements that a server runs, as a regular expression."""


def serve(home: Path | str, listen: str, token: str, ready: Callable[[str], Any] = lambda address: None) -> None:
    """Write for all who share a home, until SIGTERM or SIGINT; `ready` is called with the address once it is served.

    `listen` is `quack:HOST[:PORT]`; the host 0.0.0.0 is every address of this machine. Refused or StoreError if that
    cannot be, if the home has another writer, or if its files or database are broken. Call it in the main thread.
    """
    host, port = parse(listen)
    address = f"quack:{socket.gethostname() if host == '0.0.0.0' else host}:{port}"
    store = Store(home)
    with _signals() as stop, store.lock(address):
        _demand_free(host, port)
        for answer in store.perform([Order("reconcile", (), migrations.last())]):  # migrates and publishes, too
            if isinstance(answer, Exception):
                raise answer
        with _inbox(f"quack:{host}:{port}", token) as inbox:
            ready(address)
            while not stop.wait(PAUSE):
                letters = inbox.execute(
                    "SELECT ticket, letter FROM inbox WHERE answer IS NULL ORDER BY rowid"
                ).fetchall()
                if letters:
                    answers = _answers(store, [letter for _, letter in letters])
                    pairs = [(answer, ticket) for answer, (ticket, _) in zip(answers, letters, strict=True)]
                    inbox.executemany("UPDATE inbox SET answer = ? WHERE ticket = ?", pairs)
                    inbox.execute(f"DELETE FROM inbox WHERE rowid < (SELECT max(rowid) - {KEPT} FROM inbox)")


def _answers(store: Store, letters: Sequence[str]) -> list[str]:
    """Do what letters ask for; the letters with the answers. What fails together is tried one by one."""
    try:
        answers = store.perform([Order(**json.loads(letter)) for letter in letters])
    except Exception as error:  # whatever it is, the server lives on
        if len(letters) > 1:
            return [answer for letter in letters for answer in _answers(store, [letter])]
        if not isinstance(error, Refused | StoreError):
            error = StoreError(f"the server failed ({type(error).__name__}: {error}): install one version on both")
        answers = [error]
    return [
        json.dumps(
            {"error": "Refused" if isinstance(answer, Refused) else "StoreError", "message": str(answer)}
            if isinstance(answer, Exception)
            else {"records": answer}
        )
        for answer in answers
    ]


@contextmanager
def _inbox(address: str, token: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The inbox, served at an address."""
    with connect() as con:
        con.execute("CREATE TABLE inbox (ticket VARCHAR PRIMARY KEY, letter VARCHAR NOT NULL, answer VARCHAR)")
        pattern = ALLOWED.replace("'", "''")
        con.execute(f"CREATE MACRO allowed(client, query) AS regexp_full_match(query, '{pattern}')")
        con.execute("SET GLOBAL quack_authorization_function = 'allowed'")
        con.execute("SET enable_external_access = false")
        con.execute("SET lock_configuration = true")
        sent = {"address": address, "token": token}
        con.execute("CALL quack_serve($address, token = $token, allow_other_hostname = true)", sent)
        try:
            yield con
        finally:
            con.execute("CALL quack_stop($address)", {"address": address})


def _demand_free(host: str, port: int) -> None:
    """StoreError if one cannot listen there. Quack does not tell: two servers on a port get half the requests each."""
    try:
        with socket.socket() as probe:
            # As Quack does it: so connections of a killed server, which last a minute, are not in the way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            probe.bind((host, port))
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1" if host == "0.0.0.0" else host, port)) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
    except OSError as error:
        why = f"quack:{host}:{port} cannot be served ({error.strerror or error})"
        raise StoreError(f"{why}: give a free port and an address of this machine") from error


@contextmanager
def _signals() -> Iterator[threading.Event]:
    """An event that SIGTERM and SIGINT set."""
    stop = threading.Event()
    old = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield stop
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)
