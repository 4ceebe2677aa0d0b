"""The cards of all tasks as a JSON file, written by a process of its own: tasks load simulators, and pages must not."""

import json
import os
from hashlib import sha256
from pathlib import Path
from typing import Any

from razorbench import Refused, Task
from razorbench.harness.core.registry import find, ids, make

PLACE = "RAZORBENCH_CARDS"
"""Environment variable that names the folder of the file."""
HASHED = 1_000
"""Test items that the hash is of, at most."""


def write(place: Path) -> None:
    """Collect the card of every task; then, which takes longer, what its test items tell."""
    told_of = {id: card(id) for id in ids("task")}
    put(place, told_of)
    for id, told in told_of.items():
        if "missing" not in told:
            put(place, told_of := {**told_of, id: told | measured(id)})


def card(id: str) -> dict[str, Any]:
    """The card of a task that can be imported; of another, as `missing`, the reason why not."""
    try:
        return find("task", id).card.told
    except Exception as error:  # of any package's task
        return {"missing": reason(error)}


def measured(id: str) -> dict[str, Any]:
    """How many test items a task has, and a hash of what they ask; or why that is not known."""
    from razorbench.harness.core.questions import fingerprints

    try:
        task = make("task", id)
        if not isinstance(task, Task):
            return {}
        items = task.instances("test")
        asked = sha256("\n".join(sorted(fingerprints(task, items.first(HASHED)))).encode()).hexdigest()
    except Exception as error:
        return {"unread": reason(error)}
    return {"items": len(items), "hash": asked[:16]}


def reason(error: Exception) -> str:
    """What went wrong, in a sentence."""
    return str(error) if isinstance(error, Refused) else f"{type(error).__name__}: {error}"


def put(place: Path, cards: dict[str, Any]) -> None:
    """Write the file, at once."""
    fresh = place / "fresh.json"
    fresh.write_text(json.dumps(cards, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(place / "cards.json")


def read() -> dict[str, dict[str, Any]]:
    """Task id → the fields of its card, or `missing`: why it has none. Nothing while they are not written."""
    try:
        return json.loads((Path(os.environ[PLACE]) / "cards.json").read_text(encoding="utf-8"))
    except (KeyError, OSError, ValueError):
        return {}


if __name__ == "__main__":
    os.nice(19)  # the board comes first
    write(Path(os.environ[PLACE]))
