"""What leaves the board: tables that agree, records that another schema knows, a page that asks nobody for anything."""

import csv
import errno
import json
import os
import re
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from scipy import stats

from razorbench import Refused
from razorbench.harness.report import export as exports
from razorbench.harness.report.every_eval_ever import VERSION, aggregates
from razorbench.harness.report.export import COLUMNS, FORMATS, TABLES, publish
from razorbench.harness.report.page import report
from razorbench.harness.store.database import Store
from razorbench.harness.store.results import table
from tests.board_home import OTHER, TRACK, add, items, scored, small
from tests.hostile import HOSTILE, MARK
from tests.test_record import make
from tests.test_results import FLAT, put

NOW = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two tracks; three methods with two seeds on the first."""
    return small(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module")
def strangers(strange: Path) -> Store:
    """A track whose every submission was named by somebody hostile."""
    return Store(strange)


# --- tables -----------------------------------------------------------------------------------------------------------


def test_exports_agree_and_say_null_where_nothing_is_known(store: Store, tmp_path: Path):
    put(store, make(retention=None), FLAT, FLAT)
    entries = table(store, "tiny-v1")
    paths = {name: tmp_path / f"out.{name}" for name in ("json", "csv", "parquet")}
    for name, path in paths.items():
        path.write_bytes(TABLES[name](entries))
    (from_json,) = json.loads(paths["json"].read_text())
    (from_csv,) = csv.DictReader(paths["csv"].read_text().splitlines())
    (from_parquet,) = pq.read_table(paths["parquet"]).to_pylist()
    assert from_json["gain"] == from_parquet["gain"] == float(from_csv["gain"]) == 50.0
    assert from_json["retention"] is None
    assert from_parquet["rank"] is None
    assert from_csv["retention"] == ""
    assert from_json["settings"] == json.loads(from_parquet["settings"]) == json.loads(from_csv["settings"])
    assert from_json["task:sums-v1:low"] == 10.0
    assert from_json["scored_at"] == "2025-11-20T12:00:00Z"
    assert list(from_json) == list(from_csv) == list(from_parquet)


def test_every_exported_column_is_explained(store: Store, tmp_path: Path):
    put(store, make(), FLAT, FLAT)
    publish(store, "tiny-v1", "json", tmp_path / "out.json")
    (row,) = json.loads((tmp_path / "out.json").read_text())
    parts = ("_low", "_high", "_se", "_between")
    plain = {name for name in row if not name.startswith("task:") and not name.endswith(parts)}
    assert plain == set(COLUMNS) - {"task:<name>"}
    assert {name for name in row if name.endswith(parts)} == {
        e + p for e in ("gain", "retention", "drift") for p in parts
    }


def test_the_documentation_says_the_same_of_every_column():
    told = (Path(__file__).parents[1] / "docs" / "export.md").read_text(encoding="utf-8")
    assert [name for name, meaning in COLUMNS.items() if f"| `{name}` | {meaning} |" not in told] == []


def test_an_unknown_format_is_refused_with_a_guess(store: Store, tmp_path: Path):
    with pytest.raises(Refused, match="did you mean 'csv'"):
        publish(store, None, "cvs", tmp_path / "out")


def test_without_a_track_all_are_written(board: Store, tmp_path: Path):
    assert publish(board, None, "json", tmp_path / "all.json") == 4
    assert {row["track"] for row in json.loads((tmp_path / "all.json").read_text())} == {TRACK, OTHER}
    assert publish(board, OTHER, "json", tmp_path / "one.json") == 1


@pytest.mark.parametrize("format", FORMATS)
def test_nothing_to_export_is_refused_and_nothing_is_written(format: str, store: Store, tmp_path: Path):
    with pytest.raises(Refused, match=r"nothing to export on tiny-v1 in .*home: run `razorbench demo`"):
        publish(store, "tiny-v1", format, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("format", ["csv", "every-eval-ever"])
def test_a_full_disk_leaves_what_was_there(format: str, board: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    out = tmp_path / "out"
    if format == "csv":
        out.write_text("old")

    def full(file: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(file))

    monkeypatch.setattr(exports, "sync", full)
    with pytest.raises(OSError, match=rf"No space left on device: '{out}'"):
        publish(board, OTHER, format, out)
    assert [path.name for path in tmp_path.iterdir()] == ["out"] * (format == "csv")
    assert format != "csv" or out.read_text() == "old"


def test_a_folder_is_not_written_over(board: Store, tmp_path: Path):
    for format in FORMATS:
        with pytest.raises(Refused, match="exists; name another with --out"):
            publish(board, OTHER, format, tmp_path)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(Refused, match="exists; name another with --out"):
        publish(board, OTHER, "every-eval-ever", tmp_path / "file")


# --- Every Eval Ever --------------------------------------------------------------------------------------------------

PATH = re.compile(
    r"data/razorbench__[a-z0-9-]+/razorbench/[a-zA-Z0-9-]+/"
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}\.json"
)


def aggregate(store: Store, now: datetime = NOW) -> dict[str, dict[str, Any]]:
    """Record → its aggregate."""
    runs = [run for track in store.tracks() for run in store.runs(track)]
    made = dict(aggregates(store.home, runs, now))
    assert len(made) == len(runs)
    assert all(PATH.fullmatch(path) for path in made)
    return {row["source_metadata"]["additional_details"]["record"]: row for row in made.values()}


def result(row: dict[str, Any], task: str, metric: str) -> dict[str, Any]:
    (wanted,) = [r for r in row["evaluation_results"] if r["evaluation_result_id"].split("/")[1:] == [task, metric]]
    return wanted


def test_each_submission_is_one_file_that_says_who_measured_what(board: Store):
    row = aggregate(board)[f"{TRACK}-sft-1"]
    assert row["schema_version"] == VERSION == "0.3.0"
    assert row["evaluation_id"] == f"razorbench.{TRACK}/razorbench/{TRACK}-{TRACK}-sft-1/1763640000"
    assert (row["evaluation_timestamp"], row["retrieved_timestamp"]) == ("1763640000", "1767323040")
    assert row["source_metadata"]["source_type"] == "evaluation_run"
    assert row["eval_library"]["name"] == "razorbench"
    model = row["model_info"]
    assert (model["name"], model["id"]) == (f"sft of {TRACK}", f"razorbench/{TRACK}-{TRACK}-sft-1")
    details = model["additional_details"]
    assert (details["base"], details["method"], details["seed"]) == ("mini-lm-v1@90974b", "sft", "1")
    assert (details["weights_sha256"], json.loads(details["settings"])) == ("ab" * 32, {"lr": 0.001})
    assert len(aggregate(board)) == 8


def test_scores_gain_retention_and_drift_are_metrics_with_their_uncertainty(board: Store):
    row = aggregate(board)[f"{TRACK}-sft-0"]
    score = result(row, TRACK, "score")
    assert score["score_details"]["score"] == 100.0
    assert score["score_details"]["details"]["base"] == "0.0"
    uncertainty = score["score_details"]["uncertainty"]
    assert uncertainty["num_samples"] == 8
    limits = [uncertainty["confidence_interval"][side] for side in ("lower", "upper")]
    assert limits[0] == pytest.approx(100 * stats.beta.ppf(0.025, 8.5, 0.5))  # eight of eight
    assert limits[1] >= 99.9
    beside = score["score_details"]["details"]
    assert json.loads(beside["beside"]) == {"well_formed": [1.0, 0.9]}
    assert json.loads(beside["beside_changes"]) == {"well_formed": [-0.1, -0.2, 0.0]}
    change = result(row, "mini-logic-v1", "change")
    assert change["score_details"]["score"] == -50.0
    record = board.submission(f"{TRACK}-sft-0")
    for name in ("gain", "retention"):
        details = result(row, "all", name)["score_details"]
        assert details["score"] == record[name]
        assert details["uncertainty"]["confidence_interval"]["lower"] == record[f"{name}_low"]
        assert details["uncertainty"]["standard_error"]["value"] == record[f"{name}_se"]
    drift = result(row, TRACK, "forward_kl_episode")
    assert drift["score_details"]["score"] == 1.0
    config = drift["metric_config"]
    assert (config["lower_is_better"], config["min_score"], config["max_score"]) == (True, 0, "Infinity")
    assert config["metric_unit"] == "nats per episode"


@pytest.mark.slow
def test_scores_lie_within_their_bounds_and_all_that_has_no_field_is_text(board: Store, strangers: Store):
    def texts(value: Any, name: str = "") -> Iterator[Any]:
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            if name in ("additional_details", "details"):
                yield inner
            elif isinstance(inner, dict | list):
                yield from texts(inner, str(key))

    for row in [*aggregate(board).values(), *aggregate(strangers).values()]:
        assert all(isinstance(text, str) for text in texts(row))
        for one in row["evaluation_results"]:
            config = one["metric_config"]
            assert float(config["min_score"]) <= one["score_details"]["score"] <= float(config["max_score"])
            assert config["score_type"] == "continuous"


def test_the_rules_that_a_robot_was_scored_by_leave_with_its_score(tmp_path: Path):
    samples = items({("new", "fetch-air-v1"): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0], [1.0])})
    add(store := Store(tmp_path), (scored("robot", samples), samples))
    row = aggregate(store)["robot"]
    told = result(row, "fetch-air-v1", "score")["source_data"]["additional_details"]
    assert (json.loads(told["protocol"])["success"], json.loads(told["protocol"])["horizon"]) == ("once", 50)
    assert "protocol" not in result(row, "mini-logic-v1", "score")["source_data"]["additional_details"]


def test_what_is_not_known_is_left_out(store: Store):
    put(store, make(track=TRACK, gain=None, gain_low=None, gain_high=None, gain_se=None, drifts=()), FLAT, FLAT)
    (row,) = aggregate(store).values()
    named = [one["evaluation_result_id"].rpartition("/")[2] for one in row["evaluation_results"]]
    assert named == ["score", "score", "change", "retention"]


def test_the_same_record_has_the_same_file_and_id_whenever_it_is_exported(board: Store):
    runs = board.runs(OTHER)
    first, later = (dict(aggregates(board.home, runs, when)) for when in (NOW, NOW + timedelta(days=1)))
    assert list(first) == list(later)
    for path, row in first.items():
        assert row | {"retrieved_timestamp": ""} == later[path] | {"retrieved_timestamp": ""}


def test_who_evaluated_stands_to_who_adapted_as_the_record_knows(store: Store):
    samples = items({("new", TRACK): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0], [0.0])})
    told = {"id": "ab", "claim": {"reported": {}}, "overlap": None, "kind": "full", "submitted_at": "2025-11-20"}
    where = {"ours": {"adapted": {"razorbench": "0.1.0"}}, "theirs": {"submission": told}, "nobody": {"adapted": {}}}
    add(store, *((scored(id, samples, provenance=provenance, method=id), samples) for id, provenance in where.items()))
    relations = {id: row["source_metadata"]["evaluator_relationship"] for id, row in aggregate(store).items()}
    assert relations == {"ours": "first_party", "theirs": "third_party", "nobody": "other"}
    developers = {id: row["model_info"]["developer"] for id, row in aggregate(store).items()}
    assert developers == {"ours": "razorbench", "theirs": "unknown", "nobody": "unknown"}


@pytest.mark.slow
def test_no_stranger_decides_a_path(strangers: Store, tmp_path: Path):
    publish(strangers, TRACK, "every-eval-ever", tmp_path / "out")
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert len(files) == len(HOSTILE)
    assert all(PATH.fullmatch(str(path.relative_to(tmp_path / "out"))) for path in files)  # none holds the mark
    assert not [path for path in tmp_path.iterdir() if path.name != "out"]
    assert all(MARK in json.loads(path.read_text())["model_info"]["name"] for path in files)


@pytest.mark.slow
def test_every_file_is_valid_by_the_published_schema(board: Store, strangers: Store):
    folder = os.environ.get("RAZORBENCH_EEE_SCHEMA")
    if not folder:
        pytest.skip(
            "RAZORBENCH_EEE_SCHEMA names no folder with eval.schema.json of Every Eval Ever; see docs/export.md"
        )
    from jsonschema import Draft7Validator

    schema = json.loads((Path(folder) / "eval.schema.json").read_text(encoding="utf-8"))
    assert schema["version"] == VERSION
    for row in [*aggregate(board).values(), *aggregate(strangers).values()]:
        assert [error.message for error in Draft7Validator(schema).iter_errors(row)] == []


# --- the report -------------------------------------------------------------------------------------------------------

EMPTY = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, the text by what it stands in, and what is neither."""

    def __init__(self, text: str):
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.texts: list[tuple[str, str]] = []
        self.other: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def handle_comment(self, data: str) -> None:
        self.other.append(data)

    def handle_pi(self, data: str) -> None:
        self.other.append(data)

    def unknown_decl(self, data: str) -> None:
        self.other.append(data)

    def inside(self, tag: str) -> str:
        return "".join(text for where, text in self.texts if where == tag)


