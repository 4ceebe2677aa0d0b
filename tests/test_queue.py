"""Submissions from the queue to the board: scored once each, whoever dies on the way."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from razorbench import Refused
from razorbench.harness.core.questions import fingerprints, of_text
from razorbench.harness.core.registry import REGISTERED
from razorbench.harness.measure.record import all_records, folder
from razorbench.harness.runs.sweep import plan, sweep
from razorbench.harness.store import results
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.submissions import claim as claims
from razorbench.submissions import lease as leases
from razorbench.submissions import queue, scoring, source
from razorbench.submissions import worker as workers
from razorbench.submissions.claim import Claim, Data
from razorbench.submissions.confine import Limits, call
from razorbench.submissions.lease import Try, Worker
from razorbench.submissions.queue import End, Submission
from razorbench.submissions.verify import verify
from tests.toys import SPELLING, Dialogue, Speller, put_base

LIMITS = Limits(memory=2.0, seconds=60)
CRASHING, ODD = 666.0, 777.0
"""Logits that make `Fragile` go down, and refuse."""


class Fragile(Speller):
    """A speller that some weights bring down, as a bug in native code would."""

    def load(self, path: Path) -> None:
        first = float(load_file(path)["logits"][0, 0, 0])
        if first == CRASHING:
            os.kill(os.getpid(), signal.SIGSEGV)
        if first == ODD:
            raise Refused("these weights are odd; bring even ones")
        super().load(path)

    def copy(self) -> "Fragile":
        twin = super().copy()
        twin.__class__ = Fragile
        return twin  # type: ignore[return-value]


TRACK = replace(
    SPELLING, id="spelling-fragile-v1", base=replace(SPELLING.base, id="fragile-v1", agent="fragile-v1"), items=60
)

Bring = Callable[..., Submission]


@pytest.fixture
def track(toys, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The track of `Fragile`, made ready anew for each home."""
    monkeypatch.setitem(REGISTERED["agent"], "fragile-v1", Fragile)
    monkeypatch.setitem(TRACKS, TRACK.id, TRACK)
    scoring.ready.cache_clear()
    yield TRACK.id
    scoring.ready.cache_clear()


@pytest.fixture
def home(track: str, tmp_path: Path) -> Path:
    put_base(TRACK.base, tmp_path / "home")
    return tmp_path / "home"


