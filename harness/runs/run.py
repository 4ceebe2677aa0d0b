"""One run from a specification to a checkpoint folder or a record: adapt, measure on the way, score, keep."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.core.locks import alone
from razorbench.harness.core.protocols import Agent, Task
from razorbench.harness.core.recorded import digest_of, path_of
from razorbench.harness.learn import checkpoint as checkpoints
from razorbench.harness.learn.checkpoint import (
    ADAPTER_CONFIG,
    ADAPTERS,
    MANIFEST,
    WAYPOINTS,
    WEIGHTS,
    Checkpoint,
    Manifest,
    Report,
)
from razorbench.harness.learn.engine import LOCAL, Engine, first_does
from razorbench.harness.learn.loop import Adaptation
from razorbench.harness.learn.memory import check_disk, released, written
from razorbench.harness.learn.methods import OWN, find_method
from razorbench.harness.learn.observers import find_observer
from razorbench.harness.learn.policy import Accountable, Policy, adapters, whole
from razorbench.harness.learn.saved import check_base, differing, read_description, read_json, shown
from razorbench.harness.learn.settings import Settings, lasting
from razorbench.harness.measure import record as records
from razorbench.harness.measure.record import Point, Record
from razorbench.harness.measure.score import POINTS, Bench
from razorbench.harness.runs.curve import cost, curve, measured, note, noted
from razorbench.harness.runs.folder import reserve, save_weights, tidy, write_curve
from razorbench.harness.runs.provenance import provenance
from razorbench.harness.tracks.bases import policy_digest, weights_sha256
from razorbench.harness.tracks.spec import Base, Track

SAVE_SECONDS = 300.0
"""Time between saved states, where no number of steps is given: a killed run of hours loses minutes."""


@dataclass(frozen=True)
class Spec:
    """All that decides the result of a run on a track."""

    method: str
    settings: Settings
    seed: int = 0

    def __post_init__(self) -> None:
        find_method(self.method)
        if not self.settings.lr:
            raise Refused("a learning rate of 0 gives the base back; give lr a number above 0")

    def check(self, usual: Settings) -> None:
        """Refuses what was set, and not as `usual`, the track's settings, and would do nothing."""
        here, there = vars(self.settings), vars(usual)
        changed = {name for name, value in here.items() if value != there[name]}
        if idle := sorted(changed & {*OWN} - find_method(self.method).reads):
            what, they, it = (", ".join(idle), "they do", "them") if idle[1:] else (idle[0], "it does", "it")
            raise Refused(f"{self.method} does not read {what}, so {they} nothing here; leave {it} out")
        if "clip" in changed and self.settings.iterations == 1:
            raise Refused(
                "clip does nothing to the first update on a batch; give iterations 2 or more, or leave it out"
            )
        if "epochs" in changed and self.settings.steps:
            raise Refused(
                f"epochs count only where steps is 0, not {self.settings.steps}; give steps 0, or leave epochs out"
            )

    @property
    def told(self) -> dict[str, Any]:
        """The settings as a record tells them: a teacher by the digest of its weights, beside its folder; and a file of
        demonstrations by its own.
        """
        told = asdict(self.settings)
        if self.settings.teacher:
            told["teacher_sha256"] = weights_sha256(checkpoints.read(Path(self.settings.teacher)).weights)
        if path := path_of(self.settings.style):
            told["style_sha256"] = digest_of(path)
        return told

    def label(self, track_settings: Settings) -> str:
        """A name for the board: the method and what differs from the track's settings."""
        changed = [f"{k} {v}" for k, v in asdict(self.settings).items() if v != getattr(track_settings, k)]
        return " ".join([self.method, *changed])


def how(bench: Bench) -> dict[str, Any]:
    """How the models of a bench are computed, as provenance tells it; nothing of those that have no say in it."""
    told = {"runtime": runtime} if (runtime := bench.runtime) else {}
    return told | ({"account": bench.base.account()} if isinstance(bench.base, Accountable) else {})


