"""Play a task in worker processes: a simulator that dies, hangs or raises costs its own episodes and nothing else.

`Workers` is a task that wraps a task, so a rollout knows nothing of it. Its bottom half, `serve`, runs in the workers,
possibly under another interpreter: that one needs numpy, this package and the task, and no torch.
"""

import atexit
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import time
import traceback
import weakref
from collections import Counter, deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from select import poll
from selectors import EVENT_READ, EVENT_WRITE, PollSelector
from threading import Thread
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, row, take
from razorbench.harness.core.episodes import Instances, Observations, Outcome, Outcomes
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import REGISTERED, make

GRACE = 2.0
"""Seconds that a worker has to close its simulator before it is killed."""

STARTS = 2
"""How many new workers may fail to begin a batch before it is given up."""

COLUMNS = ("text", "images", "state", "role")
"""What crosses of `Observations`, beside its rows."""

FORWARDED = ("id", "card", "styles", "solve", "guess", "valid", "clusters")
"""What else a wrapped task may offer; it is offered here if it is there."""

PROGRAM = """
import sys
sys.path = {ours} + [path for path in sys.path if path] + {installed}
from razorbench.harness.core.lanes import serve
serve({task!r}, {fd})
"""


class Workers:
    """A task played in up to `lanes` processes, `scenes` instances at once in each. They start at the first `play`.

    `task` is a registry id or "module:Class". Questions, demonstrations and guesses are made in this process. A worker
    has `patience` seconds to start, then `timeout` seconds for each step; when it overruns them, dies or raises, the
    instances it was playing are unscored (NaN, with the error) and another worker takes its place. After the first
    answer, `linger` seconds are waited for more of them: bigger batches for a policy whose call costs more than a step.

    Instance data and values reach the task as numpy arrays and python objects, whatever the agent gave. Raises
    `Refused` for an unknown task or interpreter, and from `play` when no worker at all can begin. Use it in a `with`
    block or call `close`; the next `play` starts new workers.
    """

    card: Any

    def __init__(
        self,
        task: str,
        lanes: int,
        scenes: int = 1,
        timeout: float = 60.0,
        patience: float = 120.0,
        linger: float = 0.0,
        python: str = sys.executable,
    ):
        if lanes < 1 or scenes < 1:
            raise Refused(f"lanes and scenes should be 1 or more, not {lanes} and {scenes}")
        if not shutil.which(python):
            raise Refused(f"no Python interpreter at {python!r}; give the path of one that has numpy")
        if task in REGISTERED["task"]:  # the workers' registry is a fresh one, so they need the address
            task = f"{REGISTERED['task'][task].__module__}:{REGISTERED['task'][task].__qualname__}"
        if task.startswith("__main__:"):
            raise Refused(f"a worker cannot import {task!r} from a script; move the class to a module of its own")
        self.task = made(task)
        # Set rather than looked up on demand: from Python 3.12 on, isinstance(…, Expert) sees no __getattr__.
        vars(self).update({name: getattr(self.task, name) for name in FORWARDED if hasattr(self.task, name)})
        self.lanes, self.scenes, self.linger = lanes, scenes, linger
        folders = roots(__name__, task.partition(":")[0], type(self.task).__module__)
        self.start = lambda: LaneProcess(task, python, folders, timeout, patience)
        self.workers: list[LaneProcess] = []
        weakref.finalize(self, dismiss, self.workers)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. Those in the middle of a step have two seconds to close their simulator."""
        dismiss(self.workers)

    def instances(self, split: str) -> Instances:
        """The questions of the wrapped task, made in this process."""
        return self.task.instances(split)

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Yield what the ready lanes see, receive the column of values for them, return the outcomes in order."""
        if any(worker.busy for worker in self.workers):
            raise RuntimeError("these workers are playing; two rollouts at once need two Workers")
        everyone = np.arange(len(instances))
        todo = deque(everyone[first : first + self.scenes] for first in everyone[:: self.scenes])
        ends = [Outcome.unscored("the episode was not played")] * len(instances)
        starts, working = Counter[int](), False
        try:
            while todo or any(worker.busy for worker in self.workers):
                while todo and (worker := self.idle()):
                    worker.play(todo.popleft(), instances)
                asking: list[tuple[LaneProcess, Observations]] = []
                for worker, (kind, content) in self.answers().items():
                    working = working or any(worker.begun for worker in self.workers)
                    if kind == "asks":
                        asking.append((worker, content))
                        continue
                    worker.busy = False
                    if kind == "ends":
                        for i, end in zip(worker.rows, content, strict=True):
                            ends[i] = end
                        continue
                    self.workers.remove(worker)
                    worker.end(0.0)
                    # Who never began the batch is not lost to it: an idle worker had died or frozen, or a new one did
                    # not start. The first kind runs out; the second might go on for ever, so it is counted.
                    first = int(worker.rows[0])
                    starts[first] += not worker.warm
                    if not worker.begun and starts[first] < STARTS:
                        todo.appendleft(worker.rows)
                    elif working:
                        for i in worker.rows:
                            ends[i] = Outcome.unscored(content)
                    else:
                        raise Refused(f"no worker could begin to play {type(self.task).__name__}: {content}")
                if asking:
                    asking.sort(key=lambda pair: pair[0].rows[0])  # rows ascend, as they do without workers
                    values = portable((yield join(asking)))
                    stops = np.cumsum([len(seen) for _, seen in asking])
                    for (worker, _), at in zip(asking, np.split(np.arange(stops[-1]), stops[:-1]), strict=True):
                        worker.post(take(values, at))
        finally:
            dismiss([worker for worker in self.workers if worker.busy])  # the agent raised, or nobody wants the rest
            self.workers[:] = [worker for worker in self.workers if not worker.busy]
        return Outcomes.stack(ends)

    def idle(self) -> "LaneProcess | None":
        """A living worker with nothing to do, a new one while a lane is free, or None."""
        for worker in [worker for worker in self.workers if not worker.busy]:
            if worker.process.poll() is None:
                return worker
            self.workers.remove(worker)
            worker.end(0.0)
        if len(self.workers) == self.lanes:
            return None
        self.workers.append(self.start())
        return self.workers[-1]

    def answers(self) -> "dict[LaneProcess, tuple[str, Any]]":
        """Wait for an answer of a busy worker, then `linger` seconds for more: its kind and what it holds.

        Kinds are asks (`Observations`), ends (a list of `Outcome`) and lost (a sentence). Bytes are moved before clocks
        are read, so a policy that computes for longer than `timeout` fails nobody who has answered meanwhile.
        """
        answered: dict[LaneProcess, tuple[str, Any]] = {}
        until = np.inf
        while waiting := [worker for worker in self.workers if worker.busy and worker not in answered]:
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
                    until = min(until, time.monotonic() + self.linger)
        return answered


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
                stdout=2,  # what a simulator prints is no output of ours
                start_new_session=True,  # a group of its own, so that a simulator's children end with it
            )
        self.timeout, self.patience = timeout, patience
        self.warm = self.busy = self.begun = False  # has ever played; has a batch; has begun to play it
        self.rows = np.zeros(0, np.int64)
        self.inbox, self.outbox = bytearray(), memoryview(b"")
        self.deadline = np.inf

    @property
    def limit(self) -> float:
        """Seconds without a sign of life after which this worker is lost."""
        return self.timeout if self.warm else self.patience

    def play(self, rows: np.ndarray, instances: Instances) -> None:
        """Begin to send a batch: the instances at `rows` [k]."""
        self.rows, self.busy, self.begun = rows, True, False
        asked = instances.take(rows)
        gathered = Instances(asked.id, portable(dict(asked.data)))
        vars(gathered)["key"] = asked.key  # a subset keeps its keys
        self.post(gathered)

    def post(self, message: Any) -> None:
        """Begin to send a message."""
        self.outbox = memoryview(packed(message))
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
        """Send and receive what goes now; an answer if one is whole, as in `Workers.answers`."""
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
            self.warm = self.begun = True
            answer = self.unpack()
        self.deadline = time.monotonic() + self.limit
        return answer

    def unpack(self) -> tuple[str, Any] | None:
        """The first message in the inbox, if it is whole."""
        size = 8 + int.from_bytes(self.inbox[:8], "big")
        if len(self.inbox) < size:
            return None
        message = bytes(self.inbox[8:size])
        del self.inbox[:size]
        try:
            return pickle.loads(message)
        except Exception as error:  # another interpreter's class, say, that this one lacks
            return "lost", f"the worker's answer cannot be read: {type(error).__name__}: {error}"

    def end(self, grace: float) -> str:
        """Hang up, give the process `grace` seconds to end by itself, then kill it and its children; how it ended."""
        self.socket.close()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):  # a process stuck in a driver cannot be killed: leave it
            self.process.wait(GRACE)
        code = self.process.returncode
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def dismiss(workers: list[LaneProcess]) -> None:
    """End the workers together, and empty the list."""
    for worker in workers:
        worker.socket.close()  # an idle one leaves by itself, one that waits for a value closes its simulator first
    until = time.monotonic() + GRACE
    for worker in workers:
        worker.end(max(until - time.monotonic(), 0.0))
    workers.clear()


