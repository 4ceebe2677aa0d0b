"""Write a new track's file that works as written, to be changed line by line; and say what a file lacks."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Benchmark
from razorbench.harness.core.registry import check_id, known, make, unknown
from razorbench.harness.core.registry import ids as registered
from razorbench.harness.tracks.catalogue import find_track, other_track
from razorbench.harness.tracks.spec import Track

TEMPLATE = """# A track: what is held fixed, so that rows compare. `razorbench track check FILE` says what is missing.
id = "my-track-v1"              # whatever would change a number wants a new id: the next version
title = "mini-math, retaining two skills"
question = "Does a small language model that unlearns a misreading of stories keep two other skills?"
base = "mini-lm-v1"             # what is adapted: the id of a base, or a table [base] of your own
new = "mini-math-v1"            # the new task; `razorbench tasks` lists what there is
items = 100                     # test questions of each task that are scored; 0: all
drift_items = 50                # test questions of the new task on which drift is measured; 0: all
checkpoint_items = 25           # test questions a task for points in mid-training
checkpoints = 2                 # points in mid-training, besides the end

[priors]                        # what must not be forgotten, by suite; retention is the mean over all of them
skills = ["mini-sorting-v1", "mini-form-v1"]

[settings]                      # defaults of an adaptation; `razorbench adapt --help` explains each
lr = 3e-4
warmup = 5
batch = 16
group = 8
steps = 32
horizon = 96

[conditions]                    # how items are answered; these are the defaults
temperature = 0.0               # 0: the likeliest token each time
samples = 1                     # answers to each item

[demo]                          # what `razorbench demo --tracks my-track-v1` runs: method → learning rates
dr-grpo = [3e-4]
sft = [3e-4]
"""


def new(name: str, folder: Path) -> Path:
    """Write `folder`/NAME.toml; a name without a version gets `-v1`. Refuses an id that is none or is taken, and a
    file that exists.
    """
    id = name if re.search(r"-v\d+$", name) else f"{name}-v1"
    check_id("track", id)
    if known("track", id):
        raise Refused(f"track id {id!r} is taken; choose another name, or a higher version")
    path = Path(folder) / f"{id}.toml"
    if path.exists():
        raise Refused(f"{path} exists; choose another name, or a higher version")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(TEMPLATE.replace("my-track-v1", id), encoding="utf-8")
    return path


@dataclass(frozen=True)
class Finding:
    """One thing that a track needs, and whether it is there; None: not yet known."""

    name: str
    ok: bool | None
    detail: str


def check(file: str, home: Path) -> list[Finding]:
    """What a track needs and whether it is at hand: names first, then the questions of its tasks; no model is loaded.

    `file` is a path that ends in `.toml`, or the id of a track. Refuses what cannot be read as a track.
    """
    track = find_track(file) if file.endswith(".toml") else find_track(file, home)  # of another, `taken` tells
    findings = [*names(track), taken(track, home)]
    if all(each.ok for each in findings):
        findings += [base(track, home), *(questions(task, track.items) for task in (track.new, *track.prior_tasks))]
    else:
        findings.append(Finding("questions", None, "Asked for when all names are known."))
    return findings


def names(track: Track) -> Iterator[Finding]:
    """Whether all that the track names by an id is known."""
    wanted = {
        "new": [("task", track.new)],
        "priors": [("task", task) for task in track.prior_tasks],
        "base": [("agent", track.base.agent), ("task", track.base.task)],
        "demo": [("method", how.partition(":")[0]) for how in track.demo],
    }
    for name, ids in wanted.items():
        lacking = [unknown(kind, id, registered(kind)) for kind, id in ids if not known(kind, id)]
        yield Finding(name, not lacking, "; ".join(lacking) or f"{', '.join(dict.fromkeys(id for _, id in ids))}")


def taken(track: Track, home: Path) -> Finding:
    """Whether its id means another track here."""
    if other := other_track(track, home):
        return Finding("id", False, f"{track.id} is another track here, of hash {other.digest}; choose another id.")
    return Finding("id", True, f"{track.id}, of hash {track.digest}")


def base(track: Track, home: Path) -> Finding:
    """Whether the base is there, or will be made."""
    there = track.base.weights(home)
    if there.exists():
        return Finding("weights", True, f"{track.base.id} is at hand.")
    if track.base.sha256:
        return Finding("weights", False, f"{there} is missing; install razorbench again, which brings it.")
    return Finding("weights", True, f"{track.base.id} is made on first use, or now by `razorbench pretrain`.")


def questions(id: str, items: int) -> Finding:
    """Whether a task has as many test questions as the track scores, and its data are to be had."""
    try:
        task = make("task", id)
        if isinstance(task, Benchmark):
            return Finding(id, True, "owns its loop, and its items with it.")
        there = len(task.instances("test"))
    except Exception as error:  # whatever a task of somebody's does when its data are not there
        return Finding(id, False, f"{type(error).__name__}: {error}")
    if there < items:
        return Finding(id, False, f"has {there:,} test questions, not {items:,}; lower items, or take 0 for all.")
    return Finding(id, True, f"{items or there:,} of {there:,} test questions")
