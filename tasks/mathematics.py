"""Whether two answers are the same by the math-verify library, which a child process asks: a hard sum ends it, not us.

SymPy has no limit of its own: `9^{9^{9^{9}}}` computes for ever, and an alarm reaches the main thread alone. So a
process keeps one child, which it starts at its first comparison, from whichever thread, and anew after a hard sum.
"""

import atexit
import json
import logging
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from functools import lru_cache

from razorbench import WorldFailed

LIMIT = 5.0
"""Seconds of processor time, so a busy machine changes no verdict. What takes longer is not the same."""
PATIENCE = 300.0
"""Seconds of wall time, to start or to get that processor time, after which the machine is at fault."""
MEMORY = 2 * 2**30
"""Bytes of data that the child may hold; what needs more is not the same."""
READY, SAME, OTHER = b"r", b"1", b"0"


@lru_cache(maxsize=1 << 16)
def alike(said: str, gold: str) -> bool:
    """Whether math-verify finds two answers equal. Works in any thread, and after a fork.

    Where no child may be started, as in a confined scoring process, an alarm in the main thread sets the limit. Raises
    WorldFailed where that cannot be either, and where the machine has no time for the child: neither says anything
    about the answer.
    """
    try:
        with JUDGE.lock:
            return JUDGE.verdict(said, gold)
    except OSError as error:
        if threading.current_thread() is threading.main_thread():
            return alarmed(said, gold)
        raise WorldFailed(
            "answers cannot be compared here: no child process starts, and no alarm reaches this thread; "
            "grade in the main thread"
        ) from error


class Judge:
    """The child of this process, and the line to it. It is spoken to under its lock."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.child: subprocess.Popen[bytes] | None = None
        self.line: socket.socket | None = None

    def forget(self) -> None:
        """In a forked process: the child is the parent's, and our copy of the line would outlive that."""
        if self.child:
            self.child.returncode = 0  # not ours to wait for
        if self.line:
            self.line.close()
        self.__init__()

    def begin(self) -> socket.socket:
        """The line to the child, which is started where there is none. OSError where none can be."""
        if self.line:
            return self.line
        self.line, theirs = socket.socketpair()
        self.line.settimeout(PATIENCE)
        try:
            command = [sys.executable, "-P", "-W", "ignore", __file__]  # -P: this folder is no place to import from
            with theirs:
                self.child = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
            if self.line.recv(1) != READY:
                raise OSError("the child that compares answers went down before it was ready")
        except BaseException:
            self.end()
            raise
        return self.line

    def verdict(self, said: str, gold: str) -> bool:
        """What the child says; False where it used up its limit, or went down at this twice in another way."""
        for _ in range(2):
            line = self.begin()
            try:
                with suppress(ConnectionError):  # it went down
                    line.sendall(json.dumps([said, gold, LIMIT]).encode() + b"\n")
                    if told := line.recv(1):
                        return told == SAME
            except TimeoutError:
                self.end()
                raise WorldFailed(f"no {LIMIT:.0f} s of processor time for a comparison in {PATIENCE:.0f} s") from None
            except BaseException:  # an interrupt; what the child says later must not answer the next question
                self.end()
                raise
            if self.end(1.0) == -signal.SIGPROF:
                return False
        return False

    def end(self, patience: float = 0.0) -> int | None:
        """The exit code of the child, if there is one; where it does not leave by itself, it is killed."""
        child, line, self.child, self.line = self.child, self.line, None, None
        if line:
            line.close()
        if child is None:
            return None
        try:
            return child.wait(patience)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait()


def alarmed(said: str, gold: str) -> bool:
    """The same in this process, which an alarm interrupts at the limit. In the main thread only."""

    class Late(BaseException):
        pass

    def stop(*_: object) -> None:
        raise Late

    compared("1", "2")  # loads the library, which takes a second and must not be interrupted
    before = signal.signal(signal.SIGPROF, stop)
    try:
        signal.setitimer(signal.ITIMER_PROF, LIMIT, 0.1)  # again and again, for a library may swallow the first
        try:
            return compared(said, gold)
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
    except Late:
        return False
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def compared(said: str, gold: str) -> bool:
    """What math-verify says, without a limit; False where the answer makes it fail.

    Raises WorldFailed where it is not installed, for which no answer is to blame.
    """
    try:
        from math_verify import parse, verify
    except ImportError as error:
        raise WorldFailed(f"answers cannot be compared ({error}); install razorbench again") from error

    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # warns that its own limits are off
    try:
        ours, theirs = (parse(f"\\boxed{{{text}}}", parsing_timeout=0) for text in (gold, said))
        return bool(verify(ours, theirs, timeout_seconds=0))
    except Exception:
        return False


def serve(line: socket.socket) -> None:
    """Answer what comes through the line until the other end is gone. The alarm has no handler: the kernel ends us."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    most = resource.getrlimit(resource.RLIMIT_DATA)[1]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY if most == resource.RLIM_INFINITY else min(MEMORY, most), most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    compared("1", "2")  # loads the library, outside the limit
    line.sendall(READY)
    for request in line.makefile("rb"):
        said, gold, limit = json.loads(request)
        signal.setitimer(signal.ITIMER_PROF, limit)
        same = compared(said, gold)
        signal.setitimer(signal.ITIMER_PROF, 0)
        line.sendall(SAME if same else OTHER)


JUDGE = Judge()
os.register_at_fork(after_in_child=JUDGE.forget)

if __name__ == "__main__":
    with suppress(ConnectionError):
        serve(socket.socket(fileno=0))
else:
    atexit.register(JUDGE.end)
