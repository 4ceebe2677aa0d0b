"""One worker of a lane as its parent sees it: a process, a socket to it, and how long it may be silent."""

import os
import pickle
import signal
import socket
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from selectors import EVENT_READ, EVENT_WRITE, PollSelector
from typing import Any

import numpy as np

from razorbench.harness.core.columns import portable
from razorbench.harness.core.episodes import Instances
from razorbench.harness.core.serving import GRACE, packed

LARGEST = 2**30
"""Bytes of an answer, at most: who sends more is lost."""

LANE = "RAZORBENCH_LANE"
"""The environment variable by which a process knows that it is a worker, which starts no other."""

PROGRAM = """
import sys
sys.path = {ours} + [path for path in sys.path if path] + {installed}
from razorbench.harness.core.serving import serve
serve({task!r}, {fd})
"""


class LaneProcess:
    """A process, our end of the socket to it, and the rows of the batch that it plays.

    Nothing waits here: what the socket does not take at once goes when the worker reads, so one that hangs before
    reading a big instance holds nobody up. The clock starts anew with every byte that moves.
    """

    def __init__(self, task: str, python: str, folders: Sequence[str], timeout: float, patience: float):
        self.socket, theirs = socket.socketpair()
        self.socket.setblocking(False)
        installed = [folder for folder in folders if Path(folder).name in ("site-packages", "dist-packages")]
        ours = [folder for folder in folders if folder not in installed]  # last: its own numpy comes before ours
        with theirs:
            self.process = subprocess.Popen(
                [python, "-c", PROGRAM.format(ours=ours, installed=installed, task=task, fd=theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**os.environ, LANE: "1"},
                stdout=2,  # what a simulator prints is no output of ours
                start_new_session=True,  # a group of its own, so that a simulator's children end with it
            )
        self.pid, self.parent = self.process.pid, os.getpid()
        self.timeout, self.patience = timeout, patience
        self.warm = self.busy = self.begun = False  # has shown something once; has a batch; has begun to play it
        self.waits = False  # for values
        self.rows = np.zeros(0, np.int64)
        self.inbox, self.outbox = bytearray(), memoryview(b"")
        self.limit = patience
        self.deadline = np.inf

    def __getstate__(self) -> dict[str, Any]:
        """For a process that is spawned from ours, what it needs of a worker with nothing to do."""
        return {**vars(self), "process": None, "outbox": b""}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, outbox=memoryview(b""))
        self.socket.setblocking(False)

    @property
    def alive(self) -> bool:
        """Whether the other end has not hung up. A child of ours, which cannot wait for it, knows it, too."""
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except OSError:
            return False

    def play(self, rows: np.ndarray, instances: Instances) -> None:
        """Begin to send a batch: the instances at `rows` [k]."""
        self.rows, self.busy, self.begun = rows, True, False
        self.post("play", gathered(instances.take(rows)))

    def post(self, kind: str, content: Any) -> None:
        """Begin to send a message. A simulator that is still to be built has `patience`, and so has who is asked."""
        self.outbox = memoryview(packed((kind, content)))
        self.limit = self.timeout if self.warm and kind != "ask" else self.patience
        self.waits = self.waits and kind == "ask"
        self.deadline = time.monotonic() + self.limit
        self.push()

    def push(self) -> None:
        """Send what the socket takes now."""
        try:
            self.outbox = self.outbox[self.socket.send(self.outbox) :]
            self.deadline = time.monotonic() + self.limit
        except BlockingIOError:
            return
        except ConnectionError:  # the worker is gone, as `move` will find
            self.outbox = self.outbox[:0]

    def move(self) -> tuple[str, Any] | None:
        """Send and receive what goes now; an answer if one is whole, as in `answers`."""
        if self.outbox:
            self.push()
        try:
            received = self.socket.recv(1 << 20)
        except BlockingIOError:
            return None
        except ConnectionError:
            received = b""
        if not received:
            return "lost", f"the worker died ({self.end(1.0)})"
        self.inbox += received
        answer = self.unpack()
        if answer and answer[0] == "begun":
            self.begun = self.warm  # a new worker begins with what it shows first: its simulator has to be built
            answer = self.unpack()
        if answer and answer[0] in ("asks", "ends"):
            self.warm = self.begun = True
            self.waits = answer[0] == "asks"
        self.deadline = time.monotonic() + self.limit
        return answer

    def unpack(self) -> tuple[str, Any] | None:
        """The first message in the inbox, if it is whole."""
        size = 8 + int.from_bytes(self.inbox[:8], "big")
        if len(self.inbox) >= 8 and size > LARGEST:
            return "lost", f"the worker floods: its answer is of {size:,} bytes, and at most {LARGEST:,} are read"
        if len(self.inbox) < size:
            return None
        message = bytes(self.inbox[8:size])
        del self.inbox[:size]
        try:
            return self.sound(*pickle.loads(message))
        except Exception as error:  # another interpreter's class, say, that this one lacks
            return "lost", f"the worker's answer cannot be read: {type(error).__name__}: {error}"

    def sound(self, kind: str, content: Any) -> tuple[str, Any]:
        """A message whose rows are those of the batch that it is about. Raises ValueError for another one."""
        if kind == "asks" and not np.isin(content.rows, np.arange(len(self.rows))).all():
            raise ValueError(f"it asks for rows {content.rows} of {len(self.rows)}")
        if kind == "ends" and len(content) != len(self.rows):
            raise ValueError(f"it ends {len(content)} episodes of {len(self.rows)}")
        return kind, content

    def end(self, grace: float) -> str:
        """Hang up, give the process `grace` seconds to end by itself, then kill it and its children; how it ended."""
        self.socket.close()
        ours = os.getpid() == self.parent  # a child of ours has no children, and can kill it all the same
        if ours:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        if not ours:
            return "its exit code is its parent's to know"
        with suppress(subprocess.TimeoutExpired):  # a process stuck in a driver cannot be killed: leave it
            self.process.wait(GRACE)
        code = self.process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def gathered(instances: Instances) -> Instances:
    """Instances with their own rows of data alone, without torch. A subset keeps its keys."""
    alone = Instances(instances.id, portable(dict(instances.data)))
    vars(alone)["key"] = instances.key
    return alone


