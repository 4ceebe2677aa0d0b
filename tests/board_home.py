"""Homes for the board's tests: a small one, and one whose every submission was named by somebody hostile."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks import board
from razorbench.harness.measure import record as files
from razorbench.harness.measure import statistics
from razorbench.harness.measure.record import Drift, Measure, Point, Record, Score
from razorbench.harness.store import migrations
from razorbench.harness.store.database import Event, Store
from razorbench.harness.store.requests import Order
from razorbench.submissions import queue
from razorbench.submissions.claim import Claim, Data
from tests.hostile import HOSTILE

TRACK, OTHER = "mini-tools-v1", "parity-mnist-v1"


def items(rights: Mapping[tuple[str, str], tuple[Sequence[float], Sequence[float]]]) -> dict[str, list[Any]]:
    """Columns of samples from (role, task) → rewards of base and adapted; item `i` drifts by i/10 nats."""
    rows = [
        (task, role, str(i), base, adapted, i / 10 if role == "new" else None)
        for (role, task), (before, after) in rights.items()
        for i, (base, adapted) in enumerate(zip(before, after, strict=True))
    ]
    return dict(
        zip(("task", "role", "item", "base", "adapted", "drift"), map(list, zip(*rows, strict=True)), strict=True)
    )


def scored(id: str, samples: Mapping[str, list[Any]], **changes: Any) -> Record:
    """A record of these samples; drift is 1 nat and the curve has three points unless told otherwise."""
    task, role = np.array(samples["task"]), np.array(samples["role"])
    base, adapted = (np.array(samples[name], float) for name in ("base", "adapted"))
    scores = []
    for name in dict.fromkeys(samples["task"]):
        at = task == name
        e = statistics.paired(100 * base[at], 100 * adapted[at])
        about = (name, str(role[at][0]), "skills", int(at.sum()), 0, 100 * base[at].mean(), 100 * adapted[at].mean())
        mde = statistics.minimum_detectable_effect(e.se)
        about += (e.value, e.low, e.high, e.se, 0.5, 1.0, mde, e.method, {"well_formed": [1.0, 0.9]})
        scores.append(Score(*about, metric_changes={"well_formed": [-0.1, -0.2, 0.0]}))
    numbers = {}
    for name, which in (("gain", "new"), ("retention", "prior")):
        value = float(np.mean([score.difference for score in scores if score.role == which]))
        numbers |= {name: value, f"{name}_low": value - 5, f"{name}_high": value + 5, f"{name}_se": 2.5}
    new = next(score.task for score in scores if score.role == "new")
    made: dict[str, Any] = {
        "name": id,
        "track": TRACK,
        "agent": "mini-lm-v1",
        "base": "mini-lm-v1@90974b",
        "method": "sft",
        "settings": {"lr": 0.001},
        "seed": 0,
        "steps": 32,
        "checkpoint": "ab" * 32,
        "drifts": (Drift(new, "forward", "episode", 1.0, 0.1, len(base)),),
        "curve": (Point(0, new=25.0, prior=80.0, drift=0.0), Point(16, loss=1.5, new=40.0, prior=79.0, drift=0.5)),
        "measures": (Measure(16, "entropy", 0.7, 0.1), Measure(32, "entropy", 0.5, 0.1), Measure(32, "nobodys", 1.0)),
        "cost": {"adapt_seconds": 10.0, "episodes": 800.0},
        "provenance": {"commit": "abc"},
        "scored_at": "2025-11-20T12:00:00+00:00",
    }
    return Record(id=id, scores=tuple(scores), **{**made, **numbers, **changes})


def add(store: Store, *made: tuple[Record, Mapping[str, Any], *tuple[Any, ...]]) -> None:
    """Write records with their samples, and maybe answers, and index them."""
    for record, samples, *answers in made:
        files.write(store.home, record, samples, *answers)
    store.reconcile()


def small(home: Path) -> Store:
    """Two tracks; on the first, three methods with two seeds each. `sft` gains all and forgets half."""
    shutil.copytree(made_small().name, home, dirs_exist_ok=True)
    return Store(home)


@cache
def made_small() -> TemporaryDirectory:
    """The small home, made once a process."""
    place = TemporaryDirectory(prefix="small-home-")
    store = Store(place.name)
    right, wrong = [1.0] * 8, [0.0] * 8
    after = {
        "sft": (right, [1.0] * 4 + [0.0] * 4),
        "grpo": ([1.0] * 6 + [0.0] * 2, [0.0] + [1.0] * 7),
        "dr-grpo": (wrong, right),
    }
    made = []
    for track, method in (*((TRACK, method) for method in after), (OTHER, "sft")):
        new, prior = after[method]
        samples = items({("new", track): (wrong, new), ("prior", "mini-logic-v1"): (right, prior)})
        same = {"track": track, "method": method, "name": f"{method} of {track}"}
        made += [(scored(f"{track}-{method}-{seed}", samples, seed=seed, **same), samples) for seed in (0, 1)]
    add(store, *made)
    store.decide(f"{TRACK}-sft-0", "verified", "gain 100 came out as 100", "reproduced")
    store.decide(f"{TRACK}-sft-1", "verified", "gain 100 came out as 100", "reproduced")
    return place


def large(home: Path, entries: int = 220) -> Store:
    """Entries of one seed, half of them on the first track: more than a page of its table holds."""
    add(Store(home), *(next(board.made(entry, entries)) for entry in range(entries)))
    return Store(home)


def hostile(home: Path) -> Store:
    """One entry and one waiting submission for each hostile text, which stands in every field that a stranger fills."""
    samples, made, events = items({("new", TRACK): ([0.0], [1.0]), ("prior", "mini-logic-v1"): ([1.0], [0.0])}), [], []
    when = "2025-11-20T12:00:00+00:00"
    for i, text in enumerate(HOSTILE):
        same = {"name": text, "method": text, "settings": {text: text}}
        data = Data(text, source=text, sha256=text, fingerprints=text)
        claim = Claim(TRACK, licence=text, contact=text, compute={text: text}, data=(data,), **same)
        told = {"id": f"{i:016x}", "kind": "lora", "overlap": 3, "submitted_at": when}
        told["claim"] = {**asdict(claim), "reported": {"gain": 1.0}}
        said = {**dict.fromkeys(("asked", "base", "adapted"), text), "tokens": [{"text": text, "nats": 1.0}]}
        answers = [{"task": task, "item": "0", **said} for task in (TRACK, "mini-logic-v1")]
        more = {**same, "provenance": {"submission": told, text: text}}
        made.append((scored(f"run-{i}", samples, **more), samples, answers))
        events.append(Event(f"{i:04}", f"run-{i}", "renamed", text, when, value=text))
        folder = queue.root(home) / told["id"]
        folder.mkdir(parents=True)
        where = {"folders": (".",), "weights": ("ab",), "digest": "ab", "bytes": 1, "overlap": None}
        brought = queue.Submission(folder.name, text, TRACK, "lora", claim, submitted_at=when, **where)
        queue.once(folder / "submission.json", brought)
    store = Store(home)
    add(store, *made)
    with store.lock():  # all at once, because each would publish
        store.perform([Order("decide", (asdict(event),), migrations.last()) for event in events])
    return store
