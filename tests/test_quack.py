"""A served home: many processes write through one server, nothing is lost or doubled, failures are one sentence."""

import importlib.util
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import duckdb
import pytest

from razorbench import Refused
from razorbench.harness.measure import record as files
from razorbench.harness.store import migrations, quack, server
from razorbench.harness.store.database import Store
from razorbench.harness.store.requests import Order, StoreError
from tests.test_record import columns, make
from tests.test_store import WRITER, end, everything, put, start

pytestmark = [
    pytest.mark.slow,  # a server is started for nearly every test
    pytest.mark.skipif(
        not all(importlib.util.find_spec(f"duckdb_extension_{name}") for name in ("quack", "httpfs"))
        and "CI" not in os.environ,
        reason="duckdb-extension-quack and duckdb-extension-httpfs are not installed",
    ),
]

TOKEN = "0123456789abcdef-of-a-test"

SERVER = """
import sys
from razorbench.harness.store import quack, server
server.serve(sys.argv[1], sys.argv[2], quack.token(), lambda address: print("ready", flush=True))
"""

CLIENT = WRITER.replace("Store(home)", "Store(home, wait=300, server=sys.argv[4])")

ADDER = """
import sys, time
from pathlib import Path
from razorbench.harness.store.database import Store
from tests.test_record import make
print("ready", flush=True)
while not Path(sys.argv[3]).exists():
    time.sleep(0.001)
print(Store(sys.argv[1], server=sys.argv[2]).add(make("r1")))
"""


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(quack.TOKEN, TOKEN)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def address() -> str:
    """One that nobody serves, and that no call is made from meanwhile."""
    while True:
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", random.randrange(10_000, 32_000)))
            return f"quack:127.0.0.1:{free.getsockname()[1]}"


@pytest.fixture
def serve(home: Path, address: str) -> Iterator[Callable[[], subprocess.Popen]]:
    """Starts a server of `home` at `address`."""
    servers: list[subprocess.Popen] = []

    def begin() -> subprocess.Popen:
        servers.append(start(SERVER, home, address))
        return servers[-1]

    yield begin
    for process in servers:
        if process.stdout and not process.stdout.closed:
            end(process)


@pytest.fixture
def client(home: Path, address: str) -> Store:
    return Store(home, wait=60, server=address)


def letter(*arguments: object) -> str:
    """The work and its arguments, as a client sends them."""
    work, *rest = arguments
    return json.dumps({"work": work, "arguments": rest, "migration": migrations.last()})


def sql(address: str, text: str, token: str = TOKEN) -> list:
    """What a server answers to a statement."""
    with quack.connect() as con:
        return quack._query(con, address, token, text)


# --- one client -------------------------------------------------------------------------------------------------------


def test_a_client_writes_what_a_local_store_would_write(client: Store, serve, tmp_path: Path):
    serve()
    local = Store(tmp_path / "local")
    for store in (client, local):
        put(store, make("r1"), make("r2", seed=1, name='it\'s "quoted" – ü'))
        assert not store.add(make("r1"))
        store.decide("r1", "renamed", "it's a typo; -- 'really'", "l'autre ☃\n")
        files.write(store.home, make("r3", seed=2), columns())
        assert store.reconcile() == 1
        assert store.rebuild() == 3
    assert client.runs("tiny-v1") == local.runs("tiny-v1")
    assert client.submission("l'autre ☃\n")["id"] == "r1"
    assert [event["reason"] for event in client.events("r1")] == ["it's a typo; -- 'really'"]
    (event,) = (client.home / "events").iterdir()
    assert json.loads(event.read_text())["reason"] == "it's a typo; -- 'really'"


def test_readers_see_a_record_when_its_writer_returns_and_when_the_server_is_dead(client: Store, serve):
    server = serve()
    put(client, make("r1"))
    assert [run["id"] for run in Store(client.home).runs("tiny-v1")] == ["r1"]
    end(server)
    assert [run["id"] for run in Store(client.home).runs("tiny-v1")] == ["r1"]
    assert [run["id"] for run in client.runs("tiny-v1")] == ["r1"]


def test_a_server_begins_with_what_lies_in_the_files(client: Store, serve):
    files.write(client.home, make("r1"), columns())
    serve()
    assert [run["id"] for run in client.runs("tiny-v1")] == ["r1"]


def test_a_local_store_is_sent_to_the_server_and_can_write_when_it_has_ended(client: Store, serve, address: str):
    server = serve()
    local = Store(client.home)
    with pytest.raises(StoreError, match=rf"serving {address}\) .*: give --store {address}, or end it first"):
        local.reconcile()
    server.send_signal(signal.SIGTERM)
    assert server.wait() == 0
    put(local, make("r1"))


