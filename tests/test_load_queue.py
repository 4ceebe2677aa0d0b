"""Short runs of tests/load_queue.py; the long ones are `make load`."""

import os
from pathlib import Path

import pytest

from tests.load_queue import run


@pytest.mark.load
@pytest.mark.kill
@pytest.mark.parametrize("served", [False, True])
def test_every_submission_is_scored_once_whoever_is_killed(tmp_path: Path, served: bool, monkeypatch):
    if served and "CI" not in os.environ:
        pytest.importorskip("duckdb_extension_quack", reason="the extension packages of DuckDB are not installed")
    counts = run(submissions=12, bringers=4, workers=3, every=1.0, served=served, home=tmp_path)
    assert counts["workers killed"] > 0  # that all agrees, `run` has asserted