def begin(bench: Bench, spec: Spec, engine: Engine = LOCAL, observe: Sequence[str] = ()) -> Adaptation:
    """The adaptation of a copy of the track's base, at step 0, by the processes of an engine, as observers see it."""
    teacher = None
    if spec.settings.teacher:
        teacher = bench.base.copy()
        teacher.load(checkpoints.read(Path(spec.settings.teacher)).weights)
    priors = [task for task in bench.priors.values() if isinstance(task, Task)] if spec.settings.ewc else []
    return Adaptation(
        adapters(bench.base, spec.settings.lora) if spec.settings.lora else bench.base.copy(),
        bench.new,
        find_method(spec.method),
        spec.settings,
        seed=spec.seed,
        teacher=teacher,
        priors=priors,
        engine=engine,
        observers=[find_observer(id)() for id in observe],
    )


def waypoints(steps: int, count: int) -> set[int]:
    """`count` evenly spaced steps between the first and the last, fewer where there are not so many."""
    return {int(step) for step in np.linspace(0, steps, count + 2)[1:-1].round()} - {0, steps}


# --- adapt: into a folder, so that it can be stopped and gone on with -------------------------------------------------


def adapt_into(
    folder: Path,
    bench: Bench,
    spec: Spec,
    *,
    save_every: int = 0,
    tell: Callable[[Report, int], Any] | None = None,
    engine: Engine = LOCAL,
    observe: Sequence[str] = (),
    passed: Callable[[Policy, int], Any] | None = None,
    **more: Any,
) -> Checkpoint:
    """Adapt into a checkpoint folder, or go on where a killed run of the same specification was.

    The weights are the same, bit for bit, however often it was stopped. Its state is saved every `save_every` steps; 0:
    every five minutes. `tell(report, steps)` is called after each step. `observe` names what is measured besides
    (`learn.observers`); what is given `more` goes into its provenance. At each point in mid-training its weights are
    kept, or `passed(policy, step)` is called instead. A base that nobody asks meanwhile gives its memory back and has
    its weights again at the end.
    Of an `engine` of several processes all call this; the first writes, and the folder is one that all of them see.

    Returns the checkpoint. Refuses a folder that holds something else. Raises ArithmeticError where it diverges.
    """
    more |= {"processes": engine.size} if engine.size > 1 else {}
    manifest = Manifest(
        bench.track.id,
        spec.method,
        bench.base_id,
        spec.told,
        spec.seed,
        provenance=provenance(**how(bench), **more),
    )
    weights, reports = folder / (ADAPTERS if spec.settings.lora else WEIGHTS), []
    adaptation = (
        None if weights.exists() else begin(bench, spec, engine, observe)
    )  # what is refused has left nothing behind
    marks = waypoints(adaptation.steps, bench.track.checkpoints) if adaptation else set()
    if adaptation:
        trained, kept = sum(weight.numel() for weight in adaptation.parameters), 0 if passed else len(marks)
        first_does(engine, partial(check_disk, folder, written(trained, kept, len(adaptation.state.policies))))
    first_does(engine, lambda: reserve(folder, manifest))
    if adaptation is None:
        first_does(engine, lambda: tidy(folder))
        return checkpoints.read(folder)
    gone_on = adaptation.load(folder)
    if len({*engine.gathered(adaptation.step)}) > 1:
        raise Refused(f"the processes do not see the same {folder}; give a folder that is shared by all of them")
    if gone_on:
        reports = [report for report in Checkpoint(folder, manifest).curve() if report.step <= adaptation.step]
    asked = spec.settings.kl or spec.settings.lora or adaptation.method.asks_base or passed or engine.sharded
    passed, saved = passed or partial(keep_weights, folder), time.monotonic()
    with nullcontext() if asked else released(bench.base, bench.track.base.weights(bench.home)):
        for report in adaptation:
            if report.step in marks or report.step == adaptation.steps:
                told = adaptation.observed("at_checkpoint", report.step)
                report = replace(report, measures={**report.measures, **told}) if told else report
            reports.append(report)
            if report.step in marks:
                with whole(adaptation.learner.policy):
                    first_does(engine, partial(passed, adaptation.learner.policy, report.step))
            late = engine.gathered(time.monotonic() - saved >= SAVE_SECONDS)[0]  # the first one's clock is everyone's
            if report.step % save_every == 0 if save_every else late:
                first_does(engine, partial(write_curve, folder, reports))
                adaptation.save(folder)
                saved = time.monotonic()
            if tell:
                tell(report, adaptation.steps)
    lacking = {"without_demonstration": adaptation.without} if path_of(spec.settings.style) else {}
    done = replace(manifest, steps=adaptation.steps, cost=cost(reports), provenance={**manifest.provenance, **lacking})

    def finish() -> None:
        write_curve(folder, reports)
        checkpoints.write_json(folder / MANIFEST, done)
        save_weights(adaptation.learner.policy, weights)
        tidy(folder)

    with whole(adaptation.learner.policy):
        first_does(engine, finish)
    return Checkpoint(folder, done)


