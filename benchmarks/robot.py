"""What robots cost beside plain code in the same run: `python -m benchmarks.robot` prints four tables.

Control steps a second of a simulator in worker processes beside a plain loop over it, the policy asked in every row,
with states and with a camera; bytes that a step sends through a lane; motions of a tiny OpenVLA in a batch beside one
by one; peak memory of scoring more items. Ways take turns, round by round, and a ratio is of one round: machines are
shared. The camera is the google robot's, which needs its data files and Vulkan; without them its rows are left out.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.costs import Cost, apart, measured
from razorbench import Agent, Asked, Episodes, Instances, Missing, Observations, Refused, Task
from razorbench.harness.core.columns import portable
from razorbench.harness.core.lanes import Workers
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.core.serving import COLUMNS, made, packed
from razorbench.harness.measure.evaluation import evaluate
from razorbench.tasks.fetch.simulator import environment
from razorbench.tasks.fetch.tasks import KINDS
from razorbench.tasks.tabletop import Green

LANES = (1, 2, 4)
"""Worker processes."""
BATCH = 16
"""Pictures that the policy looks at together."""
ITEMS = (16, 64)
"""Items that are scored."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Simulator:
    """What is compared."""

    name: str
    task: str
    """As `Workers` takes it."""
    agent: str
    plain: Callable[[Agent, Task, Instances], int]
    """Plays instances one after another without our harness, the policy asked for one motion at a time; the steps."""
    episodes: int
    """Of a rollout, one round."""
    alone: int
    """Of the plain loop, one round."""
    scenes: int
    """Episodes that a worker plays at once."""


def answer(agent: Agent, one: Instances, seen: Observations, turn: int) -> np.ndarray:
    """What the agent does in the only episode."""
    return agent.act(Asked(Episodes(one), np.array([0]), seen, one.key, np.array([turn]))).value[0]


loaded = cache(environment)


def gymnasium(agent: Agent, task: Task, instances: Instances) -> int:
    """Gymnasium's `reset` and `step`."""
    env, kind = loaded(KINDS["air"].scene), KINDS["air"]
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
            seen, *_ = env.step(answer(agent, one, Observations([kind.text], state=state), turn))
    return 50 * len(instances)


def sapien(agent: Agent, task: Any, instances: Instances) -> int:
    """The scene of an instance, looked at and moved."""
    steps = 0
    for i in range(len(instances)):
        one = instances.take(np.array([i]))
        scene = task.scene(one[0].data, True)
        for turn in range(task.steps):
            scene.look()
            seen = Observations([task.text], {"overhead_camera": scene.picture()[None]})
            scene.step(answer(agent, one, seen, turn))
            steps += 1
            if scene.over:
                break
    return steps


SIMULATORS = (
    # By the last rule every episode has fifty steps, so that all rows do the same work.
    Simulator("a state: `fetch-air-last-v1`", "fetch-air-last-v1", "mini-robot-v1", gymnasium, 64, 8, 16),
    Simulator("640 × 512 pixels of the google robot", "benchmarks.scenes:Brief", "tiny-openvla-v1", sapien, 4, 4, 1),
)


# --- control steps ----------------------------------------------------------------------------------------------------


def processor(pids: Sequence[int]) -> float:
    """Seconds of the processor that this process and others have taken so far."""
    fields = (Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids)
    return time.process_time() + sum(int(field[11]) + int(field[12]) for field in fields) / TICKS


def timed(play: Callable[[], int], pids: Sequence[int] = ()) -> tuple[float, float]:
    """Steps a second, and a processor second of this process and the workers `pids`."""
    start, used = time.perf_counter(), processor(pids)
    steps = play()
    return steps / (time.perf_counter() - start), steps / (processor(pids) - used)


def batched(agent: Agent, task: Task, instances: Instances) -> int:
    """A rollout; its steps."""
    return sum(len(turn.rows) for turn in rollout(agent, task, instances).turns)


def in_lanes(agent: Agent, pool: Workers, workers: Sequence[Any], some: Instances, lanes: int) -> tuple[float, float]:
    """The same in the first of some workers."""
    pool.workers[:], pool.lanes = workers[:lanes], lanes
    try:
        return timed(partial(batched, agent, pool, some), [worker.pid for worker in pool.workers])
    finally:
        pool.workers[:], pool.lanes = workers, len(workers)


def compared(simulator: Simulator, rounds: int) -> None:
    """Print the rows of a simulator, and what a step sends through a lane."""
    agent, task = make("agent", simulator.agent), made(simulator.task)
    some = task.instances("test").first(simulator.episodes)
    simulator.plain(agent, task, some.first(1))  # load the simulator
    pool = Workers(simulator.task, max(LANES), scenes=simulator.scenes, patience=600.0, timeout=300.0)
    with closing(pool):
        rollout(agent, pool, some.take(np.arange(max(LANES) * simulator.scenes) % len(some)))  # start the workers
        workers = list(pool.workers)
        ways: dict[str, Callable[[], tuple[float, float]]] = {
            "plain loop": lambda: timed(partial(simulator.plain, agent, task, some.first(simulator.alone))),
            "in thread, a batch in lock-step": lambda: timed(partial(batched, agent, task, some)),
        }
        for lanes in LANES:
            scenes = f", {simulator.scenes} scenes each" if simulator.scenes > 1 else ""
            name = f"{lanes} worker{'s' * (lanes > 1)}{scenes}"
            ways[name] = partial(in_lanes, agent, pool, workers, some, lanes)
        found = in_turn(ways, rounds)
    plain = found["plain loop"]
    for name, speeds in found.items():
        wall, used = (told([speed[at] / peer[at] for speed, peer in zip(speeds, plain, strict=True)]) for at in (0, 1))
        rate = statistics.median(speed[0] for speed in speeds)
        print(f"| {simulator.name} | {name} | {rate:.1f} | {wall} | {used} |", flush=True)


