"""Tracks: what is held fixed so that rows compare. Base, new task, priors, items, success rule, budget."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from harness.registry import unknown
from harness.settings import Settings
from harness.types import Refused


@dataclass(frozen=True)
class Pretraining:
    """How a base is made here: SFT of the freshly initialised agent on a task's demonstrations."""

    task: str
    settings: Settings
    seed: int = 0


@dataclass(frozen=True)
class Track:
    """One competition. Whatever would change a number changes the track's id."""

    id: str
    title: str
    question: str
    """What the track finds out, in one sentence."""
    agent: str
    """Registry id of the base agent."""
    pretraining: Pretraining
    """How its weights are made."""
    new: str
    """Registry id of the new task."""
    priors: Mapping[str, tuple[str, ...]]
    """Prior tasks by suite. Retention is the mean over all of them: a track holds only suites that may be averaged."""
    settings: Settings
    """Defaults of an adaptation on this track."""
    items: int = 0
    """Test instances of each task that are scored; 0: all."""
    drift_items: int = 0
    """Test instances of the new task on which drift is measured; 0: all."""
    checkpoint_items: int = 0
    """Test instances a task for points in mid-training; 0: as many as at the end."""
    checkpoints: int = 8
    """Points measured in mid-training, evenly spaced, besides the end."""
    demo: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    """Method → learning rates that `razorbench demo` runs."""

    @property
    def prior_tasks(self) -> list[str]:
        """All prior task ids, suite by suite."""
        return [task for suite in self.priors.values() for task in suite]


PARITY_MNIST = Track(
    id="parity-mnist-v1",
    title="ParityMNIST, retaining FashionMNIST",
    question="Does a classifier that learns the parity of digits still know kinds of clothing?",
    agent="mlp-785-v1",
    pretraining=Pretraining("parity-fashion-pretraining-v1", Settings(lr=1e-3, warmup=0, batch=100, epochs=50)),
    new="parity-mnist-v1",
    priors={"fashion": ("fashion-mnist-v1",)},
    settings=Settings(),
    drift_items=2_000,
    checkpoint_items=2_000,
    demo={
        "sft": (3e-5, 1e-4),
        "oracle-sft": (1e-4, 3e-4),
        "reinforce": (1e-4, 3e-4),
        "grpo": (1e-4, 3e-4),
        "dr-grpo": (1e-4, 3e-4),
    },
)
"""The paper's toy (arXiv 2509.04259, section 4 and appendix B.3); docs/parity-mnist.md says what was left open."""

PARITY_MNIST_ANEW = replace(
    PARITY_MNIST,
    id="parity-mnist-anew-v1",
    title="ParityMNIST, retaining FashionMNIST; the base saw labels drawn anew",
    question="The same, for a base that spreads its belief over the five digits of a parity instead of picking one.",
    pretraining=Pretraining("parity-fashion-pretraining-anew-v1", Settings(lr=1e-3, warmup=0, batch=100, epochs=1)),
    demo={},
)
"""The other reading of one open setting: 500 steps in both, but no label is seen twice."""

TRACKS: dict[str, Track] = {track.id: track for track in (PARITY_MNIST, PARITY_MNIST_ANEW)}
"""The embedded default: what a fresh machine without a GPU can run."""


def find_track(id: str) -> Track:
    """The track of that id. Refuses an unknown one and names the nearest."""
    if id not in TRACKS:
        raise Refused(unknown("track", id, list(TRACKS)))
    return TRACKS[id]


def settings_for(track: Track, **changes: object) -> Settings:
    """The track's settings with some changed. Refuses a field that does not exist."""
    for name in changes:
        if name not in Settings.__dataclass_fields__:
            raise Refused(unknown("setting", name, sorted(Settings.__dataclass_fields__)))
    return replace(track.settings, **changes)  # type: ignore[arg-type]
