"""How many of LIBERO's tasks their experts solve, and in how many steps: `python -m benchmarks.libero` prints a table.

It needs `pip install 'razorbench[libero]'`; an episode takes 4 to 7 seconds of a processor.
"""

import argparse
from contextlib import nullcontext

import numpy as np

from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import demonstrations
from razorbench.tasks.libero.experts import EXPERTS


def played(id: str, states: int, lanes: int) -> tuple[np.ndarray, np.ndarray]:
    """Rewards [n] of the expert in the first initial states (NaN: unscored), and the steps it took, [n]."""
    one = nullcontext(make("task", id))
    with Workers(id, lanes=lanes, patience=600.0, timeout=300.0) if lanes > 1 else one as task:
        episodes = demonstrations(task, task.instances("test").first(states))
    assert episodes.outcome is not None
    return episodes.reward, np.asarray(episodes.outcome.metrics["steps"])


def main() -> None:
    """Print a row a task, and a line a suite."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--suites", nargs="+", choices=sorted(EXPERTS), default=list(EXPERTS))
    parser.add_argument("--change", choices=("lan", "swap"), help="what LIBERO-PRO changes")
    parser.add_argument("--states", type=int, default=5, help="initial states of each task")
    parser.add_argument("--lanes", type=int, default=1, help="simulators at once, of 1.3 GB each")
    told = parser.parse_args()
    print("| task | instruction | solved | steps |\n| --- | --- | ---: | ---: |", flush=True)
    sums = {}
    for suite in told.suites:
        rewards = []
        for number in EXPERTS[suite]:
            id = "-".join(filter(None, ("libero", suite, told.change, str(number), "v1")))
            reward, steps = played(id, told.states, told.lanes)
            won = steps[reward == 1]
            taken = f"{won.min():.0f}–{won.max():.0f}" if len(won) else ""
            asks = make("task", id).row.words
            print(f"| `{id}` | {asks} | {np.nansum(reward):.0f} of {np.isfinite(reward).sum()} | {taken} |", flush=True)
            rewards.append(reward)
        sums[suite] = np.concatenate(rewards)
    for suite, reward in sums.items():
        print(f"{suite}: {np.nansum(reward):.0f} of {np.isfinite(reward).sum()}, {np.isnan(reward).sum()} unscored")


if __name__ == "__main__":
    main()
