"""Commands forked from a process that is ready, and killed there; and what they leave.

Importing torch takes longer than the commands under test. So one process imports everything and forks each command; it
kills what it forked after a delay, and says how that ended.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from razorbench.harness.core.registry import imported
from razorbench.harness.measure.record import all_records, plain, samples_of
from razorbench.harness.store.database import Store

ROOT = Path(__file__).parents[1]

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


def command(commands: list[list[str]], log: str, before: str, fork: bool, at: int, folder: str) -> int:
    """Fork some commands, one after another, in a session of their own; its process id.

    `before` names a function that is called first; `fork`: workers are forked, too.
    """
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

        if fork:  # the workers of a sweep then need not import torch again
            from multiprocessing import get_context

            executors.get_context = lambda kind: get_context("fork")  # type: ignore[assignment]
        if before:
            imported(before)()
        if at:
            die_at(at, folder)
        for argv in commands:
            sys.argv = ["razorbench", *argv]
            main.main()
        code = 0
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else int(left.code is not None)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


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


def serve(ready: str) -> None:
    """Answer each line of standard input: fork a command, kill it after `delay` seconds, say how it ended.

    `ready` names a function that loads what all commands need.
    """
    import torch
    import torch._dynamo  # the optimiser imports it when it is first used, which takes seconds

    torch.set_num_threads(1)
    imported(ready)()
    for line in sys.stdin:
        ask = json.loads(line)
        rng, started = random.Random(ask["seed"]), time.monotonic()
        pid = command(ask["commands"], ask["log"], ask["before"], ask["fork"], ask["at"], ask["folder"])
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

    def __init__(self, log: Path, ready: str, before: str = "", **environment: str):
        self.log, self.before, self.rng = log, before, random.Random(0)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.forks", ready],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def run(self, *argv: object, **how: Any) -> End:
        """Run a command as `run_all` runs several."""
        return self.run_all([argv], **how)

    def run_all(
        self,
        commands: Sequence[Sequence[object]],
        *,
        delay: float | None = None,
        whom: str = "group",
        before: str | None = None,
        fork: bool = True,
        at: int = 0,
        folder: Path | str = "",
    ) -> End:
        """Run commands to their end, or kill them after `delay` seconds, or before the `at`th change to a file."""
        assert self.process.stdin
        assert self.process.stdout
        self.log.write_text("")
        before = self.before if before is None else before
        how = {"delay": delay, "whom": whom, "before": before, "fork": fork, "at": at, "folder": str(folder)}
        ask = {"commands": [[*map(str, argv)] for argv in commands], "log": str(self.log), "seed": self.rng.random()}
        print(json.dumps(ask | how), file=self.process.stdin, flush=True)
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


# --- what they leave --------------------------------------------------------------------------------------------------


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


if __name__ == "__main__":
    serve(sys.argv[1])
