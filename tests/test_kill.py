"""`kill -9` at random moments of adapt, score and sweep: the same command goes on to the same result."""

import json
import random
import shutil
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from razorbench.harness.learn.checkpoint import CURVE, WAYPOINTS, WEIGHTS
from razorbench.harness.measure.score import Bench
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import TRACKS
from tests.forks import Forks, numbers, rows

TRACK = "parity-mnist-v1"
STEPS = 40
SHORT = ("--batch", 32, "--warmup", 0, "--save-every", 3)
SWEEP = ("--methods", "sft,grpo", "--grid", "steps=20", "batch=32", "warmup=0")

pytestmark = pytest.mark.kill

KILLS = {"base": 2, "grpo": 11, "iterative-sft": 11, "score": 10, "group": 9, "worker": 6, "parent": 1}
"""Kills of each test. One counts when it ended a command that was at work; a kill that came too late does not."""
assert sum(KILLS.values()) >= 50


def ready() -> None:
    """Loads what each command needs."""
    import pandas  # noqa: F401  # the store imports these when first used, which takes seconds
    import pyarrow.dataset  # noqa: F401
    import scipy.linalg  # noqa: F401

    from razorbench.harness.runs import sweep  # noqa: F401
    from razorbench.harness.runs.provenance import commit
    from razorbench.tasks.idx import load

    commit()
    for name in ("mnist", "fashion_mnist"):
        for split in ("train", "test"):
            load(name, split)


def shrink() -> None:
    """Makes the track one of fewer items."""
    TRACKS[TRACK] = shrunk(TRACKS[TRACK])


def shrunk(track: Any) -> Any:
    """The same track with fewer items."""
    return replace(track, items=600, drift_items=200, checkpoint_items=100)


