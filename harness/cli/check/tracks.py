"""What a track names and needs, and whether it is at hand: asked before anything heavy is loaded."""

from collections.abc import Iterator
from pathlib import Path

from razorbench.harness.cli.check.trial import Check
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Benchmark
from razorbench.harness.core.registry import ids as registered
from razorbench.harness.core.registry import known, unknown
from razorbench.harness.tracks.catalogue import find_track, other_track
from razorbench.harness.tracks.origins import Folder, Served
from razorbench.harness.tracks.spec import Track


def check(file: str, home: Path) -> list[Check]:
    """What a track needs and whether it is at hand: names first, then the questions of its tasks; no model is loaded.

    `file` is a path that ends in `.toml`, or the id of a track. Refuses what cannot be read as a track.
    """
    track = find_track(file) if file.endswith(".toml") else find_track(file, home)  # of another, `taken` tells
    findings = [*names(track), taken(track, home)]
    if all(each.ok for each in findings):
        findings += [base(track, home), *(questions(track, task) for task in track.tasks)]
    else:
        findings.append(Check("questions", None, "Asked for when all names are known."))
    return findings


def names(track: Track) -> Iterator[Check]:
    """Whether all that the track names by an id is known."""
    wanted = {
        "new": [("task", track.new)] if track.new else [],
        "priors": [("task", task) for task in track.prior_tasks],
        "base": [("agent", track.base.agent), *(("task", task) for task in [track.base.task] if task)],
        "demo": [("method", how.partition(":")[0]) for how in track.demo],
    }
    if track.presets:
        grids = track.presets.values()
        wanted["presets"] = [("method", how.partition(":")[0]) for each in grids for how in each]
    for name, ids in wanted.items():
        lacking = [unknown(kind, id, registered(kind)) for kind, id in ids if not known(kind, id)]
        yield Check(name, not lacking, "; ".join(lacking) or ", ".join(dict.fromkeys(id for _, id in ids)) or "none")


def taken(track: Track, home: Path) -> Check:
    """Whether its id means another track here."""
    if other := other_track(track, home):
        return Check("id", False, f"{track.id} is another track here, of hash {other.digest}; choose another id.")
    return Check("id", True, f"{track.id}, of hash {track.digest}")


def base(track: Track, home: Path) -> Check:
    """Whether the base is there, or will be made or fetched."""
    chosen = track.base
    there = chosen.weights(home)
    if isinstance(chosen.origin, Folder):
        try:
            chosen.origin.checked()
        except Refused as error:
            return Check("weights", False, f"{error}.")
    elif isinstance(chosen.origin, Served):
        return Check("weights", None, f"{chosen.origin.told} answers behind a server; nobody here knows its weights.")
    elif chosen.origin and not chosen.fetched(home).exists():
        return Check("weights", None, f"{chosen.origin.told} is fetched on first use, or now by `razorbench base`.")
    if there.exists() or not chosen.task:
        return Check("weights", True, f"{chosen.id} is at hand.")
    if chosen.sha256:
        return Check("weights", False, f"{there} is missing; install razorbench again, which brings it.")
    return Check("weights", True, f"{chosen.id} is made on first use, or now by `razorbench pretrain`.")


def questions(track: Track, id: str) -> Check:
    """Whether a task has as many test questions as the track scores, and its data are to be had."""
    task, items = None, track.items
    try:
        task = track.task(id)
        if isinstance(task, Benchmark):
            return Check(id, True, "owns its loop, and its items with it.")
        there = len(task.instances("test"))
    except Exception as error:  # whatever a task of somebody's does when its data are not there
        return Check(id, False, f"{type(error).__name__}: {error}")
    finally:
        getattr(task, "close", lambda: None)()  # Workers keep processes
    if there < items:
        return Check(id, False, f"has {there:,} test questions, not {items:,}; lower items, or take 0 for all.")
    return Check(id, True, f"{items or there:,} of {there:,} test questions")
