"""What comes out when two are compared task by task: changes, a verdict in words, and the items that changed."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from razorbench.harness.core.errors import Refused
from razorbench.harness.learn.checkpoint import ADAPTER_CONFIG, WEIGHTS
from razorbench.harness.measure.estimate import Estimate, Paired, below_floor
from razorbench.harness.measure.record import UNTOLD, Drift, Record, Score, answers_of, samples_of
from razorbench.harness.tracks.origins import ENDPOINT, ON_HUB

FLIPS = 10
"""Items that are shown to a person, unless more are wanted."""


@dataclass(frozen=True)
class Kind:
    """What is compared, and what its parts are called."""

    told: str
    one: str
    """What one of it is, in a sentence."""
    first: str
    second: str
    several: str
    item: str
    mean: str
    """What the mean over tasks is called."""


RUNS = Kind(
    "two runs of lm-eval, document by document",
    "a run of lm-eval",
    "first",
    "second",
    "runs",
    "document",
    "Mean change",
)
MODELS = Kind(
    "a model and what became of it, item by item", "a model", "base", "adapted", "models", "item", "Retention"
)
ROWS = Kind(
    "two rows of the board, item by item",
    "no folder here and no OWNER/NAME@COMMIT of the hub, so it could only be a row of the board",
    "first",
    "second",
    "rows",
    "item",
    "Mean change",
)
MODEL_FILES = ("config.json", ADAPTER_CONFIG, WEIGHTS)
"""Of which one is in a folder that holds a model."""


def kind_of(named: str) -> Kind:
    """What somebody names: a folder by what lies in it, OWNER/NAME@COMMIT or http://HOST/v1#MODEL as a model; else what
    may be a row.

    Refuses a folder that holds neither a model nor a run.
    """
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return MODELS if ON_HUB.fullmatch(named) or ENDPOINT.fullmatch(named) else ROWS
    if any((folder / name).exists() for name in MODEL_FILES):
        return MODELS
    if any(folder.rglob("samples_*.jsonl")):
        return RUNS
    raise Refused(
        f"{folder} holds no model ({', '.join(MODEL_FILES)}) and no run of lm-eval (samples_*.jsonl); name a folder "
        "that does"
    )


@dataclass(frozen=True)
class Flip:
    """An item that one of the two has right and the other has not, or less so: what was asked and what each said."""

    task: str
    item: str
    asked: str
    target: str
    """What is right; empty where that is not told."""
    first: str
    second: str
    gained: bool
    """Whether it is the second that does better."""


@dataclass(frozen=True, kw_only=True)
class Change(Paired):
    """One task of the two."""

    task: str
    role: str = ""
    """`new` or `prior`; empty of runs, which do not tell."""
    metric: str = ""
    """What is the score; empty where the task has one only."""
    filter: str = "none"


@dataclass(frozen=True)
class Beside:
    """What a task measures beside the score, over the items that have it on both sides, in a unit of its own."""

    task: str
    metric: str
    first: float
    second: float
    difference: float
    """Second − first."""
    low: float
    """Of the 95 % interval, as of a score; NaN in records that are older than it."""
    high: float


@dataclass(frozen=True)
class Compared:
    """Two that were compared."""

    kind: Kind
    first: str
    second: str
    changes: tuple[Change, ...]
    """The new task first, where there is one."""
    mean: Estimate
    """Mean change over the tasks, in points, each of one weight; where there are priors, over these: retention."""
    flips: tuple[Flip, ...] = ()
    notes: tuple[str, ...] = ()
    """What else is to be known, in sentences."""
    drifts: tuple[Drift, ...] = ()
    beside: tuple[Beside, ...] = ()
    """What the tasks of models measure beside the score."""
    record: str = ""
    """Id of the record that holds it; empty where there is none."""
    track: str = ""
    """Id of the track that it is a record of."""

    @property
    def new(self) -> Change | None:
        """The change on the new task, the gain; None where none was asked."""
        return next((change for change in self.changes if change.role == "new"), None)

    @property
    def averaged(self) -> int:
        """Over how many tasks `mean` is."""
        return sum(change.role != "new" for change in self.changes)

    @property
    def verdict(self) -> str:
        """What came out, and what so many items would show, in one to three sentences."""
        tested = [change for change in self.changes if change.difference.n]
        if not tested:
            return f"No {self.kind.item} has a score in both {self.kind.several}, so nothing can be said."
        sure = [change for change in tested if change.p_holm < 0.05]
        better = [change.task for change in sure if change.difference.value > 0]
        worse = [change.task for change in sure if change.difference.value < 0]
        parts = [f"{word} on {', '.join(tasks)}" for word, tasks in (("worse", worse), ("better", better)) if tasks]
        open_ = [change for change in tested if change not in sure]
        subject = f"the {self.kind.second} {self.kind.several[:-1]}"
        nothing = f"Nothing tells the two {self.kind.several} apart."
        said = f"{subject.capitalize()} is {' and '.join(parts)}." if parts else nothing
        if not parts and len(tested) > 1 and (self.mean.low > 0 or self.mean.high < 0):
            over = "better" if self.mean.value > 0 else "worse"
            said = f"Over all tasks {subject} is {over}; no task alone tells the two apart."
        rest = f" Not told apart on {', '.join(change.task for change in open_)}." if parts and open_ else ""
        return f"{said}{rest} {self.reach}" if open_ else said

    @property
    def reach(self) -> str:
        """How small a change would have been seen where none was, and how many items a smaller one takes; empty where
        nothing is open.
        """
        open_ = [change for change in self.changes if change.difference.n and not change.p_holm < 0.05]
        if not open_:
            return ""
        widest = max(open_, key=lambda change: change.mde)
        n = widest.difference.n
        seen = f"{widest.task} with {n:,} {self.kind.item}s would show a change of {widest.mde:.1f} points"
        more = math.ceil(n * (widest.mde / 2) ** 2)
        return seen + (f"; one of 2 points takes some {more:,} {self.kind.item}s." if widest.mde > 2 else ".")

    @property
    def drift(self) -> str:
        """How far the second is from the first, in a sentence; empty where that was not measured."""
        by = {row.per: row for row in self.drifts if row.direction == "forward"}
        if not by:
            return ""
        whole, each = by["episode"], by["element"]
        assert whole.nats is not None
        least = "" if whole.floor is None else f"; rounding alone makes {whole.floor:.1g} an episode"
        if below_floor(whole.nats, whole.floor):
            return f"Drift: none, at most what rounding makes ({whole.floor:.1g} nats an episode)."
        wide = 1.96 * nan(whole.se)
        return (
            f"Drift: {whole.nats:.3g} [{max(whole.nats - wide, 0.0):.3g}, {whole.nats + wide:.3g}] nats an episode, "
            f"{nan(each.nats):.3g} a token: forward KL along {whole.n:,} replies of the base to {whole.task}{least}."
        )


# --- a record of two models -------------------------------------------------------------------------------------------


def of_record(
    home: Path, record: Record, first: str, second: str, notes: Sequence[str] = (), flips: int = FLIPS
) -> Compared:
    """What a record holds of a base, called `first`, and what became of it, with the most telling flips: of each task
    in turn, on priors what was lost before what was gained, on the new task the other way round.
    """
    table = samples_of(home, record.id).to_pydict()
    samples: dict[str, dict[str, tuple[float, float]]] = {}
    errors: dict[str, dict[str, str]] = {}
    for task, item, error, *scores in zip(
        *(table[name] for name in ("task", "item", "error", "base", "adapted")), strict=True
    ):
        samples.setdefault(task, {})[item] = nan(scores[0]), nan(scores[1])
        if error:
            errors.setdefault(task, {})[item] = error
    answers = answers_of(home, record.id)
    rows: dict[str, list[Mapping[str, Any]]] = {}
    for row in answers.to_pylist() if answers else ():
        rows.setdefault(row["task"], []).append(row)
    shown = [told(score.role, samples[score.task], rows.get(score.task, ())) for score in record.scores]
    return Compared(
        MODELS,
        first,
        second,
        tuple(change(score, np.array([*samples[score.task].values()])) for score in record.scores),
        estimate(record.retention, record.retention_low, record.retention_high, record.retention_se),
        tuple(round_robin(shown, flips)),
        (
            *notes,
            *(note for task, found in errors.items() for note in went_wrong(task, samples[task], found)),
            *unsteady(record.provenance),
        ),
        tuple(record.drifts),
        tuple(beside(record)),
        record.id,
        record.track,
    )


def unsteady(provenance: Mapping[str, Any] | None) -> Iterator[str]:
    """What is to be said of tasks whose verdicts are not repeatable, from the provenance of a record."""
    for task, share in ((provenance or {}).get("floors") or {}).items():
        yield (
            f"{100 * share:.2g} % of the verdicts of {task} differ where one policy plays the same states twice: no "
            "smaller change says anything, whatever its interval."
        )


def went_wrong(task: str, samples: Mapping[str, tuple[float, float]], errors: Mapping[str, str]) -> Iterator[str]:
    """What is to be said of the items of a task that have an error: no score, or one of 0."""
    failed = [item for item in errors if all(map(math.isfinite, samples[item]))]
    unscored = [item for item in errors if not all(map(math.isfinite, samples[item]))]
    of = f"of {len(samples):,} items of {task}"
    if unscored:
        yield f"{len(unscored):,} {of} have no score and are left out: {errors[unscored[0]]}."
    if failed:
        yield f"{len(failed):,} {of} have a reply that cannot be judged, which scores 0: {errors[failed[0]]}."


def change(score: Score, pairs: np.ndarray) -> Change:
    """A task of a record, with the scores [n, 2] of its items before and after."""
    before, after = pairs.T
    return Change(
        first=nan(score.base),
        second=nan(score.adapted),
        difference=estimate(score.difference, score.low, score.high, score.se, score.n, score.unscored),
        p=nan(score.p),
        mde=nan(score.mde),
        first_alone=int(((before >= 0.5) & (after < 0.5)).sum()),
        second_alone=int(((after >= 0.5) & (before < 0.5)).sum()),
        p_holm=nan(score.p_holm),
        task=score.task,
        role=score.role,
    )


def beside(record: Record) -> Iterator[Beside]:
    """What the tasks of a record measure beside the score, but for what none of the items has on both sides."""
    for score in record.scores:
        for name, means in score.metrics.items():
            if None not in means:
                yield Beside(score.task, name, *map(nan, [*means, *score.metric_changes.get(name, UNTOLD)]))


def estimate(
    value: float | None, low: float | None, high: float | None, se: float | None, n: int = 0, unscored: int = 0
) -> Estimate:
    """An estimate of a record, in which what is not known is None."""
    return Estimate(nan(value), nan(low), nan(high), nan(se), n, unscored)


def nan(value: float | None) -> float:
    """The number, NaN where it is not known."""
    return math.nan if value is None else value


def told(role: str, samples: Mapping[str, tuple[float, float]], rows: Sequence[Mapping[str, Any]]) -> Iterator[Flip]:
    """The flips of a task whose answers are kept, the most telling first."""

    def by(row: Mapping[str, Any]) -> tuple[bool, float]:
        before, after = samples[row["item"]]
        return (after > before) != (role == "new"), -abs(after - before)

    for row in sorted(rows, key=by):
        before, after = samples[row["item"]]
        asked, ours, theirs = (row[name] or "" for name in ("asked", "base", "adapted"))
        yield Flip(row["task"], row["item"], asked, "", ours, theirs, after > before)


def round_robin(shown: Sequence[Iterator[Flip]], most: int) -> Iterator[Flip]:
    """One flip of each task after the other, at most so many."""
    left = list(shown)
    while left and most > 0:
        for flips in list(left):
            one = next(flips, None)
            if one is None:
                left.remove(flips)
            elif most > 0:
                most -= 1
                yield one
