"""A generator of one episode, lifted to a batch; and who is to blame for what it raises."""

from collections.abc import Callable, Generator
from contextlib import suppress
from functools import wraps
from typing import Any

import numpy as np

from razorbench.harness.core.columns import Column, row
from razorbench.harness.core.episodes import Instance, Instances, Observation, Observations, Outcome, Outcomes
from razorbench.harness.core.errors import Refused, WorldFailed


def each(
    play: Callable[[Any, Instance], Generator[Observation, Any, Outcome]],
) -> Callable[[Any, Instances], Generator[Observations, Column, Outcomes]]:
    """Lift a generator of one episode to a batch in lock-step. What `play` raises ends one episode, with its error:
    as a zero where an answer made it raise, unscored where the world did (`blame`).
    """

    @wraps(play)
    def batch(self: Any, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        games = [play(self, instance) for instance in instances]
        ends: list[Outcome] = [Outcome.unscored("the episode did not end")] * len(games)

        def advance(i: int, value: Any) -> Observation | None:
            try:
                seen = games[i].send(value)
                if isinstance(seen, Observation):
                    return seen
                ends[i] = Outcome.unscored(f"play yielded {seen!r}, not an Observation")
            except StopIteration as end:
                ends[i] = ended(end.value)
            except Exception as error:
                ends[i] = blame(error, answered=i in answered)
            return None

        answered: set[int] = set()
        try:
            waiting = [(i, seen) for i in range(len(games)) if (seen := advance(i, None)) is not None]
            while waiting:
                rows = np.array([i for i, _ in waiting])
                values = yield Observations.stack([seen for _, seen in waiting], rows)
                answered.update(rows.tolist())
                waiting = [
                    (i, seen) for at, (i, _) in enumerate(waiting) if (seen := advance(i, row(values, at))) is not None
                ]
        finally:
            for game in games:
                with suppress(Exception):  # what a game does while it is closed harms no other
                    game.close()
        return Outcomes.stack(ends)

    return batch


WORLD = (WorldFailed, OSError, MemoryError, Refused)
"""What is raised in `play` that no answer causes."""


def blame(error: Exception, *, answered: bool) -> Outcome:
    """How an episode ends whose game raised: the agent's failure, if it has answered and the error is none of `WORLD`.

    A game that raises before anything was said, or what the system raises (a broken pipe, a full disk, a time-out, no
    memory), is the world's. A simulator whose errors are of other kinds says so with `WorldFailed`.
    """
    why = f"{type(error).__name__}: {error}"
    return Outcome.failed(why) if answered and not isinstance(error, WORLD) else Outcome.unscored(why)


def ended(value: Any) -> Outcome:
    """What a game returned, if it is an outcome with a number for a reward; else an unscored one that says so."""
    if not isinstance(value, Outcome) or not isinstance(value.reward, int | float | np.number):
        return Outcome.unscored(f"play returned {value!r}, not an Outcome with a number for its reward")
    if not np.isfinite(value.reward) and not value.error:
        return Outcome.unscored(f"play returned a reward of {value.reward}")
    return value