# --- columns between processes ----------------------------------------------------------------------------------------


def portable(column: Column) -> Column:
    """The column without torch: tensors become arrays, also inside mappings, lists and tuples."""
    if isinstance(column, Mapping):
        return {name: portable(inner) for name, inner in column.items()}
    if isinstance(column, list):
        return [portable(value) for value in column]
    if isinstance(column, tuple):
        return tuple(portable(value) for value in column)
    return column.detach().cpu().numpy() if hasattr(column, "detach") else column


def join(asking: Sequence[tuple[LaneProcess, Observations]]) -> Observations:
    """What several workers see as one batch, each part for the rows of its worker."""
    lengths = [len(seen) for _, seen in asking]
    columns = [[getattr(seen, name) for _, seen in asking] for name in COLUMNS]
    rows = np.concatenate([worker.rows[seen.rows] for worker, seen in asking])
    return Observations(*(concatenated(parts, lengths) for parts in columns), rows=rows)


def concatenated(parts: list[Any], lengths: Sequence[int]) -> Column:
    """One column from parts of some lengths; a list of single values where the parts are not of one kind."""
    if len(parts) == 1 or all(part is None for part in parts):
        return parts[0]
    if all(isinstance(part, str) and part == parts[0] for part in parts):
        return parts[0]
    if all(isinstance(part, Mapping) and part.keys() == parts[0].keys() for part in parts):
        return {name: concatenated([part[name] for part in parts], lengths) for name in parts[0]}
    if all(isinstance(part, np.ndarray) and part.shape[1:] == parts[0].shape[1:] for part in parts):
        return np.concatenate(parts)
    return [row(part, i) for part, length in zip(parts, lengths, strict=True) for i in range(length)]


