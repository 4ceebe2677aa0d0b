"""Programs that a model has written, run against their tests behind walls of the operating system."""

import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Literal

from razorbench.harness.core.errors import Missing, WorldFailed

Verdict = Literal["passed", "failed", "timed out"]

SECONDS = 3
"""Of processor time that a program and its tests have, so a busy machine changes no verdict."""
PATIENCE = 100.0
"""Seconds of wall time, after which a program that waits for something is ended, too."""
ROOM = 64 * 2**20
"""Bytes of its files in /tmp, which is memory."""
LIMITS = {
    "RLIMIT_CPU": SECONDS,
    "RLIMIT_AS": 2**30,
    "RLIMIT_FSIZE": ROOM // 4,
    "RLIMIT_NPROC": 1,
    "RLIMIT_NOFILE": 64,
    "RLIMIT_CORE": 0,
}
"""What it may use, by the names of `resource`: one process and one thread, or the other limits would not hold."""

SOURCE = Path(__file__).with_name("walled.py").read_text(encoding="utf-8")
FLAGS = ("-s", "-S", "-P", "-B", "-X", "utf8", "-c", SOURCE)
"""Of the interpreter: the standard library and nothing that is installed."""
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0"}
"""All of it. Sets of texts have one order, so equal programs have equal verdicts."""


def run_tests(program: str, tests: str) -> Verdict:
    """Whether a program passes its tests: they run to their end, in the program's names, once it has run to its own.

    It has the standard library of this Python, and is refused network, files of others and more than `LIMITS`. A
    program that leaves before the tests have ended has failed, whatever its exit code. One that is written against
    this very grader, which shares a process with it, can deceive it. Raises Missing where there is no sandbox here, and
    WorldFailed where it does not start.
    """
    verdict, said = judged(commands()[walls()], program, tests)
    if verdict is None:
        raise WorldFailed(f"the sandbox did not start: {said or 'it says nothing'}")
    return verdict


def sandbox_rules() -> dict[str, Any]:
    """What decides a verdict of `run_tests` besides program and tests. Raises Missing where no sandbox works here."""
    walls()
    return {"python": list(sys.version_info[:2]), "limits": LIMITS}


def judged(command: Sequence[str], program: str, tests: str) -> tuple[Verdict | None, str]:
    """The verdict behind the walls of a command; None where it does not come so far, with what it says instead."""
    token = secrets.token_hex(16)
    request = json.dumps({"program": program, "tests": tests, "limits": LIMITS, "token": token}).encode()
    try:
        child = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT, cwd="/"
        )
    except OSError as error:
        return None, str(error)
    with child:
        try:
            assert child.stdin
            assert child.stdout
            with suppress(BrokenPipeError):
                child.stdin.write(request)
                child.stdin.close()
            said, closed = listened(child.stdout.fileno(), time.monotonic() + PATIENCE)
            code = child.wait(PATIENCE) if closed else None
        finally:
            child.kill()  # and the kernel all that it has started
    if said[:1] != b"r":
        return None, said.decode(errors="replace")
    if said[1:] == token.encode():
        return "passed", ""
    return ("failed" if len(said) >= MOST or code not in LATE else "timed out"), ""


MOST = 1000
"""Bytes that are read of a child: who says more is a program that has got hold of the line."""
LATE = (None, 128 + signal.SIGXCPU, 128 + signal.SIGKILL)
"""Exit codes of a child that used up its time."""


def listened(file: int, deadline: float) -> tuple[bytes, bool]:
    """What comes until the deadline, `MOST` bytes, or the other end is closed; and whether it is."""
    said, ear = b"", select.poll()
    ear.register(file, select.POLLIN)
    while len(said) < MOST and ear.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(file, MOST)
        if not piece:
            return said, True
        said += piece
    return said, False


# --- walls ------------------------------------------------------------------------------------------------------------


@cache
def walls() -> str:
    """The first of `commands` that works here: a right program passes, a wrong one fails. Raises Missing."""
    said = {}
    for name, argv in commands().items():
        right, wrong = (judged(argv, program, "assert answer == 42") for program in ("answer = 42", "answer = 41"))
        if (right[0], wrong[0]) == ("passed", "failed"):
            return name
        said[name] = right[1] or wrong[1] or "no answer"
    told = "; ".join(f"{name}: {why}" for name, why in said.items())
    raise Missing(f"programs of a model run in a sandbox, and none works here ({told}); {cure()}")


@cache
def commands() -> dict[str, list[str]]:
    """The ways to build walls here, the preferred one first."""
    binds, links = visible()
    python = os.path.realpath(getattr(sys, "_base_executable", sys.executable))
    inside = [python, *FLAGS]
    ways = {}
    if bwrap := shutil.which("bwrap"):
        ways["bubblewrap"] = [
            *(bwrap, "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--die-with-parent"),
            *("--new-session", "--cap-drop", "ALL"),
            *(
                ("--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID")  # with which it becomes nobody
                if os.geteuid() == 0
                else ("--unshare-user", "--disable-userns", "--uid", "65534", "--gid", "65534")
            ),
            *(word for path in parents(binds) for word in ("--perms", "0755", "--dir", path)),
            *(word for path in binds for word in ("--ro-bind", path, path)),
            *(word for path, target in links.items() for word in ("--symlink", target, path)),
            *("--perms", "1777", "--size", str(ROOM), "--tmpfs", "/tmp"),
            *("--remount-ro", "/", "--chdir", "/tmp", *inside),
        ]
    if sys.platform == "linux":
        asked = {"binds": binds, "links": links, "room": ROOM, "command": inside}
        ways["user name spaces"] = [python, *FLAGS, json.dumps(asked)]
    return ways


def visible() -> tuple[list[str], dict[str, str]]:
    """The paths that a program may read, and the symbolic links that lead to them: what Python needs to start."""
    wanted = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", os.path.realpath(sys.base_prefix))
    there = [path for path in dict.fromkeys(wanted) if os.path.exists(path)]
    links = {path: os.readlink(path) for path in there if os.path.islink(path)}
    binds = [path for path in there if path not in links]
    return [path for path in binds if not any(path.startswith(other + "/") for other in binds)], links


def parents(paths: Sequence[str]) -> list[str]:
    """The folders in which paths stand, the outer ones first."""
    above = {str(folder) for path in paths for folder in Path(path).parents if folder != Path("/")}
    return sorted(above, key=len)


SYSCTL = Path("/proc/sys")
SWITCHES = {
    "kernel.apparmor_restrict_unprivileged_userns": ("1", "0"),
    "kernel.unprivileged_userns_clone": ("0", "1"),
    "user.max_user_namespaces": ("0", "15000"),
}
"""Settings of the kernel: with which value nobody but root makes user name spaces, and with which everybody may."""


def cure() -> str:
    """What to do where no walls can be built."""
    if sys.platform != "linux":
        return "run this on Linux"
    for name, (shut, wanted) in SWITCHES.items():
        with suppress(OSError):
            if SYSCTL.joinpath(*name.split(".")).read_text().strip() == shut:
                return f"install bubblewrap (`apt-get install bubblewrap`), or run `sysctl -w {name}={wanted}` as root"
    return (
        "install bubblewrap (`apt-get install bubblewrap`); start a container with "
        "--security-opt seccomp=unconfined --security-opt apparmor=unconfined"
    )
