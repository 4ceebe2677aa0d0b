"""A robot's policy behind a WebSocket: observations go out and motions come back, as msgpack with numpy arrays.

The messages are those of openpi's policy server (github.com/Physical-Intelligence/openpi), which other
vision-language-action models are served by, too: on connecting the server says something of itself, and answers each
observation with `actions` [D], or a chunk of them [H, D] to be done one after another. What it answers as text is an
error of its own.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, NoReturn

import msgpack
import numpy as np
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

from razorbench import Actions, Asked, Observation, Refused

PATIENCE = 600.0
"""Seconds that an answer may take: the first one may compile a model."""
HELD = 4096
"""Chunks that are begun and not done, at most; the oldest is forgotten, and its episode is asked anew."""
CAMERA, STATE, PROMPT = "images/", "state/", "prompt"

Layout = Callable[[Observation], dict[str, Any]]
"""What a server is shown of an observation, by its own names."""


class PolicyServer:
    """The policy that a server has, at ws://HOST:PORT.

    It tells no probabilities, so it is scored and has no drift. It draws by its own random numbers, if it draws.
    """

    memoryless = True

    def __init__(self, url: str, layout: str = "plain", steps: int = 0, seed: int = 0):
        """`layout` is one of `LAYOUTS`; of a chunk, `steps` motions are done before it is asked again (0: all).

        `seed` changes nothing.
        """
        if layout not in LAYOUTS:
            raise Refused(f"layout {layout!r} is unknown; choose {', '.join(LAYOUTS)}")
        if steps < 0:
            raise Refused(f"steps {steps} cannot be; give a number of motions, or 0 for all of a chunk")
        self.url, self.layout, self.steps = url, layout, steps
        self.ahead: dict[int, tuple[int, np.ndarray]] = {}
        """By the key of an episode: the turn that comes next, and what is to be done from then on [h, D]."""
        self.open = ExitStack()
        self.socket: Any = None

    @property
    def identity(self) -> dict[str, str]:
        """What it is known by."""
        return {"url": self.url, "layout": self.layout, "steps": str(self.steps)}

    def copy(self) -> NoReturn:
        """Refuses: nobody can adapt here what is behind a server."""
        raise Refused(f"{self.url} has a policy that can be asked and not adapted; name its weights")

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """Motions [n, D] float32. Refuses where the server does not answer, or not so."""
        done = [
            self.next(int(key), int(turn), asked.now[i])
            for i, (key, turn) in enumerate(zip(asked.key, asked.turn, strict=True))
        ]
        return Actions(np.stack(done))

    def next(self, key: int, turn: int, seen: Observation) -> np.ndarray:
        """The motion [D] of an episode: the next one of its chunk, or the first of a new one."""
        due, chunk = self.ahead.pop(key, (turn, np.empty(0)))
        if due != turn or not len(chunk):
            chunk = self.asked(LAYOUTS[self.layout](seen))[: self.steps or None]
        if len(chunk) > 1:
            self.ahead[key] = turn + 1, chunk[1:]
            if len(self.ahead) > HELD:
                del self.ahead[next(iter(self.ahead))]
        return chunk[0]

    def close(self) -> None:
        """End the connection; the next call begins another."""
        self.open.close()
        self.socket = None

    def asked(self, shown: Mapping[str, Any]) -> np.ndarray:
        """What the server answers, [H, D]."""
        try:
            if self.socket is None:
                connection = connect(self.url, compression=None, max_size=None, open_timeout=PATIENCE)
                self.socket = self.open.enter_context(connection)
                self.socket.recv(PATIENCE)  # what it says of itself
            self.socket.send(msgpack.packb(shown, default=packed))
            answer = self.socket.recv(PATIENCE)
        except (OSError, WebSocketException) as error:
            self.close()
            why = str(error) or type(error).__name__
            raise Refused(f"{self.url} does not answer ({why}); start it, and the same command goes on") from None
        if isinstance(answer, str):
            self.close()
            said = answer.strip().rpartition("\n")[2]
            raise Refused(f"{self.url} cannot answer ({said}); see whether the layout {self.layout!r} is its own")
        try:
            chunk = np.atleast_2d(np.asarray(msgpack.unpackb(answer, object_hook=unpacked)["actions"], np.float32))
        except (ValueError, TypeError, KeyError) as error:
            raise Refused(f"{self.url} answers no `actions` ({error}); name a server of openpi's messages") from None
        if chunk.ndim != 2 or not chunk.size:
            raise Refused(f"{self.url} answers actions of shape {chunk.shape}; they should be [D] or [H, D]")
        return chunk


# --- what a server is shown -------------------------------------------------------------------------------------------


def plain(seen: Observation) -> dict[str, Any]:
    """Everything by our names: `images/CAMERA` [H, W, 3] uint8, `state/COLUMN` [d] or `state`, `prompt`."""
    state = seen.state if isinstance(seen.state, Mapping) else {"": seen.state}
    shown = {f"{STATE}{name}".rstrip("/"): value for name, value in state.items() if value is not None}
    return shown | {f"{CAMERA}{name}": value for name, value in (seen.images or {}).items()} | {PROMPT: seen.text or ""}


def libero(seen: Observation) -> dict[str, Any]:
    """LIBERO as openpi's policies learned it: two cameras, and where the hand is, how it is turned, its fingers.

    Of tasks `libero-…-cameras-v1`, whose pictures are turned by 180° already; the server scales them to what it reads.
    """
    state, images = seen.state, seen.images or {}
    if not isinstance(state, Mapping) or {"agentview", "robot0_eye_in_hand"} - {*images}:
        raise Refused("the layout 'libero' is of LIBERO's tasks with both cameras, as libero-spatial-0-cameras-v1")
    parts = (state["gripper"], rotation(state["turned"]), state["fingers"][:2])
    return {
        "observation/image": images["agentview"],
        "observation/wrist_image": images["robot0_eye_in_hand"],
        "observation/state": np.concatenate(parts).astype(np.float32),
        PROMPT: seen.text or "",
    }


def rotation(quaternion: np.ndarray) -> np.ndarray:
    """The axis [3] of a rotation times its angle, radians, from a quaternion x y z w."""
    axis, w = np.asarray(quaternion[:3], np.float64), float(np.clip(quaternion[3], -1.0, 1.0))
    sine = np.sqrt(1.0 - w * w)
    return np.zeros(3) if sine < 1e-8 else axis * 2.0 * np.arccos(w) / sine


LAYOUTS: dict[str, Layout] = {"plain": plain, "libero": libero}
"""What a server is shown, by the name of the layout."""


# --- numpy in msgpack -------------------------------------------------------------------------------------------------


def packed(value: Any) -> Any:
    """An array or a number of numpy as msgpack has it. Raises TypeError for what is neither."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return {b"__ndarray__": True, b"data": value.tobytes(), b"dtype": value.dtype.str, b"shape": value.shape}
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return {b"__npgeneric__": True, b"data": value.item(), b"dtype": value.dtype.str}
    raise TypeError(f"{type(value).__name__} cannot be sent")


def unpacked(told: dict[Any, Any]) -> Any:
    """What `packed` has packed, or the same. Raises ValueError for an array of anything but numbers."""
    if b"__ndarray__" in told or b"__npgeneric__" in told:
        dtype = np.dtype(told[b"dtype"])
        if dtype.kind not in "biuf":
            raise ValueError(f"an array of {dtype}")
        if b"__npgeneric__" in told:
            return dtype.type(told[b"data"])
        return np.frombuffer(told[b"data"], dtype).reshape(told[b"shape"])
    return told
