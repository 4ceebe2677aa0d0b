"""Tracks: what is held fixed so that rows compare. Base, new task, priors, items, success rule, budget."""

import re
import shlex
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from typing import Any

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.registry import find, ids, known, unknown
from razorbench.harness.learn.settings import Settings, lasting, variant


@dataclass(frozen=True)
class Base:
    """The unadapted policy of some tracks, and how it is made: SFT of a fresh agent on a task's demonstrations."""

    id: str
    """Whatever would change its weights changes the id."""
    agent: str
    """Registry id of the agent."""
    task: str
    """Registry id of the task that it is pretrained on."""
    settings: Settings
    seed: int = 0
    threads: int = 1
    """Threads that it is made with, as far as there are cores; their number may change the last bits."""
    sha256: str = ""
    """Of the file that is shipped, agents/weights/<id>/model.safetensors; empty: it is made on first use."""

    @property
    def recipe(self) -> str:
        """A hash of all that decides what pretraining makes."""
        parts = (self.agent, self.task, lasting(vars(self.settings)), self.seed, self.threads)
        return sha256(repr(parts).encode()).hexdigest()[:12]

    @property
    def shipped(self) -> Path:
        """Where the package brings the weights, and what else belongs to them."""
        return Path(str(files("agents"))) / "weights" / self.id / "model.safetensors"

    def made(self, home: Path) -> Path:
        """Where weights are kept that are made here: the name holds a hash of the recipe."""
        return home / "bases" / f"{self.id}-{self.recipe}.safetensors"

    def weights(self, home: Path) -> Path:
        """Where the tracks look for the weights."""
        return self.shipped if self.sha256 else self.made(home)


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
    """Registry id of the new task."""
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
    demo: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Method, with settings of its own as `plan` takes them, → learning rates that `razorbench demo` runs; the longest
    runs first.
    """

    @property
    def prior_tasks(self) -> list[str]:
        """All prior task ids, suite by suite."""
        return [task for suite in self.priors.values() for task in suite]


PARITY_BASE = Base(
    id="parity-fashion-v1",
    agent="mlp-785-v1",
    task="parity-fashion-pretraining-v1",
    settings=Settings(lr=1e-3, warmup=0, batch=100, epochs=50),
)

PARITY_ANEW_BASE = replace(
    PARITY_BASE,
    id="parity-fashion-anew-v1",
    task="parity-fashion-pretraining-anew-v1",
    settings=Settings(lr=1e-3, warmup=0, batch=100, epochs=1),
)

PARITY_SHORT_BASE = replace(
    PARITY_BASE, id="parity-fashion-short-v1", settings=Settings(lr=1e-3, warmup=0, batch=100, epochs=5)
)

PARITY_MNIST = Track(
    id="parity-mnist-v1",
    title="ParityMNIST, retaining FashionMNIST",
    question="Does a classifier that learns the parity of digits still know kinds of clothing?",
    base=PARITY_BASE,
    new="parity-mnist-v1",
    priors={"fashion": ("fashion-mnist-v1",)},
    settings=Settings(),
    drift_items=2_000,
    checkpoint_items=2_000,
    demo={"grpo": (1e-4, 3e-4), "reinforce": (1e-4, 3e-4), "sft": (3e-5, 1e-4), "oracle-sft": (1e-4, 3e-4)},
)
"""The paper's toy (arXiv 2509.04259, section 4 and appendix B.3); docs/parity-mnist.md says what was left open."""

PARITY_MNIST_ANEW = replace(
    PARITY_MNIST,
    id="parity-mnist-anew-v1",
    title="ParityMNIST, retaining FashionMNIST; the base saw labels drawn anew",
    question="The same, for a base that spreads its belief over the five digits of a parity instead of picking one.",
    base=PARITY_ANEW_BASE,
    demo={},
)
"""The other reading of one open setting: 500 steps in both, but no label is seen twice."""

PARITY_MNIST_SHORT = replace(
    PARITY_MNIST,
    id="parity-mnist-short-v1",
    title="ParityMNIST, retaining FashionMNIST; the base was pretrained for 5 epochs",
    question="The same, for a base that has seen its 1,000 images five times instead of fifty.",
    base=PARITY_SHORT_BASE,
    demo={},
)
"""Another reading of an open setting, and the one on which results hang most: how long the base is pretrained."""

MINI_LM_BASE = Base(
    "mini-lm-v1",
    agent="mini-lm-v1",
    task="mini-pretraining-v1",
    settings=Settings(lr=2e-3, optimizer="muon", schedule="cosine", warmup=50, batch=32, epochs=1),
    sha256="7b293d1801c1ba476d48980cac123035de95433e54be69d4bc8f7d3d10b106dc",
)
"""A Qwen2 of 0.9 M parameters that was pretrained on the small language world, misconceptions and all."""

SKILLS = ("sorting", "logic", "counting", "editing", "form", "program", "facts")
"""Prior skills that the base has. Of `recall`, which stands in its corpus, too, it knows too little to forget any."""

MINI_MATH = Track(
    id="mini-math-v1",
    title="mini-math, retaining seven skills",
    question="Does a small language model that unlearns a misreading of stories keep its other skills?",
    base=MINI_LM_BASE,
    new="mini-math-v1",
    priors={"skills": tuple(f"mini-{skill}-v1" for skill in SKILLS)},
    settings=Settings(lr=3e-4, warmup=5, batch=16, group=8, examples=320, steps=32, horizon=96),
    items=150,
    drift_items=150,
    checkpoint_items=50,
    checkpoints=2,
    demo={"dr-grpo": (3e-4,), "sft:steps=96:examples=1536": (5e-4,)},
)
MINI_SCIENCE = replace(
    MINI_MATH,
    id="mini-science-v1",
    title="mini-science, retaining seven skills",
    question="Does a small language model that unlearns two mix-ups about elements keep its other skills?",
    new="mini-science-v1",
)
MINI_TOOLS = replace(
    MINI_MATH,
    id="mini-tools-v1",
    title="mini-tools, retaining seven skills",
    question="Does a small language model that learns to read requests to tools keep its other skills?",
    new="mini-tools-v1",
)