def keep_weights(folder: Path, policy: Policy, step: int) -> None:
    """Write weights in mid-training."""
    save_weights(policy, folder / WAYPOINTS / f"{step:08d}.safetensors")


# --- score: into the records of a home --------------------------------------------------------------------------------


def score_folder(
    bench: Bench, made: Checkpoint, home: Path, name: str = "", points: Sequence[Point] = ()
) -> tuple[Record, bool]:
    """Score a checkpoint folder and keep the record; an adapted checkpoint is scored once, then only looked up.

    `points` were measured in mid-training already, besides those of which the folder holds weights.
    Returns the record, and whether it is new. Refuses what was adapted on another track, or from another base.
    """
    check_beside(made, bench.track.base, home)
    policy = bench.base.copy()
    policy.load(made.weights)
    manifest = made.manifest or Manifest(bench.track.id, "brought")
    if manifest.track != bench.track.id:
        raise Refused(
            f"{made.folder} was adapted on {manifest.track}, not {bench.track.id}; "
            f"score it with --track {manifest.track}"
        )
    if manifest.base not in ("", bench.base_id):
        raise Refused(
            f"{made.folder} was adapted from another base ({manifest.base[:12]}, not {bench.base_id[:12]}); "
            "score it with the --home that it was adapted with"
        )
    checkpoint = policy_digest(policy)
    known = lookup(bench, checkpoint, manifest, home)
    if known:
        return known, False
    between = []
    for step, weights in made.waypoints().items():
        passed = bench.base.copy()
        passed.load(weights)
        between.append(bench.point(passed, step))
    name = name or made.folder.resolve().name
    return keep(bench, policy, checkpoint, manifest, [*points, *between], made.curve(), home, name), True


def check_beside(made: Checkpoint, base: Base, home: Path) -> str:
    """Refuses a checkpoint whose config is another model's than the base, or whose adapters were trained on another one
    that can be read here. What is known of that, in a sentence; empty where nothing is said.
    """
    if made.weights.name == ADAPTERS:
        config = made.folder / ADAPTER_CONFIG
        named = read_description(config).base if config.exists() else ""
        return check_base(named, base.weights(home), base.id) if named else ""
    theirs, ours = made.folder / "config.json", (base.beside(home) or made.folder) / "config.json"
    if theirs.exists() and ours.exists() and (other := differing(read_json(theirs), read_json(ours))):
        key, brought, expected = other
        raise Refused(
            f"{theirs} has {shown(brought)} for {key}, and {base.id} has {shown(expected)}; adapt that base, or "
            "compare the two models with `razorbench compare`"
        )
    return ""


def run(bench: Bench, spec: Spec, home: Path, observe: Sequence[str] = ()) -> Record:
    """Adapt in a folder below `home`/runs, score, and keep the record; killed at any moment, it goes on there.

    What is measured in mid-training is measured when it is reached, so that no weights are kept for it. The folder goes
    when the record stands, or when the adaptation diverges. Who comes while another process is at the same run waits
    for it.

    Returns the record. Raises as `adapt_into` does.
    """
    folder = run_folder(home, bench.track, bench.base_id, spec)
    with alone(folder):
        try:
            made = adapt_into(
                folder,
                bench,
                spec,
                observe=observe,
                passed=lambda policy, step: note(folder, bench.point(policy, step)),
                adapted_by="sweep",
            )
            record, _ = score_folder(bench, made, home, spec.label(bench.track.settings), noted(folder))
        except ArithmeticError:
            shutil.rmtree(folder)
            raise
        shutil.rmtree(folder, ignore_errors=True)  # a sweep that found the record may be at it, too
    return record


