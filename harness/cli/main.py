"""The command line, a contract that scripts rely on. Exit codes: 0 done, 1 failed while working, 2 refused."""

import errno
import json as jsonlib
import os
import shutil
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads make small models many times slower

import tyro
from rich.progress import TaskID
from rich.text import Text

from razorbench.harness.cli.terminal import (
    HOME,
    UNCHANGED,
    Bar,
    Changes,
    Computed,
    Failed,
    Home,
    Json,
    Name,
    Server,
    bar,
    busy,
    command,
    drift_or_floor,
    err,
    interval,
    leaderboard,
    left_out,
    listing,
    out,
    say,
)
from razorbench.harness.core.errors import Missing, Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.learn.runtime import AUTO, Runtime
from razorbench.harness.learn.settings import Settings
from razorbench.harness.report.flags import SILENCE
from razorbench.harness.report.text import number
from razorbench.harness.tracks.catalogue import TRACKS, all_tracks, find_base, find_track, known_track
from razorbench.harness.tracks.spec import Track
from razorbench.harness.tracks.variants import settings_for
from razorbench.submissions.commands import hide, queue, retract, submit, told, unhide, verify, worker

if TYPE_CHECKING:  # it loads torch
    from razorbench.harness.learn.checkpoint import Report
    from razorbench.harness.runs.sweep import Done

# --- what there is ----------------------------------------------------------------------------------------------------


def tracks(*, home: Home = HOME, json: Json = False) -> None:
    """List the tracks: what each asks, what it must not forget."""
    listing(
        [
            {
                "track": track.id,
                "question": track.question,
                "base": track.base.id,
                "agent": track.base.agent,
                "new": track.new,
                "priors": track.prior_tasks,
            }
            for track in all_tracks().values()
        ],
        json,
        ("track", "question"),
    )


def tasks(*, home: Home = HOME, json: Json = False) -> None:
    """List the registered tasks with their cards."""
    from razorbench.harness.core.registry import find, ids

    listing([{"task": id, **asdict(find("task", id).card)} for id in ids("task")], json, ("task", "asks", "chance"))


def agents(*, home: Home = HOME, json: Json = False) -> None:
    """List the registered agents."""
    from razorbench.harness.core.registry import find, ids

    listing([{"agent": id, "what": (find("agent", id).__doc__ or "").split("\n")[0]} for id in ids("agent")], json)


def methods(*, home: Home = HOME, json: Json = False) -> None:
    """List the methods of adaptation."""
    from razorbench.harness.core.registry import ids
    from razorbench.harness.learn.methods import METHODS, find_method

    found = dict(METHODS)
    for id in ids("method"):
        with suppress(Refused):  # what another package brings and cannot be loaded
            found.setdefault(id, find_method(id))
    rows = [
        {
            "method": name,
            "about": method.about,
            "weight": method.weight.__name__,
            "surrogate": method.surrogate.__name__,
            "normaliser": method.normaliser.__name__,
        }
        for name, method in found.items()
    ]
    listing(rows, json, ("method", "about"))


# --- what is done -----------------------------------------------------------------------------------------------------


def pretrain(base: Name, *, out: Path | None = None, home: Home = HOME, json: Json = False) -> None:
    """Make a base by its recipe; stopped and started again, it goes on where it was.

    Args:
        base: Id of the base; `razorbench tracks` names them.
        out: File to write; by default where the tracks look for a base that is not shipped.
    """
    chosen = find_base(base)
    from razorbench.harness.tracks import bases

    file = out or chosen.made(home)
    if file.exists():
        raise Refused(f"{file} exists; remove it, or name another file with --out")
    file.parent.mkdir(parents=True, exist_ok=True)
    with bar("pretraining") as progress:
        line = progress.add_task(chosen.id, total=None)
        bases.pretrain(
            chosen,
            file,
            save_every=100,
            tell=lambda report, steps: progress.update(line, completed=report.step, total=steps),
        )
    made, shipped = bases.file_sha256(file), chosen.sha256
    if not shipped:
        verdict = "it is not shipped, so there is nothing to compare it with"
    elif made == shipped:
        verdict = "the same as the shipped one"
    else:
        verdict = f"the shipped one has {shipped}; another processor rounds in its own way, so last bits may differ"
    row = {
        "base": chosen.id,
        "file": str(file),
        "sha256": made,
        "shipped": shipped or None,
        "same": made == shipped if shipped else None,
    }
    say(row, json, f"{file} holds {chosen.id}, sha256 {made}: {verdict}.")


