"""Videos of flips: two or more agents play one instance from the same state, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw

from harness.rollout import rollout
from harness.types import Agent, Instance, Instances, Refused, Task

RATE = 12
"""Frames a second."""
HOLD = 12
"""How often the last frame is shown."""
CAPTION = 22
"""Height of a caption, pixels."""


@runtime_checkable
class Visible(Protocol):
    """A task of which pictures can be made."""

    def frames(self, instance: Instance, motions: Any) -> Iterator[np.ndarray]:
        """Pictures [height, width, 3] uint8 of recorded values, the initial state first."""
        ...


def film(task: Task, id: Any, agents: Mapping[str, Agent], path: Path, *, seed: int = 0) -> dict[str, float]:
    """Write an H.264 video of the agents on the instance `id` (of either split), greedily; the reward of each.

    Raises Refused where the task has no pictures or no such instance, or where nothing can be rendered.
    """
    if not isinstance(task, Visible):
        raise Refused(f"{type(task).__name__} has no pictures; choose a task with a method `frames`")
    one = find(task, id)
    reels, rewards = [], {}
    for name, agent in agents.items():
        episode = rollout(agent, task, one, seed=seed, greedy=True)[0]
        assert episode.outcome is not None
        rewards[name] = episode.outcome.reward
        ending = {1.0: "solved", 0.0: "not solved"}.get(episode.outcome.reward, f"reward {episode.outcome.reward:g}")
        motions = [action.value for action in episode.actions]
        pictures = list(task.frames(episode.instance, motions))
        ends = [name] * (len(pictures) - 1) + [f"{name}: {ending}"]
        reels.append([captioned(picture, text) for picture, text in zip(pictures, ends, strict=True)])
    write(path, side_by_side(reels))
    return rewards


def first_flip(task: Task, agents: Sequence[Agent], among: int = 50) -> Any:
    """The id of the first test instance, of `among`, that the first two agents do not do equally well.

    Raises Refused where there is none.
    """
    instances = task.instances("test").first(among)
    one, two = (rollout(agent, task, instances, greedy=True).reward for agent in agents[:2])
    flips = np.flatnonzero(one != two)
    if not len(flips):
        raise Refused(f"both do the same on the first {among} instances; name one with --item")
    return instances.id[flips[0]].item()


def find(task: Task, id: Any) -> Instances:
    """The one instance of that id."""
    for split in ("test", "train"):
        instances = task.instances(split)
        if len(at := np.flatnonzero(instances.id == id)):
            return instances.take(at)
    raise Refused(f"{type(task).__name__} has no instance {id!r}; ids run from {instances.id[0]} to {instances.id[-1]}")


def captioned(picture: np.ndarray, text: str) -> np.ndarray:
    """The picture with a line of text below it."""
    height, width, _ = picture.shape
    canvas = Image.new("RGB", (width, height + CAPTION), "white")
    canvas.paste(Image.fromarray(picture))
    ImageDraw.Draw(canvas).text((6, height + 4), text, fill="black", font_size=13)
    return np.asarray(canvas)


def side_by_side(reels: list[list[np.ndarray]]) -> list[np.ndarray]:
    """Frames of all reels beside each other; one that is over shows its last frame, and so do all for a second."""
    longest = max(len(reel) for reel in reels) + HOLD
    return [np.hstack([reel[min(i, len(reel) - 1)] for reel in reels]) for i in range(longest)]


def write(path: Path, frames: list[np.ndarray]) -> None:
    """An H.264 video of frames [height, width, 3] uint8, of even height and width."""
    import av

    with av.open(str(path), "w") as video:
        stream: Any = video.add_stream("libx264", rate=RATE)
        stream.height, stream.width, _ = frames[0].shape
        stream.pix_fmt = "yuv420p"  # what browsers play
        for frame in frames:
            video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        video.mux(stream.encode())
