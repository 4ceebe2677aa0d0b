"""Play a task in worker processes: a simulator that dies, hangs or raises costs its own episodes and nothing else.

`Workers` is a task that wraps a task, so a rollout knows nothing of it. Its bottom half is `serving.serve`.
"""

import os
import shutil
import sys
import weakref
from collections import Counter, deque
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, concatenated, portable, take
from razorbench.harness.core.episodes import Asked, Episodes, Instances, Observations, Outcome, Outcomes, Turn
from razorbench.harness.core.errors import Refused, WorldFailed
from razorbench.harness.core.processes import LaneProcess, answers, dismiss, gathered, roots
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.core.serving import COLUMNS, made, offers

STARTS = 2
"""How many new workers may fail to begin a batch before it is given up; and batches, before all of them are."""

IDLE = 8
"""Workers that other tasks keep waiting when a new one starts, at most: a simulator takes some hundred megabytes."""

POOLS: "weakref.WeakSet[Workers]" = weakref.WeakSet()

HANDED: dict[str, list[LaneProcess]] = {}
"""Workers that another process has started for this one, by the task that they play: who is first to play it gets them.
"""


@dataclass(frozen=True)
class Lanes:
    """How many processes play a task, and under what limits. Where they are found wanting episodes are unscored; no
    score depends on them otherwise.
    """

    lanes: int = 1
    """Processes."""
    scenes: int = 1
    """Instances at once in each; many for a simulator that is vectorised."""
    timeout: float = 60.0
    """Seconds that a worker has for each step."""
    patience: float = 120.0
    """Seconds that it has to start, to build its simulator and to show what it sees first."""
    linger: float = 0.0
    """Seconds that are waited for more answers after the first: for a policy whose call costs more than a step."""
    python: str = ""
    """Path of the interpreter, or `$NAME` of the environment variable that holds it; empty: this one."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if self.lanes < 1 or self.scenes < 1:
            raise Refused(f"lanes and scenes should be 1 or more, not {self.lanes} and {self.scenes}")

    @property
    def interpreter(self) -> str:
        """The interpreter's path. Refused where there is none."""
        told = os.path.expandvars(self.python)
        if told.startswith("$"):
            raise Refused(f"{told} is not set; set it to the path of a Python interpreter that has the simulator")
        if not (found := shutil.which(told or sys.executable)):
            raise Refused(f"no Python interpreter at {told!r}; give the path of one that has numpy")
        return found


