"""Records are files: strict JSON, whole or not at all, and never changed."""

import json
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from razorbench import Refused
from razorbench.harness.measure import record as files
from razorbench.harness.measure.record import Drift, Point, Record, Score


def make(id: str = "r1", **changes) -> Record:
    made = Record(
        id=id,
        name="grpo",
        track="tiny-v1",
        agent="tiny",
        base="tiny@1",
        method="grpo",
        settings={"lr": 0.001, "batch": 8},
        seed=0,
        steps=100,
        checkpoint="ab" * 32,
        scores=(
            Score("sums-v1", "new", "math", 4, 0, 25.0, 75.0, 50.0, 10.0, 90.0, 20.0, 0.5, 0.5, 56.0, "Student t"),
            Score("copy-v1", "prior", "skills", 5, 0, 80.0, 60.0, -20.0, -50.0, 10.0, 15.0),
        ),
        gain=50.0,
        gain_low=10.0,
        gain_high=90.0,
        gain_se=20.0,
        retention=-20.0,
        retention_low=-50.0,
        retention_high=10.0,
        retention_se=15.0,
        drifts=(Drift("sums-v1", "forward", "episode", 0.4, 0.1, 5),),
        curve=(Point(0, new=25.0, prior=80.0, drift=0.0), Point(50, lr=0.001, loss=1.5), Point(100, end=True)),
        cost={"adapt_seconds": 10.0, "episodes": 800.0},
        provenance={"commit": "abc"},
        scored_at="2025-11-20T12:00:00+00:00",
    )
    return replace(made, **changes)


def columns(base=(0.0, 1.0), adapted=(1.0, 1.0), **more) -> dict:
    items = [str(i) for i in range(len(base))]
    return {"task": ["sums-v1"] * len(base), "role": ["new"] * len(base), "item": items} | {
        "base": base,
        "adapted": adapted,
        **more,
    }


def test_a_record_comes_back_as_it_was_written(tmp_path: Path):
    folder = files.write(tmp_path, make(), columns())
    assert folder == tmp_path / "records" / "r1"
    assert files.read(folder) == make()
    assert files.read(folder / "record.json") == make()


def test_a_record_that_is_older_than_metrics_has_none(tmp_path: Path):
    row = json.loads(files.to_json(make()))
    for score in row["scores"]:
        del score["metrics"], score["metric_changes"]
    assert files.from_dict(row) == make()


def test_a_setting_that_came_later_keeps_the_ids_of_entries_that_do_not_use_it():
    settings = make().settings
    assert make(settings={**settings, "lora": 0}).entry == make().entry
    assert make(settings={**settings, "lora": 8}).entry != make().entry


def test_what_is_not_finite_is_null_in_strict_json_and_none_when_read():
    text = files.to_json(make(gain_low=float("nan"), settings={"clip": float("inf"), "lr": np.float32(0.5)}))
    row = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert row["gain_low"] is None
    assert row["settings"] == {"clip": None, "lr": 0.5}
    assert files.from_dict(row).gain_low is None
    assert files.to_json(files.from_dict(row)) == text


def test_unscored_samples_are_null_and_keep_their_error(tmp_path: Path):
    samples = columns([0, np.nan], [1, None], error=[None, "timeout"], drift=np.array([0.25, np.nan], np.float32))
    files.write(tmp_path, make(), samples)
    table = files.samples_of(tmp_path, "r1")
    assert table.schema.names == ["task", "role", "item", "base", "adapted", "error", "drift", "cluster", "metrics"]
    assert table.to_pydict()["base"] == [0.0, None]
    assert table.to_pydict()["adapted"] == [1.0, None]
    assert table.to_pydict()["error"] == [None, "timeout"]
    assert table.to_pydict()["drift"] == [0.25, None]


@pytest.mark.parametrize("lacking", [["metrics"], ["cluster", "metrics"]])
def test_a_record_older_than_a_column_reads_as_if_nothing_were_told_and_may_be_written_again(lacking, tmp_path: Path):
    file = files.write(tmp_path, make(), columns()) / "samples.parquet"
    pq.write_table(pq.read_table(file).drop_columns(lacking), file)
    read = files.samples_of(tmp_path, "r1")
    assert [read[name].null_count for name in lacking] == [len(columns()["item"])] * len(lacking)
    files.write(tmp_path, make(), columns())
    more = {"cluster": ["box", "box"], "metrics": [{"nats": [-1.0, -2.0]}, None]}
    files.write(tmp_path, make(), columns() | {name: more[name] for name in lacking})
    with pytest.raises(Refused, match="other content"):
        files.write(tmp_path, make(), columns(adapted=[0.0] * len(columns()["item"])))


