"""Any Gymnasium environment as a task: `gym_task("FetchPush-v4", horizon=50)`.

State i is what `reset(seed=i)` gives. The reward is a success, at any step or at the last one; what the environment
itself pays are the rewards of turns.
"""

import sys
from collections.abc import Callable, Generator, Mapping
from contextlib import redirect_stderr, suppress
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from io import StringIO
from typing import Any

import numpy as np

from razorbench import (
    Asked,
    Card,
    Column,
    Instances,
    Observation,
    Observations,
    Outcome,
    Outcomes,
    Refused,
    RobotProtocol,
    Spaces,
    ended,
    versions,
)
from razorbench.tasks.gym.spaces import action_of, allowed, declared, guessed, seen_of

REGISTERING = ("gymnasium_robotics",)
"""Packages that make their environments known when they are imported."""
SUCCESS = ("success", "is_success")
"""Where environments tell in `info` that a step is a success."""


@dataclass(frozen=True)
class Step:
    """What a step of an environment gave."""

    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]
    number: int
    """How many steps there have been, this one among them."""


Success = Callable[[Step], bool]


def told(step: Step) -> bool:
    """Whether the environment's `info` says that this step is a success. Refused where it says neither."""
    for name in SUCCESS:
        if name in step.info:
            return bool(np.asarray(step.info[name]).item())
    raise Refused(f"the environment tells no {' and no '.join(SUCCESS)} in `info`; give gym_task a function `success`")


class GymTask:
    """What `gym_task` makes a class of; see there."""

    id: str
    options: Mapping[str, Any]
    success: Success
    card: Card
    text: str | None
    at_once: int
    items: int

    def made(self) -> Any:
        """A new environment."""
        gymnasium = import_module("gymnasium")
        if ":" not in self.id and self.id not in gymnasium.registry:
            for package in REGISTERING:
                with suppress(ModuleNotFoundError), redirect_stderr(StringIO()):  # it prints news when it is imported
                    gymnasium.register_envs(import_module(package))
        try:
            return gymnasium.make(self.id, disable_env_checker=True, **self.options)
        except gymnasium.error.UnregisteredEnv as error:
            raise Refused(
                f"{error}; of another package write MODULE:ID, as in gymnasium_robotics:FetchPush-v4"
            ) from error

    @cached_property
    def spaces(self) -> Spaces:
        """What is seen and done, as the environment declares it."""
        env = self.made()
        try:
            return declared(env.observation_space, env.action_space)
        finally:
            env.close()

    def instances(self, split: str) -> Instances:
        """As many seeds as there are items; those of tests begin at a million."""
        return Instances(np.arange(self.items) + (1_000_000 if split == "test" else 0))

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """All instances, `at_once` at a time in as many environments; one that raises is made anew, and its episode
        unscored.
        """
        free, todo = [], list(range(len(instances)))[::-1]
        playing: dict[int, tuple[Any, Generator[Observation, Any, Outcome], Observation]] = {}
        ends: list[Outcome] = [Outcome.unscored("the episode did not end")] * len(instances)

        def advance(i: int, env: Any, game: Generator[Observation, Any, Outcome], value: Any) -> None:
            try:
                playing[i] = env, game, game.send(value)
                return
            except StopIteration as end:
                ends[i] = ended(end.value)
                free.append(env)
            except Refused:
                raise
            except Exception as error:
                ends[i] = Outcome.unscored(f"{type(error).__name__}: {error}")
                env.close()
            playing.pop(i, None)

        try:
            while todo or playing:
                while todo and len(playing) < self.at_once:
                    env, i = free.pop() if free else self.made(), todo.pop()
                    advance(i, env, self.episode(env, int(instances.id[i])), None)
                if playing:
                    rows = np.array(sorted(playing))
                    values = yield Observations.stack([playing[i][2] for i in rows], rows)
                    for at, i in enumerate(rows.tolist()):
                        advance(i, *playing[i][:2], values[at])
        finally:
            for env in [*free, *(env for env, _, _ in playing.values())]:
                env.close()
        return Outcomes.stack(ends)

    def episode(self, env: Any, seed: int) -> Generator[Observation, Any, Outcome]:
        """One episode, to its end or its horizon, whatever succeeds before."""
        assert self.card.protocol
        observation, _ = env.reset(seed=seed)
        once, at_end, paid = False, False, []
        for number in range(1, self.card.protocol.horizon + 1):
            images, state = seen_of(observation)
            action = action_of(env.action_space, (yield Observation(self.text, images, state)))
            observation, reward, terminated, truncated, info = env.step(action)
            paid.append(float(reward))
            at_end = type(self).success(Step(observation, paid[-1], terminated, truncated, info, number))
            once = once or at_end
            if terminated or truncated:
                break
        metrics = {
            "steps": float(len(paid)),
            "return": sum(paid),
            "success_once": float(once),
            "success_at_end": float(at_end),
        }
        score = self.card.protocol.score(metrics["success_once"], metrics["success_at_end"])
        return Outcome(score, metrics, turn_rewards=paid)

    def valid(self, values: Column) -> np.ndarray:
        """Which values [n] are actions of the environment, up to rounding."""
        return allowed(self.spaces.action, values)

    def guess(self, asked: Asked) -> Column:
        """Any action [n, …]; where there is no limit, from −1 to 1."""
        return guessed(self.spaces.action, asked.uniform)


