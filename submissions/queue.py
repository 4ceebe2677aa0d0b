"""The submissions of a home folder: what was brought, who is scoring it, and how it ended. All of it is files.

HOME/submissions/<id>/files/            the copy that passed the gate
HOME/submissions/<id>/submission.json   what it is; never changes
HOME/submissions/<id>/attempts/<n>/     one try at scoring it: lease.json, whose time is the worker's heartbeat, the
                                        records until all are made, the log, and end.json where it came to nothing
HOME/submissions/<id>/end.json          how it ended: written once
HOME/submissions/<id>/retracted.json    that it was taken back after that
HOME/workers/<name>.json                a worker, and its heartbeat

A try belongs to who puts its folder there, which one process alone can do, also on a folder that machines share. So
nothing needs a server, and whoever is killed leaves nothing that another worker would not go on with.
"""

import fcntl
import json
import os
import shutil
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from razorbench import Refused
from razorbench.harness.measure.record import SCHEMA, Torn, load, plain, sync
from razorbench.submissions.claim import ID, SEEDS, Claim, Data
from razorbench.submissions.copying import SEED, limit, take
from razorbench.submissions.gate import Reference, check


@dataclass(frozen=True)
class Submission:
    """What was brought and passed the gate. It never changes."""

    id: str
    name: str
    track: str
    kind: str
    """`full` or `lora`."""
    claim: Claim
    folders: tuple[str, ...]
    """Where each seed's weights lie in `files`, in the order of the claim's seeds."""
    weights: tuple[str, ...]
    """Digests of each seed's tensors."""
    digest: str
    """sha256 of the content, of which `id` is the beginning."""
    bytes: int
    overlap: int | None
    """Declared training questions that the track scores with; None: none were declared."""
    submitted_at: str
    """ISO 8601, UTC."""
    trained_on: str = ""
    """The model that its adapters are said to be trained on, by its maker's name or path for it; empty: not said."""
    schema: int = SCHEMA

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seed of each folder; None where it is not said."""
        return self.claim.seeds or (None,)


@dataclass(frozen=True)
class End:
    """How a submission ended: scored, failed or retracted. Of a try: crashed, refused or released."""

    state: str
    reason: str = ""
    records: tuple[str, ...] = ()
    """Ids of the records, one a seed."""
    worker: str = ""
    seconds: float | None = None
    """Of scoring."""
    ended_at: str = field(default_factory=lambda: now())
    schema: int = SCHEMA


@dataclass(frozen=True)
class Status:
    """Where a submission stands."""

    submission: Submission
    state: str
    """queued, scoring, scored, failed or retracted."""
    end: End | None = None
    tries: int = 0
    crashes: int = 0
    losses: int = 0
    """Tries whose worker died."""
    worker: str = ""
    """Who scores it."""
    beat: float | None = None
    """Seconds since that worker's last heartbeat."""


