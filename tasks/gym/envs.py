"""Any task that declares its spaces as a `gymnasium.Env`: for whoever's algorithms want one."""

from collections.abc import Generator, Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from razorbench import Column, Observations, Outcomes, Refused, Space, Spaced, Task, WorldFailed, row
from razorbench.tasks.gym.spaces import theirs


def as_env(task: Task, split: str = "train") -> "TaskEnv":
    """An environment whose episodes are instances of a task. Refused for a task that does not declare its spaces."""
    if not isinstance(task, Spaced):
        raise Refused(f"{type(task).__name__} declares no `spaces` (Spaced), so it is no environment")
    return TaskEnv(task, split)


class TaskEnv(gymnasium.Env[dict[str, Any], Any]):
    """One episode at a time: `reset(seed=s)` chooses an instance by the seed, `reset(options={"instance": i})` the
    i-th.

    Observations are a mapping of states and cameras by name, and the instruction stands in `info["text"]`. The reward
    comes with the last step; what the environment of a task pays for each is in `info["turn_rewards"]` there, and the
    outcome's metrics beside it. The state after the last step is one that tasks do not show: the one before stands in
    its place. Raises WorldFailed where an episode is unscored.
    """

    metadata = {"render_modes": []}  # noqa: RUF012, as gymnasium declares it

    def __init__(self, task: Any, split: str = "train"):
        self.task, self.instances = task, task.instances(split)
        self.parts: Mapping[str, Space] = task.spaces.observation
        self.observation_space = spaces.Dict({name: theirs(each) for name, each in self.parts.items()})
        self.action_space = theirs(task.spaces.action)
        self.game: Generator[Observations, Column, Outcomes] | None = None
        self.seen: dict[str, Any] = {}
        self.text: str | None = None

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The first observation of another instance, and its id and instruction."""
        super().reset(seed=seed)
        self.close()
        i = (options or {}).get("instance", int(self.np_random.integers(len(self.instances))))
        some = self.instances.take(np.array([i]))
        game = self.game = self.task.play(some)
        return self.shown(next(game)), {"instance": some.id[0], "text": self.text}

    def step(self, action: Any) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """The next observation; with the last one the reward, and what else is known of the episode."""
        if self.game is None:
            raise Refused("the episode is over; call reset")
        try:
            return self.shown(self.game.send(np.asarray(action)[None])), 0.0, False, False, {"text": self.text}
        except StopIteration as end:
            self.game, outcome = None, end.value[0]
        if not np.isfinite(outcome.reward):
            raise WorldFailed(outcome.error)
        info = {**outcome.metrics, "turn_rewards": outcome.turn_rewards, "error": outcome.error, "text": self.text}
        over = bool(outcome.metrics.get("success_at_end", True))
        return self.seen, float(outcome.reward), over, not over, info

    def shown(self, seen: Observations) -> dict[str, Any]:
        """What the only episode sees, by name."""
        self.text = row(seen.text, 0)
        state = row(seen.state, 0)
        parts = {**(row(seen.images, 0) or {}), **(state if isinstance(state, dict) else {"state": state})}
        self.seen = {name: np.asarray(parts[name], space.dtype) for name, space in self.parts.items()}
        return self.seen

    def close(self) -> None:
        """End the episode."""
        if self.game is not None:
            self.game.close()
            self.game = None