def logits(seed: int) -> torch.Tensor:
    base = Speller().logits.detach()
    return base + torch.randn(base.shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def bring(home: Path, tmp_path: Path) -> Bring:
    """Submits weights under a name; several seeds in folders of their own."""

    def bring(name: str = "one", *weights: torch.Tensor, evaluated: Collection[str] = (), **claim) -> Submission:
        place = tmp_path / f"brought-{len(list(tmp_path.iterdir()))}"
        seeds = tuple(range(len(weights))) if len(weights) > 1 else ()
        for seed, each in enumerate(weights or (logits(0),)):
            there = place / f"seed-{seed}" if seeds else place
            there.mkdir(parents=True)
            save_file({"logits": each}, there / "model.safetensors")
        for file, text in claim.pop("files", {}).items():
            (place / file).write_text(text)
        said = {"track": TRACK.id, "name": name, "method": "sft", "licence": "CC0-1.0", "seeds": seeds, **claim}
        (place / claims.FILE).write_text(claims.write(Claim(**said)))
        return queue.admit(home, place, source.reference(TRACK, home), evaluated=lambda: evaluated)

    return bring


def drain(
    home: Path, limits: Limits = LIMITS, lease: float = 10.0, say: Callable[[str], object] = lambda sentence: None
) -> list[End]:
    """Score all that waits; how each ended, in order."""
    ends: list[End] = []
    how = {"drain": True, "lease": lease, "limits": limits, "say": say}
    assert workers.work(Store(home), tell=lambda sub, end: ends.append(end), **how) == {}
    return ends


# --- the way of a submission ------------------------------------------------------------------------------------------


def test_submission_is_scored_and_has_its_row(home, bring):
    sub = bring("mine", settings={"lr": 0.1}, reported={"gain": 12.0}, contact="me@example.org")
    assert queue.status(home, sub).state == "queued"
    (end,) = drain(home)
    assert (end.state, queue.status(home, sub).state) == ("scored", "scored")
    run = Store(home).submission("mine")
    assert (run["id"],) == end.records
    assert (run["track"], run["method"], run["settings"]) == (TRACK.id, "sft", {"lr": 0.1})
    told = run["provenance"]["submission"]
    assert (told["id"], told["claim"]["reported"], told["overlap"]) == (sub.id, {"gain": 12.0}, None)
    assert "example.org" not in (folder(home, run["id"]) / "record.json").read_text()


def test_score_is_that_of_the_same_weights_scored_by_hand(home, bring):
    bring("mine", logits(5))
    drain(home)
    policy = Speller()
    with torch.no_grad():
        policy.logits.copy_(logits(5))
    best = policy.logits.argmax(-1)
    words = ["".join("abc"[letter] for letter in row[:n]) for row, n in zip(best.tolist(), policy.lengths, strict=True)]
    wanted = ("a", "b", "ca", "c")
    asked = Dialogue().instances("test").first(60).data["questions"]
    share = sum(all(words[q] == wanted[q] for q in row) for row in asked.tolist()) / 60
    (score,) = [row for row in Store(home).scores(Store(home).submission("mine")["id"]) if row["role"] == "new"]
    assert score["adapted"] == pytest.approx(100 * share)


@pytest.mark.slow
def test_seeds_of_a_submission_are_one_entry(home, bring):
    bring("mine", logits(1), logits(2), logits(3))
    bring("theirs", logits(4))
    drain(home)
    entries = {entry.name: entry for entry in results.table(Store(home), TRACK.id)}
    assert {name: entry.seeds for name, entry in entries.items()} == {"mine": 3, "theirs": 1}
    assert sorted(run["seed"] for run in entries["mine"].runs) == [0, 1, 2]


def test_queue_is_worked_off_oldest_first(home, bring):
    names = [bring(name, logits(seed)).name for seed, name in enumerate(("c", "a", "b"))]
    assert [sub.name for sub in queue.waiting(home)] == names
    drain(home)
    rows = sorted(
        all_records(home), key=lambda record: queue.read(home, record.provenance["submission"]["id"]).submitted_at
    )
    assert [row.name for row in rows] == names


def test_same_weights_are_brought_once(home, bring):
    sub = bring("mine")
    for name in ("mine", "another name"):
        with pytest.raises(Refused, match=f"the weights of 'mine', .* `razorbench show {sub.id}`"):
            bring(name)
    assert len(queue.ids(home)) == 1


def test_weights_that_were_taken_back_may_come_again(home, bring):
    sub = bring("mine")
    assert queue.finish(home, sub, End("retracted", "a wrong name"))
    again = bring("mine")
    assert again.id != sub.id
    drain(home)
    end = queue.ended(home, again.id)
    assert end is not None
    assert queue.mark(home, again, End("retracted", "a wrong number", end.records))
    third = bring("mine")
    assert len({sub.id, again.id, third.id}) == 3
    assert [queue.status(home, each).state for each in (sub, again, third)] == ["retracted", "retracted", "queued"]


def test_what_a_killed_bringer_left_is_swept_and_what_another_is_bringing_stays(home, bring):
    queue.root(home).mkdir()
    dead, busy = (queue.root(home) / f".new-{name}" for name in ("dead", "busy"))
    for left in (dead, busy):
        (left / "files").mkdir(parents=True)
    with queue.locked(busy):
        bring("mine")
        assert (dead.exists(), busy.exists()) == (False, True)


def test_torn_submission_is_told_and_stops_nobody(home, bring):
    sub = bring("mine", logits(1))
    (queue.root(home) / sub.id / "submission.json").write_text("{")
    (queue.root(home) / "0123456789abcdef").mkdir()
    (queue.root(home) / "notes").mkdir()
    bring("other", logits(2))
    assert [end.state for end in drain(home)] == ["scored"]
    assert len(queue.torn(home)) == 2
    assert [record.name for record in all_records(home)] == ["other"]


@pytest.mark.slow
@pytest.mark.parametrize("file", ["lease.json", "end.json"])
def test_torn_try_is_told_and_stops_nobody(home, bring, razorbench, file):
    sub = bring("mine", logits(1))
    tried = queue.root(home) / sub.id / "attempts" / "1"
    tried.mkdir(parents=True)
    (tried / file).write_text("{")
    bring("other", logits(2))
    said: list[str] = []
    assert [end.state for end in drain(home, say=said.append)] == ["scored"]
    (sentence,) = queue.torn(home)
    assert said[0] == f"left out: {sentence}"
    assert str(tried / file) in sentence
    listed = razorbench("queue", "--home", home, "--json").json
    assert (listed["submissions"], listed["torn"]) == ([], [sentence])
    shutil.rmtree(tried)  # as the sentence says
    assert queue.torn(home) == []
    assert [end.state for end in drain(home)] == ["scored"]


def test_refused_submission_leaves_nothing(home, bring):
    with pytest.raises(Refused, match=r"finite|NaN"):
        bring("mine", torch.full_like(logits(0), torch.nan))
    assert queue.ids(home) == []
    assert list(queue.root(home).iterdir()) == []


def test_declared_questions_that_are_evaluated_are_counted(home, bring):
    asked = list(fingerprints(Dialogue(), Dialogue().instances("test").first(60)))
    seen = {*asked[:3], of_text("something else")}
    sub = bring(
        "mine",
        data=(Data("some", fingerprints="train.hashes"),),
        files={"train.hashes": "".join(f"{one}\n" for one in sorted(seen))},
        evaluated=set(asked),
    )
    assert sub.overlap == len(set(asked[:3]))


# --- workers that die, stall and crash --------------------------------------------------------------------------------


def test_crashing_submission_fails_after_three_tries_with_its_log(home, bring):
    bad = logits(0)
    bad[0, 0, 0] = CRASHING
    sub = bring("bad", bad)
    bring("good", logits(1))
    assert [end.state for end in drain(home)] == ["crashed", "crashed", "failed", "scored"]
    status = queue.status(home, sub)
    assert (status.state, status.crashes, status.tries) == ("failed", 3, 3)
    assert status.end is not None
    assert "SIGSEGV" in status.end.reason
    assert "Segmentation fault" in workers.log_of(home, sub, lines=500)
    assert [record.name for record in all_records(home)] == ["good"]


def test_what_scoring_refuses_has_failed_at_once(home, bring):
    odd = logits(0)
    odd[0, 0, 0] = ODD
    sub = bring("odd", odd)
    (end,) = drain(home)
    assert (end.state, end.reason) == ("failed", "these weights are odd; bring even ones")
    assert queue.status(home, sub).tries == 1


@pytest.mark.slow
def test_scoring_that_takes_too_long_or_too_much_is_a_crash(home, bring, monkeypatch):
    bring("slow", logits(0))
    bring("large", logits(1))

    def score(home: Path, sub: Submission, into: Path) -> list[str]:
        if sub.name == "slow":
            time.sleep(60)
        return ["x" * (3 * 2**30)]

    monkeypatch.setattr(workers, "score", score)
    reasons = [end.reason for end in drain(home, Limits(memory=1.0, seconds=0.5)) if end.state == "failed"]
    assert ["longer than" in reason or "more than the 1 GiB" in reason for reason in reasons] == [True, True]
    assert "more than the 1 GiB" in reasons[1]


def test_worker_tells_what_it_begins_and_that_it_goes_on(home, bring, monkeypatch):
    one, other = bring("one", logits(1)), bring("other", logits(2))
    said: list[str] = []
    monkeypatch.setattr(workers, "NEWS", -1.0)

    def asked(*told, keep_on, **how):  # however fast the scoring is
        assert keep_on()
        return call(*told, keep_on=keep_on, **how)

    monkeypatch.setattr(workers, "call", asked)
    drain(home, say=said.append)
    begun = [line for line in said if "begun" in line]
    assert begun == [f"one ({one.id}) is begun; 1 more wait", f"other ({other.id}) is begun; 0 more wait"]
    assert any(line.startswith(f"one ({one.id}) is being scored: ") for line in said)


def test_dead_workers_submission_is_taken_over(home, bring):
    sub = bring("mine")
    dead = Worker(home, lease=5).take(queue.status(home, sub))
    assert dead is not None
    assert queue.status(home, sub).state == "scoring"
    assert Worker(home).next() is None
    past = time.time() - 6
    os.utime(dead.folder / "lease.json", (past, past))
    assert queue.status(home, sub).state == "queued"
    assert [end.state for end in drain(home)] == ["scored"]
    assert (dead.over, dead.finish(End("failed"))) == (True, False)
    assert queue.status(home, sub).state == "scored"


def test_one_of_many_workers_gets_a_submission(home, bring):
    sub = bring("mine")
    tries, gate = [], threading.Barrier(8, timeout=30)

    def begin() -> None:
        worker = Worker(home)
        status = worker.next()
        gate.wait()  # all have seen it in the queue, as when each makes the track ready first
        assert status is not None
        tries.append(worker.take(status))

    threads = [threading.Thread(target=begin) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (begun,) = [each for each in tries if each]
    assert not begun.over
    assert queue.status(home, sub).tries == 1
    assert [path.name for path in begun.folder.parent.iterdir()] == ["1"]


def test_record_of_a_killed_worker_is_found_and_not_made_twice(home, bring):
    sub = bring("mine")
    ids = scoring.score(home, sub, home)  # and then its worker was killed
    before = (folder(home, ids[0]) / "record.json").stat().st_mtime_ns
    (end,) = drain(home)
    assert list(end.records) == ids
    assert (folder(home, ids[0]) / "record.json").stat().st_mtime_ns == before
    assert len(Store(home).runs(TRACK.id)) == len(all_records(home)) == 1


def test_submission_that_kills_its_workers_is_given_up(home, bring, monkeypatch):
    sub = bring("mine")
    monkeypatch.setattr(leases, "LOSSES", 3)
    for _ in range(3):
        begun = Worker(home, lease=1).take(queue.status(home, sub))
        assert begun is not None
        os.utime(begun.folder / "lease.json", (0, 0))
    assert Worker(home).next() is None
    end = queue.ended(home, sub.id)
    assert end is not None
    assert end.reason == "3 workers died while they scored it"


def test_interrupts_and_full_disks_are_not_held_against_a_submission(home, bring, monkeypatch):
    sub = bring("mine")
    monkeypatch.setattr(leases, "LOSSES", 3)
    for _ in range(5):
        begun = Worker(home).take(queue.status(home, sub))
        assert begun is not None
        begun.stop("released", "its worker was stopped", "me")

    def full(*_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    for _ in range(5):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", full)
            with pytest.raises(OSError, match="No space"):
                Worker(home).take(queue.status(home, sub))
    status = queue.status(home, sub)
    assert (status.state, status.tries, status.losses) == ("queued", 5, 0)
    assert [end.state for end in drain(home)] == ["scored"]


def test_store_that_does_not_take_a_row_fails_no_submission(home, bring, monkeypatch):
    sub = bring("mine")

    def refuse(*_) -> bool:
        raise Refused("there is no such folder here: give the server and its clients one home")

    with monkeypatch.context() as patch:
        patch.setattr(Store, "add", refuse)
        with pytest.raises(Refused, match="one home"):
            drain(home)
    assert (queue.status(home, sub).state, queue.status(home, sub).losses) == ("queued", 0)
    assert [end.state for end in drain(home)] == ["scored"]
    assert len(Store(home).runs(TRACK.id)) == 1


def test_no_record_is_kept_before_all_seeds_have_one(home, bring):
    bad = logits(0)
    bad[0, 0, 0] = CRASHING
    bring("half", logits(1), bad)
    assert [end.state for end in drain(home)] == ["crashed", "crashed", "failed"]
    assert all_records(home) == []
    assert Store(home).reconcile() == 0


def test_row_that_comes_a_moment_after_the_retraction_is_retracted(home, bring, monkeypatch):
    sub = bring("mine")
    add = Store.add

    def late(store: Store, record) -> bool:
        added = add(store, record)
        queue.finish(home, sub, End("retracted", "my mistake"))
        return added

    monkeypatch.setattr(Store, "add", late)
    monkeypatch.setattr(Try, "over", property(lambda begun: False))
    assert drain(home) == []
    assert [run["retracted"] for run in Store(home).runs(TRACK.id, all=True)] == [True]


@pytest.mark.slow
def test_child_computes_though_its_parent_had_threads(home, bring):
    script = f"""
import torch
from razorbench.submissions import scoring
from razorbench.submissions.confine import Limits, call
from pathlib import Path
big = torch.ones(600, 600)
big @ big  # starts the pool of threads, whose forks wait for ever
assert torch.get_num_threads() == 2
scoring.Bench = lambda track, home, made: type("Ready", (), {{"answers": 0, "drawn": 0, "floor": 0, "data": 0}})()
scoring.find_track = lambda id, home: type("Track", (), {{"tasks": ()}})
scoring.ready("x", Path("."))
print(call(lambda: float((big @ big).sum()), limits=Limits(seconds=20), writable=[], log=Path({str(home / "log")!r})))
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "2"}, capture_output=True, text=True
    )
    assert ran.stdout == f"{600.0**3}\n", ran.stderr


def test_full_disk_ends_the_worker_and_fails_no_submission(home, bring, monkeypatch):
    sub = bring("mine")

    def full(*_) -> list[str]:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(workers, "score", full)
    with pytest.raises(OSError, match="No space"):
        drain(home)
    assert (queue.status(home, sub).state, queue.status(home, sub).crashes) == ("queued", 0)
    monkeypatch.undo()
    monkeypatch.setitem(REGISTERED["agent"], "fragile-v1", Fragile)
    monkeypatch.setitem(TRACKS, TRACK.id, TRACK)


def test_interrupted_worker_gives_back_what_it_began(home, bring, monkeypatch):
    sub = bring("mine")

    def score(*_) -> None:
        os.kill(os.getppid(), signal.SIGTERM)  # once it has begun, however long that takes
        time.sleep(60)

    monkeypatch.setattr(workers, "score", score)
    with pytest.raises(KeyboardInterrupt):
        drain(home)
    assert (queue.status(home, sub).state, queue.status(home, sub).crashes) == ("queued", 0)
    assert queue.live(home) == []


@pytest.mark.slow
def test_retracted_while_it_is_scored_gets_no_row(home, bring, monkeypatch):
    sub = bring("mine")
    monkeypatch.setattr(workers, "score", lambda *_: time.sleep(60))
    timer = threading.Timer(1.0, queue.finish, (home, sub, End("retracted", "my mistake")))
    timer.start()
    assert drain(home) == []
    assert queue.status(home, sub).state == "retracted"
    assert all_records(home) == []


def test_track_without_its_data_is_passed_over(home, bring, monkeypatch):
    bring("mine")

    def missing(*_) -> None:
        raise Refused("the images are missing; set RAZORBENCH_DATA")

    monkeypatch.setattr(workers, "ready", missing)
    unable = workers.work(Store(home), drain=True, limits=LIMITS)
    assert unable == {TRACK.id: "the images are missing; set RAZORBENCH_DATA"}
    assert [queue.status(home, sub).state for sub in queue.brought(home)] == ["queued"]


# --- what is said of it -----------------------------------------------------------------------------------------------


def test_start_is_estimated_from_the_workers_that_live(home, bring):
    first, second, third = (bring(str(seed), logits(seed)) for seed in range(3))
    assert set(queue.estimates(home, [first, second, third]).values()) == {None}
    worker = Worker(home)
    worker.tell()
    assert queue.estimates(home, [first, second, third]) == {first.id: 0.0, second.id: None, third.id: None}
    worker.seconds[TRACK.id] = [2.0, 4.0]
    worker.tell()
    assert queue.estimates(home, [first, second, third]) == {first.id: 0.0, second.id: 3.0, third.id: 6.0}
    worker.gone()
    assert queue.live(home) == []


@pytest.mark.slow
def test_verified_result_comes_out_again(home, bring):
    sub = bring("mine", logits(1), logits(2))
    drain(home)
    numbers = verify(Store(home), "mine", LIMITS)
    assert [(each.seed, each.number) for each in numbers] == [
        (seed, number) for seed in (0, 1) for number in ("gain", "retention", "drift")
    ]
    assert all(each.reproduced for each in numbers)
    end = queue.ended(home, sub.id)
    assert end is not None
    for id in end.records:
        assert [(event["kind"], event["value"]) for event in Store(home).events(id)] == [("verified", "reproduced")]


def test_result_of_other_weights_does_not_come_out_again(home, bring):
    sub = bring("mine", logits(1))
    drain(home)
    file = queue.root(home) / sub.id / "files" / "model.safetensors"
    file.unlink()
    save_file({"logits": 9 * logits(7)}, file)
    assert not all(each.reproduced for each in verify(Store(home), "mine", LIMITS))
    assert [event["value"] for event in Store(home).events()] == ["differs"]


def test_row_that_nobody_submitted_is_not_verified(home, bring):
    bring("mine")
    with pytest.raises(Refused, match="is queued; only what was scored"):
        verify(Store(home), "mine", LIMITS)


def test_claim_does_not_stand_for_a_run_of_ours(home, bring, monkeypatch):
    (spec,) = plan(TRACK, ["sft"], ["lr=0.1"], [0])
    bring("mine", settings=asdict(spec.settings), seeds=(0,))
    drain(home)
    monkeypatch.setattr("razorbench.harness.runs.executors.get_context", lambda kind: get_context("fork"))
    (done,) = sweep(TRACK, [spec], home, workers=1)
    assert done.record is not None
    assert "submission" not in done.record.provenance
    assert [entry.name for entry in results.table(Store(home), TRACK.id)].count("mine") == 1
    assert len(Store(home).runs(TRACK.id)) == 2
