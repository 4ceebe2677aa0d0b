"""Many runs of one track: methods × grid × seeds, in worker processes that load the data once. One row a run."""

import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from functools import cache
from itertools import product
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

from harness import record as records
from harness.record import Record
from harness.registry import unknown
from harness.run import Spec, run
from harness.score import Bench
from harness.settings import Settings, lasting
from harness.store import Store
from harness.tracks import Track, find_track, settings_for
from harness.types import Refused


@dataclass(frozen=True)
class Done:
    """How one run of a sweep ended: its record, or why there is none."""

    spec: Spec
    record: Record | None
    error: str = ""


def plan(track: Track, methods: Sequence[str], grid: Sequence[str], seeds: Sequence[int]) -> list[Spec]:
    """Every run of a sweep, seed by seed.

    A method is a name, with settings of its own after colons (`grpo:kl=0.1`, `sft:style=zero-four`); the grid is
    `field=value,value`. Refuses what cannot be read.
    """
    axes = [[(name, value) for value in values.split(",")] for name, values in map(assignment, grid)]
    specs = []
    for seed in seeds:
        for method in methods:
            name, *own = method.split(":")
            for point in product(*axes):
                changes = {k: parsed(k, v) for k, v in [*point, *map(assignment, own)]}
                specs.append(Spec(name, settings_for(track, **changes), seed))
    return specs


def assignment(text: str) -> tuple[str, str]:
    """`field=value` as a pair."""
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise Refused(f"{text!r} should read field=value, such as lr=1e-4")
    return name.replace("-", "_"), value


def parsed(name: str, text: str) -> Any:
    """The value of a setting from its text, in the setting's own type."""
    kinds = {field.name: type(field.default) for field in fields(Settings)}
    if name not in kinds:
        raise Refused(unknown("setting", name, sorted(kinds)))
    try:
        return kinds[name](text)
    except ValueError:
        raise Refused(f"{text!r} is no {kinds[name].__name__}, which {name} needs; correct the value") from None


def sweep(
    track: Track, specs: Sequence[Spec], home: Path, workers: int = 0, server: str | None = None
) -> Iterator[Done]:
    """Do the runs that `home` has no record of, and yield each as it ends; `workers` 0: one a core.

    `server` is the address of who writes the store, where that is not us.

    Killed at any moment and started again, it does what is missing; what has a record is yielded at once. A run that
    fails is yielded with its error and leaves no row.
    """
    Store(home, server=server).reconcile()
    base = bench(track.id, home).base_id  # and so the base is made once, before the workers race to
    known = {
        fingerprint(record.method, dict(record.settings), record.seed): record
        for record in records.all_records(home)
        if (record.track, record.base) == (track.id, base) and "submission" not in record.provenance
    }
    missing = []
    for spec in specs:
        if record := known.get(fingerprint(spec.method, asdict(spec.settings), spec.seed)):
            yield Done(spec, record)
        else:
            missing.append(spec)
    if not missing:
        return
    pool = ProcessPoolExecutor(
        min(workers or os.cpu_count() or 1, len(missing)), get_context("spawn"), initializer=follow_parent
    )
    with pool:
        try:
            going = {submit(pool, track.id, spec, home, server): spec for spec in missing}
            for future in as_completed(going):
                error = future.exception()
                if error is None:
                    yield Done(going[future], future.result())
                elif isinstance(error, Refused):
                    raise error
                else:
                    yield Done(going[future], None, f"{type(error).__name__}: {error}")
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def fingerprint(method: str, settings: dict[str, Any], seed: int | None) -> str:
    """The same for two runs that must give the same result."""
    return json.dumps([method, lasting(settings), seed], sort_keys=True)


def submit(pool: ProcessPoolExecutor, track: str, spec: Spec, home: Path, server: str | None) -> Future[Record]:
    """One run, given to the workers; where one of them is dead already, a run that has failed."""
    try:
        return pool.submit(work, track, spec, home, server)
    except BrokenProcessPool as error:
        lost: Future[Record] = Future()
        lost.set_exception(error)
        return lost


def work(track: str, spec: Spec, home: Path, server: str | None) -> Record:
    """One run, in a worker: adapt, score, write the files, add the row."""
    record = run(bench(track, home), spec, home)
    Store(home, server=server).add(record)
    return record


@cache
def bench(track: str, home: Path) -> Bench:
    """The track made ready, once a process."""
    return Bench(find_track(track), home)


def follow_parent() -> None:
    """Leave with the parent, however it dies; and use one thread, for there is one process a core."""
    import torch

    torch.set_num_threads(1)
    parent = parent_process()
    assert parent is not None

    def wait() -> None:
        connection.wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