def answers(workers: Iterable[LaneProcess], linger: float) -> dict[LaneProcess, tuple[str, Any]]:
    """Wait for an answer of one of them, then `linger` seconds for more: its kind and what it holds, as in `serve`.

    Bytes are moved before clocks are read, so a policy that computes for longer than `timeout` fails nobody who has
    answered meanwhile.
    """
    answered: dict[LaneProcess, tuple[str, Any]] = {}
    silent, until = list(workers), np.inf
    while waiting := [worker for worker in silent if worker not in answered]:
        now = time.monotonic()
        if now >= until:
            break
        seconds = min(until, *(worker.deadline for worker in waiting)) - now
        with PollSelector() as selector:
            for worker in waiting:
                selector.register(worker.socket, EVENT_READ | (EVENT_WRITE if worker.outbox else 0), worker)
            stirring = {key.data for key, _ in selector.select(min(max(seconds, 0.0), 3600.0))}
        for worker in waiting:
            answer = worker.move() if worker in stirring else None
            if not answer and worker.deadline <= now:  # what moved has a new deadline
                answer = "lost", f"the worker gave no sign of life for {worker.limit:g} s"
            if answer:
                answered[worker] = answer
                until = min(until, time.monotonic() + linger)
    return answered


def dismiss(workers: list[LaneProcess]) -> None:
    """End the workers together, and empty the list."""
    for worker in workers:
        worker.socket.close()  # an idle one leaves by itself, one that waits for a value closes its simulator first
    until = time.monotonic() + GRACE
    for worker in workers:
        worker.end(max(until - time.monotonic(), 0.0))
    workers.clear()


def roots(*names: str) -> list[str]:
    """The folders on our import path that these modules are found in, so that a worker finds them too."""
    folders = []
    for name in names:
        spec = None
        with suppress(ModuleNotFoundError):
            spec = find_spec(name) if name else None
        if spec and spec.origin:
            path = Path(spec.origin).absolute()
            folders.append(str(path.parents[name.count(".") + (path.stem == "__init__")]))
    return list(dict.fromkeys(folders))
