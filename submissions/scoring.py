"""Scoring a submission: each seed's weights become a record. Meant to be called in a confined process."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from razorbench.harness.core.lanes import HANDED, Lanes, Workers, close_all
from razorbench.harness.core.processes import LaneProcess
from razorbench.harness.learn.checkpoint import MANIFEST, Checkpoint, Manifest
from razorbench.harness.learn.policy import Policy
from razorbench.harness.measure.record import Record
from razorbench.harness.measure.score import POINTS, Bench
from razorbench.harness.runs import run
from razorbench.harness.runs.provenance import commit
from razorbench.harness.tracks.bases import policy_digest
from razorbench.harness.tracks.catalogue import find_track
from razorbench.harness.tracks.spec import Track
from razorbench.submissions.queue import Submission, root
from razorbench.submissions.strict import parse


@lru_cache(maxsize=4)
def ready(track: str, home: Path) -> Bench:
    """A track made ready, with the base's answers, which a forked child then shares. Refused if data are missing.

    From then on this process computes with one thread: a forked child would wait for others for ever.
    """
    torch.set_num_threads(1)
    commit()  # is asked of git once, which a confined child may not run
    found = find_track(track, home)
    bench = Bench(found, home, made={id: played(found, id) for id in found.tasks})
    _ = bench.answers, bench.drawn, bench.floor, bench.data
    return bench


def played(track: Track, id: str) -> Any:
    """A task of a track, in a worker of its own if it shows pictures and the track says nothing else.

    What draws them has threads, or holds a GPU: a confined process that is forked from ours would wait for them for
    ever.
    """
    task = track.task(id)
    if not isinstance(task, Workers) and task.card.protocol and task.card.protocol.cameras:
        return Workers(id, **vars(Lanes()))
    return task


@contextmanager
def lanes(track: str, home: Path) -> Iterator[dict[str, list[LaneProcess]]]:
    """The workers of a track's tasks, started for a confined process, which may start none; `handed` gives it their
    sockets. They are ended afterwards, for what it has made of them is not known.
    """
    try:
        pools = [task for task in ready(track, home).tasks.values() if isinstance(task, Workers)]
        for pool in pools:
            pool.open()
        yield {pool.name: pool.workers for pool in pools}
    finally:
        close_all()


def handed(workers: Mapping[str, list[LaneProcess]], function: Callable[..., Any], *args: Any) -> Any:
    """`function(*args)`, in a confined process, which plays in workers that its parent has started."""
    HANDED.update(workers)
    return function(*args)


def score(home: Path, sub: Submission, into: Path) -> list[str]:
    """Score every seed and return the ids of their records; those that `home` has not yet are written to `into`."""
    bench = ready(sub.track, home)
    parts = zip(sub.seeds, sub.folders, strict=True)
    return [_score(bench, home, into, sub, seed, folder).id for seed, folder in parts]


def measure(home: Path, sub: Submission, index: int) -> dict[str, float | None]:
    """Gain and retention (points) and drift (nats an episode) of one seed, scored again; nothing is written."""
    bench = ready(sub.track, home)
    scored = bench.score(_policy(bench, _checkpoint(home, sub, sub.folders[index]).weights))
    drift = scored.drifts[0].nats if scored.drifts else None
    return {"gain": POINTS * scored.gain.value, "retention": POINTS * scored.retention.value, "drift": drift}


def _checkpoint(home: Path, sub: Submission, folder: str) -> Checkpoint:
    return Checkpoint(root(home) / sub.id / "files" / folder, None)


def _policy(bench: Bench, weights: Path) -> Policy:
    policy = bench.base.copy()
    policy.load(weights)
    return policy


def _score(bench: Bench, home: Path, into: Path, sub: Submission, seed: int | None, folder: str) -> Record:
    adapted = _checkpoint(home, sub, folder)
    claim = sub.claim
    seconds = claim.compute.get("seconds")
    manifest = Manifest(
        track=sub.track,
        method=claim.method,
        settings=claim.settings,
        seed=seed,
        steps=_steps(adapted),
        cost={"seconds": float(seconds)} if isinstance(seconds, int | float) else {},
        provenance={"adapted_by": "the submitter"},
    )
    policy = _policy(bench, adapted.weights)
    told = public(sub)
    checkpoint = policy_digest(policy)
    if known := run.lookup(bench, checkpoint, manifest, home, told):
        return known
    points = [bench.point(_policy(bench, weights), step) for step, weights in adapted.waypoints().items()]
    return run.keep(bench, policy, checkpoint, manifest, points, [], into, sub.name, told)


def _steps(checkpoint: Checkpoint) -> int | None:
    """The number of steps, where `razorbench adapt` wrote it; None for anything else that stands there."""
    path = checkpoint.folder / MANIFEST
    if not path.exists():
        return None
    steps = parse(path.read_bytes(), MANIFEST).get("steps")
    return steps if type(steps) is int and 0 < steps < 2**31 else None


def public(sub: Submission) -> Mapping[str, Any]:
    """What a record and the board tell of a submission: all but how to reach its maker."""
    claim = {name: value for name, value in asdict(sub.claim).items() if name != "contact"}
    return {"id": sub.id, "kind": sub.kind, "overlap": sub.overlap, "claim": claim, "submitted_at": sub.submitted_at}
