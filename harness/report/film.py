"""Videos of flips: two or more agents play one instance from the same state, side by side."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from PIL import Image, ImageDraw

from razorbench.harness.core.episodes import Instance, Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import codes, nothing
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.measure.answers import film_of, motions

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


@dataclass(frozen=True)
class Take:
    """What an agent did, turn by turn, and the reward of it."""

    values: Sequence[Any]
    reward: float


def film(task: Task, id: Any, agents: Mapping[str, Agent], path: Path, *, seed: int = 0) -> dict[str, float]:
    """Write an H.264 video of the agents on the instance `id` (of either split), greedily; the reward of each.

    Raises Refused where the task has no pictures or no such instance, or where nothing can be rendered.
    """
    camera, one, takes = visible(task), find(task, id), {}
    for name, agent in agents.items():
        episode = rollout(agent, task, one, seed=seed, temperature=0.0, keep=codes)[0]
        assert episode.outcome is not None
        takes[name] = Take([action.value for action in episode.actions], episode.outcome.reward)
    develop(camera, one[0], takes, path)
    return {name: take.reward for name, take in takes.items()}


def film_flips(home: Path, id: str, task: str, item: str = "", most: int = 1) -> list[Path]:
    """Films of what the record `id` keeps of a task's flips, without weights: of this item, or of the first ones.

    They lie in the home where the board looks for them. Raises Refused where nothing is kept that could be filmed.
    """
    flips = motions(home, id, task, item, most)
    if not flips:
        which = f"item {item}" if item else "any flip"
        raise Refused(f"record {id} keeps no motions of {which} of {task}; film its checkpoint, or choose another")
    played, paths = make("task", task), []
    camera = visible(played)
    for flip in flips:
        takes = {name: Take(flip[f"{name}_values"], flip[name]) for name in ("base", "adapted")}
        paths.append(film_of(home, id, task, flip["item"]))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        develop(camera, find(played, flip["item"])[0], takes, paths[-1])
    return paths


def visible(task: Task) -> Visible:
    """The task, if pictures can be made of it; else Refused."""
    if not isinstance(task, Visible):
        raise Refused(f"{type(task).__name__} has no pictures; choose a task with a method `frames`")
    return task


def develop(task: Visible, instance: Instance, takes: Mapping[str, Take], path: Path) -> None:
    """Write an H.264 video of what some agents did on an instance, side by side."""
    reels = []
    for name, take in takes.items():
        ending = {1.0: "solved", 0.0: "not solved"}.get(take.reward, f"reward {take.reward:g}")
        pictures = list(task.frames(instance, take.values))
        ends = [name] * (len(pictures) - 1) + [f"{name}: {ending}"]
        reels.append([captioned(picture, text) for picture, text in zip(pictures, ends, strict=True)])
    write(path, side_by_side(reels))


def first_flip(task: Task, agents: Sequence[Agent], among: int = 50) -> Any:
    """The id of the first test instance, of `among`, that the first two agents do not do equally well.

    Raises Refused where there is none.
    """
    instances = task.instances("test").first(among)
    one, two = (rollout(agent, task, instances, temperature=0.0, keep=nothing).reward for agent in agents[:2])
    flips = np.flatnonzero(one != two)
    if not len(flips):
        raise Refused(f"both do the same on the first {among} instances; name one with --item")
    return instances.id[flips[0]].item()


def find(task: Task, id: Any) -> Instances:
    """The one instance of that id, which may be given as text."""
    for split in ("test", "train"):
        instances = task.instances(split)
        if len(at := np.flatnonzero(instances.id.astype(str) == str(id))):
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
    """An H.264 video of frames [height, width, 3] uint8, of even height and width, whole or not at all."""
    import av

    new = path.with_name(f".{path.name}")
    try:
        with av.open(str(new), "w", format="mp4") as video:
            stream: Any = video.add_stream("libx264", rate=RATE)
            stream.height, stream.width, _ = frames[0].shape
            stream.pix_fmt = "yuv420p"  # what browsers play
            for frame in frames:
                video.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
            video.mux(stream.encode())
        new.replace(path)
    finally:
        new.unlink(missing_ok=True)
