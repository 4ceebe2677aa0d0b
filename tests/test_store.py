"""The index: nothing lost, nothing doubled, and every failure is one sentence with its cure."""

import errno
import fcntl
import random
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import duckdb
import pytest

from razorbench import Refused
from razorbench.harness.measure import record as files
from razorbench.harness.measure.record import Drift, Point
from razorbench.harness.store import database as module
from razorbench.harness.store import migrations
from razorbench.harness.store.database import Store
from razorbench.harness.store.leaderboard import Query
from razorbench.harness.store.requests import StoreError
from tests.test_record import columns, make

ROOT = Path(__file__).parents[1]

WRITER = """
import sys
from razorbench.harness.measure import record as files
from razorbench.harness.store.database import Store
from tests.test_record import columns, make
home, prefix, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
store = Store(home)
for i in range(count):
    record = make(f"{prefix}-{i}", seed=i)
    files.write(store.home, record, columns())
    print("ready", flush=True)
    store.add(record)
"""

HOLDER = """
import sys, time
import duckdb
con = duckdb.connect(sys.argv[1])
print("ready", flush=True)
time.sleep(60)
"""


def start(script: str, *arguments: object) -> subprocess.Popen:
    """A Python process that has said it is ready."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen) -> None:
    process.kill()
    process.communicate()


def put(store: Store, *records: files.Record) -> None:
    for record in records:
        files.write(store.home, record, columns())
        assert store.add(record)


def everything(store: Store) -> dict[str, list]:
    """All rows of all tables, sorted."""
    tables = ("submissions", "scores", "drifts", "curve", "events", "runs", "law", "entries", "effects", "laws")
    return {table: sorted(map(repr, store.rows(f"FROM {table}"))) for table in tables}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home", wait=60)


# --- one writer -------------------------------------------------------------------------------------------------------


def test_an_empty_home_has_an_empty_board(store: Store):
    assert store.tracks() == []
    assert store.rows("FROM leaderboard") == []


def test_an_added_record_is_published_with_all_its_parts(store: Store):
    put(store, make())
    (run,) = store.runs("tiny-v1")
    assert (run["id"], run["gain"], run["retention"], run["settings"]) == ("r1", 50.0, -20.0, {"lr": 0.001, "batch": 8})
    assert (run["drift"], run["drift_se"], run["base_prior"], run["unscored"]) == (0.4, 0.1, 80.0, 0)
    assert (run["adapt_seconds"], run["score_seconds"]) == (10.0, None)
    assert [(score["role"], score["task"], score["p"]) for score in store.scores("r1")] == [
        ("new", "sums-v1", 0.5),
        ("prior", "copy-v1", None),
    ]
    assert [drift["nats"] for drift in store.drifts("r1")] == [0.4]
    assert [(point["step"], point["end"], point["loss"]) for point in store.curve("r1")] == [
        (0, False, None),
        (50, False, 1.5),
        (100, True, None),
    ]


def test_adding_a_known_id_changes_nothing(store: Store):
    put(store, make())
    before = everything(store)
    assert not store.add(make())
    assert everything(store) == before


def test_a_record_without_files_is_not_added(store: Store):
    with pytest.raises(StoreError, match="write it first"):
        store.add(make())


def test_what_a_crash_left_between_file_and_database_is_reconciled(store: Store):
    put(store, make("r1"))
    files.write(store.home, make("r2", seed=1), columns())
    assert store.reconcile() == 1
    assert store.reconcile() == 0
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1", "r2"]


def test_a_lost_snapshot_comes_back_when_read(store: Store):
    put(store, make())
    store.snapshot.unlink()
    assert len(store.runs("tiny-v1")) == 1


def test_a_lost_database_comes_back_whole_with_the_next_record(store: Store):
    put(store, make("r1"), make("r2"))
    store.database.unlink()
    put(store, make("r3"))
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1", "r2", "r3"]


def test_a_submission_is_found_by_id_or_name_and_near_misses_are_named(store: Store):
    put(store, make("r1", name="alpha"), make("r2", name="beta"), make("r3", name="beta"))
    assert store.submission("r2")["id"] == "r2"
    assert store.submission("alpha")["id"] == "r1"
    with pytest.raises(Refused, match=r"names 2 submissions.*r2, r3"):
        store.submission("beta")
    with pytest.raises(Refused, match="did you mean 'alpha'"):
        store.submission("alpa")


# --- events -----------------------------------------------------------------------------------------------------------


def test_hiding_is_an_event_and_never_an_update(store: Store):
    put(store, make("r1"), make("r2", seed=1))
    rows = store.rows("FROM submissions ORDER BY id")
    store.decide("r1", "hidden", "looks copied")
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r2"]
    assert [run["hidden"] for run in store.runs("tiny-v1", all=True)] == [True, False]
    assert store.rows("FROM leaderboard ORDER BY gain DESC NULLS LAST, entry")[0]["seeds"] == 1
    store.decide("r1", "unhidden", "it was not")
    assert len(store.runs("tiny-v1")) == 2
    assert [(event["kind"], event["reason"]) for event in store.events("r1")] == [
        ("hidden", "looks copied"),
        ("unhidden", "it was not"),
    ]
    assert store.rows("FROM submissions ORDER BY id") == rows


def test_a_retraction_is_for_good(store: Store):
    put(store, make())
    store.decide("r1", "retracted", "wrong weights")
    store.decide("r1", "unhidden", "please")
    assert store.tracks() == []


def test_the_last_name_counts(store: Store):
    put(store, make())
    store.decide("r1", "renamed", "typo", "first")
    store.decide("r1", "renamed", "again", "second")
    assert store.submission("second")["id"] == "r1"
    assert store.rows("FROM leaderboard ORDER BY gain DESC NULLS LAST, entry")[0]["name"] == "second"


@pytest.mark.parametrize(
    ("event", "message"),
    [
        (("r1", "burnt", "why"), "unknown event 'burnt'"),
        (("r9", "hidden", "why"), "no submission has the id 'r9'"),
        (("r1", "renamed", "why"), "has a value, the new name"),
        (("r1", "hidden", "why", "name"), "has a value, the new name"),
    ],
)
def test_events_that_make_no_sense_are_refused(store: Store, event: tuple, message: str):
    put(store, make())
    with pytest.raises(Refused, match=message):
        store.decide(*event)
    assert store.events() == []


# --- views ------------------------------------------------------------------------------------------------------------


def test_the_leaderboard_averages_seeds_and_shows_their_spread(store: Store):
    put(store, make("a0", seed=0, gain=10.0, retention=-1.0), make("a1", seed=1, gain=14.0, retention=-3.0))
    put(store, make("b0", method="sft", gain=20.0, scored_at="2025-11-21T01:00:00+02:00"))
    sft, grpo = store.rows("FROM leaderboard ORDER BY gain DESC NULLS LAST, entry")
    assert (sft["method"], sft["seeds"], sft["gain"], sft["gain_between"]) == ("sft", 1, 20.0, None)
    assert sft["scored_at"].isoformat() == "2025-11-20T23:00:00"
    assert (grpo["seeds"], grpo["gain"], grpo["retention"]) == (2, 12.0, -2.0)
    assert grpo["gain_between"] == pytest.approx(8**0.5)  # sd of 10 and 14
    assert grpo["adapt_seconds"] == 10.0


def test_drift_on_prior_tasks_and_of_other_kinds_stays_out_of_the_drift_column(store: Store):
    drifts = (
        Drift("sums-v1", "forward", "episode", 0.4, 0.1, 5),
        Drift("sums-v1", "forward", "element", 0.05, 0.01, 5),
        Drift("sums-v1", "reverse", "episode", 0.7, 0.2, 5),
        Drift("copy-v1", "forward", "episode", 9.0, 1.0, 5),
    )
    put(store, make(drifts=drifts))
    (run,) = store.runs("tiny-v1")
    assert (run["drift"], run["drift_element"], run["reverse"]) == (0.4, 0.05, 0.7)


def test_law_points_are_ends_and_evaluated_checkpoints_against_step_zero(store: Store):
    curve = (
        Point(0, new=25.0, prior=70.0, drift=0.0),
        Point(10, lr=0.001, loss=1.0),
        Point(50, lr=0.001, new=50.0, prior=64.0, drift=0.1),
        Point(100, end=True, prior=55.0, drift=0.5),
    )
    put(store, make(curve=curve))
    (end,) = store.law_points("tiny-v1", end=True)
    assert (end["drift"], end["forgetting"], end["step"], end["lr_steps"]) == (0.4, 20.0, 100, pytest.approx(0.1))
    (middle,) = store.law_points("tiny-v1", end=False)
    assert (middle["drift"], middle["forgetting"], middle["lr_steps"]) == (0.1, 6.0, pytest.approx(0.05))
    assert len(store.law_points("tiny-v1")) == 2


def test_without_step_zero_a_checkpoint_is_held_against_the_scores_of_the_base(store: Store):
    put(store, make(curve=(Point(50, prior=64.0, drift=0.1),)))
    assert [point["forgetting"] for point in store.law_points("tiny-v1", end=False)] == [16.0]  # 80 − 64


def test_items_are_averaged_over_the_submissions_of_a_group(store: Store):
    files.write(store.home, make("r1"), columns([0, 1, 0], [1, 1, None], drift=[0.2, None, None]))
    files.write(store.home, make("r2"), columns([0, None, 0], [0, 1, None], drift=[0.4, None, None]))
    store.reconcile()
    items = store.items({"r1": "g", "r2": "g"})
    assert list(items["item"]) == ["0", "1", "2"]
    assert items["base"][:2].tolist() == [0.0, 1.0]
    assert items["adapted"][:2].tolist() == [0.5, 1.0]
    assert items["drift"][0] == pytest.approx(0.3)
    assert all(items[name][2] != items[name][2] for name in ("base", "adapted", "drift"))


# --- migrations -------------------------------------------------------------------------------------------------------


def test_migrations_run_once_and_are_numbered_from_one(store: Store):
    put(store, make("r1"))
    before = store.rows("FROM migrations")
    put(store, make("r2"))
    assert store.rows("FROM migrations") == before
    assert [row["number"] for row in before] == list(range(1, len(migrations.MIGRATIONS) + 1))


def test_a_database_newer_than_this_program_is_refused(store: Store, monkeypatch, tmp_path: Path):
    newer = tmp_path / "0099_future.sql"
    newer.write_text("CREATE TABLE future (x INTEGER)")
    with monkeypatch.context() as future:
        future.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 99: newer})
        put(store, make("r1"))
    with pytest.raises(StoreError, match=r"migration 99 .*: upgrade razorbench"):
        store.runs("tiny-v1")
    with pytest.raises(StoreError, match=r"migration 99 .*: upgrade razorbench"):
        store.reconcile()


def test_an_older_snapshot_is_brought_up_to_date_when_read(store: Store, monkeypatch, tmp_path: Path):
    put(store, make("r1"))
    newer = tmp_path / "0099_future.sql"
    newer.write_text("CREATE TABLE future (x INTEGER)")
    monkeypatch.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 99: newer})
    assert store.rows("FROM future") == []
    assert len(store.runs("tiny-v1")) == 1


def test_a_migration_that_fails_leaves_the_database_as_it_was(store: Store, monkeypatch, tmp_path: Path):
    put(store, make("r1"))
    broken = tmp_path / "0099_broken.sql"
    broken.write_text("CREATE TABLE future (x INTEGER); SELECT no_such_column FROM future")
    with monkeypatch.context() as future:
        future.setattr(migrations, "MIGRATIONS", {**migrations.MIGRATIONS, 99: broken})
        with pytest.raises(duckdb.BinderException):
            store.reconcile()
    put(store, make("r2"))
    assert "future" not in {row["name"] for row in store.rows("SHOW TABLES")}


def test_rows_that_are_older_than_metrics_have_none(store: Store, monkeypatch):
    with monkeypatch.context() as past:
        past.setattr(migrations, "MIGRATIONS", {n: path for n, path in migrations.MIGRATIONS.items() if n < 3})
        past.setattr(module, "append", without_later_columns)
        past.setattr(module, "_refresh", lambda con, home: None)
        put(store, make("r1"))
    told, changed = {"well_formed": [0.5, 0.75]}, {"well_formed": [0.25, -0.125, None]}
    put(store, make("r2", scores=[replace(make().scores[0], metrics=told, metric_changes=changed)]))
    assert [(row["metrics"], row["metric_changes"]) for row in store.scores("r1")] == [({}, {}), ({}, {})]
    assert [(row["metrics"], row["metric_changes"]) for row in store.scores("r2")] == [(told, changed)]


def without_later_columns(con, table: str, rows: list[dict], append=module.append) -> None:
    if (table,) not in con.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        return  # it came later, too
    known = {column for column, *_ in con.execute(f"DESCRIBE {table}").fetchall()}
    append(con, table, [{name: value for name, value in row.items() if name in known} for row in rows])


# --- many processes ---------------------------------------------------------------------------------------------------


@pytest.mark.load
def test_four_processes_writing_at_once_lose_nothing_and_double_nothing(store: Store):
    writers = [start(WRITER, store.home, f"w{k}", 10) for k in range(4)]
    assert [writer.wait() for writer in writers] == [0] * 4
    for writer in writers:
        writer.communicate()
    expected = sorted(f"w{k}-{i}" for k in range(4) for i in range(10))
    assert [row["id"] for row in store.rows("SELECT id FROM submissions ORDER BY id")] == expected
    assert len(store.rows("FROM scores")) == 80
    assert store.reconcile() == 0


@pytest.mark.kill
def test_writers_killed_at_any_moment_lose_nothing_and_double_nothing(store: Store):
    rng = random.Random(0)
    for k in range(12):
        writer = start(WRITER, store.home, f"k{k}", 1000)
        time.sleep(rng.uniform(0, 0.9))  # in creating the database, writing a record, its rows, or the snapshot
        end(writer)
        listed = {row["id"] for row in store.rows("SELECT id FROM submissions")}  # readers never see a broken snapshot
        assert listed <= {record.id for record in files.all_records(store.home)}
    store.reconcile()
    ids = sorted(record.id for record in files.all_records(store.home))
    assert len(ids) >= 12
    assert [row["id"] for row in store.rows("SELECT id FROM submissions ORDER BY id")] == ids
    assert len(store.rows("FROM scores")) == 2 * len(ids)
    kept = everything(store)
    store.rebuild()
    assert everything(store) == kept


def test_readers_keep_their_snapshot_while_it_is_replaced(store: Store):
    put(store, make("r1"))
    with store.read() as old:
        put(store, make("r2"))
        assert old.execute("SELECT count(*) FROM submissions").fetchall() == [(1,)]
        assert len(store.runs("tiny-v1")) == 2


def test_a_writer_does_not_keep_readers_waiting(store: Store):
    put(store, make())
    holder = start(HOLDER, store.database)
    try:
        assert len(Store(store.home, wait=0).runs("tiny-v1")) == 1
    finally:
        end(holder)


def test_a_lock_that_is_not_given_up_is_named_after_a_while(store: Store):
    put(store, make())
    with open(store.home / ".lock") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"the store is locked by process \d+ .*: wait for it or end it"):
            Store(store.home, wait=0.1).reconcile()


def test_a_database_open_elsewhere_is_named_after_a_while(store: Store):
    put(store, make())
    holder = start(HOLDER, store.database)
    try:
        with pytest.raises(StoreError, match=r"razorbench\.duckdb is open in another program .*: close it"):
            Store(store.home, wait=0.1).reconcile()
    finally:
        end(holder)


# --- broken disks and files -------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("keep", [0, 100, 4096, 300_000])
def test_a_torn_database_names_its_cure_and_rebuild_is_it(store: Store, keep: int):
    put(store, make("r1"), make("r2", seed=1))
    store.decide("r1", "hidden", "why")
    before = everything(store)
    torn = store.database.read_bytes()[:keep]
    store.database.write_bytes(torn)
    store.snapshot.write_bytes(torn)
    with pytest.raises(StoreError, match="razorbench rebuild"):
        store.reconcile()
    with pytest.raises(StoreError, match="razorbench rebuild"):
        store.runs("tiny-v1")
    assert store.rebuild() == 2
    assert everything(store) == before


@pytest.mark.slow
def test_rebuild_gives_equal_rows_and_keeps_events(store: Store):
    put(store, make("r1"), make("r2", seed=1), make("r3", method="sft", gain=float("nan")))
    store.decide("r2", "hidden", "why")
    before = everything(store)
    assert store.rebuild() == 3
    assert everything(store) == before
    assert [run["id"] for run in store.runs("tiny-v1") if run["id"] == "r2"] == []


@pytest.mark.slow
@pytest.mark.parametrize("befalls", [lambda path: path.unlink(), lambda path: path.write_bytes(path.read_bytes()[:99])])
def test_lost_samples_hold_up_nobody(store: Store, befalls):
    put(store, make("r1"), make("r2", seed=2), make("alone", method="simpo"), make("well", method="sft"))
    before = {entry.method: entry for entry in store.entries(Query("tiny-v1"))}
    whole = {
        id: (path := files.folder(store.home, id) / "samples.parquet", path.read_bytes()) for id in ("r2", "alone")
    }
    for path, _ in whole.values():
        befalls(path)
    store.rebuild()
    entries = {entry.method: entry for entry in store.entries(Query("tiny-v1"))}
    several, alone = entries["grpo"], entries["simpo"]
    assert several.gain.value != several.gain.value  # of two seeds nothing is known
    assert "r2/samples.parquet" in several.gain.method
    assert (several.rank, several.effects) == (None, ())
    assert alone.gain == before["simpo"].gain  # as its record has it
    assert entries["sft"].effects == before["sft"].effects
    for path, content in whole.values():
        path.write_bytes(content)
    store.rebuild()
    assert {entry.method: entry for entry in store.entries(Query("tiny-v1"))} == before


def test_a_migration_whose_writer_was_killed_is_finished_by_the_next(store: Store):
    put(store, make("r1"), make("r2", seed=2))
    before = everything(store)
    with duckdb.connect(str(store.database)) as con:  # as the last migration leaves it
        for table in ("runs", "law", "entries", "effects", "laws"):
            con.execute(f"DELETE FROM {table}")
    store.reconcile()
    assert everything(store) == before


def test_words_that_are_no_text_are_refused_and_leave_nothing(store: Store):
    put(store, make("r1"))
    with pytest.raises(Refused, match="UTF-8"):
        store.decide("r1", "hidden", "\udcff")
    assert store.reconcile() == 0
    assert store.events() == []


def test_a_home_whose_path_looks_like_a_partition_is_read_as_any_other(tmp_path: Path):
    plain, odd = Store(tmp_path / "home"), Store(tmp_path / "task=math" / "drift=3" / "home")
    for store in (plain, odd):
        put(store, make("r1"), make("r2", seed=2))
    assert odd.entries(Query("tiny-v1")) == plain.entries(Query("tiny-v1"))


def tear(store: Store, id: str) -> Path:
    """Half of a record is gone."""
    path = files.folder(store.home, id) / "record.json"
    path.write_text(path.read_text()[:50])
    return path


def test_a_torn_record_holds_up_no_other_and_is_named(store: Store):
    put(store, make("r1"))
    files.write(store.home, make("r2", track="other-v1"), columns())
    path = tear(store, "r2")
    files.write(store.home, make("r3"), columns())
    assert store.reconcile() == 1
    put(store, make("r4"))
    store.decide("r1", "renamed", "typo", "first")
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1", "r3", "r4"]
    (sentence,) = store.torn()
    assert sentence.startswith(f"{path} is torn")
    assert sentence.endswith("restore it from a copy or remove its folder")
    with pytest.raises(Refused, match=r"records/r2/record\.json is torn"):
        store.add(make("r2", track="other-v1"))  # who asks for that very record must know
    shutil.rmtree(path.parent)
    assert store.torn() == []


def test_a_restored_record_comes_to_its_row(store: Store):
    files.write(store.home, make("r1"), columns())
    whole = (files.folder(store.home, "r1") / "record.json").read_text()
    path = tear(store, "r1")
    assert store.reconcile() == 0
    path.write_text(whole)
    assert store.reconcile() == 1
    assert store.torn() == []


@pytest.mark.slow
@pytest.mark.parametrize("text", ["", "{", '{"id": "x", "schema": 99}'])
def test_a_torn_event_holds_up_no_other_and_is_named(store: Store, text: str):
    put(store, make("r1"), make("r2", seed=1))
    (store.home / "events").mkdir()
    (store.home / "events" / "torn.json").write_text(text)
    store.decide("r2", "hidden", "why")
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1"]
    (sentence,) = store.torn()
    assert "events/torn.json" in sentence


def test_a_lost_database_comes_back_without_the_torn_record(store: Store):
    put(store, make("r1"), make("r2"))
    tear(store, "r2")
    store.database.unlink()
    put(store, make("r3"))
    assert [run["id"] for run in store.runs("tiny-v1")] == ["r1", "r3"]
    assert len(store.torn()) == 1


def test_rebuild_names_the_record_that_is_torn_and_keeps_the_old_database(store: Store):
    put(store, make("r1"), make("r2"))
    tear(store, "r2")
    with pytest.raises(Refused, match=r"records/r2/record\.json is torn"):
        store.rebuild()
    assert len(store.runs("tiny-v1")) == 2


@pytest.mark.slow
@pytest.mark.parametrize("room", [50_000, 1_500_000])  # bytes a file: the log does not fit, or only the database
def test_a_full_disk_is_one_sentence_and_leaves_the_old_state(store: Store, room: int):
    put(store, *(make(f"r{i}") for i in range(3)))
    late = make("late", curve=[Point(i, loss=random.Random(i).random()) for i in range(20_000)])
    files.write(store.home, late, columns())
    before = everything(store)
    script = """
import resource, sys
from pathlib import Path
from razorbench.harness.measure import record as files
from razorbench.harness.store.database import Store
from razorbench.harness.store.requests import StoreError
store = Store(sys.argv[1])
late = files.read(Path(sys.argv[1]) / "records" / "late")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
print("ready", flush=True)
try:
    store.add(late)
except StoreError as error:
    print(error)
"""
    writer = start(script, store.home, room)
    told, _ = writer.communicate(timeout=60)
    assert writer.returncode == 0
    assert "the disk does not take" in told
    assert "free some space, then try again" in told
    assert everything(store) == before
    store.reconcile()
    assert len(store.curve("late")) == 20_000


def test_a_full_disk_while_publishing_keeps_the_old_snapshot(store: Store, monkeypatch):
    put(store, make("r1"))
    files.write(store.home, make("r2"), columns())

    def full(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr(module.shutil, "copyfile", full)
        with pytest.raises(StoreError, match="free some space"):
            store.add(make("r2"))
    assert len(store.runs("tiny-v1")) == 1
    assert not store.add(make("r2"))  # it was in the database, and now it is published
    assert len(store.runs("tiny-v1")) == 2
