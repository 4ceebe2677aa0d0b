"""Demonstrations by rejection sampling: an agent answers the training questions, and what is right is kept.

A block of prompts is asked at a time, and what came of it is a file in FILE's work folder until all are there: a killed
call goes on with the next block. What is drawn depends on seed and instance alone, so the file is the same.
"""

import json
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from razorbench.harness.core.conversations import talks
from razorbench.harness.core.episodes import Episodes, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.locks import alone
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.questions import data_digest
from razorbench.harness.core.recorded import Manifest, beside, manifest
from razorbench.harness.core.rollout import rollout
from razorbench.harness.learn.checkpoint import write_json, write_text
from razorbench.harness.learn.policy import Policy, encoded, log_probabilities
from razorbench.harness.tracks.spec import Conditions

PROMPTS = 32
"""Prompts of a block."""

Keep = Literal["right", "every-right"]
"""What is kept: of each prompt the first right answer, after which it is asked no more; or every right one."""


@dataclass(frozen=True)
class Sampling:
    """What decides which answers are kept, beside the task and the agent."""

    conditions: Conditions
    """`samples` answers a prompt, at most, at a `temperature`."""
    keep: Keep = "right"
    items: int = 0
    """Training instances that are asked, the first ones; 0: all."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if self.keep not in get_args(Keep):
            raise Refused(f"keep {self.keep!r} is unknown; choose {' or '.join(get_args(Keep))}")
        if self.items < 0:
            raise Refused(f"items {self.items} cannot be; give a number of prompts, or 0 for all")


def demonstrate(
    agent: Agent,
    base: Policy,
    task: Task,
    sampling: Sampling,
    out: Path,
    *,
    told: Mapping[str, Any],
    provenance: Mapping[str, Any],
    tell: Callable[[int, int], Any] = lambda done, prompts: None,
) -> Manifest:
    """Write the right answers of `agent` to the training questions of `task` into `out`, and a manifest beside it.

    `told` says by content whose answers these are: the ids of task, agent and base, and the digests of their weights.
    It is part of what the file is known by; `provenance` is not. `tell(done, prompts)` is called after each block.
    Distance is measured under `base`: −log π₀ of what is kept, nats a token.

    Returns the manifest. Refuses a file that holds something else, a task that asks otherwise than in words, and an
    agent that is never right. Killed at any moment and called again, it goes on.
    """
    train = task.instances("train")
    instances = train.first(sampling.items)
    known = {**told, "data": data_digest(train), **asdict(sampling)}
    if out.exists():
        there = manifest(out)
        if there.made.get("known") != known:
            raise Refused(f"{out} holds other demonstrations; remove it, or name another file with --out")
        return there
    key = sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:12]
    work = out.with_name(f".{out.name}.{key}.part")
    with alone(work):
        for start in range(0, len(instances), PROMPTS):
            file = work / f"{start:08d}.json"
            some = instances.take(np.arange(start, min(start + PROMPTS, len(instances))))
            if not file.exists():
                write_text(file, json.dumps(block(agent, base, task, some, sampling)))
            tell(start + len(some), len(instances))
        blocks = [json.loads(file.read_text(encoding="utf-8")) for file in sorted(work.glob("[0-9]*.json"))]
        counted = Counter[str]()
        for each in blocks:
            counted.update(each["counted"])
        lines = [json.dumps(line, ensure_ascii=False) for each in blocks for line in each["lines"]]
        if not lines:
            shutil.rmtree(work)
            raise Refused(
                f"none of {counted['drawn']:,} answers to {len(instances):,} prompts is right, so there is nothing to "
                "demonstrate; take more samples, or an agent that is right at times"
            )
        text = "".join(f"{line}\n" for line in lines)
        counts = {"prompts": len(instances), **counted, "nats_per_token": counted["nats"] / counted["tokens"]}
        made = Manifest(
            told["task"],
            known["data"],
            sha256(text.encode()).hexdigest(),
            len(lines),
            {"known": known, "counts": counts, "provenance": dict(provenance)},
        )
        write_json(beside(out), made)
        write_text(out, text)  # the last, so where it stands all is there
        shutil.rmtree(work)
    return made


def block(agent: Agent, base: Policy, task: Task, instances: Instances, sampling: Sampling) -> dict[str, Any]:
    """What comes of some prompts: the lines that are kept, in the order of the prompts, and what is counted."""
    lines: list[list[dict[str, Any]]] = [[] for _ in range(len(instances))]
    counted = dict.fromkeys(("drawn", "right", "unscored", "solved", "tokens"), 0) | {"nats": 0.0}
    for rows, played, right in rounds(agent, task, instances, sampling):
        kept, said = [], talks(task, played)
        for i in np.flatnonzero(right).tolist():
            line = {"id": instances.id[rows[i]].item(), "messages": said[i]}
            if line not in lines[rows[i]]:
                lines[rows[i]].append(line)
                kept.append(i)
        counted["drawn"] += len(played)
        counted["right"] += int(right.sum())
        counted["unscored"] += int(np.isnan(played.reward).sum())
        if kept:
            shown = encoded(base, played.take(np.array(kept)))
            counted["tokens"] += int(shown.lengths().sum())
            counted["nats"] -= float(log_probabilities(base, shown).double().sum())
    counted["solved"] = sum(map(bool, lines))
    return {"lines": [line for some in lines for line in some], "counted": counted}


def rounds(
    agent: Agent, task: Task, instances: Instances, sampling: Sampling
) -> Iterator[tuple[np.ndarray, Episodes, np.ndarray]]:
    """One answer to each prompt that still wants one, again and again.

    Gives which prompts were asked [k], their episodes, and which of these are right and came to their end, [k] bool.
    """
    n, samples = len(instances), sampling.conditions.samples
    repeated, temperature = instances.take(np.tile(np.arange(n), samples)), sampling.conditions.temperature
    wanting = np.arange(n)
    for sample in range(samples):
        only = sample * n + wanting
        played = rollout(agent, task, repeated, seed=sampling.seed, temperature=temperature, only=only)
        right = (played.reward >= 1) & ended(played)
        yield wanting, played, right
        if sampling.keep == "right":
            wanting = wanting[~right]
        if not len(wanting):
            return


def ended(episodes: Episodes) -> np.ndarray:
    """In which episodes [N] every answer came to its end: one that was cut off demonstrates no end."""
    whole = np.ones(len(episodes), bool)
    for turn in episodes.turns:
        if turn.done is not None:
            whole[turn.rows] &= [getattr(value, "finished", True) for value in turn.done.value]
    return whole
