"""How the verdicts on a task or benchmark are reached: the tables of what is asked, and in which order."""

from collections.abc import Callable

from razorbench.harness.cli.check import benchmarks, robots, tasks
from razorbench.harness.cli.check.trial import Check, Trial, Verdict, place
from razorbench.harness.core import registry
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Benchmark, Task


def check(id: str, *, episodes: int = 256, seed: int = 0) -> list[Check]:
    """Everything that can be proved of the task or benchmark `id`, in the order in which to mend it.

    Episodes are played in batches of `episodes`: one or two a check and agent, and 16 for the share of right guesses.
    Refuses an unknown id, or a task whose data are not there.
    """
    if episodes < 2:
        raise Refused(f"{episodes} episodes prove nothing; ask for 2 or more")
    task, again = registry.make("task", id), registry.make("task", id)
    try:
        trial = Trial(id, task, again, episodes, seed)
        if isinstance(task, Task):
            return conclude(PLAYED | (ROBOTS if getattr(task.card, "protocol", None) else {}), trial)
        if isinstance(task, Benchmark):
            return conclude(MEASURED, trial)
        lacks = [name for name in ("card", "instances", "play") if not hasattr(task, name)]
        return [Check("card", False, f"{type(task).__name__} is no task yet: it lacks {', '.join(lacks)}.")]
    finally:
        for made in (task, again):
            getattr(made, "close", lambda: None)()  # Workers keep processes


Table = dict[str, tuple[Callable[[Trial], Verdict], tuple[str, ...]]]

PLAYED: Table = {
    "card": (tasks.card, ()),
    "splits": (tasks.splits, ()),
    "overlap": (tasks.overlap, ("splits",)),
    "scored": (tasks.scored, ("splits",)),
    "replay": (tasks.replay, ("splits", "scored")),
    "seed": (tasks.seed, ("splits", "scored", "replay")),
    "companions": (tasks.companions, ("splits", "scored", "replay", "seed")),
    "oracle": (tasks.oracle, ("splits", "scored", "replay")),
    "demonstrations": (tasks.demonstrated, ("splits", "scored", "replay", "oracle")),
    "chance": (tasks.chance, ("card", "splits", "scored", "replay")),
    "crash": (tasks.crash, ("splits", "scored", "replay", "seed", "companions")),
}
"""Name → (question, the checks that must not have failed before: what a failure also breaks is not reported twice)."""

ROBOTS: Table = {
    "protocol": (robots.protocol, ("scored",)),
    "determinism": (robots.determinism, ("scored", "replay")),
    "verdicts": (robots.verdicts, ("scored", "determinism")),
}
"""What a robot's task is asked besides."""
REPEATED = ("replay", "seed", "companions")
"""What cannot be asked of a task whose card declares that nothing repeats itself."""

MEASURED: Table = {
    "card": (tasks.card, ()),
    "scored": (benchmarks.scored, ()),
    "seed": (benchmarks.seed, ("scored",)),
    "oracle": (benchmarks.oracle, ("scored",)),
    "chance": (benchmarks.chance, ("card", "scored", "seed")),
}
"""The checks that a benchmark can be put to."""


def conclude(table: Table, trial: Trial) -> list[Check]:
    """Ask every question of the table. An exception is a failure of its check, unless it is a refusal."""
    checks: dict[str, Check] = {}
    protocol = getattr(trial.task.card, "protocol", None)
    for name, (question, needs) in table.items():
        if name in REPEATED and protocol and protocol.determinism == "none":
            checks[name] = Check(name, None, "The card declares that the same actions may give another episode.")
            continue
        failed = [need for need in needs if checks[need].ok is False]
        if failed:
            checks[name] = Check(name, None, f"Waits until {failed[0]!r} passes.")
            continue
        try:
            checks[name] = Check(name, *question(trial))
        except Refused:
            raise
        except Exception as error:
            checks[name] = Check(name, False, f"It raised {place(error)}.")
    return list(checks.values())
