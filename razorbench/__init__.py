"""razorbench's public door: adapt, score, compare; and the words with which tasks, agents and methods are written.

The folders beside this one are its packages (`razorbench.harness`, `.tasks`, `.agents`, `.submissions`,
`.leaderboard`). Importing this loads nothing; a name is looked up where it stands when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from razorbench.harness.core.columns import Column, length, row, stack, take
    from razorbench.harness.core.each import WORLD, blame, each, ended
    from razorbench.harness.core.episodes import (
        Action,
        Actions,
        Asked,
        Episode,
        Episodes,
        Gathered,
        Instance,
        Instances,
        Observation,
        Observations,
        Outcome,
        Outcomes,
        Reply,
        Turn,
    )
    from razorbench.harness.core.errors import MachineFailed, Missing, Refused, WorldFailed
    from razorbench.harness.core.extras import missing, versions
    from razorbench.harness.core.lanes import Workers
    from razorbench.harness.core.protocols import (
        Agent,
        Benchmark,
        Bounded,
        Card,
        Clustered,
        Expert,
        Guessable,
        Listed,
        Memoryless,
        Pinned,
        RobotProtocol,
        Sample,
        Space,
        Spaced,
        Spaces,
        Task,
    )
    from razorbench.harness.core.randomness import keys_of, mix, occurrence, uniform
    from razorbench.harness.core.registry import register
    from razorbench.harness.core.sandbox import run_tests, sandbox_rules
    from razorbench.harness.core.wheels import download_wheel
    from razorbench.harness.learn.runtime import Runtime
    from razorbench.harness.learn.settings import Settings
    from razorbench.harness.runs.calls import adapt, score
    from razorbench.harness.runs.comparing import compare
    from razorbench.harness.tracks.catalogue import find_track
    from razorbench.harness.tracks.spec import Base, Conditions, Track

PLACES = {
    "core.columns": ("Column", "length", "row", "stack", "take"),
    "core.each": ("WORLD", "blame", "each", "ended"),
    "core.episodes": (
        *("Action", "Actions", "Asked", "Episode", "Episodes", "Gathered", "Instance", "Instances"),
        *("Observation", "Observations", "Outcome", "Outcomes", "Reply", "Turn"),
    ),
    "core.errors": ("MachineFailed", "Missing", "Refused", "WorldFailed"),
    "core.extras": ("missing", "versions"),
    "core.lanes": ("Workers",),
    "core.protocols": (
        *("Agent", "Benchmark", "Bounded", "Card", "Clustered", "Expert", "Guessable", "Listed", "Memoryless"),
        *("Pinned", "RobotProtocol", "Sample", "Space", "Spaced", "Spaces", "Task"),
    ),
    "core.randomness": ("keys_of", "mix", "occurrence", "uniform"),
    "core.registry": ("register",),
    "core.sandbox": ("run_tests", "sandbox_rules"),
    "core.wheels": ("download_wheel",),
    "learn.runtime": ("Runtime",),
    "learn.settings": ("Settings",),
    "runs.calls": ("adapt", "score"),
    "runs.comparing": ("compare",),
    "tracks.catalogue": ("find_track",),
    "tracks.spec": ("Base", "Conditions", "Track"),
}
"""What the door leads to: module of `razorbench.harness` → names."""

_MODULES = {name: f"razorbench.harness.{module}" for module, names in PLACES.items() for name in names}

__all__ = [*_MODULES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'razorbench' has no attribute {name!r}")
    word = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return word


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
