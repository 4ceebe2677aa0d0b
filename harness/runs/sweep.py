"""Many runs: methods × grid × seeds, on one track or several, in worker processes that load the data once. One row a
run.
"""

import json
import os
import re
import shutil
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, fields
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Missing, Refused
from razorbench.harness.core.registry import unknown
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.settings import Settings, lasting
from razorbench.harness.measure import record as records
from razorbench.harness.measure.record import Record, Torn
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.executors import find_executor
from razorbench.harness.runs.run import Spec, run, run_folder
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import add_track, find_track
from razorbench.harness.tracks.spec import Track
from razorbench.harness.tracks.variants import settings_for

DRAWN = ""
"""Stands for the episodes along which drift is measured, among the tasks that a base answers."""


@dataclass(frozen=True)
class Done:
    """How one run of a sweep ended: its record, or why there is none."""

    track: Track
    spec: Spec
    record: Record | None
    error: str = ""
    before: bool = False
    """Whether there was a record when the sweep began."""


def plan(track: Track, methods: Sequence[str], grid: Sequence[str], seeds: Sequence[int]) -> list[Spec]:
    """Every run of a sweep, seed by seed.

    A method is a name, with settings of its own after colons (`grpo:kl=0.1`, `sft:style=zero-four`); the grid is
    `field=value,value`. Refuses what cannot be read.
    """
    axes = [[(name, value) for value in values.split(",")] for name, values in map(assignment, grid)]
    specs = []
    for seed in seeds:
        for method in methods:
            name, *own = re.split("(?<!style=file):", method)
            for point in product(*axes):
                changes = {k: parsed(k, v) for k, v in [*point, *map(assignment, own)]}
                specs.append(Spec(name, settings_for(track, **changes), seed))
                specs[-1].check(track.settings)
    return specs


def preset(track: Track, name: str, methods: Sequence[str], grid: Sequence[str], seeds: Sequence[int]) -> list[Spec]:
    """Every run of a grid that the track's file names, seed by seed. Where `methods` are named, theirs alone: each has
    the preset's grids of its name, with settings of its own, such as `sft:style=file:own.jsonl`. `grid` are more axes.

    Refuses a preset that the track has not, or a method that the preset has not.
    """
    if name not in track.presets:
        raise Refused(unknown("preset", name, sorted(track.presets)) + f" on {track.id}")
    grids = track.presets[name]
    there = {method.partition(":")[0] for method in grids}
    for method in methods:
        if method.partition(":")[0] not in there:
            raise Refused(unknown("method", method, sorted(there)) + f" in the preset {name}")
    wanted = [
        (method if not own else f"{method}:{own}", axes)
        for method, axes in grids.items()
        for head, _, own in (each.partition(":") for each in methods or [method.partition(":")[0]])
        if head == method.partition(":")[0]
    ]
    return [spec for seed in seeds for method, axes in wanted for spec in plan(track, [method], [*axes, *grid], [seed])]


def assignment(text: str) -> tuple[str, str]:
    """`field=value` as a pair. Refuses what is none."""
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise Refused(f"{text!r} should read field=value, such as lr=1e-4")
    return name.replace("-", "_"), value


def parsed(name: str, text: str) -> Any:
    """The value of a setting from its text, in the setting's own type. Refuses another setting, or no such value."""
    kinds = {field.name: type(field.default) for field in fields(Settings)}
    if name not in kinds:
        raise Refused(unknown("setting", name, sorted(kinds)))
    try:
        return kinds[name](text)
    except ValueError:
        raise Refused(f"{text!r} is no {kinds[name].__name__}, which {name} needs; correct the value") from None


def sweep(
    track: Track,
    specs: Sequence[Spec],
    home: Path,
    workers: int = 0,
    server: str | None = None,
    runtime: Runtime = AUTO,
    executor: str = "process",
) -> Iterator[Done]:
    """Do the runs of one track: see `sweeps`."""
    return sweeps([(track, specs)], home, workers, server, runtime=runtime, executor=executor)


def sweeps(
    work: Iterable[tuple[Track, Sequence[Spec]]],
    home: Path,
    workers: int = 0,
    server: str | None = None,
    lacking: Callable[[Track, Missing], Any] | None = None,
    runtime: Runtime = AUTO,
    observe: tuple[str, ...] = (),
    executor: str = "process",
) -> Iterator[Done]:
    """Do the runs that `home` has no record of, and yield each as it ends; `workers` 0: one a core.

    The first track has the workers, and the next one those that it leaves idle. `server` is the address of who writes
    the store, where that is not us. `lacking` is called with a track whose data are not to be had, and the others go
    on; without it that is refused.

    Killed at any moment and started again, it does what is missing; what has a record is yielded at once. A run that
    fails, or whose record is torn, is yielded with its error and leaves no row. `observe` names what is measured
    besides, `executor` who the workers are.

    Raises Refused for an executor that is not known, and where a run is refused.
    """
    make = find_executor(executor)
    store, most = Store(home, server=server), workers or os.cpu_count() or 1
    for track, _ in work:
        add_track(track, home)  # the workers find it there
    store.reconcile()
    courses = [Course(track, specs, store, runtime, observe) for track, specs in work]
    going: dict[Future, tuple[Course, Job]] = {}
    with make(most) as pool:
        try:
            while True:
                for course in courses:
                    while course.jobs and len(going) < most:
                        job = course.jobs.popleft()
                        going[submit(pool, job)] = course, job
                if not going:
                    return
                for future in wait(going, return_when=FIRST_COMPLETED).done:
                    course, job = going.pop(future)
                    try:
                        yield from course.ended(job, future)
                    except Missing as error:
                        if lacking is None:
                            raise
                        lacking(course.track, error)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


