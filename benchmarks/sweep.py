"""A sweep against running its points one after another, each in processes of its own; and what 2,100 points cost.

    python -m benchmarks.sweep

The peer is what one does without a sweep: `razorbench adapt` and `razorbench score` for each point, in turn. Both
sides are whole commands; seconds of processor time are the operating system's (user + system, all processes), so that
waiting does not count. A point is a measured checkpoint, at the end of a run or on the way (nine a run), as the paper
counts them.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from razorbench.harness.measure.score import Bench
from razorbench.harness.runs.sweep import plan
from razorbench.harness.tracks.catalogue import find_track

TRACK = "parity-mnist-v1"
METHODS = "sft,sft:style=zero-four,oracle-sft,reinforce,1-0-reinforce,grpo,dr-grpo,grpo:kl=0.1,simpo,distil"
GOAL = 2_100


def cost(commands: list[list[str]]) -> tuple[float, float]:
    """Wall and processor seconds of some commands, one after another."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    for command in commands:
        subprocess.run([str(Path(sys.executable).with_name("razorbench")), *command], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - started, used


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", default="1e-5,1e-4", help="learning rates, each with all ten methods")
    rates, track = parser.parse_args().rates, find_track(TRACK)
    with tempfile.TemporaryDirectory() as folder:
        home, teacher = Path(folder) / "home", Path(folder) / "teacher"
        Bench(track, home)  # the base, which both sides use
        cost([["adapt", TRACK, "--method", "grpo", "--out", str(teacher), "--home", str(home)]])
        methods = METHODS.replace("distil", f"distil:teacher={teacher}")
        grid = ["--grid", f"lr={rates}"]
        swept = cost([["sweep", TRACK, "--methods", methods, *grid, "--seeds", "0", "--home", str(home)]])
        specs = plan(track, methods.split(","), [f"lr={rates}"], [0])
        alone = []
        for i, spec in enumerate(specs):
            given = {name: getattr(spec.settings, name) for name in ("lr", "kl", "style", "teacher")}
            flags = [f"--{name}={value}" for name, value in given.items() if value]
            out = str(Path(folder) / f"run-{i}")
            alone.append(["adapt", TRACK, "--method", spec.method, "--out", out, "--home", str(home / "alone"), *flags])
            alone.append(["score", out, "--track", TRACK, "--home", str(home / "alone")])
        Bench(track, home / "alone")
        apart = cost(alone)
    runs, points = len(specs), len(specs) * (track.checkpoints + 1)
    print("| | runs | points | wall (s) | processor (s) | processor s a point |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, (wall, used) in (("sweep, one worker a core", swept), ("one after another", apart)):
        print(f"| {name} | {runs} | {points} | {wall:.0f} | {used:.0f} | {used / points:.3f} |")
    print(f"| ratio | | | {swept[0] / apart[0]:.2f} | {swept[1] / apart[1]:.2f} | |")
    print(f"\n{GOAL:,} points at this rate: {swept[1] / points * GOAL / 60:.1f} minutes of processor time.")


if __name__ == "__main__":
    main()