def now() -> str:
    """The time, ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def root(home: Path) -> Path:
    """Where the submissions lie."""
    return Path(home) / "submissions"


# --- coming in --------------------------------------------------------------------------------------------------------


def admit(
    home: Path,
    source: Path,
    reference: Reference,
    complete: Callable[[Path], Any] = lambda copy: None,
    evaluated: Callable[[], Collection[str]] = tuple,
    passing: Callable[[str], Any] = lambda name: None,
    trained: Callable[[str], Any] = lambda base: None,
) -> Submission:
    """Copy a folder in, let it through the gate, and queue it. Returns the submission.

    Refused if the gate does, or if the same weights are there already; nothing of it is left then.

    `complete(copy)` may add to the copy before it is checked; `evaluated()` gives the fingerprints of the track's items
    and is called where training questions are declared. `passing` hears the name of what is passed over, and `trained`
    the model that adapters say they were trained on, which it may refuse.
    """
    there = root(home)
    there.mkdir(parents=True, exist_ok=True)
    fresh = there / f".new-{uuid.uuid4().hex}"
    with ExitStack() as ours:
        with locked(there):  # or another would sweep ours away before it is locked
            for left in there.glob(".new-*"):
                with suppress(OSError), locked(left, wait=False):  # nobody is at it: it is a killed one's
                    shutil.rmtree(left)
            fresh.mkdir()
            ours.callback(shutil.rmtree, fresh, ignore_errors=True)
            ours.enter_context(locked(fresh))
        seeds = min(sum(SEED.fullmatch(entry.name) is not None for entry in os.scandir(source)), SEEDS)
        take(source, fresh / "files", limit(reference.bytes, seeds), passing)
        complete(fresh / "files")
        passed = check(fresh / "files", reference)
        for base in passed.trained_on:
            trained(base)
        asked = passed.fingerprints & set(evaluated()) if passed.fingerprints else None
        with locked(there):
            for sub in brought(home):
                same = sub.track == reference.track and {*sub.weights} & {*passed.weights}
                if same and not withdrawn(home, sub):
                    told = f"`razorbench show {sub.id}` tells how it went; retract that to bring it again"
                    raise Refused(f"these are the weights of {sub.name!r}, which were submitted before: {told}")
            sub = Submission(
                id=free_id(home, passed.digest),
                name=passed.claim.name,
                track=passed.claim.track,
                kind=passed.kind,
                claim=passed.claim,
                folders=passed.folders,
                weights=passed.weights,
                digest=passed.digest,
                bytes=sum(path.stat().st_size for path in (fresh / "files").rglob("*") if path.is_file()),
                overlap=None if asked is None else len(asked),
                submitted_at=now(),
                trained_on=words_of(", ".join(passed.trained_on)),
            )
            once(fresh / "submission.json", sub)
            for path in (*fresh.rglob("*"), fresh):
                sync(path)
            fresh.rename(there / sub.id)
            sync(there)
        return sub


def words_of(text: str) -> str:
    """What a stranger wrote without a control character, and not too long for a line."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)[:200]


def free_id(home: Path, digest: str) -> str:
    """The beginning of a content's hash; where that was brought before and withdrawn, of a hash that counts on."""
    id, times = digest[:16], 0
    while (root(home) / id).exists():
        times += 1
        id = sha256(f"{digest} {times}".encode()).hexdigest()[:16]
    return id


def withdrawn(home: Path, sub: Submission) -> bool:
    """Whether a submission has no row, or none any more, so that its weights may be brought again."""
    end = ended(home, sub.id)
    return end is not None and end.state != "scored"