def page(store: Store, track: str = TRACK) -> Page:
    return Page(report(store, table(store, track), NOW))


@pytest.fixture(scope="module")
def pages(board: Store, strangers: Store) -> dict[str, Page]:
    return {"board": page(board), "strangers": page(strangers)}


@pytest.mark.slow
def test_what_strangers_wrote_is_text_and_nothing_else(pages: dict[str, Page]):
    html = pages["strangers"]
    assert not any(MARK in text for text in (*html.other, html.inside("script"), html.inside("style")))
    for tag, attributes in html.tags:
        assert not any(MARK in part for part in (tag, *attributes, *attributes.values()))
    shown = [text for where, text in html.texts if MARK in text]
    assert len(shown) > len(HOSTILE)
    assert not set("".join(shown)) & {"\x00", "\x1b", "\u202e", "\u2066"}
    assert {tag for tag, _ in html.tags} & {"img", "iframe", "object", "embed", "link", "base", "form"} == set()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["board", "strangers"])
def test_the_page_asks_nobody_for_anything(name: str, pages: dict[str, Page]):
    html = pages[name]
    for tag, attributes in html.tags:
        assert not any("//" in value for value in attributes.values()), (tag, attributes)
        assert not {"src", "srcset", "action", "data"} & set(attributes)
        assert not any(key.startswith("on") for key in attributes)
        assert attributes.get("href", "#").startswith("#")
    assert not re.search("url|import|//", html.inside("style"))
    (policy,) = [a["content"] for _, a in html.tags if a.get("http-equiv") == "Content-Security-Policy"]
    digest = b64encode(sha256(html.inside("script").encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}'" in policy
    assert [tag for tag, _ in html.tags].count("script") == 1


@pytest.mark.slow
def test_the_table_holds_the_numbers_of_the_board(pages: dict[str, Page], board: Store):
    words = " ".join(" ".join(text.split()) for _, text in pages["board"].texts)
    for entry in table(board, TRACK):
        gain = f"{entry.gain.value:+.1f} ± {entry.gain_between:.1f} [{entry.gain.low:+.1f}, {entry.gain.high:+.1f}]"
        assert gain in re.sub(r"\s+", " ", words)
    assert "nan" not in words
    assert "3 entries" in words
    leaders = sum(entry.rank == 1 for entry in table(board, TRACK))
    assert (f"{leaders} are tied on front 1" in words) == (leaders > 1)
    assert f"razorbench adapt {TRACK} --method sft --seed 1 --out again-{TRACK}-sft-1 --lr 0.001" in words
    assert "Exported on 2026-01-02 03:04 UTC" in words


def test_entries_that_cannot_be_told_apart_are_called_tied(board: Store):
    entries = [replace(entry, rank=1) for entry in table(board, TRACK)]
    html = Page(report(board, entries, NOW))
    assert "3 are tied on front 1" in html.inside("b")
    assert html.inside("td").count("1, tied") == 3


@pytest.mark.slow
def test_figures_say_what_they_show_and_their_parts_are_found(pages: dict[str, Page]):
    html = pages["board"]
    labels = [attributes.get("aria-label", "") for tag, attributes in html.tags if tag == "svg"]
    assert len(labels) == len(set(labels)) == 3
    assert all(len(label) > 50 for label in labels)
    assert all(attributes["role"] == "img" for tag, attributes in html.tags if tag == "svg")
    ids = [attributes["id"] for _, attributes in html.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    values = " ".join(value for _, attributes in html.tags for value in attributes.values())
    assert set(re.findall(r"url\(#([^)]+)\)", values)) <= set(ids)
    assert {a["href"][1:] for _, a in html.tags if "href" in a} <= set(ids)


@pytest.mark.slow
def test_a_change_is_coloured_by_its_size_and_has_its_number(pages: dict[str, Page]):
    cells = [attributes for tag, attributes in pages["board"].tags if "heat" in attributes.get("class", "")]
    assert len(cells) == 3  # one prior task
    assert {cell["style"] for cell in cells if "lost" in cell["class"]} == {"--by: 1.00", "--by: 0.25"}


def test_a_report_tells_of_one_track(board: Store, tmp_path: Path):
    with pytest.raises(Refused, match="a report tells of one track: name it"):
        publish(board, None, "html", tmp_path / "out.html")
    publish(board, TRACK, "html", tmp_path / "out.html")
    assert (tmp_path / "out.html").read_text(encoding="utf-8").startswith("<!doctype html>")
