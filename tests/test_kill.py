"""`kill -9` at random moments of adapt, score and sweep: the same command goes on to the same result.

Importing torch takes longer than the commands under test. So one process imports everything, loads the images, and
forks each command from there; it kills what it forked after a delay, and says how that ended.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from razorbench.harness.learn.checkpoint import CURVE, WAYPOINTS, WEIGHTS
from razorbench.harness.measure.record import all_records, plain, samples_of
from razorbench.harness.measure.score import Bench
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import TRACKS

ROOT = Path(__file__).parents[1]
TRACK = "parity-mnist-v1"
STEPS = 40
SHORT = ("--batch", 32, "--warmup", 0, "--save-every", 3)
SWEEP = ("--methods", "sft,grpo", "--grid", "steps=20", "batch=32", "warmup=0")

pytestmark = pytest.mark.kill

KILLS = {"base": 2, "grpo": 11, "iterative-sft": 11, "score": 10, "group": 9, "worker": 6, "parent": 1}
"""Kills of each test. One counts when it ended a command that was at work; a kill that came too late does not."""
assert sum(KILLS.values()) >= 50

# --- the process that forks commands ----------------------------------------------------------------------------------


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def workers(pid: int) -> list[int]:
    """The child processes that a pool of the process has started, without Python's resource tracker."""
    return [child for child in children(pid) if b"resource_tracker" not in command_line(child)]


def command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and that nobody has asked for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def ended(pids: list[int], seconds: float) -> bool:
    """Wait until none of the processes runs; False when that takes too long."""
    deadline = time.monotonic() + seconds
    while any(map(alive, pids)):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def command(argv: list[str], log: str, small: bool, fork: bool, at: int, folder: str) -> int:
    """Fork `razorbench argv` in a session of its own; its process id. Small: fewer items; fork: workers forked too."""
    pid = os.fork()
    if pid:
        return pid
    os.setsid()
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    code = 70
    try:
        from razorbench.harness.cli import main
        from razorbench.harness.runs import executors
        from razorbench.harness.tracks.catalogue import TRACKS

        if fork:  # the workers of a sweep then need not import torch again
            from multiprocessing import get_context

            executors.get_context = lambda kind: get_context("fork")  # type: ignore[assignment]
        if small:
            TRACKS[TRACK] = shrunk(TRACKS[TRACK])
        if at:
            die_at(at, folder)
        sys.argv = ["razorbench", *argv]
        main.main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def shrunk(track: Any) -> Any:
    """The same track with fewer items."""
    return replace(track, items=600, drift_items=200, checkpoint_items=100)


def die_at(event: int, folder: str) -> None:
    """Kill this process before its `event`th change to the files of a folder."""
    count = 0

    def hook(name: str, args: tuple[Any, ...]) -> None:
        nonlocal count
        writes = name in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")
        writes = writes or (name == "open" and isinstance(args[2], int) and bool(args[2] & (os.O_WRONLY | os.O_RDWR)))
        if writes and folder in str(args[0]):
            count += 1
            if count == event:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def kill(pid: int, whom: str, rng: random.Random) -> bool:
    """Kill the command (`group`: with its workers; `parent`: alone) or one `worker`; False if there is none."""
    if whom == "group":
        os.killpg(pid, signal.SIGKILL)
    elif whom == "parent":
        os.kill(pid, signal.SIGKILL)
    elif pids := workers(pid):
        os.kill(rng.choice(pids), signal.SIGKILL)
    else:
        return False
    return True


