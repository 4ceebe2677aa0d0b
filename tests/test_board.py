"""The board: one page, headless, over an empty and a small home."""

import subprocess
import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from harness import record as files
from harness.store import Store
from tests.test_record import make

ROOT = Path(__file__).parent.parent
TRACK = "parity-mnist-v1"


def page(home: Path, monkeypatch: pytest.MonkeyPatch) -> AppTest:
    monkeypatch.setenv("RAZORBENCH_HOME", str(home))
    return AppTest.from_file(str(ROOT / "leaderboard" / "app.py"), default_timeout=30).run()


def test_empty_home_says_how_to_fill_it(tmp_path, monkeypatch):
    shown = page(tmp_path / "home", monkeypatch)
    assert not shown.exception
    assert "razorbench demo" in shown.info[0].value


def test_page_shows_one_row_an_entry(tmp_path, monkeypatch):
    store = Store(tmp_path / "home")
    for i, method in enumerate(("sft", "grpo")):
        record = make(f"run-{i}", track=TRACK, method=method)
        columns = ("task", "role", "item", "base", "adapted")
        rows = [("sums-v1", "new", "0", 0.0, 1.0), ("copy-v1", "prior", "0", 1.0, 1.0)]
        files.write(store.home, record, dict(zip(columns, map(list, zip(*rows, strict=True)), strict=True)))
        store.add(record)
    shown = page(store.home, monkeypatch)
    assert not shown.exception
    frame = shown.dataframe[0].value
    assert sorted(frame["method"]) == ["grpo", "sft"]
    assert frame["gain"].tolist() == [50.0, 50.0]


def test_board_never_loads_torch():
    code = "import sys, leaderboard.serve, harness.results, harness.tracks; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
