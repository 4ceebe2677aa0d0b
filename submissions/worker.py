"""A worker: takes what waits, has it scored in a confined process, says how it ended. It may be killed anywhere."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.harness.measure import record as records
from razorbench.harness.measure.record import Record
from razorbench.harness.store.database import Store
from razorbench.submissions import queue
from razorbench.submissions.confine import Crashed, Limits, Stopped, call
from razorbench.submissions.lease import LEASE, Try, Worker
from razorbench.submissions.queue import End, Submission
from razorbench.submissions.scoring import handed, lanes, ready, score

LIMITS = Limits()
IDLE = 1.0
"""Seconds between looks at an empty queue."""
AGAIN = 300.0
"""Seconds after which a track is tried again that could not be scored here."""
NEWS = 60.0
"""Seconds of scoring after which one may want to know that it goes on."""
PATIENCE = 60.0
"""Seconds in which a server may still come to see the files of a record."""


def work(
    store: Store,
    *,
    drain: bool = False,
    lease: float = LEASE,
    limits: Limits = LIMITS,
    tell: Callable[[Submission, End], Any] = lambda sub, end: None,
    say: Callable[[str], Any] = lambda sentence: None,
) -> dict[str, str]:
    """Score what waits in the store's home until interrupted, or with `drain` until nothing is left unscored.

    `tell(submission, end)` is called after each, `say` with what else a person may want to know. Returns why tracks
    could not be scored here, by track; such a track is tried again after a while. OSError where the disk is full and
    StoreError where the store does not take a row: then it is the machine that failed, and no submission.
    """
    home, worker = store.home, Worker(store.home, lease)
    unable: dict[str, tuple[str, float]] = {}
    with sigterm():
        worker.tell()
        try:
            with beating(lease, worker.beat):
                store.reconcile()
            for sentence in [*store.torn(), *queue.torn(home)]:
                say(f"left out: {sentence}")
            while True:
                barred = {track for track, (_, when) in unable.items() if time.monotonic() - when < AGAIN}
                tracks = {sub.track for sub in worker.waiting()} - barred
                if drain and not tracks:
                    return {track: why for track, (why, _) in unable.items()}
                status = worker.next(tracks)
                if status is None:
                    time.sleep(min(IDLE, lease / 4))
                    continue
                track = status.submission.track
                try:
                    with beating(lease, worker.beat):
                        ready(track, home)  # before it takes the submission, for this may last minutes
                except Refused as error:
                    unable[track] = str(error), time.monotonic()
                    say(f"{track} cannot be scored here: {error}")
                    continue
                unable.pop(track, None)
                begun = worker.take(status)
                if begun:
                    sub, more = status.submission, len(worker.waiting()) - 1
                    say(f"{sub.name} ({sub.id}) is begun; {more} more wait")
                    if end := scored(store, worker, begun, limits, say):
                        tell(sub, end)
        finally:
            worker.gone()


def scored(store: Store, worker: Worker, begun: Try, limits: Limits, say: Callable[[str], Any]) -> End | None:
    """How a try went; None where it was taken over, or the submission retracted, meanwhile."""
    start = time.monotonic()
    try:
        end = made(store.home, worker, begun, limits, say)
        if end is None or end.state != "scored":
            return end
        with beating(worker.lease, worker.beat, begun.beat):
            if not keep(store, begun, end):
                return None
        seconds = time.monotonic() - start
        track = begun.submission.track
        worker.seconds[track] = [*worker.seconds.get(track, []), seconds][-20:]
        end = replace(end, seconds=seconds)
        if begun.finish(end):
            return end
        if (last := queue.ended(store.home, begun.submission.id)) and last.state == "retracted":
            for id in end.records:  # its rows came a moment too late
                store.decide(id, "retracted", last.reason)
        return None
    except BaseException:
        with suppress(OSError):  # as when the disk is full; then its lease runs out
            begun.stop("released", "its worker was stopped", worker.name)
        raise


def made(home: Path, worker: Worker, begun: Try, limits: Limits, say: Callable[[str], Any]) -> End | None:
    """Have the records made, in the folder of the try. What is refused has failed, for it would be again."""
    sub, start, news = begun.submission, time.monotonic(), NEWS

    def keep_on() -> bool:
        nonlocal news
        if (seconds := time.monotonic() - start) > news:
            say(f"{sub.name} ({sub.id}) is being scored: {seconds:.0f} s")
            news += NEWS
        begun.beat()
        worker.beat()
        return not begun.over

    try:
        with lanes(sub.track, home) as workers:
            ids = call(
                handed,
                workers,
                score,
                home,
                sub,
                begun.folder,
                limits=limits,
                writable=[begun.folder],
                log=begun.log,
                keep_on=keep_on,
                every=min(1.0, worker.lease / 6),
            )
        return End("scored", records=tuple(ids), worker=worker.name)
    except Stopped:
        return None
    except Refused as error:
        end = End("failed", str(error), worker=worker.name)
        return end if begun.finish(end) else None
    except Crashed as error:
        begun.stop("crashed", str(error), worker.name)
        return queue.ended(home, sub.id) or End("crashed", str(error), worker=worker.name)


def keep(store: Store, begun: Try, end: End) -> bool:
    """Put the records of all seeds into the home and the store; False where the try is over."""
    if begun.over:
        return False
    for id in end.records:
        target = records.folder(store.home, id)
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            records.folder(begun.folder, id).rename(target)
        except OSError:
            if not target.exists():  # else it was there before, or another worker was faster
                raise
    records.sync(store.home / "records")
    for id in end.records:
        index(store, records.read(records.folder(store.home, id)))
    return not begun.over


def index(store: Store, record: Record) -> None:
    """Add a row; a server on another machine may see the files of the shared folder a little later."""
    deadline = time.monotonic() + (PATIENCE if store.server else 0)
    while True:
        try:
            store.add(record)
            return
        except Refused:
            if time.monotonic() >= deadline:
                raise
            time.sleep(1)


@contextmanager
def beating(lease: float, *beats: Callable[[], Any]) -> Iterator[None]:
    """Show life while something is done that may take long. Nothing may fork meanwhile."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(lease / 6):
            with suppress(OSError):
                for each in beats:
                    each()

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


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
