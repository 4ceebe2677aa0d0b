"""How many simulator steps a second the robot's tasks give: `python -m benchmarks.robot` prints a table.

The policy is asked in every row. Steps are the arm's motions of 40 ms; one plain Gymnasium loop is the measure.
"""

import time

import numpy as np
import torch

from razorbench import Agent, Asked, Episodes, Instances, Observations, Task
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.tasks.fetch.simulator import environment
from razorbench.tasks.fetch.tasks import KINDS

TASK, KIND = "fetch-air-last-v1", "air"
"""By the last rule every episode has fifty steps, so that all rows do the same work."""
EPISODES = 64
SCENES = 16
"""Episodes that a worker plays at once."""


def plain(agent: Agent, instances: Instances) -> float:
    """Steps a second of `reset` and `step`, one episode after another, the policy asked for one motion at a time."""
    env = environment(KINDS[KIND].scene)
    text, steps, start = [KINDS[KIND].text], 0, time.perf_counter()
    for i in range(len(instances)):
        one = instances.take(np.array([i]))
        seen, _ = env.reset(seed=i)
        for turn in range(50):
            x = seen["observation"][None].astype(np.float32)
            state = {
                "gripper": x[:, :3],
                "block": x[:, 3:6],
                "facing": x[:, 11:14],
                "fingers": x[:, 9:11],
                "moving": x[:, 20:23],
                "pushed": x[:, 14:17],
                "goal": seen["desired_goal"][None].astype(np.float32),
            }
            asked = Asked(Episodes(one), np.array([0]), Observations(text, state=state), one.key, np.array([turn]))
            seen, *_ = env.step(agent.act(asked).value[0])
            steps += 1
    return steps / (time.perf_counter() - start)


def batched(agent: Agent, task: Task, instances: Instances) -> float:
    """Steps a second of a rollout."""
    start = time.perf_counter()
    episodes = rollout(agent, task, instances)
    return sum(len(turn.rows) for turn in episodes.turns) / (time.perf_counter() - start)


def main() -> None:
    torch.set_num_threads(1)
    agent, task = make("agent", "mini-robot-v1"), make("task", TASK)
    some = task.instances("test").first(EPISODES)
    rollout(agent, task, some.first(1))  # load the simulator
    speed = {"plain Gymnasium loop": plain(agent, some.first(8)), "in thread": batched(agent, task, some)}
    for lanes in (1, 2):
        with Workers(TASK, lanes=lanes, scenes=SCENES) as pool:
            rollout(agent, pool, some.first(lanes * SCENES))  # start the workers
            speed[f"{lanes} worker{'s' * (lanes > 1)}"] = batched(agent, pool, some)
    print("| where | steps/s | of the plain loop |\n| --- | --- | --- |")
    for where, steps in speed.items():
        print(f"| {where} | {steps:.0f} | {steps / speed['plain Gymnasium loop']:.2f}x |")


if __name__ == "__main__":
    main()