def gym_task(
    id: str,
    *,
    horizon: int,
    success: Success = told,
    score: str = "end",
    text: str | None = None,
    expert: Callable[[Any], Column] | None = None,
    at_once: int = 8,
    items: int = 10_000,
    card: Mapping[str, Any] | None = None,
    protocol: Mapping[str, Any] | None = None,
    **options: Any,
) -> type[GymTask]:
    """The class of a task that plays Gymnasium's environment `id`; `options` go to `gymnasium.make`.

    An episode takes `horizon` steps at most. `success` says of each `Step` whether it is one (else its `info` does, as
    `success` or `is_success`), and `score` which of them is the reward: `once` or `end`. `text` is the instruction that
    is shown with each observation. `expert` gives values [n, …] for a state, a mapping of columns. So many episodes as
    `at_once` are played together. `card` and `protocol` fill fields of `Card` and `RobotProtocol` that an environment
    does not tell: licence, chance, control_hz, determinism (`bitwise` unless it is said), …

    Register it as any task: `Push = gym_task("FetchPush-v4", horizon=50)` in a module, and a line under `entry-points`.
    """
    rules: dict[str, Any] = {
        "horizon": horizon,
        "control_hz": 0.0,
        "success": score,
        "initial": "reset(seed=id); tests from 1,000,000 on",
        "simulator": f"{id} of {versions('gymnasium')}",
        "renderer": "the environment's own",
        "determinism": "bitwise",
    }
    when = "At the last step" if score == "end" else "At any step"
    about: dict[str, Any] = {
        "asks": text or f"Act in {id}.",
        "rule": f"{when} there is success, of {horizon} at most.",
        "source": f"the environment {id} of Gymnasium",
        "licence": "that of the environment",
        "chance": 0.0,
    }
    told = {
        "id": id,
        "options": options,
        "success": staticmethod(success),
        "card": Card(**{**about, **(card or {})}, protocol=RobotProtocol(**{**rules, **(protocol or {})})),
        "text": text,
        "at_once": at_once,
        "items": items,
        "__module__": sys._getframe(1).f_globals["__name__"],  # where it gets its name, and workers find it
        "__doc__": f"Gymnasium's {id}, {horizon} steps at most.",
    }
    if expert:

        def solve(self: GymTask, asked: Asked, style: str) -> Column:
            return expert(asked.now.state)

        told |= {"styles": ("usual",), "solve": solve}
    return type(id.rpartition("/")[2], (GymTask,), told)
