"""What runs will take before they are begun: time, tokens, memory and disk.

Pieces of the real work (a step of the adaptation, some items of each task, KL along some episodes) are done on the
machine at hand, or counted for a device that is not, in growing sizes; a line through the last two tells the rest.
"""

import resource
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path

import numpy as np
import torch

from razorbench.harness.core.episodes import Episodes
from razorbench.harness.core.keeping import codes
from razorbench.harness.core.protocols import Listed, Task
from razorbench.harness.core.recorded import covered
from razorbench.harness.core.rollout import demonstrations, rollout
from razorbench.harness.learn.loop import Adaptation, fisher, total_steps
from razorbench.harness.learn.memory import SINGLE, held, written
from razorbench.harness.learn.methods import all_alike, demonstrated, find_method
from razorbench.harness.learn.policy import Constrained, Counted, Policy, encoded
from razorbench.harness.learn.settings import Settings
from razorbench.harness.measure import statistics
from razorbench.harness.measure.constrained import EPISODES
from razorbench.harness.measure.drift import divergence, floor
from razorbench.harness.measure.evaluation import evaluate
from razorbench.harness.measure.merging import MERGED_EPISODES
from razorbench.harness.measure.score import FLOOR_EPISODES, Bench
from razorbench.harness.runs.clocks import Clock, processors
from razorbench.harness.runs.run import Spec, begin, waypoints
from razorbench.harness.store.database import Store

CALIBRATION = 60.0
"""Seconds that measuring takes, about."""
SHARES = {"step": 0.4, "tasks": 0.4, "drift": 0.2}
"""What of them goes to the steps of an adaptation, to the items of tasks, to drift."""
STILL = 1e-12
"""Learning rate while steps are measured: the policy stays the base."""
UNKNOWN = 1000
"""Items of a benchmark that does not tell how many it has, on a track that asks all."""
REPEATS = 32
"""How often a whole step is measured, where there is time."""
FOURFOLD = 4
"""How much larger each size is than the one before."""


@dataclass(frozen=True)
class Line:
    """What work costs by its size: measured at one size, and from there on so much for each more."""

    size: int
    seconds: float
    each: float
    elements: float
    """Tokens, bins or classes of one unit; NaN where the work does not tell."""
    first: float = 0.0
    """Seconds that the first call took beyond the line: what is loaded or made once."""

    def __call__(self, size: float) -> float:
        """Seconds that work of a size takes, but for the first call's surplus."""
        return max(0.0, self.seconds + self.each * (size - self.size))


def grown(
    work: Callable[[int], float], most: int, budget: float, clock: Clock, effort: Clock = processors, repeats: int = 1
) -> Line:
    """The line of `work(size)`, which returns its elements, at sizes up to `most`, in a `budget` of seconds of effort.

    The first call is of another kind, for it loads and makes what stays. `most` itself is measured `repeats` times,
    where half of the budget is enough for that.
    """
    half = budget / 2
    tries: list[tuple[int, float, float]] = []
    size = min(most, 2)
    while True:
        begun, started = clock(), effort()
        elements = work(size)
        tries.append((size, clock() - begun, elements))
        effortful = effort() - started
        budget -= effortful
        if size == most and (len(tries) > repeats or budget < max(half, effortful)):
            break
        larger = min(most, FOURFOLD * size)
        if len(tries) > 1 and budget < effortful * larger / size:
            break
        size = larger
    (at, first, _), later = tries[0], tries[1:] or tries
    sizes = sorted({size for size, _, _ in later})
    means = {size: float(np.mean([took for n, took, _ in later if n == size])) for size in sizes}
    last, seconds = sizes[-1], means[sizes[-1]]
    each = (seconds - means[sizes[-2]]) / (last - sizes[-2]) if sizes[1:] else seconds / last
    each = max(each, 0.0)
    elements = float(sum(each for _, _, each in later) / sum(size for size, _, _ in later))
    line = Line(last, seconds, each, elements)
    return replace(line, first=max(0.0, first - line(at)) if len(tries) > 1 else 0.0)