def in_turn(ways: Mapping[str, Callable[[], Any]], rounds: int) -> dict[str, list[Any]]:
    """What each way gives, round by round."""
    found: dict[str, list[Any]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(way())
    return found


def told(ratios: Sequence[float]) -> str:
    """The median of some ratios, and how far apart they lie."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def sent(simulator: Simulator) -> tuple[int, int, int]:
    """Bytes of one step of one episode: to the agent, of which pictures and states; and back."""
    agent, task = make("agent", simulator.agent), made(simulator.task)
    turn = rollout(agent, task, task.instances("test").first(1)).turns[0]
    assert turn.done
    seen = Observations(*(portable(getattr(turn.seen, name)) for name in COLUMNS), rows=turn.rows)
    return len(packed(("asks", seen))), seen.nbytes, len(packed(("values", portable(turn.done.value))))


# --- the policy -------------------------------------------------------------------------------------------------------


def looked(agent: Agent, instances: Instances, seen: Observations, at_once: int) -> float:
    """Action tokens a processor second, so many pictures at once."""
    start = time.process_time()
    for first in range(0, len(instances), at_once):
        rows = np.arange(first, min(first + at_once, len(instances)))
        some = instances.take(rows)
        agent.act(Asked(Episodes(some), np.arange(len(rows)), seen.take(rows), some.key, np.zeros(len(rows), int)))
    return 7 * len(instances) / (time.process_time() - start)


def tokens(rounds: int) -> None:
    """Print how fast the tiny OpenVLA says motions."""
    agent, task = make("agent", "tiny-openvla-v1"), Green()
    tables = task.instances("test").first(5 * BATCH)
    seen = next(task.play(tables))
    assert seen.rows is not None  # who is at the block already is not asked
    rows = np.arange(4 * BATCH)
    some, seen = tables.take(seen.rows[rows]), seen.take(rows)
    looked(agent, some.first(BATCH), seen, BATCH)
    ways = {at_once: partial(looked, agent, some, seen, at_once) for at_once in (1, BATCH)}
    found = in_turn({str(at_once): way for at_once, way in ways.items()}, rounds)
    for name, speeds in found.items():
        ratios = told([speed / peer for speed, peer in zip(speeds, found["1"], strict=True)])
        print(f"| {name} | {statistics.median(speeds):,.0f} | {ratios} |", flush=True)


# --- memory -----------------------------------------------------------------------------------------------------------


def scoring(items: int) -> Cost:
    """Of scoring so many items in a worker that plays four at once; what the worker holds is its own."""
    return costs(lambda agent, pool, _: evaluate(agent, pool, items=items))


def keeping(items: int) -> Cost:
    """Of playing as many and keeping all that was seen."""
    return costs(lambda agent, pool, some: rollout(agent, pool, some.first(items)))


def costs(what: Callable[[Any, Workers, Instances], Any]) -> Cost:
    """Of something that an agent does with a task, once both are warm."""
    agent = make("agent", "tiny-openvla-v1")
    with Workers("benchmarks.scenes:Shown", lanes=1, scenes=4) as pool:
        some = pool.instances("test")
        rollout(agent, pool, some.first(4))
        return measured(lambda: what(agent, pool, some))[1]


def memory() -> None:
    """Print the peaks."""
    for name, way in (("scoring", scoring), ("all that was seen is kept", keeping)):
        few, many = (apart(partial(way, items)).mib for items in ITEMS)
        print(f"| {name} | {few:.0f} | {many:.0f} | {many / few:.2f} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    print(f"| peak, MiB | {ITEMS[0]} items | {ITEMS[1]} items | ratio |\n| --- | ---: | ---: | ---: |")
    memory()  # first: its processes are forked, and begin with what this one holds
    print("\n| pictures at once | action tokens a processor second | of one by one |\n| ---: | ---: | --- |")
    tokens(3 * rounds)
    print("\n| what is seen | where | steps/s | of the plain loop | a processor second, of the plain loop |")
    print("| --- | --- | ---: | --- | --- |")
    bytes_: dict[str, tuple[int, int, int]] = {}
    for simulator in SIMULATORS:
        try:
            compared(simulator, rounds)
            bytes_[simulator.name] = sent(simulator)
        except (Missing, Refused) as error:
            print(f"{simulator.name}: left out ({error})")
    print("\n| what is seen | bytes to the agent | of which what is seen | and back |\n| --- | ---: | ---: | ---: |")
    for name, numbers in bytes_.items():
        print(f"| {name} | {' | '.join(f'{number:,}' for number in numbers)} |")


if __name__ == "__main__":
    main()