@pytest.fixture(scope="module")
def forks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands forked from a process that is ready."""
    forks = Forks(tmp_path_factory.mktemp("forks") / "log", "tests.test_kill:ready", "tests.test_kill:shrink")
    yield forks
    forks.process.communicate()


@pytest.fixture
def new_home(bench: Bench, shared_home: Path, tmp_path: Path) -> Any:
    """Makes a home that holds nothing but the base."""

    def make(name: str) -> Path:
        base = bench.track.base.made(tmp_path / name)
        base.parent.mkdir(parents=True)
        shutil.copy(bench.track.base.made(shared_home), base)
        return tmp_path / name

    return make


def files(folder: Path) -> dict[str, str]:
    """sha256 of all files in a folder, hidden ones too; nothing of those that carry times."""
    return {
        str(path.relative_to(folder)): ""
        if path.suffix in (".json", ".jsonl")
        else sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def curve(folder: Path) -> list[dict[str, Any]]:
    """The curve of a checkpoint folder, without times."""
    rows = [json.loads(line) for line in (folder / CURVE).read_text().splitlines()]
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def holds(home: Path, expected: dict[str, Any]) -> None:
    """A home has the expected records, each once, in files and in the database, and nothing half-made."""
    assert numbers(home) == expected
    assert [row["id"] for row in Store(home).rows("SELECT id FROM submissions ORDER BY id")] == sorted(expected)
    before = rows(home)
    assert len(before["scores"]) == 2 * len(expected)
    whole = TRACKS[TRACK]
    digests = {row["track_digest"] for row in Store(home).rows("SELECT track_digest FROM submissions")}
    with patch.dict(TRACKS, {TRACK: whole if digests == {whole.digest} else shrunk(whole)}):  # as those who wrote it
        assert Store(home).rebuild() == len(expected)
    assert rows(home) == before
    assert not (home / "runs").exists() or not list((home / "runs").iterdir())


# --- the commands -----------------------------------------------------------------------------------------------------


def test_a_base_that_was_killed_in_the_making_is_made_alike(forks: Forks, new_home, tmp_path: Path):
    expected, home = files(new_home("whole")), tmp_path / "home"
    adapt = ("adapt", TRACK, "--method", "sft", "--steps", 1, "--warmup", 0, "--out", tmp_path / "out", "--home", home)
    for _ in range(KILLS["base"]):
        assert forks.run(*adapt, delay=forks.rng.uniform(0.1, 0.8)).killed
    forks.whole(*adapt)
    assert files(home) == expected


@pytest.mark.parametrize("method", ["grpo", "iterative-sft"])
def test_adapt_killed_at_any_moment_goes_on_to_the_same_weights(forks: Forks, new_home, tmp_path: Path, method: str):
    home, whole, rng = new_home("home"), tmp_path / "whole", random.Random(1)

    def adapt(out: Path) -> tuple[object, ...]:
        return ("adapt", TRACK, "--method", method, "--steps", STEPS, *SHORT, "--out", out, "--home", home)

    forks.whole(*adapt(tmp_path / "again"))
    seconds = forks.whole(*adapt(whole)).seconds
    expected = files(whole)
    assert set(expected) >= {WEIGHTS, CURVE, f"{WAYPOINTS}/00000004.safetensors"}
    assert files(tmp_path / "again") == expected

    kills, runs, stages = 0, 0, set()
    while kills < KILLS[method]:
        out, killed = tmp_path / f"run-{runs}", True
        while killed:
            delay = rng.uniform(0.2, 1) * seconds if kills < KILLS[method] else None
            killed = forks.run(*adapt(out), delay=delay).killed
            kills += killed
            stages |= {path.name for path in out.glob("state-*")} if killed else set()
        runs += 1
        assert files(out) == expected
        assert curve(out) == curve(whole)
        assert [row["step"] for row in curve(out)] == list(range(1, STEPS + 1))
    assert len(stages) >= 3, "the kills did not come at different moments"


def test_score_killed_at_any_moment_gives_one_record_with_the_same_numbers(forks: Forks, new_home, tmp_path: Path):
    out, rng = tmp_path / "out", random.Random(2)
    adapt = ("adapt", TRACK, "--method", "grpo", "--steps", STEPS, *SHORT)
    forks.whole(*adapt, "--out", out, "--home", new_home("adapting"))
    expected: dict[str, Any] = {}
    seconds = []
    for name in ("again", "whole"):
        seconds.append(forks.whole("score", out, "--track", TRACK, "--home", new_home(name)).seconds)
        assert expected in ({}, numbers(tmp_path / name))
        expected = numbers(tmp_path / name)
    holds(tmp_path / "whole", expected)

    kills, homes = 0, 0
    while kills < KILLS["score"]:
        home, killed = new_home(f"home-{homes}"), True
        while killed:
            # Half of them towards the end, where the record is written.
            delay = rng.uniform(rng.choice([0, 0.7]), 1.1) * min(seconds) if kills < KILLS["score"] else None
            killed = forks.run("score", out, "--track", TRACK, "--home", home, delay=delay).killed
            kills += killed
        homes += 1
        forks.whole("score", out, "--track", TRACK, "--home", home)
        holds(home, expected)


def test_commands_killed_before_each_change_to_a_file_in_turn_end_alike(forks: Forks, new_home, tmp_path: Path):
    """The nth start is killed before its nth change, until one has fewer changes left than that."""
    home, out, whole = new_home("home"), tmp_path / "out", tmp_path / "whole"
    adapt = (
        "adapt",
        TRACK,
        "--method",
        "grpo",
        "--steps",
        20,
        "--warmup",
        5,
        "--batch",
        8,
        "--save-every",
        9,
        "--home",
        home,
    )
    forks.whole(*adapt, "--out", whole)
    for at in range(1, 200):
        if not forks.run(*adapt, "--out", out, at=at, folder=out).killed:
            break
    assert at > 15
    assert files(out) == files(whole)
    assert curve(out) == curve(whole)

    score = ("score", whole, "--track", TRACK, "--name", "it")
    forks.whole(*score, "--home", new_home("scored"))
    for at in range(1, 200):
        if not forks.run(*score, "--home", home, at=at, folder=home).killed:
            break
    assert at > 5
    holds(home, numbers(tmp_path / "scored"))


@pytest.mark.parametrize("whom", ["group", "worker"])
def test_sweep_killed_at_any_moment_does_every_run_once(forks: Forks, new_home, tmp_path: Path, whom: str):
    sweep, rng = ("sweep", TRACK, *SWEEP, "--seeds", 0, 1, "--workers", 2), random.Random(3)
    seconds = forks.whole(*sweep, "--home", new_home("whole")).seconds
    expected = numbers(tmp_path / "whole")
    assert len(expected) == 4
    kills, homes = 0, 0
    while kills < KILLS[whom]:
        home, code = new_home(f"home-{homes}"), -1
        while code:
            delay = rng.uniform(0.1, seconds) if kills < KILLS[whom] else None
            end = forks.run(*sweep, "--home", home, delay=delay, whom=whom)
            code = end.code
            kills += end.killed and code != 0
            assert whom == "group" or code == 0 or "the same command tries them again" in end.said
        homes += 1
        holds(home, expected)


def test_workers_of_a_killed_sweep_leave_by_themselves(forks: Forks, new_home, tmp_path: Path):
    """These are spawned as for a user, and only their parent is killed."""
    sweep, rng = ("sweep", TRACK, *SWEEP, "--seeds", 0, "--workers", 2), random.Random(4)
    seconds = forks.whole(*sweep, "--home", new_home("whole"), before="").seconds
    home = new_home("home")
    for _ in range(KILLS["parent"]):
        delay = 2 + rng.uniform(0, 0.8) * seconds  # the workers first import torch
        end = forks.run(*sweep, "--home", home, delay=delay, whom="parent", before="", fork=False)
        assert end.killed
    forks.whole(*sweep, "--home", home, before="")
    holds(home, numbers(tmp_path / "whole"))
