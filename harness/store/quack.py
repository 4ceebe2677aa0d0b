"""Orders to the server of a store, over Quack, DuckDB's remote protocol: what a client puts into its inbox, and back.

The token travels in plain HTTP: use it in a network you trust, or through a tunnel.
"""

import functools
import importlib.util
import json
import os
import re
import threading
import time
import uuid
from concurrent.futures import Future
from dataclasses import asdict
from pathlib import Path
from typing import Any

import duckdb

from razorbench.harness.core.errors import Refused
from razorbench.harness.measure.record import DUCKDB
from razorbench.harness.store.requests import Order, StoreError

TOKEN = "RAZORBENCH_STORE_TOKEN"
"""The environment variable that holds what a server and its clients share: 16 characters or more."""

PORT = 9494
FIRST_LOOK, LAST_LOOK = 0.05, 0.5
"""Seconds between two looks of a client for its answer: so short at first, and no longer than that."""

HUNG = 10.0
"""Seconds after which an order is given again over a new connection."""

HOPELESS = {
    "Authentication failed": f"the server at {{address}} does not take this token: set {TOKEN} to the server's",
    "Authorization failed": "the server at {address} does not know our orders: install one razorbench on both",
    "Could not resolve hostname": "there is no host as in {address}: give the address that `razorbench serve` shows",
}
"""What DuckDB says where asking again is in vain, and what we say then."""

ERRORS = {"Refused": Refused, "StoreError": StoreError}


def token() -> str:
    """The token of the environment. Refused if there is none, or a short one."""
    secret = os.environ.get(TOKEN, "")
    if len(secret) < 16:
        raise Refused(
            f"{TOKEN} {'is too short' if secret else 'is not set'}: set it, for the server and its clients alike, to "
            """what `python -c "import secrets; print(secrets.token_hex(16))"` prints"""
        )
    return secret


def parse(address: str) -> tuple[str, int]:
    """Host and port of `quack:HOST[:PORT]`. Refused if it is not of that form."""
    match = re.fullmatch(r"quack:([A-Za-z0-9._-]+)(?::([0-9]{1,5}))?", address)
    if not match or not 0 < (port := int(match[2] or PORT)) < 65536:
        raise Refused(f"{address!r} is no address of a store: write it as quack:HOST:PORT, like quack:localhost:{PORT}")
    return match[1], port


# --- the client -------------------------------------------------------------------------------------------------------


def ask(address: str, order: Order, wait: float) -> int:
    """Have the server at an address do an order; its answer, of how many records.

    A server that is not there may be starting again, and is asked again until `wait` seconds are over. StoreError if it
    does not answer in that time, or not to us; Refused and StoreError also where the server says so.
    """
    host, port = parse(address)
    deadline, given = time.monotonic() + wait, (f"quack:{host}:{port}", token(), order, uuid.uuid4().hex)
    while True:
        # In a thread, because a server that is stopped or unplugged can hold a request for ever: DuckDB's HTTP client
        # minds neither its time-out nor an interrupt here. Then another connection asks for the same ticket.
        call: Future[str] = Future()
        threading.Thread(target=_call, args=(call, *given, deadline), daemon=True).start()
        left = deadline - time.monotonic()
        try:
            answer = json.loads(call.result(min(left + 1, HUNG)))
            break
        except TimeoutError:
            if left < HUNG:
                raise _silent(given[0]) from None
            _client.cache_clear()
    if "error" in answer:
        raise ERRORS[answer["error"]](answer["message"])
    return answer["records"]


def _call(call: Future[str], address: str, token: str, order: Order, ticket: str, deadline: float) -> None:
    try:
        call.set_result(_exchange(address, token, order, ticket, deadline))
    except Exception as error:  # whatever it is, `ask` raises it
        call.set_exception(error)


def _exchange(address: str, token: str, order: Order, ticket: str, deadline: float) -> str:
    """The letter with the answer."""
    letter = json.dumps(asdict(order)).replace("'", r"\u0027")  # the same JSON, and it ends no SQL string
    put = f"INSERT OR IGNORE INTO inbox (ticket, letter) VALUES ('{ticket}', '{letter}')"
    look = f"SELECT answer FROM inbox WHERE ticket = '{ticket}'"
    con, asked, pause = _client(os.getpid()).cursor(), False, FIRST_LOOK
    while True:
        lost = None
        try:
            if not asked:
                _query(con, address, token, put)
                asked, pause = True, FIRST_LOOK
            elif not (letters := _query(con, address, token, look)):
                asked = False  # it was another server that knew this ticket, and that one has died
            elif letters[0][0]:
                return letters[0][0]
        except duckdb.Error as error:
            lost = str(error).splitlines()[0]
            for sign, sentence in HOPELESS.items():
                if sign in lost:
                    raise StoreError(sentence.format(address=address)) from error
        if time.monotonic() > deadline:
            raise _silent(address, lost)
        time.sleep(pause)
        pause = min(1.5 * pause, LAST_LOOK)  # every look is work for a server that has other clients


def _silent(address: str, lost: str | None = None) -> StoreError:
    if lost:
        return StoreError(f"no store is served at {address} ({lost}): start `razorbench serve`, or check the address")
    return StoreError(f"the server at {address} does not answer: look after it, then try again, for files are kept")


def _query(con: duckdb.DuckDBPyConnection, address: str, token: str, sql: str) -> list[tuple[Any, ...]]:
    # All by parameters, so that the token is in no error message.
    sent = {"address": address, "sql": sql, "token": token}
    return con.execute("FROM quack_query($address, $sql, token = $token, disable_ssl = true)", sent).fetchall()


@functools.cache
def _client(pid: int) -> duckdb.DuckDBPyConnection:
    """The connection of this process (loading Quack takes a quarter of a second); use cursors of it."""
    return connect()


def connect() -> duckdb.DuckDBPyConnection:
    """An empty database that speaks Quack. StoreError if the packages with the extensions are not there."""
    con = duckdb.connect(config={**DUCKDB, "threads": 1})
    for name in ("httpfs", "quack"):
        package = importlib.util.find_spec(f"duckdb_extension_{name}")
        folder = Path(package.origin or "").parent if package else Path()
        # Loaded from where pip put it, not installed into ~/.duckdb. DuckDB checks the signature.
        file = folder / "extensions" / f"v{duckdb.__version__}" / f"{name}.duckdb_extension"
        if not file.exists():
            packages = " ".join(f"duckdb-extension-{each}=={duckdb.__version__}" for each in ("httpfs", "quack"))
            raise StoreError(f"DuckDB's extension {name} is not installed: run `pip install {packages}`")
        con.execute(f"LOAD '{str(file).replace(chr(39), chr(39) * 2)}'")
    return con
