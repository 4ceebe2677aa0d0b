"""Two calls of the public door: adapt a track's base, and score what came of it."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from razorbench.harness.learn import checkpoint as checkpoints
from razorbench.harness.learn.checkpoint import Checkpoint
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.measure.record import Record
from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.comparing import home_folder
from razorbench.harness.runs.run import Spec, adapt_into, score_folder
from razorbench.harness.store.database import Store
from razorbench.harness.tracks.catalogue import find_track
from razorbench.harness.tracks.spec import Track
from razorbench.harness.tracks.variants import settings_for


def adapt(
    track: str | Path | Track,
    method: str,
    out: str | Path,
    *,
    seed: int = 0,
    observe: Sequence[str] = (),
    home: str | Path | None = None,
    runtime: Runtime = AUTO,
    **settings: object,
) -> Checkpoint:
    """Adapt the base of a track into a checkpoint folder, or go on where a killed run of the same call was.

    `track` is an id, the path of a track's file, or a track; `settings` are fields of `Settings`, and the others are
    the track's; `observe` names what to measure besides, such as `update`; `home` is the folder that everything lives
    in, by default RAZORBENCH_HOME or `.razorbench`.

    Returns the checkpoint; `.folder` is `out`. Raises Refused for what cannot be, in a sentence with its cure.
    """
    bench = _bench(track, home, runtime)
    spec = Spec(method, settings_for(bench.track, **settings), seed)
    spec.check(bench.track.settings)
    return adapt_into(Path(out), bench, spec, observe=observe)


def score(
    checkpoint: str | Path | Checkpoint,
    track: str | Path | Track,
    *,
    name: str = "",
    home: str | Path | None = None,
    runtime: Runtime = AUTO,
) -> Record:
    """Score a checkpoint against its base on a track, and put it on the board of the home.

    `checkpoint` is a folder that holds `model.safetensors`, or what `adapt` returned; a checkpoint that was scored
    before is looked up. `name` is what the board calls it from now on, by default the folder's.

    Returns the record: `gain` and `retention` in points with their 95 % bounds, `drifts` in nats, `scores` task by
    task. Raises Refused for what cannot be.
    """
    bench = _bench(track, home, runtime)
    made = checkpoint if isinstance(checkpoint, Checkpoint) else checkpoints.read(Path(checkpoint))
    return entered(Store(bench.home), bench, made, name)[0]


def entered(store: Store, bench: Bench, checkpoint: Checkpoint, name: str = "") -> tuple[Record, bool]:
    """Score a checkpoint and put it on the board; one that was scored before under another name is renamed.

    Returns the record, and whether it is new.
    """
    store.reconcile()
    record, new = score_folder(bench, checkpoint, store.home, name)
    store.add(record)
    if name not in ("", store.submission(record.id)["name"]):
        store.decide(record.id, "renamed", "scored again under another name", name)
    return record, new


def _bench(track: str | Path | Track, home: str | Path | None, runtime: Runtime) -> Bench:
    there = home_folder(home)
    return _ready(track if isinstance(track, Track) else find_track(str(track), there), there, runtime)


_ready = lru_cache(maxsize=1)(Bench)
"""The last track is kept ready: who adapts mostly scores next."""