# --- many processes ---------------------------------------------------------------------------------------------------


@pytest.mark.load
def test_four_clients_at_once_lose_nothing_and_double_nothing(client: Store, serve, address: str):
    serve()
    clients = [start(CLIENT, client.home, f"w{k}", 10, address) for k in range(4)]
    for process in clients:
        process.communicate()
    assert [process.returncode for process in clients] == [0] * 4
    expected = sorted(f"w{k}-{i}" for k in range(4) for i in range(10))
    assert [row["id"] for row in client.rows("SELECT id FROM submissions ORDER BY id")] == expected
    assert len(client.rows("FROM scores")) == 80  # two tasks each
    assert len(client.rows("FROM curve")) == 120
    held = everything(client)
    assert client.rebuild() == 40
    assert everything(client) == held


@pytest.mark.kill
def test_a_server_killed_and_started_again_loses_nothing_and_doubles_nothing(client: Store, serve, address: str):
    server = serve()
    clients = [start(CLIENT, client.home, f"w{k}", 15, address) for k in range(2)]
    for pause in (0.3, 0.5, 0.7):
        time.sleep(pause)
        end(server)
        server = serve()
    for process in clients:
        process.communicate()
    assert [process.returncode for process in clients] == [0] * 2
    expected = sorted(f"w{k}-{i}" for k in range(2) for i in range(15))
    assert [row["id"] for row in client.rows("SELECT id FROM submissions ORDER BY id")] == expected
    assert len(client.rows("FROM scores")) == 60
    assert client.reconcile() == 0


@pytest.mark.kill
def test_killed_clients_leave_no_half_record_and_no_lock(client: Store, serve, address: str):
    serve()
    for k, pause in enumerate((0.1, 0.4, 0.7)):
        process = start(CLIENT, client.home, f"k{k}", 1000, address)
        time.sleep(pause)
        end(process)
    put(client, make("last"))
    client.reconcile()
    ids = [record.id for record in files.all_records(client.home)]
    assert {"k0-0", "k1-0", "k2-0", "last"} <= set(ids)
    assert [row["id"] for row in client.rows("SELECT id FROM submissions ORDER BY id")] == sorted(ids)
    assert len(client.rows("FROM scores")) == 2 * len(ids)


def test_a_record_that_two_add_at_once_is_there_once(client: Store, serve, address: str):
    serve()
    files.write(client.home, make("r1"), columns())
    go = client.home / "go"
    adders = [start(ADDER, client.home, address, go) for _ in range(2)]
    go.touch()
    assert sorted(adder.communicate()[0] for adder in adders) == ["False\n", "True\n"]
    assert len(client.rows("FROM submissions")) == 1
    assert len(client.rows("FROM scores")) == 2


def test_an_event_that_is_ordered_twice_is_one(client: Store, serve, address: str):
    serve()
    put(client, make("r1"))
    event = {"id": "20260101T000000.000000-abcdef12", "submission": "r1", "kind": "hidden", "reason": "why"}
    order = Order("decide", [{**event, "decided_at": "2026-01-01T00:00:00+00:00"}], migrations.last())
    for _ in range(2):
        quack.ask(address, order, 10)
    assert [row["id"] for row in client.events()] == [event["id"]]
    assert client.rebuild() == 1
    assert [row["id"] for row in client.events()] == [event["id"]]


def test_orders_that_cannot_be_done_spoil_no_others(home: Path):
    store = Store(home)
    files.write(home, make("r1"), columns())
    files.write(home, make("r2"), columns())
    (home / "records" / "r2" / "record.json").write_text("{")
    letters = [
        "{",
        letter("burn", "r1"),
        letter("add"),
        letter("add", "r2"),
        letter("add", "../r1"),
        letter("add", "r1"),
    ]
    with store.lock():
        *bad, good = (json.loads(answer) for answer in server._answers(store, letters))
    assert good == {"records": 1}
    assert [answer["error"] for answer in bad] == ["StoreError"] * 3 + ["Refused"] * 2
    assert "r2/record.json is torn" in bad[3]["message"]
    assert "'../r1' is no id" in bad[4]["message"]
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1"]


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_no_server_is_one_sentence(home: Path, address: str):
    files.write(home, make("r1"), columns())
    with pytest.raises(StoreError, match=rf"no store is served at {address} .*: start `razorbench serve`, or"):
        Store(home, wait=0.2, server=address).add(make("r1"))


def test_a_stopped_server_does_not_keep_its_clients(client: Store, serve, address: str):
    server = serve()
    put(client, make("r1"))
    server.send_signal(signal.SIGSTOP)
    impatient = Store(client.home, wait=0.2, server=address)
    with pytest.raises(StoreError, match=rf"the server at {address} does not answer: look after it"):
        impatient.reconcile()
    server.send_signal(signal.SIGCONT)
    assert client.reconcile() == 0