def test_metrics_of_an_item_come_back_and_what_is_not_finite_is_null(tmp_path: Path):
    files.write(tmp_path, make(), columns(metrics=[{"nats": [np.float64(-1), np.nan], "late": [None, 1.0]}, None]))
    told = files.samples_of(tmp_path, "r1")["metrics"].to_pylist()
    assert told == [[("nats", [-1.0, None]), ("late", [None, 1.0])], None]


def test_samples_without_a_needed_column_are_refused(tmp_path: Path):
    samples = columns()
    del samples["adapted"]
    with pytest.raises(Refused, match="check adapted"):
        files.write(tmp_path, make(), samples)


def test_integer_items_become_text(tmp_path: Path):
    files.write(tmp_path, make(), columns() | {"item": np.array([7, 8])})
    assert files.samples_of(tmp_path, "r1")["item"].to_pylist() == ["7", "8"]


def test_writing_the_same_again_changes_nothing(tmp_path: Path):
    before = (files.write(tmp_path, make(), columns()) / "record.json").stat()
    after = (files.write(tmp_path, make(), columns()) / "record.json").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


@pytest.mark.parametrize("changed", [(make(gain=1.0), columns()), (make(), columns(adapted=(0.0, 0.0)))])
def test_other_content_under_a_known_id_is_refused(tmp_path: Path, changed):
    files.write(tmp_path, make(), columns())
    with pytest.raises(Refused, match="records never change"):
        files.write(tmp_path, *changed)
    assert files.read(tmp_path / "records" / "r1") == make()


@pytest.mark.parametrize("id", ["../r1", ".hidden", "a/b", ""])
def test_an_id_that_leads_elsewhere_is_refused(tmp_path: Path, id: str):
    with pytest.raises(Refused, match="cannot name a folder"):
        files.write(tmp_path, make(id), columns())


def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.pq, "write_table", full)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path, make(), columns())
    assert list((tmp_path / "records").iterdir()) == []


def test_leftovers_of_killed_writers_are_passed_over_and_swept_when_old(tmp_path: Path):
    young, old = (tmp_path / "records" / name for name in (".r1.young", ".r1.old"))
    for left in (young, old):
        left.mkdir(parents=True)
        (left / "record.json").write_text('{"schema": 1, "id"')
    long_ago = time.time() - 2 * files.STALE
    os.utime(old, (long_ago, long_ago))
    assert files.all_records(tmp_path) == []
    files.write(tmp_path, make(), columns())
    assert young.exists()
    assert not old.exists()
    assert files.all_records(tmp_path) == [make()]


@pytest.mark.parametrize(
    "text", ["", '{"schema": 1, "id": "r', "[]", '{"schema": 1, "id": "r1"}', '{"id": "r1"}', "\ud800"]
)
def test_a_torn_record_is_refused_by_the_name_of_its_file(tmp_path: Path, text: str):
    path = files.write(tmp_path, make(), columns()) / "record.json"
    path.write_bytes(text.encode(errors="surrogatepass"))
    with pytest.raises(Refused, match=r"record\.json is torn or not a file of ours"):
        files.all_records(tmp_path)


def test_a_record_of_a_newer_schema_is_refused(tmp_path: Path):
    path = files.write(tmp_path, make(), columns()) / "record.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 4, "new_field": 1}))
    with pytest.raises(Refused, match="has schema 4, this razorbench knows 3: upgrade razorbench"):
        files.read(path)


def test_a_record_in_the_folder_of_another_is_refused(tmp_path: Path):
    folder = files.write(tmp_path, make(), columns())
    folder.rename(folder.with_name("r2"))
    with pytest.raises(Refused, match="name the folder after its record"):
        files.all_records(tmp_path)


def test_a_time_without_its_zone_is_refused():
    with pytest.raises(ValueError, match="no offset from UTC"):
        make(scored_at="2025-11-20T12:00:00")


def test_seeds_share_an_entry_and_settings_do_not():
    assert make(seed=0).entry == make("r2", seed=1, name="other", settings={"batch": 8, "lr": 0.001, "seed": 1}).entry
    different = [
        make(settings={"lr": 0.01, "batch": 8}),
        make(track="t"),
        make(agent="a"),
        make(base="b"),
        make(method="m"),
    ]
    assert len({other.entry for other in different} | {make().entry}) == 6
