"""A home as an older version left it: it opens, ids stay, and what was right then is the same now.

tests/data/home-of-migration-5.tar.xz was made at commit ad5e181 from the toy track of tests/toys.py (40 items a task):
two seeds of SFT and one run each of three other entries, records of schema 1 in a database of migration 5.
"""

import json
import tarfile
from pathlib import Path

import duckdb
import pytest

from razorbench.harness.measure.record import SCHEMA, all_records
from razorbench.harness.store.database import Store
from razorbench.harness.store.results import table
from razorbench.leaderboard import frames

ENTRIES = {"6d1b5461966b", "54f605e09146", "8284b6e347ca", "dde5d7a074d7"}
COLUMNS = (
    "id, entry, name, track, method, seed, gain, gain_low, gain_high, retention, drift, reverse, unscored, checkpoint"
)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    with tarfile.open(Path(__file__).parent / "data" / "home-of-migration-5.tar.xz") as file:
        file.extractall(tmp_path / "home", filter="data")
    return tmp_path / "home"


def test_old_records_have_the_ids_they_had_and_new_fields_their_defaults(old: Path):
    records = all_records(old)
    assert len(records) == 5
    assert {record.entry for record in records} == ENTRIES
    for record in records:
        told = json.loads((old / "records" / record.id / "record.json").read_text())
        assert (told["schema"], SCHEMA) == (1, 3)
        assert (dict(record.conditions), dict(record.data)) == ({}, {})
        assert all(score.failed_adapted is None and score.items is None for score in record.scores)
        assert all(score.metrics and not score.metric_changes for score in record.scores)
        assert all(drift.floor is None for drift in record.drifts)


def test_old_home_opens_with_the_same_rows_and_rebuild_gives_them_again(old: Path):
    with duckdb.connect(old / "razorbench.duckdb", read_only=True) as con:
        assert con.execute("SELECT max(number) FROM migrations").fetchone() == (5,)
        before = con.execute(f"SELECT {COLUMNS} FROM runs ORDER BY id").fetchall()
        (drawn,) = con.execute("SELECT gain.low, gain.high FROM entries WHERE seeds = 2").fetchall()
    store = Store(old)
    rows = [tuple(row.values()) for row in store.rows(f"SELECT {COLUMNS} FROM runs ORDER BY id")]
    assert rows == before
    entries = table(store, "spelling-v1")
    assert {entry.id for entry in entries} == ENTRIES
    assert all(not entry.below_floor and entry.failed is None and not entry.uneven for entry in entries)
    scores = store.scores(*(row["id"] for row in store.rows("FROM runs")))
    assert {str(score["metric_changes"]) for score in scores} == {"{}"}
    assert {*frames.metrics(scores)["difference"]} == {None}
    assert store.rebuild() == 5
    assert [tuple(row.values()) for row in store.rows(f"SELECT {COLUMNS} FROM runs ORDER BY id")] == before
    assert table(store, "spelling-v1") == entries
    (several,) = (entry for entry in entries if entry.seeds == 2)
    low, high = drawn  # the interval over seeds is made anew, by the rule of docs/statistics.md
    assert several.gain.value == pytest.approx(27.5)
    assert (several.gain.low, several.gain.high) == pytest.approx((low, high), abs=2.5)


def test_what_an_old_record_does_not_tell_is_a_dash(old: Path, razorbench):
    record = all_records(old)[0]
    ((metric, (before, after)),) = record.scores[0].metrics.items()
    shown = razorbench("show", record.id, "--home", old).out
    line = next(line for line in shown.splitlines() if f" {metric} " in line)
    assert line.split() == [record.scores[0].task, metric, f"{before:.4g}", f"{after:.4g}", "–"]