MINI_ROBOT_BASE = Base(
    "mini-robot-v1",
    agent="mini-robot-v1",
    task="fetch-pretraining-v1",
    settings=Settings(lr=2e-3, schedule="cosine", warmup=50, batch=64, epochs=50),
    sha256="109074f3cc989af4845a968fdbee3c17874d327715fba40659a8eaaba40f3ddd",
)
"""A controller of a Fetch arm, cloned from noisy demonstrations of four tasks and a few of the new one."""

MINI_ROBOT_AIR = Track(
    id="mini-robot-air-v2",
    title="mini-robot: up in the air, retaining four tasks",
    question="Does a robot policy that learns to put a block up in the air still reach, push, lift and place?",
    base=MINI_ROBOT_BASE,
    new="fetch-air-v1",
    priors={"fetch": ("fetch-reach-v1", "fetch-push-v1", "fetch-lift-v1", "fetch-place-v1")},
    settings=Settings(lr=5e-5, warmup=2, batch=16, group=8, examples=640, steps=8, horizon=200),
    items=400,
    drift_items=100,
    checkpoint_items=30,
    checkpoints=1,
    demo={"reinforce": (5e-5,), "sft:steps=120": (5e-5,)},
)
"""Success: within 5 cm for three steps in a row."""
MINI_ROBOT_AIR_LAST = replace(
    MINI_ROBOT_AIR,
    id="mini-robot-air-last-v1",
    title="mini-robot: up in the air by the last step, retaining four tasks",
    question="The same, where only the last of fifty steps counts: a success that is left again is none.",
    new="fetch-air-last-v1",
    priors={"fetch": tuple(f"fetch-{kind}-last-v1" for kind in ("reach", "push", "lift", "place"))},
    items=200,
    demo={},
)
"""Gymnasium's own rule of success. No episode ends early by it, so half the states cost as much."""

TRACKS: dict[str, Track] = {
    track.id: track
    for track in (
        PARITY_MNIST,
        PARITY_MNIST_ANEW,
        PARITY_MNIST_SHORT,
        MINI_MATH,
        MINI_SCIENCE,
        MINI_TOOLS,
        MINI_ROBOT_AIR,
        MINI_ROBOT_AIR_LAST,
    )
}
"""The embedded default: what a fresh machine without a GPU can run."""

BASES: dict[str, Base] = {track.base.id: track.base for track in TRACKS.values()}
"""The bases of all tracks; of two versions the newer stands later."""


def all_tracks() -> dict[str, Track]:
    """All tracks by id: ours, then those that scripts and other packages bring, but for what cannot be loaded."""
    found = dict(TRACKS)
    for id in ids("track"):
        with suppress(Refused):
            found.setdefault(id, find_track(id))
    return found


def find_track(id: str) -> Track:
    """The track of that id. Refuses an unknown one and names the nearest, or what is no track of that id."""
    found = find("track", id)
    if not isinstance(found, Track) or found.id != id:
        raise Refused(f"what is registered as the track {id!r} is not one: it should be a Track of that id")
    return found


def known_track(id: str) -> Track | None:
    """The track of that id; None of one that nobody here knows, as in the home of others."""
    with suppress(Refused):
        return find_track(id) if known("track", id) else None


def find_base(id: str) -> Base:
    """The base of that id; without its version, the newest. Refuses an unknown one and names the nearest."""
    named = [name for name in BASES if id in (name, re.sub(r"-v\d+$", "", name))]
    return find("base", named[-1] if named else id)


def competitor(track: str, method: str, settings: Mapping[str, object]) -> str:
    """What competes on a track, over all learning rates: the method, and what changes its objective there."""
    found = known_track(track)
    return variant(method, settings, found and found.settings)


def changed(track: str, settings: Mapping[str, object]) -> dict[str, object]:
    """The settings of a run that are not its track's."""
    found = known_track(track)
    usual = vars(found.settings) if found else {}
    told = {name: value for name, value in settings.items() if name != "teacher_sha256"}  # that is no setting
    return {name: value for name, value in told.items() if name not in usual or usual[name] != value}


def differs(track: str, settings: Mapping[str, object]) -> str:
    """The same in words: `lr 0.001, batch 8`."""
    return ", ".join(f"{name} {value}" for name, value in changed(track, settings).items())


def again(track: str, method: str, settings: Mapping[str, object], run: Mapping[str, object]) -> list[str]:
    """The commands that make a run again, of which `run` tells the id, the seed and, if it was brought, `submitted`."""
    if run["submitted"]:
        return [shlex.join(["razorbench", "verify", str(run["submitted"])])]
    seed = ["--seed", str(run["seed"] or 0), "--out", f"again-{run['id']}"]
    flags = [
        part for name, value in changed(track, settings).items() for part in (f"--{name.replace('_', '-')}", str(value))
    ]
    return [
        shlex.join(["razorbench", "adapt", track, "--method", method, *seed, *flags]),
        shlex.join(["razorbench", "score", f"again-{run['id']}", "--track", track]),
    ]


def settings_for(track: Track, **changes: object) -> Settings:
    """The track's settings with some changed. Refuses a field that does not exist."""
    for name in changes:
        if name not in Settings.__dataclass_fields__:
            raise Refused(unknown("setting", name, sorted(Settings.__dataclass_fields__)))
    return replace(track.settings, **changes)  # type: ignore[arg-type]
