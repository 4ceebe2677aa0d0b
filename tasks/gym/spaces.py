"""Gymnasium's spaces and ours: what an environment declares, how observations are named, which values are actions."""

from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np

from razorbench import Column, Refused, Space, Spaces

ALONE = "observation"
"""What an observation without a name is called; a picture: "image"."""


def named(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The parts of an observation, or of its space, each with its name: of a nested one the path to it."""
    inner = getattr(value, "spaces", value)
    if isinstance(inner, Mapping | tuple):
        for key, each in inner.items() if isinstance(inner, Mapping) else enumerate(inner):
            yield from named(each, f"{name}/{key}" if name else str(key))
    else:
        yield name, value


def is_picture(value: Any) -> bool:
    """Whether an array, or a space of them, is one of pictures: uint8 [H, W] of grey or [H, W, 3]."""
    shape = getattr(value, "shape", None) or ()
    return getattr(value, "dtype", None) == np.uint8 and (len(shape) == 2 or (len(shape) == 3 and shape[2] == 3))


def seen_of(observation: Any) -> tuple[dict[str, np.ndarray] | None, dict[str, np.ndarray] | None]:
    """Pictures by camera, and the rest as named vectors [k] float32; None where there are none."""
    images, state = {}, {}
    for name, value in named(observation):
        if is_picture(value):
            images[name or "image"] = np.asarray(value)
        else:
            state[name or ALONE] = np.asarray(value, np.float32).reshape(-1)
    return images or None, state or None


def declared(observation: Any, action: Any) -> Spaces:
    """Our record of an environment's spaces. Refused for actions that are neither a Box nor Discrete."""
    seen = {}
    for name, space in named(observation):
        if is_picture(space):
            seen[name or "image"] = Space(space.shape, 0, 255, "uint8")
        else:
            low, high = (getattr(space, side, sign * np.inf) for side, sign in (("low", -1), ("high", 1)))
            size = int(np.prod(space.shape))
            low, high = (np.broadcast_to(np.asarray(x, np.float32).reshape(-1), size) for x in (low, high))
            seen[name or ALONE] = Space((size,), low, high)
    if hasattr(action, "n"):
        return Spaces(seen, Space((), 0, int(action.n) - 1, "int64"))
    if not hasattr(action, "low"):
        raise Refused(f"actions are {action}; a task of Gymnasium has a Box or Discrete ones")
    return Spaces(seen, Space(action.shape, action.low, action.high, str(action.dtype)))


def action_of(space: Any, value: Any) -> Any:
    """A value as the environment's action: within its bounds to the last bit, or counted from where it begins."""
    if hasattr(space, "n"):
        return int(value) + int(space.start)
    return np.clip(np.asarray(value, space.dtype).reshape(space.shape), space.low, space.high)


def allowed(space: Space, values: Column) -> np.ndarray:
    """Which values [n, …] lie in a space, up to rounding; whole numbers where it has them."""
    given = np.asarray(values, np.float64)
    inside = (given >= np.asarray(space.low) - 1e-6) & (given <= np.asarray(space.high) + 1e-6)
    if "int" in space.dtype:
        inside &= given == np.round(given)
    return np.logical_and.reduce(inside.reshape(len(given), -1), axis=1)


def guessed(space: Space, uniform: Callable[[int], np.ndarray]) -> np.ndarray:
    """Values [n, …] drawn uniformly from a space; where it has no limit, from −1 to 1."""
    numbers = uniform(int(np.prod(space.shape)) or 1).reshape(-1, *(space.shape or (1,)))
    if "int" in space.dtype and not space.shape:
        return np.minimum(numbers[:, 0] * (int(space.high) + 1), space.high).astype(np.int64)
    low, high = np.maximum(space.low, -1e3), np.minimum(space.high, 1e3)
    low, high = np.where(np.isfinite(space.low), low, -1.0), np.where(np.isfinite(space.high), high, 1.0)
    return (low + (high - low) * numbers).astype(space.dtype)


def theirs(space: Space) -> Any:
    """A space of ours as Gymnasium's."""
    spaces = import_module("gymnasium.spaces")
    if "int" in space.dtype and not space.shape:
        return spaces.Discrete(int(space.high) - int(space.low) + 1, start=int(space.low))
    low, high = (np.broadcast_to(np.asarray(side, space.dtype), space.shape) for side in (space.low, space.high))
    return spaces.Box(low, high, space.shape, np.dtype(space.dtype))
