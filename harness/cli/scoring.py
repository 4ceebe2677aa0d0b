"""The commands that put rows on the board: score, sweep, demo."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from razorbench.harness.cli.arguments import HOME, Computed, Home, Json, Name, Server
from razorbench.harness.cli.terminal import (
    Failed,
    bar,
    busy,
    command,
    drift_or_floor,
    err,
    leaderboard,
    left_out,
    out,
    say,
)
from razorbench.harness.core.errors import Missing, Refused
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.report.text import interval
from razorbench.harness.tracks.catalogue import FRESH, find_track, find_tracks
from razorbench.harness.tracks.spec import Track

if TYPE_CHECKING:  # it loads torch
    from razorbench.harness.runs.run import Spec
    from razorbench.harness.runs.sweep import Done


def score(
    folder: Name,
    *,
    track: str,
    name: str = "",
    runtime: Computed = AUTO,
    server: Server = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Score a checkpoint folder for gain, retention and drift, and add its row.

    Args:
        folder: Folder that holds model.safetensors, as `razorbench adapt` writes it, or its parts and their index.
        track: Id of the track to score it on.
        name: Name on the board; by default the folder's. A checkpoint that was scored before is renamed.
        runtime: How the models are computed; it changes no result but for rounding.
    """
    chosen = find_track(track, home)
    from razorbench.harness.learn import checkpoint
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.runs.calls import entered
    from razorbench.harness.store.database import Store

    made = checkpoint.read(Path(folder))
    with busy(f"scoring {folder} on {track}"):
        store = Store(home, server=server)
        left_out(store.torn())
        record, new = entered(store, Bench(chosen, home, runtime), made, name)
        called = store.submission(record.id)["name"]
    forward = record.drifts[0] if record.drifts else None
    drift = f"{drift_or_floor(forward.nats, forward.floor, '.4g')} nats" if forward else "not known"
    row = {
        "id": record.id,
        "name": called,
        "gain": record.gain,
        "retention": record.retention,
        "drift": forward and forward.nats,
        "floor": forward and forward.floor,
    }
    was = "scored" if new else "was scored before"
    say(
        row,
        json,
        f"{called} {was}: gain {interval(record.gain, record.gain_low, record.gain_high)} points, "
        f"retention {interval(record.retention, record.retention_low, record.retention_high)} points, "
        f"drift {drift} (forward KL, an episode).",
    )
    if not json:
        command(f"razorbench show {record.id}", home)