def run_folder(home: Path, track: Track, base: str, spec: Spec) -> Path:
    """Where a run of a sweep is made; `base` is the digest of the base's weights."""
    known = [track.id, base, spec.method, lasting(spec.told), spec.seed]
    known += records.foreign_track(track.id, track.digest)
    return home / "runs" / sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def record_id(bench: Bench, checkpoint: str, manifest: Manifest, submission: Mapping[str, Any] | None = None) -> str:
    """Identity of a scored checkpoint: track, base, weights (`checkpoint`, their digest), how they are said to have
    come about, who brought them; and the track and the data of tasks, where they are not ours. All by content, nothing
    by its path.

    Weights alone would not do: on answers of one element Dr. GRPO and REINFORCE give the same ones, bit for bit.
    """
    said = [manifest.method, lasting(manifest.settings), manifest.seed, *([submission["id"]] if submission else [])]
    parts = [bench.track.id, bench.base_id, checkpoint, *said]
    parts += [data] if (data := records.foreign(bench.data)) else []
    parts += records.foreign_track(bench.track.id, bench.track.digest)
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def parameters(base: Agent) -> dict[str, int]:
    """How many numbers are in the base's weights; nothing of a base whose weights are not here."""
    return {"parameters": sum(each.numel() for each in base.parameters())} if isinstance(base, Policy) else {}


def lookup(
    bench: Bench, checkpoint: str, manifest: Manifest, home: Path, submission: Mapping[str, Any] | None = None
) -> Record | None:
    """The record of the weights with this digest, where there is one."""
    folder = records.folder(home, record_id(bench, checkpoint, manifest, submission))
    return records.read(folder) if folder.exists() else None


def keep(
    bench: Bench,
    policy: Policy,
    checkpoint: str,
    manifest: Manifest,
    points: list[Point],
    reports: list[Report],
    home: Path,
    name: str,
    submission: Mapping[str, Any] | None = None,
    tell: Callable[[str], Any] = lambda task: None,
) -> Record:
    """Score the policy, write its record, samples and answers. `checkpoint` is the digest of its weights, `submission`
    what its maker says, if it was brought; `tell` is called with what is measured next.
    """
    scored = bench.score(policy, tell)
    gain, retention = scored.gain, scored.retention
    record = Record(
        id=record_id(bench, checkpoint, manifest, submission),
        name=name,
        track=bench.track.id,
        agent=bench.track.base.agent,
        base=bench.base_id,
        method=manifest.method,
        settings=manifest.settings,
        seed=manifest.seed,
        steps=manifest.steps,
        checkpoint=checkpoint,
        scores=scored.scores,
        gain=POINTS * gain.value,
        gain_low=POINTS * gain.low,
        gain_high=POINTS * gain.high,
        gain_se=POINTS * gain.se,
        retention=POINTS * retention.value,
        retention_low=POINTS * retention.low,
        retention_high=POINTS * retention.high,
        retention_se=POINTS * retention.se,
        drifts=scored.drifts,
        curve=curve(bench, points, reports, scored, manifest.steps),
        cost={
            **{f"adapt_{k}" if k == "seconds" else k: v for k, v in manifest.cost.items()},
            "score_seconds": scored.seconds,
        },
        provenance={
            "adapted": manifest.provenance,
            "scored": provenance(**how(bench)),
            **parameters(bench.base),
            **({"merged": [asdict(each) for each in scored.merged]} if scored.merged else {}),
            **({"outside": dict(zip(("base", "adapted"), scored.outside, strict=True))} if scored.outside else {}),
            **({"account": policy.account()} if isinstance(policy, Accountable) else {}),
            **({"floors": floors} if (floors := bench.floors) else {}),
            **({"submission": submission} if submission else {}),
        },
        scored_at=datetime.now(UTC).isoformat(timespec="seconds"),
        conditions=bench.conditions,
        data=bench.data,
        measures=measured(reports),
        track_digest=bench.track.digest,
    )
    with suppress(Refused):  # another process may have scored the same checkpoint meanwhile; its record stands
        records.write(home, record, scored.samples, scored.answers)
    return records.read(records.folder(home, record.id))