@contextmanager
def locked(folder: Path, wait: bool = True) -> Iterator[None]:
    """Alone at a folder; BlockingIOError if somebody else is, unless we `wait`."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)


def once(path: Path, value: Any) -> bool:
    """Write a dataclass as JSON, whole, unless the file exists; whether it was written."""
    fresh = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        fresh.write_text(json.dumps(plain(asdict(value)), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        sync(fresh)
        os.link(fresh, path)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    sync(path.parent)
    return True


# --- what there is ----------------------------------------------------------------------------------------------------


def read(home: Path, id: str) -> Submission:
    """The submission of that id. Refused if there is none, or its file is torn."""

    def build(row: Mapping[str, Any]) -> Submission:
        told = row["claim"]
        data = tuple(Data(**each) for each in told["data"])
        claim = Claim(**{**told, "seeds": tuple(told["seeds"]), "data": data})
        return Submission(**{**row, "claim": claim, **{name: tuple(row[name]) for name in ("folders", "weights")}})

    return load(root(home) / id / "submission.json", build, "its folder")


def ids(home: Path) -> list[str]:
    """Ids of all that was brought."""
    try:
        return sorted(entry.name for entry in os.scandir(root(home)) if ID.fullmatch(entry.name))
    except FileNotFoundError:
        return []


def brought(home: Path) -> Iterator[Submission]:
    """All that was brought, but what is torn."""
    for id in ids(home):
        with suppress(Refused):
            yield read(home, id)


def torn(home: Path) -> list[str]:
    """Why folders cannot be read that should be submissions, one sentence each."""
    sentences = []
    for id in ids(home):
        try:
            status(home, read(home, id))
        except Refused as error:
            sentences.append(str(error))
    return sentences


def ended(home: Path, id: str) -> End | None:
    """How a submission ended, the last word on it; None: it has not."""
    for name in ("retracted.json", "end.json"):
        if (path := root(home) / id / name).exists():
            return load(path, lambda row: End(**{**row, "records": tuple(row["records"])}))
    return None


def waiting(home: Path, known: dict[str, Submission | None] | None = None) -> list[Submission]:
    """What has not ended, oldest first. Who asks again and again gives `known`, so that nothing is read twice."""
    known = {} if known is None else known
    for id in ids(home):
        if known.get(id, id) is None:
            continue
        if (root(home) / id / "end.json").exists():
            known[id] = None
        elif id not in known:
            with suppress(Refused):  # torn; it may be restored
                known[id] = read(home, id)
    return sorted((sub for sub in known.values() if sub), key=lambda sub: (sub.submitted_at, sub.id))


def tries(home: Path, id: str) -> list[Path]:
    """The folders of the tries at scoring a submission, first to last."""
    there = root(home) / id / "attempts"
    folders = there.iterdir() if there.exists() else ()
    return sorted((path for path in folders if path.name.isdigit()), key=lambda path: int(path.name))


def status(home: Path, sub: Submission, clock: float | None = None) -> Status:
    """Where a submission stands, by a clock of the file system's time (this machine's, if not given). Torn if a file
    of it cannot be read.
    """
    folders = tries(home, sub.id)
    ends = [try_end(folder) for folder in folders]
    crashes, losses = sum(end is not None and end.state == "crashed" for end in ends), ends.count(None)
    if end := ended(home, sub.id):
        return Status(sub, end.state, end, len(folders), crashes, losses)
    if not folders or ends[-1]:
        return Status(sub, "queued", None, len(folders), crashes, losses)
    lease, beat = read_lease(folders[-1] / "lease.json")
    age = (time.time() if clock is None else clock) - beat
    if age > lease["lease"]:
        return Status(sub, "queued", None, len(folders), crashes, losses)
    return Status(sub, "scoring", None, len(folders), crashes, losses - 1, lease["worker"], max(age, 0.0))


def read_lease(file: Path) -> tuple[dict[str, Any], float]:
    """What a worker wrote when it began a try, and the time of its last heartbeat. Torn if it cannot be read."""
    try:
        lease = json.loads(file.read_text())
        return {"worker": str(lease["worker"]), "lease": float(lease["lease"])}, file.stat().st_mtime
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Torn(f"{file} is torn ({type(error).__name__}: {error}): remove its folder") from error


def try_end(folder: Path) -> End | None:
    """How a try ended; None: it goes on, or its worker died."""
    path = folder / "end.json"
    return load(path, lambda row: End(**{**row, "records": ()})) if path.exists() else None


def find(home: Path, key: str) -> Submission | None:
    """The submission with this id, or with this name; None: there is none. Refused if several have the name.

    What has the form of an id is no name, or one would act on another's row by its record's id.
    """
    if ID.fullmatch(key):
        return read(home, key) if (root(home) / key / "submission.json").exists() else None
    named = [sub for sub in brought(home) if sub.name == key]
    if len(named) > 1:
        raise Refused(f"{key!r} names {len(named)} submissions: give an id ({', '.join(sub.id for sub in named[:8])})")
    return named[0] if named else None


# --- how it ends ------------------------------------------------------------------------------------------------------


def finish(home: Path, sub: Submission, end: End) -> bool:
    """End a submission; False where it had ended already."""
    return once(root(home) / sub.id / "end.json", end)


def mark(home: Path, sub: Submission, end: End) -> bool:
    """Say of a scored submission that it is retracted, when its rows are; False where that is said already."""
    return once(root(home) / sub.id / "retracted.json", end)


# --- who is at work, and how long it takes ----------------------------------------------------------------------------


def live(home: Path) -> list[dict[str, Any]]:
    """The workers whose heart beats, with `age`, the seconds since it last did."""
    workers = []
    for path in sorted((Path(home) / "workers").glob("[!.]*.json")):
        with suppress(FileNotFoundError, Refused):
            told, age = load(path, dict), time.time() - path.stat().st_mtime
            if age <= told["lease"]:
                workers.append({**told, "age": max(age, 0.0)})
    return workers


def estimates(home: Path, queued: Iterable[Submission]) -> dict[str, float | None]:
    """Seconds until each of the queued submissions is begun, in order; None where no living worker can tell."""
    workers = live(home)
    known: dict[str, list[float]] = {}
    for worker in workers:
        for track, seconds in worker["seconds"].items():
            known.setdefault(track, []).append(seconds)
    before: float | None = 0.0
    starts: dict[str, float | None] = {}
    for sub in queued:
        starts[sub.id] = before / len(workers) if workers and before is not None else None
        took = known.get(sub.track)
        before = before + sum(took) / len(took) if took and before is not None else None
    return starts