@dataclass(frozen=True)
class Part:
    """A kind of work in a run."""

    stage: str
    """`adapt` or `score`."""
    what: str
    count: float
    unit: str
    seconds: float
    elements: float = np.nan
    measured: int = 0
    """The largest size at which it was measured."""


@dataclass(frozen=True)
class Plan:
    """What one run takes: the parts of it, and what it holds."""

    method: str
    settings: Settings
    steps: int
    parts: list[Part]
    memory: dict[str, float]
    """Bytes: of weights and what belongs to them, and the most at once."""
    disk: float
    """Bytes of the run's folder, at most, while it is adapted."""
    assumed: list[str] = field(default_factory=list)

    def seconds(self, stage: str = "") -> float:
        """Of a stage, or of all."""
        return sum(part.seconds for part in self.parts if stage in ("", part.stage))

    def elements(self, stage: str = "") -> float:
        """Tokens, bins or classes that are said, as far as it is known."""
        return float(np.nansum([part.elements for part in self.parts if stage in ("", part.stage)]))


class Planner:
    """A track whose work is measured: what is asked of each of its runs is measured once."""

    def __init__(
        self,
        bench: Bench,
        clock: Clock,
        *,
        effort: Clock = processors,
        begun: float = 0.0,
        calibration: float = CALIBRATION,
    ):
        """Seconds are those of a `clock`, and measuring takes `calibration` seconds of `effort`. `begun` are those that
        a command has taken when its bench is ready, which each command takes again.
        """
        self.bench, self.clock, self.effort = bench, clock, effort
        self.begun, self.calibration = begun, calibration
        self.counting = isinstance(bench.base, Counted)
        self.stepped: dict[tuple[str, Settings], tuple[Line, list[Part], dict[str, float], int, int]] = {}

    @property
    def device(self) -> str:
        """Where it is measured: cpu or cuda; meta where it is counted."""
        return next(self.bench.base.parameters()).device.type

    def plan(self, spec: Spec, *, begins: bool = True, asks_base: bool = True) -> Plan:
        """What a run takes: adapted into a folder, then scored. Refuses what `adapt` refuses.

        Of a sweep only the first run `begins`, once a stage, and only the first run of a home `asks_base`.
        """
        bench, settings = self.bench, spec.settings
        method = find_method(spec.method)
        train = bench.new.instances("train").first(settings.examples)
        if "style" in method.reads:
            train = covered(bench.new, train, settings.style)
        steps = total_steps(settings, len(train))
        asked = min(len(train), steps * settings.batch)
        same = replace(
            settings, lr=1.0, schedule="constant", warmup=0, epochs=1.0, steps=0, examples=0, max_grad_norm=1.0
        )
        key = spec.method, same
        if key not in self.stepped:
            self.stepped[key] = self.measure(spec, len(train))
        line, apart, memory, trained, copies = self.stepped[key]
        points = len(waypoints(steps, bench.track.checkpoints))
        parts = [Part("adapt", "begin", 1, "time", self.begun)] if self.begun and begins else []
        parts += [replace(part, count=asked, seconds=part.seconds * asked, elements=np.nan) for part in apart]
        size = settings.batch
        learned = steps * size * line.elements
        parts.append(Part("adapt", "steps", steps, "step", line.first + steps * line(size), learned, line.size))
        if settings.ewc:
            parts.append(self.consolidation)
        disk = written(trained, points, copies)
        kept = SINGLE * trained * (points + 1)
        parts.append(Part("adapt", "weights written", points + 1, "file", kept * self.writing))
        if self.begun and begins:
            parts.append(Part("score", "begin", 1, "time", self.begun))
        parts += self.scoring(points, bool(settings.lora), asks_base)
        return Plan(spec.method, settings, steps, parts, memory, disk)

    # --- adapting

    def measure(self, spec: Spec, train: int) -> tuple[Line, list[Part], dict[str, float], int, int]:
        """The line of a step by its prompts; what is made before the first one, of one instance; what is held; the
        numbers that are trained, and how many policies a state has.
        """
        bench, settings = self.bench, spec.settings
        few = replace(settings, lr=STILL, warmup=0, steps=1000, examples=min(train, 8 * settings.batch))
        begun = self.clock()
        adaptation = begin(bench, replace(spec, settings=few))
        ready = self.clock() - begun
        if self.counting:  # replies without words earn nothing, and would count for nothing
            adaptation.method = replace(adaptation.method, weight=all_alike)
        apart = []
        if "style" in adaptation.method.reads:
            shown = grown(partial(self.show, adaptation), few.examples, 5.0, self.clock, self.effort)
            adaptation.learner.shown = demonstrated_all(adaptation)
            apart.append(Part("adapt", "demonstrations", 1, "instance", shown(shown.size) / shown.size))
        budget = self.calibration * SHARES["step"]
        line = grown(partial(self.step, adaptation), settings.batch, budget, self.clock, self.effort, repeats=REPEATS)
        line = replace(line, first=line.first + ready)  # optimisers are loaded, copies made
        trained = sum(weight.numel() for weight in adaptation.parameters)
        of = held(weights_of(bench.base), trained if settings.lora else 0)
        rests = not (settings.kl or settings.lora or adaptation.method.asks_base)  # as `adapt_into` has it
        memory = {
            "weights": float(of.trained + (0 if rests else of.base)),
            "gradients": float(of.gradients),
            "moments": float(of.moments),
        }
        if isinstance(bench.base, Counted):
            memory |= dict(bench.base.held_while())
            memory["most"] = sum(memory.values()) - min(bench.base.held_while().values())
        else:
            memory["most"] = peak(next(bench.base.parameters()).device)
        return line, apart, memory, trained, len(adaptation.state.policies)

    def show(self, adaptation: Adaptation, size: int) -> float:
        """Demonstrations of so many instances."""
        learner = adaptation.learner
        some = learner.instances.take(np.arange(size))
        made = demonstrations(learner.task, some, learner.settings.style, seed=learner.seed)
        return float(encoded(learner.policy, made).lengths().sum())

    def step(self, adaptation: Adaptation, size: int) -> float:
        """One step over so many prompts."""
        adaptation.settings = replace(adaptation.settings, batch=size)
        adaptation.steps_per_epoch = max(1, len(adaptation.learner.instances) // size)
        return float(adaptation.advance().elements)

    @cached_property
    def consolidation(self) -> Part:
        """What elastic weight consolidation measures before the first step."""
        priors = [task for task in self.bench.priors.values() if isinstance(task, Task)]

        def work(size: int) -> float:
            fisher(self.bench.base, priors, 0, size)
            return np.nan

        line = grown(work, 256, 5.0, self.clock, self.effort)
        return Part("adapt", "Fisher information", 256 * len(priors), "episode", line(256), np.nan, line.size)

    @cached_property
    def writing(self) -> float:
        """Seconds a byte of a file that is written and synced."""
        if self.counting:
            return 0.0
        block = torch.zeros(2**24, dtype=torch.uint8)
        with tempfile.TemporaryFile(dir=existing(self.bench.home)) as file:
            begun = self.clock()
            file.write(block.numpy().data)
            file.flush()
            return (self.clock() - begun) / len(block)

    # --- scoring

    @cached_property
    def row(self) -> Part:
        """Intervals and tests of each task, and an index that is opened and, when it has the row, published again."""
        items = [self.most(id) for id in self.bench.tasks]
        begun = self.clock()
        if not self.counting:
            for most in items:
                right = np.arange(most * self.bench.track.conditions.samples) % 2
                statistics.judged(right, np.roll(right, 1))
            with tempfile.TemporaryDirectory() as home:
                Store(home).reconcile()
                Store(home).rebuild()
        return Part("score", "row", 1, "time", self.clock() - begun)

    def scoring(self, points: int, lora: bool, asks_base: bool) -> list[Part]:
        """The parts of scoring a run, with so many points in mid-training."""
        bench, track = self.bench, self.bench.track
        samples = track.conditions.samples
        parts, few = [self.row], track.checkpoint_items
        for id, (line, items) in self.items.items():
            count = samples * items
            known = not asks_base or (not self.counting and bench.known("answers", id, track.items))
            early = samples * min(few or items, items) if points else 0
            seconds = line.first + line(count) + points * line(early) + (0.0 if known else line(count))
            all = count * (1 if known else 2) + points * early
            parts.append(Part("score", id, all, "item", seconds, line.elements * all, line.size))
        if not (track.new and isinstance(bench.tasks[track.new], Task)):
            return parts
        drawn, along, alone = self.drift
        n = len(bench.drift_instances)
        before = not asks_base or (not self.counting and bench.known("drawn", track.new, track.drift_items))
        seconds = (0.0 if before else drawn(n) + alone(min(n, FLOOR_EPISODES))) + drawn(n) + (2 + points) * along(n)
        all = n * (1 if before else 2)
        if lora:
            seconds += drawn(MERGED_EPISODES) + 2 * along(MERGED_EPISODES)
        if isinstance(bench.base, Constrained):
            seconds += 2 * (drawn(EPISODES) + along(EPISODES) / 2)
        parts.append(Part("score", "drift", all, "episode", seconds, drawn.elements * all, drawn.size))
        return parts

    @cached_property
    def items(self) -> dict[str, tuple[Line, int]]:
        """The line of each task's items, and how many there are to be scored."""
        lines: dict[str, tuple[Line, int]] = {}
        bench, left = self.bench, self.calibration * SHARES["tasks"]
        for at, id in enumerate(bench.tasks):
            most = self.most(id)
            begun = self.effort()
            line = grown(partial(self.ask, id), most, left / (len(bench.tasks) - at), self.clock, self.effort)
            left -= self.effort() - begun
            lines[id] = line, most
        return lines

    def most(self, id: str) -> int:
        """How many items of a task are scored."""
        task, items = self.bench.tasks[id], self.bench.track.items
        if isinstance(task, Task):
            return len(task.instances("test").first(items))
        return task.count(items or None) if isinstance(task, Listed) else items or UNKNOWN

    def ask(self, id: str, size: int) -> float:
        """The base's answers to so many items of a task; what of its elements is known."""
        conditions = self.bench.track.conditions
        told = evaluate(self.bench.base, self.bench.tasks[id], items=size, conditions=conditions, keep=codes)
        return float(told.played.lengths().sum()) if told.played else np.nan

    @cached_property
    def drift(self) -> tuple[Line, Line, Line]:
        """The lines of episodes that are sampled on the new task; of KL along them; and of the KL of one to itself."""
        bench, budget = self.bench, self.calibration * SHARES["drift"]
        most = len(bench.drift_instances)
        played: list[Episodes] = []

        def draw(size: int) -> float:
            with torch.no_grad():
                played.append(rollout(bench.base, bench.new, bench.drift_instances.first(size)))
            return float(played[-1].lengths().sum())

        def along(size: int) -> float:
            divergence(bench.base, bench.base, played[-1].take(np.arange(size)))
            return 0.0

        def alone(size: int) -> float:
            floor(bench.base, played[-1].take(np.arange(size)))
            return 0.0

        drawn = grown(draw, most, budget / 2, self.clock, self.effort)
        size = len(played[-1])
        return (
            drawn,
            grown(along, size, budget / 4, self.clock, self.effort),
            grown(alone, min(size, FLOOR_EPISODES), budget / 4, self.clock, self.effort),
        )


def demonstrated_all(adaptation: Adaptation) -> Episodes:
    """The demonstrations that a measured adaptation has."""
    learner = adaptation.learner
    demonstrated(learner, np.arange(1), 0)
    assert learner.shown is not None
    return learner.shown


def weights_of(policy: Policy) -> int:
    """How many numbers a policy's weights are."""
    return sum(weight.numel() for weight in policy.parameters())


def peak(device: torch.device) -> float:
    """The most bytes that this process has held on a device so far."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    return 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB on Linux


def existing(place: Path) -> Path:
    """A folder, or the nearest above it that is there."""
    return next(each for each in (place.absolute(), *place.absolute().parents) if each.is_dir())