def sweep(
    track: Name,
    *,
    methods: str = "",
    preset: str = "",
    grid: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    workers: int = 0,
    executor: str = "process",
    observe: tuple[str, ...] = (),
    runtime: Computed = AUTO,
    server: Server = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Adapt and score every method × grid point × seed, one row a run; started again, it does what is missing.

    Args:
        track: Id of the track, or its file, which ends in .toml; or the name of several, such as qwen2.5-scaling-v1.
        methods: Comma-separated; settings of one's own after colons, as in sft,grpo:kl=0.1,sft:style=zero-four.
        preset: A grid that the track's file names, such as paper: its methods, or of those that are named theirs.
        grid: Values to try, as in lr=1e-5,1e-4 schedule=constant,cosine; beside a preset, more axes.
        seeds: Seeds, as in 0 1 2.
        workers: How many runs at once; 0: one a core.
        executor: Who does them: process, or the id of what another package brings.
        observe: What to measure of each run besides, such as update: how far the weights moved.
        runtime: How the models are computed; it changes no result but for rounding.
    """
    tracks = find_tracks(track, home)
    work = [(each, runs_of(each, methods, preset, grid, seeds)) for each in tracks]
    failed = sweep_all(work, home, workers, server, runtime=runtime, observe=observe, executor=executor)
    runs = sum(len(specs) for _, specs in work)
    say({"runs": runs, "failed": failed}, json, f"{runs - failed} of {runs} runs are on the board:")
    for each in () if json else tracks:
        command(f"razorbench results --track {each.id}", home)
    if failed:
        raise Failed(f"{failed} of {runs} runs failed; the same command tries them again")


def runs_of(track: Track, methods: str, preset: str, grid: tuple[str, ...], seeds: tuple[int, ...]) -> "list[Spec]":
    """The runs of a sweep on a track, by its methods or by a preset. Refuses a command that names neither."""
    from razorbench.harness.runs import sweep

    named = methods.split(",") if methods else []
    if preset:
        return sweep.preset(track, preset, named, grid, seeds)
    if not named:
        raise Refused("say what is run, with --methods or with --preset")
    return sweep.plan(track, named, grid, seeds)


def demo(*, tracks: tuple[str, ...] = (), home: Home = HOME, workers: int = 0) -> None:
    """Do the main job on every embedded track: adapt, score, store, show. Stopped and started again, it goes on.

    Args:
        tracks: Ids of the tracks; all that have a demo and need nothing that a fresh machine lacks, if not given.
        workers: Processes; 0: one a core.
    """
    named = [find_track(id, home) for id in tracks] or sorted(FRESH, key=lambda track: not track.base.sha256)
    if bare := [track.id for track in named if tracks and not track.demo]:
        raise Refused(f"{', '.join(bare)} has no demo; choose tracks with `razorbench sweep`")
    from razorbench.harness.runs.sweep import plan
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    work = [
        (track, [spec for method, lrs in track.demo.items() for spec in plan(track, [method], [lr_axis(lrs)], [0])])
        for track in named
        if track.demo
    ]
    runs, places = sum(len(specs) for _, specs in work), f"{len(work)} tracks" if len(work) > 1 else work[0][0].id
    out.print(f"{runs} runs on {places}; the first leaderboard comes in a minute or two.", highlight=False)
    lacking: dict[str, Missing] = {}
    failed = sweep_all(
        work,
        home,
        workers,
        finished=lambda track: out.print(leaderboard(track, track.id, board.table(Store(home), track.id))),
        lacking=lambda track, error: lacking.setdefault(track.id, error),
    )
    out.print("Open the board in a browser:")
    command("razorbench board", home)
    for id, error in lacking.items():
        out.print(f"{id} was left out: {error}; then the same command adds it.", highlight=False, soft_wrap=True)
    if failed:
        raise Failed(f"{failed} runs failed; the same command tries them again")


def lr_axis(rates: Sequence[float]) -> str:
    """The grid axis of some learning rates."""
    return "lr=" + ",".join(f"{rate:g}" for rate in rates)


def sweep_all(
    work: Sequence[tuple[Track, Sequence[Any]]],
    home: Path,
    workers: int,
    server: str | None = None,
    finished: Callable[[Track], Any] = lambda track: None,
    lacking: Callable[[Track, Missing], Any] | None = None,
    runtime: Runtime = AUTO,
    observe: tuple[str, ...] = (),
    executor: str = "process",
) -> int:
    """Run sweeps under progress bars; how many runs failed. `finished` is called with each track whose runs are done,
    `lacking` as in `sweeps`.
    """
    from razorbench.harness.runs.sweep import sweeps
    from razorbench.harness.store.database import Store

    if workers < 0:
        raise Refused(f"workers {workers} cannot be; give a number that is at least 0")
    left_out(Store(home, server=server).torn())
    failed, counts = 0, {track.id: 0 for track, _ in work}
    with bar("runs") as progress:
        lines = {track.id: progress.add_task(track.id, total=len(specs)) for track, specs in work}
        for done in sweeps(work, home, workers, server, lacking, runtime, observe, executor):
            id, total = done.track.id, progress.tasks[lines[done.track.id]].total
            counts[id] += 1
            progress.advance(lines[id])
            what = f"{done.spec.label(done.track.settings)}, seed {done.spec.seed}"
            if done.record is None:
                failed += 1
                err.print(f"failed {what}: {done.error}", style="red", highlight=False, soft_wrap=True)
            else:
                progress.tell(f"{id} {counts[id]} of {total:g}: {what}: {ran(done)}")
            if counts[id] == total:
                with progress.aside():
                    finished(done.track)
    return failed


def ran(done: "Done") -> str:
    """How a run came out, in a line."""
    record = done.record
    assert record is not None
    gain = interval(record.gain, record.gain_low, record.gain_high)
    retention = interval(record.retention, record.retention_low, record.retention_high)
    drift = drift_or_floor(record.drifts[0].nats, record.drifts[0].floor, ".3g") if record.drifts else "–"
    seconds = record.cost.get("adapt_seconds", 0.0) + record.cost.get("score_seconds", 0.0)
    took = "done before" if done.before else f"{seconds:.0f} s"
    return f"gain {gain}, retention {retention}, drift {drift}; {took}"