class Workers:
    """A task played in up to `lanes` processes, `scenes` instances at once in each (`Lanes`). They start when needed.

    `task` is a registry id or "module:Class". Under this interpreter, questions, demonstrations and guesses are made in
    this process; under another one they are asked of a worker, whose expert sees the present turn alone. A worker
    whose first observation has come has `timeout` seconds for each step; when it overruns them, dies or raises, the
    instances it was playing are unscored (NaN, with the error) and another worker takes its place.

    Instance data and values reach the task as numpy arrays and python objects, whatever the agent gave. Raises
    `Refused` for an unknown task or interpreter, and from `play` when no worker at all can begin. Use it in a `with`
    block or call `close`; the next `play` starts new workers.
    """

    card: Any

    def __init__(self, task: str, lanes: int = 1, **limits: Any):
        said = Lanes(lanes, **limits)
        python, here = said.interpreter, shutil.which(sys.executable)
        if task in REGISTERED["task"]:  # the workers' registry is a fresh one, so they need the address
            task = address(REGISTERED["task"][task])
        if task.startswith("__main__:"):
            raise Refused(f"a worker cannot import {task!r} from a script; move the class to a module of its own")
        self.name, self.task = task, made(task) if python == here else None
        self.lanes, self.scenes, self.linger = said.lanes, said.scenes, said.linger
        folders = roots(__name__, task.partition(":")[0], type(self.task).__module__)
        self.start = lambda: LaneProcess(task, python, folders, said.timeout, said.patience)
        self.workers = HANDED.pop(task, [])
        self.questions: dict[str, Instances] = {}
        weakref.finalize(self, dismiss, self.workers)
        POOLS.add(self)
        holds, calls = offers(self.task) if self.task else self.ask("offers")
        # Set rather than looked up on demand: from Python 3.12 on, isinstance(…, Expert) sees no __getattr__.
        vars(self).update(holds, **{name: getattr(self.task, name, partial(self.ask, name)) for name in calls})

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End all workers. Those in the middle of a step have two seconds to close their simulator."""
        dismiss(self.workers)

    def open(self) -> None:
        """Start all workers, for a child of this process that may start none: a fork has them, another is `HANDED`
        them.
        """
        while len(self.workers) < self.lanes:
            self.workers.append(self.start())

    def instances(self, split: str) -> Instances:
        """The questions of the wrapped task."""
        if self.task:
            return self.task.instances(split)
        if split not in self.questions:
            self.questions[split] = self.ask("instances", split)
        return self.questions[split]

    def ask(self, name: str, *args: Any) -> Any:
        """What a worker's task answers when its method `name` is called, while others may be in the middle of a play.

        Refused as the method refuses, and where no worker answers. Raises WorldFailed for whatever else it raises.
        """
        worker = next((worker for worker in self.workers if worker.waits), None) or self.idle()
        if worker is None:
            raise RuntimeError("these workers are playing, and none of them waits")
        worker.post("ask", (name, tuple(map(crossing, args))))
        kind, told = answers([worker], 0.0)[worker]
        if kind == "told":
            return told
        if kind == "lost":
            worker.end(0.0)
            if not worker.busy:  # else `play` will find that it is gone
                self.workers.remove(worker)
        if kind == "raised":
            raise WorldFailed(f"{name} of {self.name} raised {told}")
        raise Refused(told if kind == "refused" else f"a worker could not tell {name} of {self.name}: {told}")

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Yield what the ready lanes see, receive the column of values for them, return the outcomes in order."""
        if any(worker.busy for worker in self.workers):
            raise RuntimeError("these workers are playing; two rollouts at once need two Workers")
        everyone = np.arange(len(instances))
        todo = deque(everyone[first : first + self.scenes] for first in everyone[:: self.scenes])
        ends = [Outcome.unscored("the episode was not played")] * len(instances)
        starts, stillborn, working = Counter[int](), 0, False
        try:
            while todo or any(worker.busy for worker in self.workers):
                while todo and (worker := self.idle()):
                    worker.play(todo.popleft(), instances)
                asking: list[tuple[LaneProcess, Observations]] = []
                for worker, (kind, content) in answers([w for w in self.workers if w.busy], self.linger).items():
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
                        continue
                    for i in worker.rows:
                        ends[i] = Outcome.unscored(content)
                    stillborn += not worker.begun
                    left = todo or any(worker.busy for worker in self.workers)
                    if not working and (stillborn == STARTS or not left):
                        raise Refused(f"no worker could begin to play {self.name}: {content}")
                if asking:
                    asking.sort(key=lambda pair: pair[0].rows[0])  # rows ascend, as they do without workers
                    values = portable((yield join(asking)))
                    stops = np.cumsum([len(seen) for _, seen in asking])
                    for (worker, _), at in zip(asking, np.split(np.arange(stops[-1]), stops[:-1]), strict=True):
                        worker.post("values", take(values, at))
        finally:
            dismiss([worker for worker in self.workers if worker.busy])  # the agent raised, or nobody wants the rest
            self.workers[:] = [worker for worker in self.workers if not worker.busy]
        return Outcomes.stack(ends)

    def idle(self) -> "LaneProcess | None":
        """A living worker with nothing to do, a new one while a lane is free, or None.

        In a confined process, which may start none, those that are left have to do.
        """
        for worker in [worker for worker in self.workers if not worker.busy]:
            if worker.alive:
                return worker
            self.workers.remove(worker)
            worker.end(0.0)
        if len(self.workers) == self.lanes:
            return None
        make_room(self)
        try:
            self.workers.append(self.start())
        except PermissionError:
            if not self.workers:
                raise
            return None
        return self.workers[-1]


def address(task: Any) -> str:
    """Where a class stands, "module:name": by its own name, or by the one that its module has for what it was made of.

    Refused where it has none, as one that was made within a function.
    """
    module = sys.modules.get(task.__module__)
    names = [task.__qualname__, *(name for name, value in vars(module).items() if value is task)]
    for name in names:
        with suppress(AttributeError):
            if attrgetter(name)(module) is task:
                return f"{task.__module__}:{name}"
    raise Refused(f"a worker cannot import {task.__qualname__}; give it a name at the top of {task.__module__}")


def make_room(beginner: Workers) -> None:
    """End workers that others keep waiting, beyond `IDLE` of them."""
    waiting = [(pool, worker) for pool in POOLS if pool is not beginner for worker in pool.workers if not worker.busy]
    for pool, worker in waiting[IDLE:]:
        pool.workers.remove(worker)
        worker.end(0.0)


def close_all() -> None:
    """End all workers of this process that wait: what a child has made of them is not known."""
    for pool in POOLS:
        pool.close()


def code_of(task: Any) -> type:
    """The class that plays a task; of workers' that of the task they play, where it is known in this interpreter."""
    return type(task.task or task) if isinstance(task, Workers) else type(task)


# --- between processes ------------------------------------------------------------------------------------------------


def crossing(value: Any) -> Any:
    """An argument as it is sent: without torch, and of what is asked the present turn alone."""
    if isinstance(value, Instances):
        return gathered(value)
    if not isinstance(value, Asked):
        return portable(value)
    now = Observations(*(portable(getattr(value.now, name)) for name in COLUMNS))
    rows = np.arange(len(value))
    return Asked(Episodes(gathered(value.instances), [Turn(rows, now)]), rows, now, value.key, value.turn)


def join(asking: Sequence[tuple[LaneProcess, Observations]]) -> Observations:
    """What several workers see as one batch, each part for the rows of its worker."""
    lengths = [len(seen) for _, seen in asking]
    columns = [[getattr(seen, name) for _, seen in asking] for name in COLUMNS]
    rows = np.concatenate([worker.rows[seen.rows] for worker, seen in asking])
    return Observations(*(concatenated(parts, lengths) for parts in columns), rows=rows)
