"""Published rows: from the data folder and from the hub, the same content, checked either way."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub.errors import LocalEntryNotFoundError

from razorbench import Missing, Refused
from razorbench.tasks import published
from razorbench.tasks.published import OnHub, Published, digest, numbered, rows

ROWS = [{"question": "1 + 1?", "answer": "2"}, {"question": "¿Cuánto es\u2028 2 + 2?", "answer": "4"}]
SUMS = Published(
    "sums/test.jsonl",
    "example.org/sums",
    digest(ROWS),
    ("question", "answer"),
    OnHub("some/sums", "abc", "test.parquet"),
)


@pytest.fixture(autouse=True)
def fresh():
    """Nothing is remembered from test to test."""
    rows.cache_clear()
    yield
    rows.cache_clear()


def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str = "test.jsonl") -> None:
    """A data folder that holds a file of this text."""
    (tmp_path / "sums").mkdir()
    (tmp_path / "sums" / name).write_text(text, encoding="utf-8")
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))


def lines(read: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in read)


def test_lines_and_lists_give_the_same_rows_and_other_columns_do_not_count(tmp_path, monkeypatch):
    more = [{**row, "level": "3"} for row in ROWS]
    folder(tmp_path, monkeypatch, lines(more))
    (tmp_path / "sums" / "test.json").write_text(json.dumps(more))
    assert rows(SUMS) == rows(replace(SUMS, path="sums/test.json")) == ROWS


def test_the_hubs_parquet_file_at_the_pinned_revision_gives_the_same_rows(tmp_path, monkeypatch):
    asked: list[Any] = []

    def download(repository: str, file: str, local_files_only: bool = False, **more: str) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("it is not here")
        asked.append((repository, file, more))
        pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "test.parquet")
        return str(tmp_path / "test.parquet")

    monkeypatch.delenv("RAZORBENCH_DATA", raising=False)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    monkeypatch.setattr(published, "demand_answer", lambda repository: None)
    assert rows(SUMS) == ROWS
    assert asked == [("some/sums", "test.parquet", {"repo_type": "dataset", "revision": "abc"})]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (lines(ROWS[::-1]), "is not the published file"),
        (lines(ROWS[:1]), "is not the published file"),
        (lines(ROWS)[:-10], "cannot be read"),
        (lines([{"question": "1 + 1?"}]), "cannot be read .KeyError"),
        ("[1]\n", "cannot be read"),
    ],
)
def test_other_content_is_refused_with_the_cure(tmp_path, monkeypatch, text, told):
    folder(tmp_path, monkeypatch, text)
    with pytest.raises(Refused, match=rf"test.jsonl {told}.*; put it there, from example.org/sums"):
        rows(SUMS)


def test_a_file_that_is_missing_is_told_with_where_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("RAZORBENCH_DATA", str(tmp_path))
    with pytest.raises(
        Missing, match=r"test.jsonl is missing; put it there, from example.org/sums, or unset RAZORBENCH"
    ):
        rows(SUMS)
    monkeypatch.delenv("RAZORBENCH_DATA")
    with pytest.raises(
        Missing, match=r"RAZORBENCH_DATA, which is not set; set it to a folder that holds it, from exam"
    ):
        rows(replace(SUMS, hub=None))


def test_rows_without_ids_are_numbered():
    assert numbered("train", 2).tolist() == ["train-0", "train-1"]
