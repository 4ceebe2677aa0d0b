"""Demonstrations in LeRobot's layout (v2.1: Parquet, JSON lines, mp4), out of episodes and in as a task to learn from.

Written from the layout as it is described; the package lerobot is not needed. What was asked in words is the task of an
episode, named states are one vector whose elements have names, cameras are videos.
"""

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from razorbench import (
    Asked,
    Card,
    Column,
    Episode,
    Episodes,
    Instances,
    Observation,
    Observations,
    Outcomes,
    Refused,
)

VERSION = "v2.1"
CHUNK = 1000
"""Episodes in a folder."""
DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
STATE, ACTION, CAMERA = "observation.state", "action", "observation.images."
COUNTED = {"timestamp": "float32", **dict.fromkeys(("frame_index", "episode_index", "index", "task_index"), "int64")}
"""What each row counts: seconds; in its episode, of which episode, in all; what was asked."""


# --- out --------------------------------------------------------------------------------------------------------------


def write(folder: Path, episodes: Episodes, fps: int, robot: str = "") -> None:
    """Write whole episodes of one task, with states, actions that are vectors, and pictures, to a new folder.

    Refused where the folder exists, or an episode has no state and no vector for an action.
    """
    if folder.exists():
        raise Refused(f"{folder} exists; name another")
    said, index, lines, stats, features = dict[str, int](), 0, [], [], {}
    for number, episode in enumerate(episodes):
        columns, names = vectors(episode)
        text = episode.observations[0].text or ""
        n, place = len(columns[ACTION]), {"episode_chunk": number // CHUNK, "episode_index": number}
        counted = (np.arange(n) / fps, np.arange(n), np.full(n, number), index + np.arange(n))
        told = dict(zip(COUNTED, (*counted, np.full(n, said.setdefault(text, len(said)))), strict=True))
        kinds = {name: {"dtype": "float32", "shape": [x.shape[1]], "names": names[name]} for name, x in columns.items()}
        path = folder / DATA.format(**place)
        path.parent.mkdir(parents=True, exist_ok=True)
        arrays = {name: pa.array(list(column), pa.list_(pa.float32())) for name, column in columns.items()}
        arrays |= {name: pa.array(column.astype(COUNTED[name])) for name, column in told.items()}
        pq.write_table(pa.table(arrays), path)
        measured = {name: summary(column) for name, column in columns.items()}
        measured |= {name: summary(column[:, None]) for name, column in told.items()}
        for camera in episode.observations[0].images or {}:
            frames = np.stack([(seen.images or {})[camera] for seen in episode.observations])  # [T, H, W, 3]
            key = CAMERA + camera
            kinds[key] = video(folder / VIDEO.format(video_key=key, **place), frames, fps)
            shades = frames.reshape(-1, 3) / 255
            measured[key] = {name: [[[x]] for x in each] for name, each in summary(shades).items() if name != "count"}
            measured[key]["count"] = [n]
        if features not in ({}, kinds):
            raise Refused(f"instance {episode.instance.id} has other states, actions or cameras than those before it")
        features, index = kinds, index + n
        lines.append({"episode_index": number, "tasks": [text], "length": n})
        stats.append({"episode_index": number, "stats": measured})
    cameras = sum(name.startswith(CAMERA) for name in features)
    info = {
        "codebase_version": VERSION,
        "robot_type": robot or None,
        "total_episodes": len(lines),
        "total_frames": index,
        "total_tasks": len(said),
        "total_videos": cameras * len(lines),
        "total_chunks": -(-len(lines) // CHUNK),
        "chunks_size": CHUNK,
        "fps": fps,
        "splits": {"train": f"0:{len(lines)}"},
        "data_path": DATA,
        "video_path": VIDEO if cameras else None,
        "features": features | {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in COUNTED.items()},
    }
    meta = folder / "meta"
    meta.mkdir()
    (meta / "info.json").write_text(json.dumps(info, indent=4) + "\n", encoding="utf-8")
    tasks = [{"task_index": number, "task": text} for text, number in said.items()]
    for name, rows in (("episodes", lines), ("tasks", tasks), ("episodes_stats", stats)):
        (meta / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def vectors(episode: Episode) -> tuple[dict[str, np.ndarray], dict[str, list[str] | None]]:
    """State and action [T, k] float32 of an episode, and the names of their elements. Refused where it has none."""
    states = [seen.state if isinstance(seen.state, Mapping) else {"state": seen.state} for seen in episode.observations]
    done = [np.asarray(action.value) for action in episode.actions]
    if not done or any(x.ndim != 1 for x in done) or any(x is None for state in states for x in state.values()):
        raise Refused(f"instance {episode.instance.id} has no state, or an action that is no vector")
    parts = {name: np.stack([np.ravel(state[name]) for state in states]) for name in states[0]}
    names = [f"{name}.{i}" for name, part in parts.items() for i in range(part.shape[1])]
    columns = {STATE: np.concatenate([*parts.values()], axis=1), ACTION: np.stack(done)}
    return {name: column.astype(np.float32) for name, column in columns.items()}, {STATE: names, ACTION: None}


def summary(column: np.ndarray) -> dict[str, list[Any]]:
    """Least, greatest, mean and standard deviation of each element of a column [n, k]."""
    measured = {"min": column.min(0), "max": column.max(0), "mean": column.mean(0), "std": column.std(0)}
    return {name: np.asarray(each).tolist() for name, each in measured.items()} | {"count": [len(column)]}


def video(path: Path, frames: np.ndarray, fps: int) -> dict[str, Any]:
    """Write frames [T, H, W, 3] uint8 as H.264; what `info.json` says of them."""
    av, (_, height, width, _) = import_module("av"), frames.shape
    pixels = "yuv444p" if height % 2 or width % 2 else "yuv420p"
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=fps, options={"crf": "12"})
        stream.height, stream.width, stream.pix_fmt = height, width, pixels
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        file.mux(stream.encode())
    how = {"video.fps": fps, "video.codec": "h264", "video.pix_fmt": pixels, "video.is_depth_map": False}
    names = ["height", "width", "channels"]
    return {"dtype": "video", "shape": [height, width, 3], "names": names, "info": how | {"has_audio": False}}


# --- in ---------------------------------------------------------------------------------------------------------------


class Demonstrated:
    """What `lerobot_task` makes a class of: episodes are shown as they were recorded, whatever is done.

    Nobody is scored on them, so there are no test instances; every reward is 1.
    """

    folder: Path
    styles = ("recorded",)
    card: Card

    def __init__(self) -> None:
        self.info = json.loads((self.folder / "meta" / "info.json").read_text(encoding="utf-8"))
        if not str(self.info["codebase_version"]).startswith("v2"):
            raise Refused(
                f"{self.folder} is of {self.info['codebase_version']}; LeRobot converts it to or from {VERSION}"
            )
        self.texts = {line["task_index"]: line["task"] for line in self.lines("tasks")}
        self.cameras = [name for name in self.info["features"] if name.startswith(CAMERA)]
        self.read = lru_cache(maxsize=256)(self.table)

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of a file beside `info.json`."""
        text = (self.folder / "meta" / f"{name}.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]

    def instances(self, split: str) -> Instances:
        """The episodes; with their lengths. Refused for tests."""
        if split != "train":
            raise Refused(f"{self.folder} holds demonstrations, on which nobody can be scored")
        told = self.lines("episodes")
        length = np.array([line["length"] for line in told])
        return Instances(np.array([line["episode_index"] for line in told]), {"length": length})

    def file(self, template: str, number: int, **parts: str) -> Path:
        """A file of an episode."""
        chunk = number // self.info["chunks_size"]
        return self.folder / self.info[template].format(episode_chunk=chunk, episode_index=number, **parts)

    def table(self, number: int) -> dict[str, np.ndarray]:
        """The columns of an episode: state and action [T, k], and the index [T] of what was asked."""
        table = pq.read_table(self.file("data_path", number), columns=[STATE, ACTION, "task_index"])
        return {name: np.array(table[name].to_pylist()) for name in table.column_names}

    def play(self, instances: Instances) -> Generator[Observations, Column, Outcomes]:
        """Show all episodes step by step; who is over is asked no more."""
        length = np.asarray(instances.data["length"])
        shown = [self.frames(int(number)) for number in instances.id]
        for step in range(length.max(initial=0)):
            live = np.flatnonzero(length > step)
            yield Observations.stack([next(shown[i]) for i in live], live)
        return Outcomes(np.ones(len(length)))

    def frames(self, number: int) -> Iterator[Observation]:
        """What was seen in an episode, in order. Pictures are decoded when they come."""
        told, reels = self.read(number), {camera: self.reel(number, camera) for camera in self.cameras}
        names = self.info["features"][STATE]["names"]
        for state, asked in zip(told[STATE].astype(np.float32), told["task_index"], strict=True):
            images = {camera.removeprefix(CAMERA): next(reel) for camera, reel in reels.items()}
            yield Observation(self.texts[int(asked)], images or None, split_up(state, names))

    def reel(self, number: int, camera: str) -> Iterator[np.ndarray]:
        """Pictures [H, W, 3] of a camera."""
        with import_module("av").open(str(self.file("video_path", number, video_key=camera))) as file:
            for frame in file.decode(video=0):
                yield frame.to_ndarray(format="rgb24")

    def solve(self, asked: Asked, style: str) -> np.ndarray:
        """What was done, [n, k] float32."""
        pairs = zip(asked.instances.id.tolist(), asked.turn.tolist(), strict=True)
        return np.stack([self.read(number)[ACTION][step] for number, step in pairs]).astype(np.float32)


def split_up(state: np.ndarray, names: Any) -> dict[str, np.ndarray]:
    """A state [k] by the names before the dots of its elements; as "state" where they have none."""
    if not isinstance(names, Sequence) or not all("." in str(name) for name in names):
        return {"state": state}
    parts: dict[str, list[float]] = {}
    for name, number in zip(names, state, strict=True):
        parts.setdefault(str(name).rpartition(".")[0], []).append(number)
    return {name: np.array(part, np.float32) for name, part in parts.items()}


def lerobot_task(folder: Path, licence: str) -> type[Demonstrated]:
    """The class of a task that shows a data set in a folder; its expert does what was recorded. To learn from, no more.

    Register it as any task, and name it in a base's recipe.
    """
    card = Card(
        "Do what was shown.", "Nobody is scored.", f"{folder.name}, a data set in LeRobot's layout", licence, 1.0
    )
    return type("Demonstrated", (Demonstrated,), {"folder": Path(folder), "card": card, "__module__": __name__})
