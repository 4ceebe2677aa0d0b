"""How many simulator steps a second lanes give: `python -m benchmarks.lanes` prints a table.

The simulators sleep 5-10 ms a step, so the number of cores does not limit; the policy takes 4 ms a call.
"""

import time
from collections.abc import Generator
from typing import Any

import numpy as np

from razorbench import Actions, Agent, Asked, Card, Instance, Instances, Observation, Outcome, Task, each, uniform
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.rollout import rollout

STEPS = 16
"""Steps an episode takes, on average; they differ, as real ones do."""


class Sleeper:
    """A simulator of which only the time is real."""

    card = Card("a number", "always", "made up", "Apache-2.0", 1.0)

    def instances(self, split: str) -> Instances:
        """64 episodes of 8 to 24 steps."""
        return Instances(np.arange(64), {"steps": STEPS // 2 + np.arange(64) * 7 % (STEPS + 1)})

    @each
    def play(self, x: Instance) -> Generator[Observation, Any, Outcome]:
        """Sleep 5-10 ms a step."""
        for pause in uniform(np.array([x.key], np.uint64), int(x.data["steps"]))[0]:
            yield Observation(state=np.zeros(8, np.float32))
            time.sleep(0.005 + 0.005 * pause)
        return Outcome(1.0, {"steps": float(x.data["steps"])})


class Policy:
    """4 ms a call, however many are asked."""

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Zeros."""
        time.sleep(0.004)
        return Actions(np.zeros((len(asked), 7), np.float32))


def speed(agent: Agent, task: Task, instances: Instances) -> tuple[float, float]:
    """Simulator steps a second, and rows a policy call."""
    start = time.perf_counter()
    episodes = rollout(agent, task, instances)
    seconds = time.perf_counter() - start
    steps = sum(len(turn.rows) for turn in episodes.turns)
    return steps / seconds, steps / len(episodes.turns)


def main() -> None:
    questions = Sleeper().instances("train")
    thread, rows = speed(Policy(), Sleeper(), questions)  # pyright: ignore[reportArgumentType]
    print("| where | steps/s | of the thread | rows a call |\n| --- | --- | --- | --- |")
    print(f"| in thread | {thread:.0f} | 1.0x | {rows:.1f} |")
    for lanes in (1, 2, 4, 8):
        with Workers("benchmarks.lanes:Sleeper", lanes=lanes) as pool:
            rollout(Policy(), pool, questions.take(np.arange(lanes)))  # start the workers
            steps, rows = speed(Policy(), pool, questions)
        print(f"| {lanes} lane{'s' * (lanes > 1)} | {steps:.0f} | {steps / thread:.1f}x | {rows:.1f} |")


if __name__ == "__main__":
    main()