def serve() -> None:
    """Answer each line of standard input: fork a command, kill it after `delay` seconds, say how it ended."""
    import pandas  # noqa: F401  # the store and the optimiser import these when first used, which takes seconds
    import pyarrow.dataset  # noqa: F401
    import scipy.linalg  # noqa: F401
    import torch
    import torch._dynamo

    from razorbench.harness.runs import sweep  # noqa: F401
    from razorbench.harness.runs.provenance import commit
    from razorbench.tasks.idx import load

    commit()
    torch.set_num_threads(1)
    for name in ("mnist", "fashion_mnist"):
        for split in ("train", "test"):
            load(name, split)
    for line in sys.stdin:
        ask = json.loads(line)
        rng, started = random.Random(ask["seed"]), time.monotonic()
        pid = command(ask["argv"], ask["log"], ask["small"], ask["fork"], ask["at"], ask["folder"])
        killed, left, mine, status = False, True, [], None
        while status is None:
            if (gone := os.waitpid(pid, os.WNOHANG))[0]:
                status = gone[1]
            elif not killed and ask["delay"] is not None and time.monotonic() - started > ask["delay"]:
                mine = children(pid)
                killed = kill(pid, ask["whom"], rng)
            time.sleep(0.002)
        seconds = time.monotonic() - started
        left = ended(mine, 60)
        killed = os.WIFSIGNALED(status) or (killed and ask["whom"] == "worker")
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps({"code": code, "killed": killed, "seconds": seconds, "left": left}), flush=True)


# --- asking it --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class End:
    """How a forked command ended."""

    code: int
    killed: bool
    """Whether the kill came before its end."""
    seconds: float
    left: bool
    """Whether the processes that it had started are gone too."""
    said: str


class Forks:
    """The process that forks commands, seen from the tests."""

    def __init__(self, log: Path):
        self.log, self.rng = log, random.Random(0)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.test_kill"],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(
        self,
        *argv: object,
        delay: float | None = None,
        whom: str = "group",
        small: bool = True,
        fork: bool = True,
        at: int = 0,
        folder: Path | str = "",
    ) -> End:
        """Run a command to its end, or kill it after `delay` seconds, or before the `at`th change to a file."""
        assert self.process.stdin
        assert self.process.stdout
        self.log.write_text("")
        how = {"delay": delay, "whom": whom, "small": small, "fork": fork, "at": at, "folder": str(folder)}
        ask = {"argv": [*map(str, argv)], "log": str(self.log), "seed": self.rng.random(), **how}
        print(json.dumps(ask), file=self.process.stdin, flush=True)
        end = End(**json.loads(self.process.stdout.readline()), said=self.log.read_text())
        assert "Traceback" not in end.said, end.said
        assert end.left, "its workers did not leave"
        assert end.killed or end.code in (0, 1), end.said
        return end

    def whole(self, *argv: object, **how: Any) -> End:
        """Run a command that must do its work."""
        end = self.run(*argv, **how)
        assert end.code == 0, end.said
        return end


@pytest.fixture(scope="module")
def forks(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """Commands forked from a process that is ready."""
    forks = Forks(tmp_path_factory.mktemp("forks") / "log")
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


def numbers(home: Path) -> dict[str, Any]:
    """What the records of a home say, by id, without when, where and how long."""
    by_id = {}
    for record in all_records(home):
        row = plain(record)
        cost = {name: value for name, value in row["cost"].items() if "seconds" not in name}
        by_id[record.id] = {**row, "cost": cost, "provenance": None, "scored_at": None}, samples_of(home, record.id)
    return by_id


def rows(home: Path) -> dict[str, list[str]]:
    """All rows of the database."""
    store = Store(home)
    return {t: sorted(map(repr, store.rows(f"FROM {t}"))) for t in ("submissions", "scores", "drifts", "curve")}


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
    seconds = forks.whole(*sweep, "--home", new_home("whole"), small=False).seconds
    home = new_home("home")
    for _ in range(KILLS["parent"]):
        delay = 2 + rng.uniform(0, 0.8) * seconds  # the workers first import torch
        end = forks.run(*sweep, "--home", home, delay=delay, whom="parent", small=False, fork=False)
        assert end.killed
    forks.whole(*sweep, "--home", home, small=False)
    holds(home, numbers(tmp_path / "whole"))


if __name__ == "__main__":
    serve()