def packed(message: Any) -> bytes:
    """A message as bytes, its length first. Pickle, since both ends are ours."""
    body = pickle.dumps(message)
    return len(body).to_bytes(8, "big") + body


# --- tasks by address -------------------------------------------------------------------------------------------------


def made(task: str) -> Any:
    """A new task from its registry id or "module:Class"."""
    if ":" not in task:
        return make("task", task)
    module, _, name = task.partition(":")
    return attrgetter(name)(import_module(module))()


def roots(*names: str) -> list[str]:
    """The folders on our import path that these modules were found in, so that a worker finds them too."""
    folders = []
    for name in names:
        file = getattr(sys.modules.get(name), "__file__", None)
        if file:
            path = Path(file).absolute()
            folders.append(str(path.parents[name.count(".") + (path.stem == "__init__")]))
    return list(dict.fromkeys(folders))


# --- in the worker ----------------------------------------------------------------------------------------------------


def serve(task: str, fd: int) -> None:
    """Play what comes through the socket `fd`, batch after batch, until the other end hangs up or the task raises."""
    line = socket.socket(fileno=fd)
    line.set_inheritable(False)  # else a simulator's child would keep the line open after our death
    incoming = line.makefile("rb")
    atexit.register(leave_no_children)
    Thread(target=outlive_nobody, args=(fd,), daemon=True).start()

    def receive() -> Any:
        size = incoming.read(8)
        if len(size) < 8:
            raise ConnectionError("the other end hung up")
        return pickle.loads(incoming.read(int.from_bytes(size, "big")))

    def tell(kind: str, content: Any = None) -> None:
        line.sendall(packed((kind, content)))

    try:
        player = made(task)
        while True:
            instances, values = receive(), None
            tell("begun")
            game = player.play(instances)
            try:
                while True:
                    seen = game.send(values)
                    rows = np.arange(len(instances)) if seen.rows is None else np.asarray(seen.rows)
                    if len(seen) != len(rows):
                        raise ValueError(f"play yielded {len(seen)} observations for {len(rows)} rows")
                    tell("asks", Observations(*(portable(getattr(seen, name)) for name in COLUMNS), rows=rows))
                    values = receive()
            except StopIteration as end:
                if not isinstance(end.value, Outcomes) or len(end.value) != len(instances):
                    raise TypeError(f"play returned {end.value!r}, not {len(instances)} Outcomes") from None
                told = (portable(column) for column in (end.value.metrics, end.value.error, end.value.turn_rewards))
                tell("ends", [*Outcomes(end.value.reward, *told)])
            finally:
                game.close()
    except Exception as error:
        if not isinstance(error, ConnectionError):
            traceback.print_exc()
        with suppress(ConnectionError):  # nobody listens any more, most likely; or the task lost its own connection
            tell("lost", f"{type(error).__name__}: {error}")


def leave_no_children() -> None:
    """As the last thing of a worker that ends by itself: end what its simulator started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


def outlive_nobody(fd: int) -> None:
    """End this process and its children soon after the other end of the socket is gone, whatever the task is doing."""
    hangup = poll()
    hangup.register(fd, 0)
    hangup.poll()
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)
