"""Executors: who does the jobs of a sweep, ours and what another package brings."""

from multiprocessing import get_context
from pathlib import Path

import pytest

from razorbench import Refused, register
from razorbench.harness.core import registry
from razorbench.harness.runs.executors import find_executor
from razorbench.harness.store.database import Store
from tests.toys import SPELLING

BROUGHT = """
from concurrent.futures import Future, ThreadPoolExecutor

class Alone(ThreadPoolExecutor):
    did = []

    def __init__(self, workers):
        super().__init__(1)

    def submit(self, job, *how):
        self.did.append(job.__name__)
        return super().submit(job, *how)

class NodeLost(Exception):
    pass

class Lossy(Alone):
    def submit(self, job, *how):
        if job.__name__ != "work" or "work" in self.did:
            return super().submit(job, *how)
        self.did.append(job.__name__)
        lost = Future()
        lost.set_exception(NodeLost("node 3 has left"))
        return lost
"""
POINTS = "alone = plugin_of_test:Alone\nlossy = plugin_of_test:Lossy"
SWEEP = ("sweep", SPELLING.id, "--methods", "sft,reinforce", "--workers", 2)


@pytest.fixture(autouse=True)
def workers(toys, monkeypatch: pytest.MonkeyPatch) -> None:
    """The processes of a sweep know what this one knows, toys included."""
    monkeypatch.setattr("razorbench.harness.runs.executors.get_context", lambda kind: get_context("fork"))


def rows(home: Path) -> list[dict]:
    """What a home says of its runs, but for when and how fast."""
    sql = "SELECT id, method, seed, settings, gain, gain_low, retention, retention_high FROM submissions ORDER BY id"
    return Store(home).rows(sql)


@pytest.mark.slow
def test_an_executor_of_another_package_is_used_by_name_and_gives_the_same_rows(plugin, razorbench, tmp_path: Path):
    plugin(POINTS, BROUGHT, "executors")
    for home, chosen in (("plain", ()), ("brought", ("--executor", "alone"))):
        assert razorbench(*SWEEP, "--seeds", 0, 1, *chosen, "--home", tmp_path / home).code == 0
    assert len(rows(tmp_path / "plain")) == 4
    assert rows(tmp_path / "brought") == rows(tmp_path / "plain")
    did = find_executor("alone").did  # type: ignore[attr-defined]
    assert did == ["ready", *["answered"] * 3, *["work"] * 4]


@pytest.mark.slow
def test_a_lost_worker_of_another_package_is_told_and_the_same_command_does_what_is_missing(
    plugin, razorbench, tmp_path: Path
):
    plugin(POINTS, BROUGHT, "executors")
    ran = razorbench(*SWEEP, "--executor", "lossy", "--home", tmp_path)
    assert (ran.code, ran.err.splitlines()[0]) == (1, "failed sft, seed 0: NodeLost: node 3 has left")
    assert [row["method"] for row in rows(tmp_path)] == ["reinforce"]
    again = razorbench(*SWEEP, "--executor", "alone", "--home", tmp_path)
    assert (again.code, again.err.count("done before")) == (0, 1)


def test_an_unknown_executor_is_refused_with_the_nearest(razorbench, tmp_path: Path):
    ran = razorbench(*SWEEP, "--executor", "proces", "--home", tmp_path / "home")
    assert (ran.code, ran.sentence) == (2, "refused: unknown executor 'proces'; did you mean 'process'?")
    with pytest.raises(Refused, match="unknown executor 'ray'; choose from process"):
        find_executor("ray")


def test_what_is_no_executor_is_refused(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(registry.REGISTERED, "executor", {})
    register("executor", "four")(4)
    with pytest.raises(Refused, match="registered as the executor 'four' is not one"):
        find_executor("four")
