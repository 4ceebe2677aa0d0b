"""SimplerEnv itself: what its expert solves, and whether verdicts are those of upstream's own evaluator.

`python -m benchmarks.simpler` prints a table. It needs RAZORBENCH_SIMPLER_PYTHON (`razorbench simpler setup`); an
episode takes some seconds of a processor, and as many again in upstream's evaluator, which is given the same motions
(`benchmarks.simpler_upstream`, in that interpreter).
"""

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.keeping import everything
from razorbench.harness.core.lanes import Lanes, Workers
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import Demonstrator, rollout
from razorbench.tasks.simpler.environment import VARIABLE

PYTHON = f"${VARIABLE}"
TASKS = tuple(f"simpler-coke-can-{way}-dummy-state-v1" for way in ("upright", "lengthwise", "crosswise"))
ROOT = Path(__file__).parent.parent


def played(id: str, states: int, lanes: int, again: bool) -> tuple[Any, Any]:
    """Episodes of the expert in the first test states, and their verdicts once more where that is asked for."""
    with Workers(id, lanes, python=PYTHON, patience=900, timeout=300) as task:
        shown: Any = task
        some, expert = task.instances("test").first(states), Demonstrator(shown, "usual")
        episodes = rollout(expert, task, some, keep=everything)
        return episodes, rollout(expert, task, some).reward if again else None


def upstream(id: str, episodes: Any) -> np.ndarray:
    """Verdicts [n] of upstream's own evaluator on the motions of some episodes."""
    motions = [
        np.array([action.value for action in episode.actions], np.float64).reshape(-1, 7) for episode in episodes
    ]
    with tempfile.TemporaryDirectory() as folder:
        given, told = Path(folder, "given.npz"), Path(folder, "told.npy")
        stops = np.cumsum([len(each) for each in motions])
        np.savez(given, id=id, instances=episodes.instances.id, motions=np.concatenate(motions), stops=stops)
        python = Lanes(python=PYTHON).interpreter
        command = [python, "-m", "benchmarks.simpler_upstream", str(given), str(told)]
        subprocess.run(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
        return np.load(told)


def main() -> None:
    """Print a row a task."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=TASKS)
    parser.add_argument("--states", type=int, default=25, help="test states of each task")
    parser.add_argument("--lanes", type=int, default=1, help="simulators at once")
    parser.add_argument("--again", action="store_true", help="play all of it twice, and say how many verdicts differ")
    parser.add_argument("--alone", action="store_true", help="without upstream's evaluator, which needs state tasks")
    told = parser.parse_args()
    print("| task | instruction | solved | steps | as upstream's evaluator | differ when played again |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for id in told.tasks:
        episodes, second = played(id, told.states, told.lanes, told.again)
        reward, steps = episodes.reward, np.asarray(episodes.outcome.metrics["steps"])
        scored = np.isfinite(reward)
        won = steps[reward == 1]
        same = "" if told.alone else f"{(upstream(id, episodes) == reward)[scored].sum()} of {scored.sum()}"
        other = "" if second is None else f"{(second != reward)[scored].sum()} of {scored.sum()}"
        steps = f"{won.min():.0f}–{won.max():.0f}" if len(won) else ""
        solved = f"{len(won)} of {scored.sum()}"
        print(f"| `{id}` | {make('task', id).row.words} | {solved} | {steps} | {same} | {other} |", flush=True)


if __name__ == "__main__":
    main()
