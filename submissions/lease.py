"""Who scores a submission: a worker whose heart beats, and the try at scoring that it holds.

A worker whose heart has not beaten for its lease may be dead; then another takes the submission over, by the next try.
"""

import errno
import json
import os
import shutil
import socket
import uuid
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from razorbench.harness.measure.record import SCHEMA, Torn
from razorbench.submissions import queue
from razorbench.submissions.queue import End, Status, Submission

LEASE = 60.0
"""Seconds without a heartbeat after which another worker takes a submission over."""
CRASHES = 3
"""Scoring may crash so often; then the submission has failed."""
LOSSES = 20
"""So many workers may die over a submission; then it has failed, too, for it may be what kills them."""


class Worker:
    """One process that scores, as others see it: a file whose time is its heartbeat."""

    def __init__(self, home: Path, lease: float = LEASE):
        """`lease` seconds without a heartbeat, and its work is taken over."""
        self.home, self.lease = Path(home), lease
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self.path = self.home / "workers" / f"{self.name}.json"
        self.seconds: dict[str, list[float]] = {}
        self.known: dict[str, Submission | None] = {}

    def tell(self) -> None:
        """Write what others may know of this worker."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        means = {track: sum(took) / len(took) for track, took in self.seconds.items()}
        fresh = self.path.with_name(f".{self.path.name}.{uuid.uuid4().hex}")
        fresh.write_text(json.dumps({"name": self.name, "lease": self.lease, "seconds": means, "schema": SCHEMA}))
        fresh.replace(self.path)

    def beat(self) -> float:
        """Show that this worker lives; the file system's time."""
        try:
            os.utime(self.path)
        except FileNotFoundError:
            self.tell()
        return self.path.stat().st_mtime

    def gone(self) -> None:
        """Take the file away."""
        self.path.unlink(missing_ok=True)

    def waiting(self) -> list[Submission]:
        """What has not ended, oldest first."""
        return queue.waiting(self.home, self.known)

    def next(self, tracks: Collection[str] | None = None) -> Status | None:
        """The oldest submission that waits for a worker, of some tracks; None: there is none now."""
        clock = self.beat()
        for sub in self.waiting():
            if tracks is not None and sub.track not in tracks:
                continue
            try:
                status = queue.status(self.home, sub, clock)
            except Torn:  # `torn` tells of it
                self.known[sub.id] = None
                continue
            if status.state != "queued":
                continue
            if status.crashes >= CRASHES or status.losses >= LOSSES:
                give_up(self.home, sub)
                continue
            return status
        return None

    def take(self, status: Status) -> "Try | None":
        """Begin the next try at a submission that stood so; None where another worker was faster, however long ago."""
        folder = queue.root(self.home) / status.submission.id / "attempts" / str(status.tries + 1)
        fresh = folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")
        fresh.mkdir(parents=True)
        try:
            told = {"worker": self.name, "lease": self.lease, "began_at": queue.now()}
            (fresh / "lease.json").write_text(json.dumps(told))
            fresh.rename(folder)  # a folder that holds something is not replaced, and each of these holds a lease
        except OSError as error:
            shutil.rmtree(fresh, ignore_errors=True)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            return None
        begun = Try(self.home, status.submission, folder)
        return None if begun.over else begun


@dataclass(frozen=True)
class Try:
    """One worker's try at scoring a submission."""

    home: Path
    submission: Submission
    folder: Path

    @property
    def over(self) -> bool:
        """Whether it is not this worker's any more: the submission has ended, or another worker took it over."""
        here = queue.root(self.home) / self.submission.id
        return (here / "end.json").exists() or (here / "attempts" / str(int(self.folder.name) + 1)).exists()

    @property
    def log(self) -> Path:
        """What scoring wrote to its standard output and error."""
        return self.folder / "log.txt"

    def beat(self) -> None:
        """Show that the work goes on."""
        os.utime(self.folder / "lease.json")

    def finish(self, end: End) -> bool:
        """End the submission; False where it had ended already."""
        return queue.finish(self.home, self.submission, end)

    def stop(self, state: str, reason: str, worker: str) -> None:
        """End this try alone. After so many crashes the submission has failed."""
        shutil.rmtree(self.folder / "records", ignore_errors=True)
        queue.once(self.folder / "end.json", End(state, reason, worker=worker))
        if queue.status(self.home, self.submission).crashes >= CRASHES:
            give_up(self.home, self.submission)


def give_up(home: Path, sub: Submission) -> None:
    """A submission that crashes scoring, or kills its workers, has failed."""
    ends = [end for folder in queue.tries(home, sub.id) if (end := queue.try_end(folder))]
    crashed = [end.reason for end in ends if end.state == "crashed"]
    if len(crashed) >= CRASHES:
        reason = f"scoring crashed {len(crashed)} times, the last time so: {crashed[-1]}"
    else:
        reason = f"{LOSSES} workers died while they scored it"
    queue.finish(home, sub, End("failed", reason))
