"""A worker: takes what waits, has it scored in a confined process, says how it ended. It may be killed anywhere."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from harness import record as records
from harness.store import Store
from harness.types import Refused
from submissions import queue
from submissions.confine import Crashed, Limits, Stopped, call
from submissions.queue import End, Submission, Try, Worker
from submissions.scoring import ready, score

LIMITS = Limits()
IDLE = 1.0
"""Seconds between looks at an empty queue."""


def work(
    store: Store,
    *,
    drain: bool = False,
    lease: float = queue.LEASE,
    limits: Limits = LIMITS,
    tell: Callable[[Submission, End], Any] = lambda sub, end: None,
) -> dict[str, str]:
    """Score what waits in the store's home until interrupted, or with `drain` until nothing is left unscored.

    `tell(submission, end)` is called after each. Returns why tracks could not be scored here, by track. OSError where
    the disk is full: then it is the machine that failed, and no submission.
    """
    home, worker = store.home, Worker(store.home, lease)
    unable: dict[str, str] = {}
    with sigterm():
        store.reconcile()
        try:
            while True:
                tracks = {sub.track for sub in worker.waiting()} - set(unable)
                if drain and not tracks:
                    return unable
                sub = worker.next(tracks)
                if sub is None:
                    time.sleep(min(IDLE, lease / 4))
                    continue
                try:
                    worker.tell()
                    ready(sub.track, home)  # before the claim, for it may take minutes
                except Refused as error:
                    unable[sub.track] = str(error)
                    continue
                begun = worker.claim(sub)
                if begun and (end := scored(store, worker, begun, limits)):
                    tell(sub, end)
        finally:
            worker.gone()


def scored(store: Store, worker: Worker, begun: Try, limits: Limits) -> End | None:
    """How a try went; None where it was taken over, or the submission retracted, meanwhile."""
    sub, home, start = begun.submission, store.home, time.monotonic()

    def keep_on() -> bool:
        begun.beat()
        worker.beat()
        return not begun.over

    try:
        ids = call(
            score,
            home,
            sub,
            limits=limits,
            writable=[home / "records", begun.folder],
            log=begun.log,
            keep_on=keep_on,
            every=min(1.0, worker.lease / 6),
        )
        for id in ids:
            keep_on()
            store.add(records.read(records.folder(home, id)))
        seconds = time.monotonic() - start
        worker.seconds[sub.track] = [*worker.seconds.get(sub.track, []), seconds][-20:]
        end = End("scored", records=tuple(ids), worker=worker.name, seconds=seconds)
        return end if begun.finish(end) else None
    except Stopped:
        return None
    except Refused as error:  # it would be refused again
        end = End("failed", str(error), worker=worker.name)
        return end if begun.finish(end) else None
    except Crashed as error:
        begun.stop("crashed", str(error), worker.name)
        return queue.ended(home, sub.id) or End("crashed", str(error), worker=worker.name)
    except BaseException:
        with suppress(OSError):  # as when the disk is full; then its lease runs out
            begun.stop("released", "its worker was stopped", worker.name)
        raise


@contextmanager
def sigterm() -> Iterator[None]:
    """A polite end is an interrupt: what is begun is given back."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def log_of(home: Path, sub: Submission, lines: int = 20) -> str:
    """The end of the log of the last try."""
    folders = queue.tries(home, sub.id)
    path = folders[-1] / "log.txt" if folders else None
    if not path or not path.exists():
        return ""
    return "\n".join(path.read_text(errors="replace").splitlines()[-lines:])
