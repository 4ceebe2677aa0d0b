"""Programs of a model are judged behind walls, which hold whatever a program does."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from razorbench import Missing, WorldFailed, run_tests
from razorbench.harness.core import sandbox
from razorbench.submissions.confine import Limits, call
from tests.conftest import absent

TESTS = "assert answer == 42"
WAYS = ("bubblewrap", "user name spaces")


@pytest.fixture(params=WAYS)
def judged(request):
    """The verdict of a program behind the walls of each kind that stand here."""
    command = sandbox.commands().get(request.param)
    if command is None:
        absent(f"{request.param} is not here")

    def judged(program: str, tests: str = TESTS) -> str | None:
        verdict, said = sandbox.judged(command, program, tests)
        assert said == ""
        return verdict

    return judged


RIGHT = {
    "plain": "answer = 42",
    "imports": "import heapq, statistics, decimal, zoneinfo; answer = 42",
    "a main part": "answer = 42\nif __name__ == '__main__':\n    answer = 41",
    "a record": "from __future__ import annotations\nfrom dataclasses import dataclass\n"
    "@dataclass\nclass A:\n    b: int\nanswer = A(42).b",
    "a file of its own": "open('x', 'w').write('42')\nanswer = int(open('/tmp/x').read())",
    "prints": "print('x' * 100_000)\nanswer = 42",
    "many calls": "def f(n): return f(n - 1) + 1 if n else 0\nanswer = f(900) - 858",
    "a builtin by another name": "def sum(a, b): return a + b\nanswer = sum(40, 2)\nassert sum(1, 2) == 3",
}
WRONG = {
    "wrong": "answer = 41",
    "no Python": "answer = = 42",
    "a zero byte": "answer = 42\0",
    "too deep": "answer = " + "(" * 10_000 + "42" + ")" * 10_000,
    "an error": "answer = 1 / 0",
    "leaves": "import os; answer = 42; os._exit(0)",
    "exits": "import sys; answer = 42; sys.exit(0)",
    "raises exit": "answer = 42\nraise SystemExit",
    "quits": "answer = 42\nquit()",
    "ends itself": "import os; os.kill(os.getpid(), 15)",
    "crashes": "import ctypes; ctypes.string_at(0)",
    "asks": "answer = 42; input()",
    "another error of assertions": "import builtins\nbuiltins.AssertionError = StopIteration\nanswer = 41",
    "skips what follows": "import sys\nsys.settrace(lambda frame, *_: None)\nanswer = 41",
    "reads files": "answer = 42 if open('/etc/passwd').read() else 0",
    "reads files of ours": f"answer = 42 if open({__file__!r}).read() else 0",
    "writes to Python": f"import os; open(os.path.join({sys.base_prefix!r}, 'x'), 'w'); answer = 42",
    "writes to the root": "open('/x', 'w'); answer = 42",
    "fills the disk": "for n in range(9):\n    open(f'/tmp/{n}', 'wb').write(bytes(12 * 2**20))\nanswer = 42",
    "a large file": "open('/tmp/x', 'wb').write(bytes(32 * 2**20)); answer = 42",
    "starts others": "import os; os.fork(); answer = 42",
    "leaves a child": "import os, time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)\nanswer = 42",
    "starts threads": "import threading\nthreading.Thread(target=print).start()\nanswer = 42",
    "becomes root": "import os; os.setuid(0); answer = 42",
    "eats memory": "answer = 42; x = bytearray(4 * 2**30)",
    "eats memory bit by bit": "x = []\nwhile True:\n    x.append(bytes(2**20))",
    "says that it passed": "import os\nfor n in range(64):\n    try:\n        os.write(n, b'r' + bytes(32))\n"
    "    except OSError:\n        pass\nos._exit(0)",
    "floods": "import os\nwhile True:\n    for n in range(64):\n        try:\n            os.write(n, bytes(10**6))\n"
    "        except OSError:\n            pass",
}
LATE = {
    "a loop": "while True:\n    pass",
    "prints for ever": "while True:\n    print('x' * 10**6)",
    "forks for ever": "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass",
    "ignores the signal": "import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True:\n    try:\n"
    "        while True:\n            pass\n    except BaseException:\n        pass",
}


@pytest.mark.parametrize("program", RIGHT.values(), ids=RIGHT)
def test_what_is_right_passes(judged, program):
    assert judged(program) == "passed"


@pytest.mark.parametrize("program", WRONG.values(), ids=WRONG)
def test_what_is_not_right_fails(judged, program):
    assert judged(program) == "failed"


@pytest.mark.slow
@pytest.mark.parametrize("program", LATE.values(), ids=LATE)
def test_what_takes_too_long_is_ended(judged, program, monkeypatch):
    monkeypatch.setitem(sandbox.LIMITS, "RLIMIT_CPU", 1)
    assert judged(program) == "timed out"


def test_what_waits_is_ended(judged, monkeypatch):
    monkeypatch.setattr(sandbox, "PATIENCE", 0.5)
    assert judged("import time; time.sleep(1000)") == "timed out"


SEEN = """
import os, socket
assert {*os.listdir("/")} <= {"bin", "etc", "lib", "lib32", "lib64", "tmp", "usr", *others}, os.listdir("/")
assert os.listdir("/etc") in ([], ["ld.so.cache"]), os.listdir("/etc")
assert os.getresuid() == os.getresgid() == (65534,) * 3
assert (os.getppid(), os.listdir("/tmp"), {*os.environ} - {"PWD"}) == (1, [], {"PATH", "LANG", "PYTHONHASHSEED"})
assert [name for _, name in socket.if_nameindex()] == ["lo"]
for address in (("127.0.0.1", port), ("8.8.8.8", 53)):
    try:
        socket.create_connection(address, 1)
    except OSError:
        continue
    raise SystemExit