def base(track: Name, *, out: Path, home: Home = HOME, json: Json = False) -> None:
    """Copy the unadapted model of a track into a folder, to adapt it with tools of your own.

    Args:
        track: Id of the track.
        out: Folder to write: weights, and config and tokenizer where it is a language model.
    """
    chosen = find_track(track).base
    if out.exists():
        raise Refused(f"{out} exists; name a new folder with --out")
    weights = chosen.weights(home)
    if not weights.exists():
        from razorbench.harness.tracks.bases import base_policy

        base_policy(chosen, home)
    if chosen.sha256:
        shutil.copytree(weights.parent, out)
    else:
        out.mkdir(parents=True)
        shutil.copy(weights, out / "model.safetensors")
    files = sorted(path.name for path in out.iterdir())
    say({"base": chosen.id, "folder": str(out), "files": files}, json, f"{out} holds {chosen.id}: {', '.join(files)}.")


def questions(
    task: Name,
    *,
    items: int = 1000,
    style: str = "",
    split: Literal["train", "test"] = "train",
    out: Path | None = None,
    hashes: Path | None = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Write a task's questions with an expert's answers, to adapt with tools of your own, and their fingerprints.

    Args:
        task: Id of the task.
        items: How many of them; 0: all.
        style: The expert's style; the task's first, if not given.
        split: train or test.
        out: JSON-lines file to write: conversations as lists of messages.
        hashes: File to write: one fingerprint a line, as a submission declares its training data.
    """
    from razorbench.harness.core import questions as asked
    from razorbench.harness.core.registry import make

    made = make("task", task)
    if not isinstance(made, Task):
        raise Refused(
            f"{task} owns its loop and lists no questions; docs/submit.md tells how to hash texts of your own"
        )
    if out is None and hashes is None:
        raise Refused("name a file to write, with --out or --hashes")
    some = made.instances(split).first(items)
    if out:
        lines = [jsonlib.dumps({"messages": talk}) for talk in asked.conversations(made, some, style)]
        out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    if hashes:
        hashes.write_text("".join(f"{one}\n" for one in asked.fingerprints(made, some)))
    files = [str(file) for file in (out, hashes) if file]
    row = {"task": task, "items": len(some), "files": files}
    say(row, json, f"{len(some)} questions of {task} are written to {' and '.join(files)}.")


def adapt(
    track: Name,
    *,
    method: str,
    out: Path,
    seed: int = 0,
    save_every: int = 0,
    settings: Changes = UNCHANGED,
    runtime: Computed = AUTO,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Adapt the base of a track into a checkpoint folder; stopped and started again, it goes on where it was.

    Args:
        track: Id of the track.
        method: Id of the method; `razorbench methods` lists them.
        out: Checkpoint folder to write, or to go on with.
        seed: Seed of everything random.
        save_every: Steps between saved states, from which a killed run goes on; 0: five minutes.
        settings: What is not named is as the track has it.
        runtime: How the model is computed; it changes no result but for rounding.
    """
    chosen = find_track(track)
    if save_every < 0:
        raise Refused(f"save-every {save_every} cannot be; give a number that is at least 0")
    from razorbench.harness.learn.engine import started
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.runs.run import Spec, adapt_into

    whole = settings if isinstance(settings, Settings) else settings_for(chosen, **settings)
    spec = Spec(method, whole, seed)
    spec.check(chosen.settings)
    engine = started()
    if engine.rank:  # the first process tells
        adapt_into(out, Bench(chosen, home, runtime), spec, save_every=save_every, engine=engine)
        return
    with bar("adapting") as progress:
        line = progress.add_task(f"{method}, seed {seed}", total=None)
        bench = Bench(chosen, home, runtime)
        made = adapt_into(
            out,
            bench,
            spec,
            save_every=save_every,
            tell=lambda report, steps: told_step(progress, line, report, steps),
            engine=engine,
        )
    say({"checkpoint": str(made.folder), "track": track}, json, f"{out} holds the adapted checkpoint. Score it:")
    if not json:
        command(f"razorbench score {out} --track {track}", home)


def told_step(progress: Bar, line: TaskID, report: "Report", steps: int) -> None:
    """Move the bar of an adaptation; and say when it has had nothing to learn from for a while."""
    progress.update(line, completed=report.step, total=steps)
    if report.measures.get("silent") == SILENCE:
        err.print(
            f"No answer carried a signal in the last {SILENCE} steps (step {report.step}): all of a group earn the "
            "same, or none is right. Nothing is learned so; a lower learning rate, larger groups or an easier task may "
            "help.",
            highlight=False,
            soft_wrap=True,
        )


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
        folder: Folder that holds model.safetensors, as `razorbench adapt` writes it.
        track: Id of the track to score it on.
        name: Name on the board; by default the folder's. A checkpoint that was scored before is renamed.
        runtime: How the models are computed; it changes no result but for rounding.
    """
    chosen = find_track(track)
    from razorbench.harness.learn import checkpoint
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.runs.run import score_folder
    from razorbench.harness.store.database import Store

    found = checkpoint.read(Path(folder))
    with busy(f"scoring {folder} on {track}"):
        store = Store(home, server=server)
        store.reconcile()
        left_out(store.torn())
        record, new = score_folder(Bench(chosen, home, runtime), found, home, name)
        store.add(record)
        called = store.submission(record.id)["name"]
        if name not in ("", called):
            store.decide(record.id, "renamed", "scored again under another name", name)
            called = name
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
    methods: str,
    grid: tuple[str, ...] = (),
    seeds: tuple[int, ...] = (0,),
    workers: int = 0,
    runtime: Computed = AUTO,
    server: Server = None,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Adapt and score every method × grid point × seed, one row a run; started again, it does what is missing.

    Args:
        track: Id of the track.
        methods: Comma-separated; settings of one's own after colons, as in sft,grpo:kl=0.1,sft:style=zero-four.
        grid: Values to try, as in lr=1e-5,1e-4 schedule=constant,cosine.
        seeds: Seeds, as in 0 1 2.
        workers: Processes; 0: one a core.
        runtime: How the models are computed; it changes no result but for rounding.
    """
    chosen = find_track(track)
    from razorbench.harness.runs.sweep import plan

    specs = plan(chosen, methods.split(","), grid, seeds)
    failed = sweep_all([(chosen, specs)], home, workers, server, runtime=runtime)
    say({"runs": len(specs), "failed": failed}, json, f"{len(specs) - failed} of {len(specs)} runs are on the board:")
    if not json:
        command(f"razorbench results --track {track}", home)
    if failed:
        raise Failed(f"{failed} of {len(specs)} runs failed; the same command tries them again")


def demo(*, tracks: tuple[str, ...] = (), home: Home = HOME, workers: int = 0) -> None:
    """Do the main job on every embedded track: adapt, score, store, show. Stopped and started again, it goes on.

    Args:
        tracks: Ids of the tracks; all that have a demo, if not given.
        workers: Processes; 0: one a core.
    """
    named = [find_track(id) for id in tracks] or sorted(TRACKS.values(), key=lambda track: not track.base.sha256)
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
        for done in sweeps(work, home, workers, server, lacking, runtime):
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


# --- what came out ----------------------------------------------------------------------------------------------------


def results(*, track: str | None = None, home: Home = HOME, json: Json = False) -> None:
    """Print the leaderboard of a track, or of all.

    Args:
        track: Id of the track; all that have rows, if not given.
    """
    from razorbench.harness.report import export
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    if track is not None:
        find_track(track)
    store = Store(home)
    left_out(store.torn())
    entries = [entry for id in ([track] if track else store.tracks()) for entry in board.table(store, id)]
    if json:
        print(jsonlib.dumps([export.flat(entry) for entry in entries], indent=1))
    elif not entries and (away := sum(len(store.runs(id, all=True)) for id in ([track] if track else TRACKS))):
        out.print(f"No rows to show in {home}: {away} are hidden or retracted.", highlight=False)
    elif not entries:
        out.print(f"No rows in {home} yet. Make some:")
        command(
            f"razorbench sweep {track or next(iter(TRACKS))} --methods sft,dr-grpo --grid lr=1e-4,3e-4 --seeds 0", home
        )
    else:
        for id in dict.fromkeys(entry.track for entry in entries):
            out.print(leaderboard(known_track(id), id, [entry for entry in entries if entry.track == id]))


def export(track: Name = "", *, format: str, out: Path, home: Home = HOME, json: Json = False) -> None:
    """Write the leaderboard of a track, or of all, for other people and programs.

    Args:
        track: Id of the track; all that have rows, if not given.
        format: csv, parquet, json: one row an entry; html: a page of one track; every-eval-ever: a folder of records
            for the data store of that name.
        out: File to write, or for every-eval-ever a folder that does not exist yet.
    """
    from razorbench.harness.report.export import publish
    from razorbench.harness.store.database import Store

    if track:
        find_track(track)
    with busy(f"exporting as {format}"):
        entries = publish(Store(home), track or None, format, out)
    say({"out": str(out), "entries": entries}, json, f"{out} holds {entries} entries.")


def show(submission: Name, *, home: Home = HOME, json: Json = False) -> None:
    """Show everything known of one submission: where it stands, and its rows.

    Args:
        submission: Its id or name, as `razorbench queue` or `razorbench results --json` give them.
    """
    from razorbench.harness.measure.record import plain
    from razorbench.harness.report.flags import flags
    from razorbench.harness.store import results as board
    from razorbench.harness.store.database import Store

    brought = told(home, submission)
    records = list(brought["end"]["records"]) if brought and brought["end"] else []
    if not brought or records:
        rows = [board.show(Store(home), id) for id in records or [submission]]
    else:
        rows = []
    if json:
        print(
            jsonlib.dumps(
                plain(
                    {**brought, "flags": flags([found["run"] for found in rows]), "rows": rows} if brought else rows[0]
                ),
                indent=1,
                default=str,
            )
        )
        return
    if brought:
        told_of = {(event["kind"], event["reason"]): event for found in rows for event in found["events"]}
        show_brought(brought, list(told_of.values()))  # each seed's record has them
    for flag in flags([found["run"] for found in rows]):
        out.print(f"⚑ {flag}", highlight=False, soft_wrap=True, style="yellow")
    for found in rows:
        show_row(found)


def show_brought(brought: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> None:
    """Where a submission stands."""
    sub, end = brought["submission"], brought["end"]
    state = {"queued": "waits for a worker", "scoring": f"is being scored by {brought['worker']}"}
    how = state.get(brought["state"], brought["state"])
    line = f"{sub['name']} ({sub['id']}) on {sub['track']}: {how}"
    out.print(line + (f": {end['reason']}" if end and end["reason"] else ""), highlight=False)
    for event in events:
        reason = f"{event['kind']} {event['value'] or ''}".strip()
        out.print(f"{event['decided_at']:%Y-%m-%d}: {reason}: {event['reason']}", highlight=False, soft_wrap=True)
    if brought["crashes"]:
        out.print(f"scoring crashed {brought['crashes']} times; the end of the last log:", highlight=False)
    if brought["log"]:
        out.print(brought["log"], highlight=False, soft_wrap=True)


def show_row(found: Mapping[str, Any]) -> None:
    """One scored checkpoint."""
    run = found["run"]
    seed = "" if run["seed"] is None else f", seed {run['seed']}"
    line = f"{run['name']} ({run['id']}) on {run['track']}: {run['method']}{seed}"
    out.print(line, highlight=False)
    scores = [
        {
            "task": score["task"],
            "items": score["n"],
            "unscored": score["unscored"],
            "failed": score["failed_adapted"],
            "base": number(score["base"], ".1f"),
            "adapted": number(score["adapted"], ".1f"),
            "difference": interval(score["difference"], score["low"], score["high"]),
            "p": number(score["p_holm"], ".2g"),
            "mde": number(score["mde"], ".1f"),
        }
        for score in found["scores"]
    ]
    listing(scores, False)
    metrics = [
        {"task": score["task"], "metric": name, "base": number(base, ".4g"), "adapted": number(adapted, ".4g")}
        for score in found["scores"]
        for name, (base, adapted) in score["metrics"].items()
    ]
    if metrics:
        listing(metrics, False)
    listing(found["drifts"], False, ("direction", "per", "nats", "se", "n", "floor"))
    changed = {k: v for k, v in run["settings"].items() if v not in ("", 0)}
    out.print("settings: " + " ".join(f"{k} {v}" for k, v in changed.items()), highlight=False)
    out.print(f"files: {found['folder']}")


def plot(track: Name, *, out: Path, home: Home = HOME, json: Json = False) -> None:
    """Draw a track: gain × retention with fronts, forgetting × drift with the law, training curves.

    Args:
        track: Id of the track.
        out: Folder to write the PNG files to.
    """
    from razorbench.harness.report import plots
    from razorbench.harness.store.database import Store

    find_track(track)
    files = [str(path) for path in plots.draw(Store(home), track, out)]
    say({"files": files}, json, "\n".join(files))


def film(
    track: tyro.conf.Positional[str] = "",
    checkpoints: tyro.conf.Positional[tuple[Path, ...]] = (),
    *,
    out: Path | None = None,
    submission: str = "",
    task: str = "",
    item: str = "",
    most: int = 1,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Film the base and adapted checkpoints side by side, from the same initial state; or what a submission did.

    Args:
        track: Id of the track, where checkpoints are filmed.
        checkpoints: Checkpoint folders, as `razorbench adapt` writes them.
        out: MP4 file to write; the films of a submission lie in the home, where the board finds them.
        submission: Id or name of a submission; its flips are filmed as they were scored, without weights.
        task: Id of one of the track's tasks; the new one, if not given.
        item: The instance; if not given, the first flip: of a submission, or of 50 instances and the first checkpoint.
        most: How many flips of a submission to film, the first ones.
    """
    if submission:
        film_submission(submission, task, item, most, home, json)
        return
    if not (track and checkpoints) or out is None:
        raise Refused("name a track, checkpoints and a file to write with --out, or a submission with --submission")
    chosen = find_track(track)
    from razorbench.harness.learn import checkpoint
    from razorbench.harness.measure.score import Bench
    from razorbench.harness.report import film as films

    bench = Bench(chosen, home)
    policies = {"base": bench.base}
    for folder in checkpoints:
        policies[folder.name] = bench.base.copy()
        policies[folder.name].load(checkpoint.read(folder).weights)
    name = task or chosen.new
    played = bench.tasks.get(name)
    if not isinstance(played, Task):
        raise Refused(f"{name!r} is no task of {track}; choose one of {', '.join(bench.tasks)}")
    with busy(f"filming {name}"):
        number = films.find(played, item).id[0].item() if item else films.first_flip(played, list(policies.values()))
        rewards = films.film(played, number, policies, out)
    ends = ", ".join(f"{who} {reward:g}" for who, reward in rewards.items())
    say({"file": str(out), "item": number, "rewards": rewards}, json, f"{out} shows item {number} of {name}: {ends}.")


def film_submission(submission: str, task: str, item: str, most: int, home: Path, json: bool) -> None:
    """Film what base and adapted did on flips of a submission."""
    if most < 1:
        raise Refused(f"most {most} cannot be; give a number that is at least 1")
    from razorbench.harness.report.film import film_flips
    from razorbench.harness.store.database import Store

    found = Store(home).submission(submission)
    name = task or find_track(found["track"]).new
    with busy(f"filming {name}"):
        files = [str(path) for path in film_flips(home, found["id"], name, item, most)]
    say({"files": files}, json, "\n".join(files))


def rebuild(*, server: Server = None, home: Home = HOME, json: Json = False) -> None:
    """Make the database again from the record files."""
    from razorbench.harness.store.database import Store

    rows = Store(home, server=server).rebuild()
    say({"records": rows}, json, f"{home} is rebuilt from {rows} records.")


# --- help for people --------------------------------------------------------------------------------------------------


def task(
    action: tyro.conf.Positional[Literal["new", "check"]],
    name: Name,
    *,
    folder: Path = Path("."),
    episodes: int = 256,
    home: Home = HOME,
    json: Json = False,
) -> None:
    """Write a new task in a package of its own, or prove one: chance, oracle, determinism, crash.

    Args:
        action: new writes a package; check proves a registered task.
        name: Id of the task, such as word-sums-v1.
        folder: Where `new` puts the package.
        episodes: Episodes that `check` plays at once; a slow simulator wants few.
    """
    if action == "new":
        from razorbench.harness.cli import scaffold

        files = [str(path) for path in scaffold.new(name, folder)]
        if scaffold.versioned(name) != name:
            err.print(f"A task's id has a version, so this one is {scaffold.versioned(name)}.", highlight=False)
        say({"files": files}, json, "\n".join(["Written:", *files, "Install it, then prove it:"]))
        if not json:
            command(f"pip install -e {Path(files[0]).parent}")
            command(f"razorbench task check {scaffold.versioned(name)}")
        return
    from razorbench.harness.cli.check.verdicts import check

    checks = check(name, episodes=episodes)
    failed = sum(found.ok is False for found in checks)
    if json:
        print(jsonlib.dumps([asdict(found) for found in checks], indent=1))
    else:
        for found in checks:
            out.print(MARKS[found.ok], end=" ")
            out.print(f"{found.name}: {found.detail}", highlight=False)
    if failed:
        raise Failed(f"{name} fails {failed} of {len(checks)} checks")


def doctor(*, home: Home = HOME, json: Json = False) -> None:
    """Say what works on this machine, and what to do about what does not."""
    from razorbench.harness.cli.doctor import diagnose

    found = diagnose(home)
    if json:
        listing([asdict(finding) for finding in found], json)
        return
    for finding in found:
        out.print(MARKS[{"ok": True, "missing": None, "broken": False}[finding.state]], end=" ")
        out.print(f"{finding.what}: {finding.detail}", highlight=False, soft_wrap=True)
        if finding.cure:
            out.print(f"    {finding.cure}", highlight=False, soft_wrap=True, style="cyan")


def serve(*, listen: str = "quack:localhost", home: Home = HOME) -> None:
    """Write the store for workers on several machines that share the home folder, until interrupted.

    The token that they share stands in RAZORBENCH_STORE_TOKEN.

    Args:
        listen: Address to listen on, as quack:HOST:PORT.
    """
    from razorbench.harness.store import quack, server
    from razorbench.harness.store.database import Store

    def ready(address: str) -> None:
        left_out(Store(home).torn())
        out.print(f"The store of {home} is served at {address}.", highlight=False)

    server.serve(home, listen, quack.token(), ready)


def board(*, port: int = 8501, home: Home = HOME) -> None:
    """Open the leaderboard in a browser.

    Args:
        port: Port to serve on.
    """
    from razorbench.leaderboard.serve import serve

    sys.exit(serve(home, port))


MARKS = {True: Text("✓", "green"), False: Text("✗", "red"), None: Text("–")}
"""What is well, what is not, and what does not apply."""

# --- saying it --------------------------------------------------------------------------------------------------------


COMMANDS = {
    f.__name__: f
    for f in (
        tracks, tasks, agents, methods, pretrain, adapt, score, sweep, results, export, show, plot, film, rebuild, task,
        doctor, demo, board, submit, worker, queue, verify, retract, hide, unhide, serve, base, questions,
    )
}  # fmt: skip


def main() -> None:
    """Run one command and leave with its exit code."""
    try:
        tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="razorbench",
            description="Adapt models; score what they gained, what they kept, and how far they drifted.",
        )
    except Refused as error:
        leave(2, error)
    except Failed as error:
        leave(1, error)
    except KeyboardInterrupt:
        leave(130, "stopped; the same command goes on where it was")
    except BrokenPipeError:  # the reader of a pipe has gone
        os._exit(0)
    except Exception as error:
        leave(1, sentence(error))


def sentence(error: Exception) -> str:
    """What went wrong, and what to do, in one sentence."""
    from razorbench.harness.store.database import StoreError

    if isinstance(error, StoreError):
        return str(error)
    if os.environ.get("RAZORBENCH_DEBUG"):
        traceback.print_exc()
    if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        return f"the disk is full ({error}); make room and run the same command again"
    if isinstance(error, OSError) and error.errno in (
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EACCES,
        errno.EPERM,
        errno.EROFS,
    ):
        return f"{error}; check the folder and its permissions"
    return f"{type(error).__name__}: {error} (RAZORBENCH_DEBUG=1 shows where)"


def leave(code: int, message: object) -> None:
    """Say why on standard error, and exit."""
    err.print("refused:" if code == 2 else "failed:", end=" ", style="bold red")
    err.print(str(message), highlight=False, soft_wrap=True)
    sys.exit(code)


if __name__ == "__main__":
    main()
