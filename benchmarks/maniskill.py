"""How often ManiSkill3's experts succeed, and the base of its track: `python -m benchmarks.maniskill` prints a table.

It needs `pip install 'razorbench[maniskill]'` and Vulkan; an episode takes half a second of a processor. The base is
made in the home, unless it is there; without `--home` it is left out.
"""

import argparse
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.keeping import nothing
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.tracks.bases import base_policy
from razorbench.harness.tracks.catalogue import TRACKS
from razorbench.tasks.maniskill.experts import EXPERTS
from razorbench.tasks.maniskill.table import TABLE

TRACK = TRACKS["maniskill-pick-cube-v1"]


def line(id: str, who: str, episodes: Episodes) -> str:
    """A row of the table."""
    assert episodes.outcome is not None
    once, at_end = (episodes.outcome.metrics[f"success_{when}"] for when in ("once", "at_end"))
    n = len(episodes)
    return f"| `{id}` | {who} | {once.sum():.0f} of {n} | {at_end.sum():.0f} of {n} |"


def experts(states: int) -> Iterator[str]:
    """A row an expert and style."""
    for id in (f"maniskill-{name}-v1" for name, row in TABLE.items() if row.env in EXPERTS):
        task = make("task", id)
        for style in task.styles:
            yield line(id, style, demonstrations(task, task.instances("test").first(states), style))


def base(states: int, home: Path) -> Iterator[str]:
    """Two rows a task of the track: the likeliest motions, and drawn ones."""
    play = partial(rollout, base_policy(TRACK.base, home), keep=nothing)
    for id in TRACK.tasks:
        task: Task = make("task", id)
        some: Instances = task.instances("test").first(states)
        for who, temperature in (("the base, likeliest motions", 0.0), ("the base, drawn", 1.0)):
            yield line(id, who, play(task, some, temperature=temperature))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=100, help="initial states of each task")
    parser.add_argument("--home", type=Path, help="where the base is, or is made")
    parser.add_argument("--no-experts", action="store_true", help="the base alone")
    told = parser.parse_args()
    print("| task | who, or the expert's style | success once | at the end |\n| --- | --- | ---: | ---: |")
    for row in () if told.no_experts else experts(told.states):
        print(row, flush=True)
    for row in base(told.states, told.home) if told.home else ():
        print(row, flush=True)


if __name__ == "__main__":
    main()
