"""The bottom half of a lane: play a task, and answer what is asked of it, in a process of its own.

It runs under whatever interpreter has numpy, this package and the task; no torch is needed.
"""

import atexit
import os
import pickle
import signal
import socket
import time
import traceback
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from operator import attrgetter
from select import poll
from threading import Thread
from typing import Any

import numpy as np

from razorbench.harness.core.columns import portable
from razorbench.harness.core.episodes import Observations, Outcomes
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import make

GRACE = 2.0
"""Seconds that a worker has to close its simulator before it is killed."""

COLUMNS = ("text", "images", "state", "role")
"""What crosses of `Observations`, beside its rows."""

VALUES = ("id", "card", "styles", "spaces")
"""What a task may hold besides its questions,"""
CALLS = ("solve", "guess", "valid", "clusters", "frames")
"""and what it may be asked for."""


def serve(task: str, fd: int) -> None:
    """Play what comes through the socket `fd`, batch after batch, until the other end hangs up or the task raises.

    Comes: play (`Instances`), values (what the agent did) and ask (a name and arguments), which may come whenever a
    value is waited for. Goes: begun, asks (`Observations`), ends (a list of `Outcome`) and lost (a sentence); told,
    refused (a sentence) and raised (a sentence) are answers to ask.
    """
    line = socket.socket(fileno=fd)
    line.set_inheritable(False)  # else a simulator's child would keep the line open after our death
    incoming = line.makefile("rb")
    atexit.register(leave_no_children)
    Thread(target=outlive_nobody, args=(fd,), daemon=True).start()

    def receive(player: Any) -> Any:
        while True:
            size = incoming.read(8)
            if len(size) < 8:
                raise ConnectionError("the other end hung up")
            kind, content = pickle.loads(incoming.read(int.from_bytes(size, "big")))
            if kind != "ask":
                return content
            tell(*answer(player, *content))

    def tell(kind: str, content: Any = None) -> None:
        line.sendall(packed((kind, content)))

    try:
        player = made(task)
        while True:
            instances, values = receive(player), None
            tell("begun")
            game = player.play(instances)
            try:
                while True:
                    seen = game.send(values)
                    rows = np.arange(len(instances)) if seen.rows is None else np.asarray(seen.rows)
                    if len(seen) != len(rows):
                        raise ValueError(f"play yielded {len(seen)} observations for {len(rows)} rows")
                    tell("asks", Observations(*(portable(getattr(seen, name)) for name in COLUMNS), rows=rows))
                    values = receive(player)
            except StopIteration as end:
                if not isinstance(end.value, Outcomes) or len(end.value) != len(instances):
                    raise TypeError(f"play returned {end.value!r}, not {len(instances)} Outcomes") from None
                told = (portable(column) for column in (end.value.metrics, end.value.error, end.value.turn_rewards))
                tell("ends", [*Outcomes(end.value.reward, *told)])
            finally:
                game.close()
    except Exception as error:
        if not isinstance(error, ConnectionError):
            traceback.print_exc()
        with suppress(ConnectionError):  # nobody listens any more, most likely; or the task lost its own connection
            tell("lost", f"{type(error).__name__}: {error}")


def offers(task: Any) -> tuple[dict[str, Any], list[str]]:
    """What a task holds besides its questions, by name; and the names of what it may be asked for."""
    return {name: getattr(task, name) for name in VALUES if hasattr(task, name)}, [n for n in CALLS if hasattr(task, n)]


def answer(task: Any, name: str, args: tuple[Any, ...]) -> tuple[str, Any]:
    """The answer of a task's method to its arguments; of `offers`, what there is."""
    try:
        told = offers(task) if name == "offers" else getattr(task, name)(*args)
        return "told", list(told) if isinstance(told, Iterator) else portable(told)
    except Refused as error:
        return "refused", str(error)
    except Exception as error:
        traceback.print_exc()
        return "raised", f"{type(error).__name__}: {error}"


def packed(message: Any) -> bytes:
    """A message as bytes, its length first. Pickle, since both ends are ours."""
    body = pickle.dumps(message)
    return len(body).to_bytes(8, "big") + body


def made(task: str) -> Any:
    """A new task from its registry id or "module:Class"."""
    if ":" not in task:
        return make("task", task)
    module, _, name = task.partition(":")
    return attrgetter(name)(import_module(module))()


def leave_no_children() -> None:
    """As the last thing of a worker that ends by itself: end what its simulator started."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.killpg(0, signal.SIGTERM)


def outlive_nobody(fd: int) -> None:
    """End this process and its children soon after the other end of the socket is gone, whatever the task is doing."""
    hangup = poll()
    hangup.register(fd, 0)
    hangup.poll()
    time.sleep(GRACE)
    os.killpg(0, signal.SIGKILL)
