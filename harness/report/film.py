"""Films of flips: two or more agents play one instance from the same state, in a video or a recording for Rerun."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from razorbench.harness.core.episodes import Instances
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.keeping import codes
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.registry import make
from razorbench.harness.core.rollout import rollout
from razorbench.harness.measure.answers import film_of, motions
from razorbench.harness.report.recording import record
from razorbench.harness.report.takes import Take, Visible, find, visible

RATE = 12
"""Frames a second."""
HOLD = 12
"""How often the last frame is shown."""
CAPTION = 22
"""Height of a caption, pixels."""


def film(task: Task, id: Any, agents: Mapping[str, Agent], path: Path, *, seed: int = 0) -> dict[str, float]:
    """Write what the agents do on the instance `id` (of either split), greedily; the reward of each.

    A file .mp4 is an H.264 video, a file .rrd a recording for the Rerun viewer. Raises Refused where the task has no
    pictures or no such instance, where nothing can be rendered, or for another file.
    """
    write, one, takes = writer(task, path), find(task, id), {}
    for name, agent in agents.items():
        episode = rollout(agent, task, one, seed=seed, temperature=0.0, keep=codes)[0]
        assert episode.outcome is not None
        takes[name] = Take([action.value for action in episode.actions], episode.outcome.reward)
    write(one, takes, path)
    return {name: take.reward for name, take in takes.items()}


def film_flips(home: Path, id: str, task: str, item: str = "", most: int = 1, out: Path | None = None) -> list[Path]:
    """Films of what the record `id` keeps of a task's flips, without weights: of this item, or of the first ones.

    They lie in the home where the board looks for them; one alone may go `out`, to a file as `film` writes it. Raises
    Refused where nothing is kept that could be filmed.
    """
    flips = motions(home, id, task, item, most)
    if not flips:
        which = f"item {item}" if item else "any flip"
        raise Refused(f"record {id} keeps no motions of {which} of {task}; film its checkpoint, or choose another")
    played, paths = make("task", task), []
    for flip in flips:
        takes = {name: Take(flip[f"{name}_values"], flip[name]) for name in ("base", "adapted")}
        paths.append(out or film_of(home, id, task, flip["item"]))
        paths[-1].parent.mkdir(parents=True, exist_ok=True)
        writer(played, paths[-1])(find(played, flip["item"]), takes, paths[-1])
    return paths


def writer(task: Task, path: Path) -> Callable[[Instances, Mapping[str, Take], Path], None]:
    """What writes a file of that name of takes on one instance. Refuses a task without pictures, and other files."""
    if path.suffix == ".rrd":
        return partial(record, task)
    if path.suffix != ".mp4":
        raise Refused(f"{path} is neither a video nor a recording; name a file .mp4, or .rrd for the Rerun viewer")
    return partial(develop, visible(task))


def develop(task: Visible, one: Instances, takes: Mapping[str, Take], path: Path) -> None:
    """Write an H.264 video of what some agents did on an instance, side by side."""
    reels = []
    for name, take in takes.items():
        pictures = list(task.frames(one[0], take.values))
        ends = [name] * (len(pictures) - 1) + [f"{name}: {take.ending}"]
        reels.append([captioned(picture, text) for picture, text in zip(pictures, ends, strict=True)])
    write(path, side_by_side(reels))


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