def test_a_wrong_token_is_one_sentence_without_the_token(client: Store, serve, monkeypatch: pytest.MonkeyPatch):
    serve()
    monkeypatch.setenv(quack.TOKEN, "another-secret-of-a-test")
    with pytest.raises(StoreError, match=f"does not take this token: set {quack.TOKEN}") as caught:
        client.reconcile()
    assert "another-secret" not in str(caught.value)
    with pytest.raises(duckdb.Error, match="Authentication failed") as raw:
        sql(client.server or "", "SELECT 1", "another-secret-of-a-test")
    assert "another-secret" not in str(raw.value)


@pytest.mark.parametrize(("token", "message"), [(None, "is not set"), ("secret", "is too short")])
def test_a_token_must_be_set_and_long(client: Store, monkeypatch: pytest.MonkeyPatch, token: str | None, message: str):
    monkeypatch.delenv(quack.TOKEN)
    if token:
        monkeypatch.setenv(quack.TOKEN, token)
    with pytest.raises(Refused, match=f"{quack.TOKEN} {message}: set it"):
        client.reconcile()


@pytest.mark.parametrize("address", ["quack:", "localhost:9494", "quack:host:port", "quack:host:70000", "quack:a b"])
def test_a_misspelt_address_is_refused(home: Path, address: str):
    with pytest.raises(Refused, match=r"is no address of a store: write it as quack:HOST:PORT"):
        Store(home, server=address).reconcile()


def test_an_address_without_a_port_has_the_port_of_quack():
    assert quack.parse("quack:example.org") == ("example.org", 9494)


def test_a_missing_extension_names_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(quack.importlib.util, "find_spec", lambda name: None)
    version = duckdb.__version__
    with pytest.raises(StoreError, match=rf"pip install duckdb-extension-httpfs=={version} duckdb-extension-quack"):
        quack.connect()


def test_versions_that_differ_are_one_sentence(client: Store, serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    serve()
    put(client, make("r1"))
    last = migrations.last()
    (tmp_path / "0099_future.sql").write_text("CREATE TABLE future (x INTEGER)")
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 99: tmp_path / "0099_future.sql"})
    for work in (client.reconcile, lambda: client.runs("tiny-v1")):
        with pytest.raises(StoreError, match=f"migration 99 and its server {last}: install one version on both"):
            work()


def test_a_server_and_a_client_with_two_homes_notice_it(serve, address: str, tmp_path: Path):
    serve()
    files.write(tmp_path / "other", make("r1"), columns())
    with pytest.raises(Refused, match=r"there is no .*home/records/r1 on .*: give the server and its clients one home"):
        Store(tmp_path / "other", server=address).add(make("r1"))


@pytest.mark.parametrize("other", ["home", "port"])
def test_a_second_server_is_refused(home: Path, serve, address: str, tmp_path: Path, other: str):
    serve()
    if other == "home":
        with pytest.raises(StoreError, match=f"serving {address}.* end it first"):
            server.serve(home, "quack:127.0.0.1:9", TOKEN)
    else:
        with pytest.raises(StoreError, match=r"cannot be served \(Address already in use\): give a free port"):
            server.serve(tmp_path / "other", address, TOKEN)


def test_who_has_the_token_can_give_orders_and_nothing_else(serve, address: str, tmp_path: Path):
    serve()
    ticket = "0" * 32
    look = f"SELECT answer FROM inbox WHERE ticket = '{ticket}'"
    assert sql(address, look) == []
    for text in (
        "SELECT 1",
        "FROM inbox",
        "SELECT * FROM read_text('/etc/hostname')",
        f"COPY (SELECT 1) TO '{tmp_path}/leak.csv'",
        "DROP TABLE inbox",
        "SET GLOBAL quack_authorization_function = 'quack_nop_authorization'",
        f"{look}; DROP TABLE inbox",
        f"{look} OR true",
        f"INSERT OR IGNORE INTO inbox (ticket, letter) VALUES ('{ticket}', 'a'), ('{ticket[1:]}1', 'b')",
    ):
        with pytest.raises(duckdb.Error, match="Authorization failed"):
            sql(address, text)
    assert sql(address, look) == []


def test_the_token_is_in_no_file_and_no_output(client: Store, serve):
    server = serve()
    put(client, make("r1"))
    server.send_signal(signal.SIGINT)
    told, _ = server.communicate()
    assert server.returncode == 0
    assert TOKEN not in told
    everywhere = [path for path in client.home.rglob("*") if path.is_file()]
    assert client.database in everywhere
    assert not any(TOKEN.encode() in path.read_bytes() for path in everywhere)
    assert TOKEN in os.environ[quack.TOKEN]
