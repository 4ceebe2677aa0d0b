"""The google robot's track on fewer states, and its experts: `python -m benchmarks.google --items 12`.

It prints a table of the base, and of each method by gain, retention and drift. Stopped and started again, it goes on.
With `--experts drawer` it prints what the experts solve of the tasks in whose ids that stands, on SimplerEnv's states.
It needs `pip install 'razorbench[sapien]'` and RAZORBENCH_ASSETS; an episode takes some three seconds of a processor.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from razorbench.harness.core.registry import ids, make
from razorbench.harness.core.rollout import demonstrations
from razorbench.harness.measure.record import Record
from razorbench.harness.runs.sweep import plan, sweep
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.harness.tracks.spec import Track
from razorbench.tasks.google.facts import PLACES

WHOLE = TRACKS["google-coke-can-sapien3-v1"]


def row(name: str, record: Record) -> str:
    """A row of the table: scores of each task, base to adapted, and the three figures with their intervals."""
    scores = " | ".join(f"{score.base:.0f} → {score.adapted:.0f}" for score in record.scores)
    gain = f"{record.gain:+.0f} [{record.gain_low:+.0f}, {record.gain_high:+.0f}]"
    kept = f"{record.retention:+.0f} [{record.retention_low:+.0f}, {record.retention_high:+.0f}]"
    drift = next(drift for drift in record.drifts if (drift.direction, drift.per) == ("forward", "episode"))
    minutes = (record.cost["adapt_seconds"] + record.cost["score_seconds"]) / 60
    return f"| `{name}` | {scores} | {gain} | {kept} | {drift.nats:.1f} ± {drift.se:.1f} | {minutes:.0f} |"


def fewer(whole: Track, items: int, methods: Sequence[str], workers: int, home: Path) -> Iterator[str]:
    """The lines of a table: a track on so many states of each task, adapted by some methods and scored."""
    track = replace(whole, id=f"{whole.id.removesuffix('-v1')}-{items}-v1", items=items, drift_items=items)
    names = " | ".join(id.removesuffix("-v1").removesuffix("-sapien3") for id in track.tasks)
    yield f"| method | {names} | gain | retention | drift, nats | minutes |\n|{' --- |' * (len(track.tasks) + 5)}"
    for done in sweep(track, plan(track, methods, [], [0]), home, workers):
        label = done.spec.label(track.settings)
        yield row(label, done.record) if done.record else f"{label} failed: {done.error}"


def experts(part: str) -> Iterator[str]:
    """A row of each task with `part` in its id: how many of SimplerEnv's own states its expert solves, and which not.

    They are 25 places of a can, or nine of the robot before a drawer.
    """
    for id in ids("task"):
        if not id.startswith("google-") or "-camera" in id or "pretraining" in id or part not in id:
            continue
        task = make("task", id)
        names = list(PLACES) if "drawer" in id else [str(place) for place in range(25)]
        reward = demonstrations(task, task.instances("test").first(len(names))).reward
        lost = ", ".join(name for name, won in zip(names, reward, strict=True) if not won)
        yield f"| `{id}` | {reward.sum():.0f} of {len(names)} | {lost} |"


def main() -> None:
    """Adapt and score by each of the methods with the track's settings, or with those that stand after its colons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=12, help="states of each task that are scored")
    parser.add_argument("--methods", nargs="+", default=["reinforce", "sft:steps=120:batch=16"])
    parser.add_argument("--workers", type=int, default=2, help="runs at once")
    parser.add_argument("--home", type=Path, default=Path(".razorbench/google"))
    parser.add_argument("--experts", metavar="PART", help="the experts of the tasks with this in their ids, instead")
    given = parser.parse_args()
    if given.experts is not None:
        print("| task | solved | not from |\n| --- | ---: | --- |")
        for line in experts(given.experts):
            print(line, flush=True)
        return
    for line in fewer(WHOLE, given.items, given.methods, given.workers, given.home):
        print(line, flush=True)


if __name__ == "__main__":
    main()
