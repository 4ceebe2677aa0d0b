"""Many submissions, many workers, and one who kills them: is each scored once, and does everything agree?

    python -m tests.load_queue --submissions 1000 --bringers 8 --workers 4 --every 3 [--served]

A process that has imported everything forks bringers and workers, kills a random worker every few seconds with SIGKILL,
if anything was scored meanwhile, and starts another in its place. With `--served` the store is behind a Quack server,
which is killed, too.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file

from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.measure.record import all_records
from razorbench.harness.store import quack, server
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.submissions import claim as claims
from razorbench.submissions import queue
from razorbench.submissions import source as sources
from razorbench.submissions.claim import Claim
from razorbench.submissions.confine import Limits
from razorbench.submissions.lease import Worker
from razorbench.submissions.worker import work
from tests.toys import SPELLING, TOYS, Speller

ADDRESS = "quack:localhost:9661"
COLUMNS = "id, entry, name, track, method, checkpoint, gain, retention, scored_at"


def fork(work: Callable[[], object], log: Path) -> int:
    """Run a function in a child of this process, its output in a file; the child's process id."""
    if pid := os.fork():
        return pid
    code = 1
    try:
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(file, 1)
        os.dup2(file, 2)
        work()
        code = 0
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", flush=True)
    finally:
        os._exit(code)


def bring(home: Path, numbers: range, scratch: Path) -> None:
    """Submit weights of one's own, one after another."""
    reference = sources.reference(SPELLING, home)
    for number in numbers:
        place = scratch / str(number)
        place.mkdir(parents=True)
        noise = torch.randn(Speller().logits.shape, generator=torch.Generator().manual_seed(number))
        save_file({"logits": Speller().logits.detach() + noise}, place / "model.safetensors")
        claim = Claim(SPELLING.id, f"number {number}", "sft", "CC0-1.0", settings={"lr": 0.1})
        (place / claims.FILE).write_text(claims.write(claim))
        queue.admit(home, place, reference)
        shutil.rmtree(place)


def run(submissions: int, bringers: int, workers: int, every: float, served: bool, home: Path, seed: int = 0) -> dict:
    """Do it, check it, and return figures. AssertionError if anything was lost, doubled, or disagrees."""
    for kind, made in TOYS.items():
        REGISTERED[kind].update(made)
    TRACKS[SPELLING.id] = SPELLING
    torch.set_num_threads(1)
    base_policy(SPELLING.base, home)
    rng, log, lease = random.Random(seed), home / "load.log", 2.0
    address = ADDRESS if served else None
    if served:
        os.environ.setdefault(quack.TOKEN, "0123456789abcdef0123456789abcdef")
    started = time.monotonic()
    share = -(-submissions // bringers)
    numbers = [range(start, min(start + share, submissions)) for start in range(0, submissions, share)]
    bringing = [fork(lambda some=some: bring(home, some, home / "scratch"), log) for some in numbers]

    def serving() -> int:
        return fork(lambda: server.serve(home, ADDRESS, quack.token()), log)

    def working() -> int:
        return fork(lambda: work(Store(home, server=address), drain=True, lease=lease, limits=Limits(2.0, 60)), log)

    serves = serving() if served else 0
    for pid in bringing:
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, log.read_text()
    brought_in = time.monotonic() - started
    living = {working() for _ in range(workers)}
    kills, server_kills, killed_at, done = 0, 0, time.monotonic(), 0
    while living:
        for pid in list(living):
            gone, status = os.waitpid(pid, os.WNOHANG)
            if gone:
                living.remove(pid)
                assert os.waitstatus_to_exitcode(status) == 0, log.read_text()
        if living and time.monotonic() - killed_at > every and ended(home) > done:  # else a busy machine gets nowhere
            victim = rng.choice(sorted(living))
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            living.remove(victim)
            living.add(working())
            kills, killed_at, done = kills + 1, time.monotonic(), ended(home)
            if served and kills % 5 == 0:
                os.kill(serves, signal.SIGKILL)
                os.waitpid(serves, 0)
                serves, server_kills = serving(), server_kills + 1
        time.sleep(0.02)
    seconds = time.monotonic() - started - brought_in
    if served:
        os.kill(serves, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(serves, 0)[1]) == 0, log.read_text()
    return {
        "submissions": submissions,
        "brought in, s": round(brought_in, 1),
        "worked off, s": round(seconds, 1),
        "workers killed": kills,
        "servers killed": server_kills,
        **agree(home, submissions),
    }


def ended(home: Path) -> int:
    """How many submissions have come to their end."""
    return sum(queue.ended(home, id) is not None for id in queue.ids(home))


def agree(home: Path, submissions: int) -> dict:
    """Whether the queue, the record files, the database and a rebuilt one say the same."""
    ids, records = queue.ids(home), all_records(home)
    ends = [queue.ended(home, id) for id in ids]
    states = Counter(end.state if end else "unfinished" for end in ends)
    assert states == {"scored": submissions}, states
    assert Worker(home).next() is None
    by_submission = Counter(record.provenance["submission"]["id"] for record in records)
    assert by_submission == dict.fromkeys(ids, 1)
    assert sorted(id for end in ends if end for id in end.records) == sorted(record.id for record in records)
    rows = Store(home).rows(f"SELECT {COLUMNS} FROM submissions ORDER BY id")
    assert [row["id"] for row in rows] == sorted(record.id for record in records)
    tables = ("scores", "drifts", "curve")
    counted = {table: Store(home).rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}
    assert counted == {table: sum(len(getattr(record, table)) for record in records) for table in tables}
    assert Store(home).rebuild() == submissions
    assert Store(home).rows(f"SELECT {COLUMNS} FROM submissions ORDER BY id") == rows
    assert counted == {table: Store(home).rows(f"SELECT count(*) AS n FROM {table}")[0]["n"] for table in tables}
    left = [path for path in (home / "records").glob(".*") if path.is_dir()]
    tries = [len(queue.tries(home, id)) for id in ids]
    return {
        "tries": sum(tries),
        "taken over": sum(tried > 1 for tried in tries),
        "half-written records left": len(left),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--submissions", type=int, default=1000)
    parser.add_argument("--bringers", type=int, default=8)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--every", type=float, default=3.0, help="seconds between kills")
    parser.add_argument("--served", action="store_true")
    told = vars(parser.parse_args())
    with tempfile.TemporaryDirectory(prefix="razorbench-load-") as place:
        print(json.dumps(run(**told, home=Path(place)), indent=1))


if __name__ == "__main__":
    sys.exit(main())
