"""Demonstrations in a file: JSON lines of conversations, and beside it a manifest that says what they are of."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.columns import row
from razorbench.harness.core.episodes import Actions, Asked, Instances, Reply
from razorbench.harness.core.errors import Refused
from razorbench.harness.core.protocols import Task
from razorbench.harness.core.questions import asked_first, data_digest
from razorbench.harness.core.randomness import uniform

FILE = "file:"
"""How a style begins that is a file of demonstrations, and none of the task's own."""

Message = Mapping[str, str]
"""`role` and `content`."""


@dataclass(frozen=True)
class Manifest:
    """What a file of demonstrations says of itself; it stands beside the file, as NAME.manifest.json."""

    task: str
    """Registry id of the task."""
    data: str
    """`data_digest` of its training questions."""
    sha256: str
    """Of the file."""
    lines: int
    made: Mapping[str, Any] = field(default_factory=dict)
    """How they came about: agent, weights, temperature, samples, seed, and what was counted."""


@dataclass(frozen=True)
class Line:
    """One demonstration: a conversation, its answers included."""

    number: int
    """Which line of the file it is, from 1."""
    id: Any
    """Of the instance that it answers."""
    messages: Sequence[Message]
    """What the task says and what is answered, in turn."""


@dataclass(frozen=True)
class Recorded:
    """The demonstrations of a file as an agent; where an instance has several, its key says which one is shown."""

    path: Path
    lines: Mapping[Any, Sequence[Line]]
    """By the instance that they answer."""

    def act(self, asked: Asked, *, temperature: float = 1.0) -> Actions:
        """The recorded answers, without codes. Refuses a line that was asked something else than the task asks now."""
        values, u = [], uniform(asked.key, 1)[:, 0]
        for i, id in enumerate(asked.instances.id.tolist()):
            lines, at = self.lines[id], 2 * int(asked.turn[i])
            line = lines[int(u[i] * len(lines))]
            said = {"role": row(asked.now.role, i), "content": row(asked.now.text, i)}
            if line.messages[at : at + 1] != [said]:
                raise Refused(
                    f"line {line.number} of {self.path} was asked otherwise than the task asks; make the file again"
                )
            values.append(Reply(line.messages[at + 1]["content"]))
        return Actions(values)


def path_of(style: str) -> Path | None:
    """The file that a style names; None of a task's own style."""
    return Path(style.removeprefix(FILE)) if style.startswith(FILE) else None


def digest_of(path: Path) -> str:
    """sha256 of a file of demonstrations, by which it is known wherever it lies."""
    return sha256(content(path)).hexdigest()


def covered(task: Task, instances: Instances, style: str) -> Instances:
    """The instances that have a demonstration in this style: all of them, but of a file. Refuses a file with none."""
    path = path_of(style)
    if path is None:
        return instances
    lines = read(task, path).lines
    some = instances.take(np.flatnonzero([id in lines for id in instances.id.tolist()]))
    if not len(some):
        raise Refused(f"{path} demonstrates none of the {len(instances)} training questions; make it of these")
    return some


def read(task: Task, path: Path) -> Recorded:
    """The demonstrations of a task in a file.

    Refuses a file that is cut off or was changed, holds those of other questions, or of the test questions.
    """
    there, lines = manifest(path), list(parsed(path))
    if len(lines) != there.lines or digest_of(path) != there.sha256:
        raise Refused(f"{path} is not what its manifest says, of {there.lines} lines; make the file again")
    train = task.instances("train")
    if data_digest(train) != there.data:
        raise Refused(f"{path} is of other data than this task's, of {there.task}; make the file again")
    place = {id: at for at, id in enumerate(train.id.tolist())}
    if stray := next((line for line in lines if line.id not in place), None):
        raise Refused(f"line {stray.number} of {path} answers {stray.id!r}, which is no training question; remove it")
    asked = asked_first(task, train.take(np.array([place[line.id] for line in lines])))
    by_instance: dict[Any, list[Line]] = {}
    for line, seen in zip(lines, asked, strict=True):
        if line.messages[0] != {"role": seen.role, "content": seen.text}:
            raise Refused(
                f"line {line.number} of {path}, of {there.task}, was asked otherwise than this task asks; "
                "make the file again"
            )
        by_instance.setdefault(line.id, []).append(line)
    return Recorded(path, by_instance)


def parsed(path: Path) -> Iterator[Line]:
    """The lines of a file. Refuses one that is no conversation, by its number."""
    for number, text in enumerate(content(path).decode("utf-8", "replace").removesuffix("\n").split("\n"), 1):
        try:
            told = json.loads(text)
            line = Line(number, told["id"], told["messages"])
            sound = isinstance(line.id, str | int) and conversation(line.messages)
        except (ValueError, TypeError, KeyError):
            sound = False
        if not sound:
            raise Refused(f"line {number} of {path} is no demonstration, or cut off; make the file again")
        yield line


def conversation(messages: Any) -> bool:
    """Whether messages are questions and answers in turn, the last an answer."""
    sound = isinstance(messages, list) and all(
        isinstance(each, dict) and each.keys() == {"role", "content"} and all(isinstance(x, str) for x in each.values())
        for each in messages
    )
    answers = [each["role"] == "assistant" for each in messages] if sound else []
    return bool(answers) and answers == [False, True] * (len(answers) // 2)


def content(path: Path) -> bytes:
    """The bytes of a file of demonstrations."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Refused(
            f"{path} cannot be read ({error.strerror}); name a file of demonstrations as style {FILE}PATH"
        ) from None


def beside(path: Path) -> Path:
    """Where the manifest of a file stands."""
    return path.with_name(f"{path.name}.manifest.json")


def manifest(path: Path) -> Manifest:
    """The manifest of a file. Refuses one that is missing, or cannot be read."""
    content(path)
    try:
        return Manifest(**json.loads(beside(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise Refused(
            f"{beside(path)} is no manifest of demonstrations ({error}); bring it along, or make the file again"
        ) from None