answer = 42
"""


def test_it_sees_neither_files_nor_processes_nor_network(judged):
    with socket.create_server(("127.0.0.1", 0)) as server:
        others = {Path(sys.base_prefix).resolve().parts[1]}
        assert judged(f"others, port = {others}, {server.getsockname()[1]}{SEEN}") == "passed"


def test_it_ends_no_process_but_itself(judged):
    kill = "for pid in (1, -1, os.getppid()):\n    try:\n        os.kill(pid, 9)\n    except OSError:\n        pass"
    program = f"import os\n{kill}\nanswer = 42"
    assert judged(program) == "passed"


@pytest.mark.parametrize(
    ("program", "tests"),
    {
        "check": ("def check(f): pass\ndef f(): return 1", "def check(f):\n    assert f() == 2\ncheck(f)"),
        "abs": ("def abs(x): return 0\ndef f(): return 1", "def check(f):\n    assert abs(f() - 2) < 1\ncheck(f)"),
        "builtins.abs": (
            "import builtins\nbuiltins.abs = lambda x: 0\ndef f(): return 1",
            "assert abs(f() - 2) < 1",
        ),
        "all": ("all = any = lambda x: True\nf = 1", "def check(f):\n    assert all([f == 2])\ncheck(f)"),
        "helpers": (
            "len = lambda x: 2\nf = [1]",
            "def far(f):\n    return len(f) != 2\ndef check(f):\n    assert not far(f)\ncheck(f)",
        ),
    }.values(),
)
def test_what_tests_use_is_not_what_the_program_makes_of_it(judged, program, tests):
    assert judged(program, tests) == "failed"


def test_equal_programs_have_equal_verdicts(judged):
    """Whatever they make of chance: sets of texts have one order, and `random` begins at a seed."""
    program = "import random\nanswer = 42 if min({'a', 'b', 'c', 'd'}, key=hash) < 'c' and random.random() < 0.9 else 0"
    assert len({judged(program) for _ in range(4)}) == 1


def test_a_sandbox_that_does_not_start_says_nothing_of_the_program(monkeypatch):
    monkeypatch.setattr(sandbox, "walls", lambda: "none")
    monkeypatch.setattr(sandbox, "commands", lambda: {"none": ["/bin/echo", "no such walls"]})
    with pytest.raises(WorldFailed, match="the sandbox did not start: no such walls"):
        run_tests("answer = 42", TESTS)
    with pytest.raises(WorldFailed, match="the sandbox did not start"):
        run_tests("answer = 42", "assert answer = 42")  # tests that are none


@pytest.mark.parametrize("command", [["/bin/true"], ["/nowhere"], ["/bin/echo", "-n", "r"]])
def test_where_no_walls_stand_the_cure_is_told(command, monkeypatch):
    monkeypatch.setattr(sandbox, "commands", lambda: {"walls": command})
    with pytest.raises(Missing, match=r"none works here \(walls: .+\); (install bubblewrap|run this on Linux)"):
        sandbox.walls.__wrapped__()


@pytest.mark.parametrize("name", sandbox.SWITCHES)
def test_a_switch_of_the_kernel_is_named(name, tmp_path, monkeypatch):
    shut, open_ = sandbox.SWITCHES[name]
    path = tmp_path.joinpath(*name.split("."))
    path.parent.mkdir()
    path.write_text(f"{shut}\n")
    monkeypatch.setattr(sandbox, "SYSCTL", tmp_path)
    assert sandbox.cure().endswith(f"or run `sysctl -w {name}={open_}` as root")
    path.write_text(f"{open_}\n")
    assert name not in sandbox.cure()


def test_a_confined_process_starts_the_sandbox_and_nothing_else(tmp_path):
    verdicts = call(
        lambda: [run_tests("answer = 42", TESTS), run_tests("answer = 41", TESTS)],
        limits=Limits(1.0, 60),
        writable=[tmp_path],
        log=tmp_path / "log.txt",
    )
    assert verdicts == ["passed", "failed"]


def test_nothing_is_left_of_a_program_whose_parent_is_killed(tmp_path):
    code = "from razorbench import run_tests\nrun_tests('import time; time.sleep(777)', '')"
    before = started()
    parent = subprocess.Popen([sys.executable, "-c", code])
    assert eventually(lambda: started() - before)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    assert eventually(lambda: not started() - before)


def started() -> set[str]:
    """The processes that have the environment of the sandbox."""
    wanted = {f"{name}={value}" for name, value in sandbox.ENVIRONMENT.items()}
    there = set()
    for path in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):
            if wanted <= {*path.read_text().split("\0")}:
                there.add(path.parent.name)
    return there


def eventually(condition: Callable[[], object]) -> bool:
    """Whether it becomes true within a minute."""
    deadline = time.monotonic() + 60
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())
