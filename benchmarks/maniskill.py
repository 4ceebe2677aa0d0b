"""How often ManiSkill3's experts succeed: `python -m benchmarks.maniskill` prints a table.

It needs `pip install 'razorbench[maniskill]'` and Vulkan; an episode takes half a second of a processor.
"""

import argparse

from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations
from razorbench.tasks.maniskill.experts import EXPERTS
from razorbench.tasks.maniskill.table import TABLE


def main() -> None:
    """Print a row an expert and style."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--states", type=int, default=100, help="initial states of each task")
    states = parser.parse_args().states
    print("| task | style | success once | at the end |\n| --- | --- | ---: | ---: |")
    for name in (name for name, row in TABLE.items() if row.env in EXPERTS):
        task = make("task", f"maniskill-{name}-v1")
        for style in task.styles:
            episodes = demonstrations(task, task.instances("test").first(states), style)
            assert episodes.outcome is not None
            once, at_end = (episodes.outcome.metrics[f"success_{when}"] for when in ("once", "at_end"))
            said = f"{once.sum():.0f} of {states} | {at_end.sum():.0f} of {states}"
            print(f"| `maniskill-{name}-v1` | {style} | {said} |", flush=True)


if __name__ == "__main__":
    main()
