"""A function called in a process of its own, with limits on memory, time, files and network; it may die, we do not."""

import ctypes
import errno
import faulthandler
import gc
import json
import os
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.harness.core import sandbox

CLONE_NEWUSER, CLONE_NEWNET, PR_SET_PDEATHSIG = 0x10000000, 0x40000000, 1
WRITES = os.O_WRONLY | os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_TRUNC
CALLS = ("socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo")
"""What would reach for the network, by the names of Python's audit events."""
CHANGES = (
    "remove",
    "rmdir",
    "mkdir",
    "rename",
    "link",
    "symlink",
    "truncate",
    "chmod",
    "chown",
    "utime",
    "mkfifo",
    "mknod",
)
"""What changes files besides opening them, in `os`."""
STARTS = ("subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system", "pty.spawn")
"""What would leave another process behind."""


@dataclass(frozen=True)
class Limits:
    """What a confined call may use."""

    memory: float = 16.0
    """GiB of data, besides what the parent has mapped; what of that is free, the child may use."""
    seconds: float = 6 * 3600.0
    """Wall time."""
    file: float = 4.0
    """GiB of the largest file that is written."""


class Crashed(Exception):
    """The call did not come to its end. The message says how it went down."""


class Stopped(Exception):
    """The call was ended because `keep_on` said so."""


def call(
    function: Callable[..., Any],
    *args: Any,
    limits: Limits,
    writable: Sequence[Path],
    log: Path,
    keep_on: Callable[[], bool] = lambda: True,
    every: float = 1.0,
) -> Any:
    """`function(*args)`, which gives what JSON can hold, in a child that may write below `writable` only.

    What it prints goes to the file `log`. `keep_on` is asked about every so many seconds. Raises Refused as the
    function does; OSError where the disk is full; Stopped; and Crashed for everything else that goes wrong in there.
    """
    # A fork shares the base's answers with its parent. CUDA in use forbids that; a spawned child makes its own.
    torch = sys.modules.get("torch")
    context: Any = get_context("spawn" if torch and torch.cuda.is_initialized() else "fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_child, args=(sender, function, args, limits, list(map(str, writable)), str(log)))
    deadline = time.monotonic() + limits.seconds
    try:
        with uninterrupted():
            child.start()
        sender.close()
        while not connection.wait([receiver, child.sentinel], every):
            if not keep_on():
                raise Stopped
            if time.monotonic() > deadline:
                raise Crashed(f"took longer than the {limits.seconds:.0f} s that scoring may take: raise the limit")
        if not receiver.poll():
            raise EOFError
        kind, answer = json.loads(receiver.recv_bytes())  # not unpickled: the child may not be itself any more
    except (EOFError, ValueError):
        child.join(1)
        raise Crashed(_how(child.exitcode)) from None
    finally:
        if child.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)  # with all that it may have started
            child.kill()
            child.join()
        receiver.close()
    if kind == "refused":
        raise Refused(answer)
    if kind == "full":
        raise OSError(errno.ENOSPC, answer)
    if kind == "crashed":
        raise Crashed(answer)
    return answer


@contextmanager
def uninterrupted() -> Iterator[None]:
    """What would interrupt or end this process waits until afterwards: Python drops what is raised while it forks."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    came: list[int] = []
    found = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    handlers = {number: handler for number, handler in found.items() if handler is not None}
    for number in handlers:
        signal.signal(number, lambda number, _: came.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _how(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "sent what is no answer"
    if code >= 0:
        return f"left with exit code {code}"
    with suppress(ValueError):
        return f"was ended by {signal.Signals(-code).name}"
    return f"was ended by signal {-code}"


# --- in the child -----------------------------------------------------------------------------------------------------


def _child(
    sender: Connection, function: Callable[..., Any], args: Sequence[Any], limits: Limits, writable: list[str], log: str
) -> None:
    told: tuple[str, Any]
    gc.freeze()  # the parent's garbage is not freed in here: what it took would come on top of the limit
    try:
        os.setsid()
        _output(log)
        _limit(limits)
        _guard([*writable, log])
        told = ("done", function(*args))
        json.dumps(told)  # or it is an error of the function
    except Refused as error:
        told = ("refused", str(error))
    except MemoryError:
        traceback.print_exc()
        told = ("crashed", _too_much(limits))
    except OSError as error:
        traceback.print_exc()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        told = ("full" if full else "crashed", f"{type(error).__name__}: {error}")
    except BaseException as error:
        traceback.print_exc()
        full = isinstance(error, RuntimeError) and "allocate" in str(error)  # as torch says it
        told = ("crashed", _too_much(limits) if full else f"{type(error).__name__}: {error}")
    sys.stdout.flush()
    sys.stderr.flush()
    sender.send_bytes(json.dumps(told).encode())
    sender.close()
    os._exit(0)  # nothing of the parent is to be tidied up here


def _too_much(limits: Limits) -> str:
    return f"needed more than the {limits.memory:g} GiB of memory that scoring may take: raise the limit"


def _output(log: str) -> None:
    """Standard output and error into a file, and a traceback there if native code goes down."""
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    sys.stdout = os.fdopen(1, "w", buffering=1, closefd=False)
    sys.stderr = os.fdopen(2, "w", buffering=1, closefd=False)
    faulthandler.enable(sys.stderr)


def _limit(limits: Limits) -> None:
    """What the kernel holds us to, of what it lets us ask for."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if libc.unshare(CLONE_NEWNET):  # no network at all; who is not root needs a name space of users, too
        user, group = os.geteuid(), os.getegid()
        if not libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):  # where the kernel grants neither, the guard is alone
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")  # so that the sandbox may make one in it
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    status = Path("/proc/self/status").read_text().splitlines()
    held = next(int(line.split()[1]) for line in status if line.startswith("VmData")) * 1024
    caps = {
        resource.RLIMIT_DATA: held + int(limits.memory * 2**30),
        resource.RLIMIT_FSIZE: int(limits.file * 2**30),
        resource.RLIMIT_CPU: int(limits.seconds * (os.cpu_count() or 1)) + 1,
        resource.RLIMIT_CORE: 0,
    }
    for which, cap in caps.items():
        resource.setrlimit(which, (cap, cap))


def _guard(writable: Sequence[str]) -> None:
    """Refuse what Python code would write elsewhere, send or start, but for the sandbox. Native code is not held."""
    allowed = tuple(os.path.realpath(path) for path in (*writable, os.devnull))

    def inside(path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a file descriptor, opened before
        real = os.path.realpath(os.fsdecode(path))
        return any(real == place or real.startswith(place + os.sep) for place in allowed)

    changes, pairs = {f"os.{name}" for name in CHANGES}, ("os.rename", "os.link", "os.symlink")

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(args[2], int) and args[2] & WRITES and not inside(args[0]):
            raise PermissionError(errno.EPERM, "a scoring process writes to its own folders only", os.fsdecode(args[0]))
        if event in changes and not all(inside(path) for path in args[: 2 if event in pairs else 1]):
            raise PermissionError(errno.EPERM, f"a scoring process has no {event} outside its own folders")
        if event in STARTS and not (event == "subprocess.Popen" and args[1] in sandbox.commands().values()):
            raise PermissionError(errno.EPERM, "a scoring process starts no other")
        if event in CALLS:
            raise PermissionError(errno.EPERM, "a scoring process has no network")

    sys.addaudithook(hook)