Job = tuple[Any, ...]
"""A function and its arguments: `ready`, `answered` or `work`."""


class Course:
    """A track in a sweep: it is made ready, then its base answers, then the runs; each stage needs all of the last."""

    def __init__(
        self, track: Track, specs: Sequence[Spec], store: Store, runtime: Runtime, observe: tuple[str, ...] = ()
    ):
        """The jobs that may be given to a worker now stand in `jobs`."""
        self.track, self.missing, self.store = track, list(specs), store
        self.where, self.observe = (track.id, store.home, runtime), observe
        self.jobs: deque[Job] = deque([(ready, *self.where)])
        self.asked: list[str] = []

    def ended(self, job: Job, future: Future) -> Iterator[Done]:
        """Go on after a job: the runs that are done with it. Refused as the job was."""
        does, error = job[0], future.exception()
        if does is work:
            yield self.run(job[-1], future)
        elif isinstance(error, Refused):
            raise error
        elif error:
            self.jobs.clear()
            while self.missing:
                yield Done(self.track, self.missing.pop(), None, f"{type(error).__name__}: {error}")
        elif does is ready:
            base, data, self.asked = future.result()
            yield from self.known(base, data)
            if self.missing:
                self.jobs += [(answered, *self.where, task) for task in self.asked]
        else:
            self.asked.remove(job[-1])
            if not self.asked:
                self.jobs += [(work, *self.where, self.store.server, self.observe, spec) for spec in self.missing]

    def known(self, base: str, data: Mapping[str, str]) -> Iterator[Done]:
        """The runs that have a record, of this base and these data, and are not missing."""
        sql = """
            SELECT id, method, settings, seed, data FROM submissions
            WHERE track = $track AND base = $base AND (provenance -> '$.submission') IS NULL"""
        rows = self.store.rows(sql, track=self.track.id, base=base)
        ids = {
            run_key(row["method"], row["settings"], row["seed"]): row["id"]
            for row in rows
            if records.foreign(row["data"] or {}) == data
        }
        wanted, self.missing = self.missing, []
        for spec in wanted:
            id = ids.get(run_key(spec.method, spec.told, spec.seed))
            if not id or not (folder := records.folder(self.store.home, id)).exists():
                self.missing.append(spec)
                continue
            made = run_folder(self.store.home, self.track, base, spec)
            shutil.rmtree(made, ignore_errors=True)  # of a run that was killed when its record stood
            try:
                yield Done(self.track, spec, records.read(folder), before=True)
            except Torn as error:
                yield Done(self.track, spec, None, str(error))

    def run(self, spec: Spec, future: Future) -> Done:
        """How a run ended. Refused as the run was."""
        error = future.exception()
        if error is None:
            return Done(self.track, spec, future.result())
        if isinstance(error, Torn):  # a record that has no row: only now it is known whose it is
            return Done(self.track, spec, None, str(error))
        if isinstance(error, Refused):
            raise error
        return Done(self.track, spec, None, f"{type(error).__name__}: {error}")


def submit(pool: Executor, job: Job) -> Future:
    """Give a job to a pool; where a worker of it was killed, that is how the job ends."""
    try:
        return pool.submit(*job)
    except BrokenExecutor as error:
        failed: Future = Future()
        failed.set_exception(error)
        return failed


def run_key(method: str, settings: Mapping[str, Any], seed: int | None) -> str:
    """The same for two runs that must give the same result."""
    return json.dumps([method, lasting(settings), seed], sort_keys=True)


# --- in a worker ------------------------------------------------------------------------------------------------------


def ready(track: str, home: Path, runtime: Runtime) -> tuple[str, dict[str, str], list[str]]:
    """Make a track ready, and its base, once: the id of the base, foreign data, and what the base is to answer."""
    made = bench(track, home, runtime)
    return made.base_id, records.foreign(made.data), [*made.tasks, DRAWN]


def answered(track: str, home: Path, runtime: Runtime, task: str) -> None:
    """Have the base answer a task, for all workers: they share the asking, and find what it said in the home."""
    made = bench(track, home, runtime)
    _ = made.drawn if task == DRAWN else made.base_answers(task)


def work(track: str, home: Path, runtime: Runtime, server: str | None, observe: tuple[str, ...], spec: Spec) -> Record:
    """One run: adapt, score, write the files, add the row."""
    record = run(bench(track, home, runtime), spec, home, observe)
    Store(home, server=server).add(record)
    return record


@cache
def bench(track: str, home: Path, runtime: Runtime) -> Bench:
    """The track made ready, once a process."""
    return Bench(find_track(track, home), home, runtime)
