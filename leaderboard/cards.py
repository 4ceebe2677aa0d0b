"""The cards of all tasks as a JSON file, written by a process of its own: tasks load simulators, and pages must not."""

import json
import sys
import uuid
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.registry import find, ids
from harness.types import Refused


def path(home: Path) -> Path:
    """Where the cards lie."""
    return home / "cards.json"


def write(home: Path) -> None:
    """Collect the card of every task that can be imported; of another the reason why not."""
    found: dict[str, Any] = {}
    for id in ids("task"):
        try:
            found[id] = asdict(find("task", id).card)
        except (ImportError, Refused) as error:
            found[id] = {"missing": str(error)}
    home.mkdir(parents=True, exist_ok=True)
    fresh = path(home).with_name(f".cards-{uuid.uuid4().hex}.json")
    fresh.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    fresh.replace(path(home))


def read(home: Path) -> dict[str, dict[str, Any]]:
    """Task id → the fields of its card, or `missing`: why it has none. Nothing while they are not written."""
    try:
        return json.loads(path(home).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


if __name__ == "__main__":
    write(Path(sys.argv[1]))
